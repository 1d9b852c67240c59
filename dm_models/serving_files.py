"""What TensorFlow Serving is started with: files beside the exported models.

    MODELS/models.config     every model in the folder, by name
    MODELS/batching.config   how requests are joined in batches
    MODELS/Dockerfile, MODELS/compose.yaml   the official server's image

Each begins with a mark over its own text. As long as the mark fits, an export refreshes
the file; an edited one is left alone unless told otherwise, and one without a mark,
which is none of ours, in any case.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dm_models import saved_model_layout as layout

INSIDE = "/models"  # where a container sees the folder
IMAGE = "tensorflow/serving"
WRITTEN, UNCHANGED, EDITED, FOREIGN = "written", "unchanged", "edited", "not ours"
_MARK = re.compile(r"# Made by dm-export, mark ([0-9a-f]{12})\b")
_DIGITS = 12
_BATCHING = """\
# Requests that come within the timeout are joined, apart for each signature.
#
# An image that a signature refuses (another grey scale, a damaged file) ends the whole
# batch that it was joined in: the other requests of that batch get its error too.
# Whoever cannot trust all clients' images sets max_batch_size to 1. A client that gets
# the error for a batch of its own finds the image's number in it.
#
# Images of different sizes cannot be joined: with `serving_default`, `uint16` and
# `grad_cam` all clients must send the size that the model was trained on. `png` brings
# every file to that size itself. Padding (pad_variable_length_inputs) stays off: it
# would change the scores.
max_batch_size { value: 8 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
"""
_FLAGS = (
    f"--model_config_file={INSIDE}/models.config",
    "--enable_batching=true",
    f"--batching_parameters_file={INSIDE}/batching.config",
)


def write_serving_files(models: str | Path, *, overwrite: bool = False) -> dict:
    """Write or refresh the four files of a folder of models.

    Args:
        models: The folder that the models' folders lie in.
        overwrite: Also replace those that were edited.

    Returns:
        Path -> `WRITTEN`, `UNCHANGED`, or why it was left alone: `EDITED`, `FOREIGN`.
    """
    models = Path(models)
    texts = {
        "models.config": models_config(models),
        "batching.config": _BATCHING,
        "Dockerfile": _dockerfile(),
        "compose.yaml": _compose(),
    }
    return {
        models / name: _refresh(models / name, marked(text), overwrite)
        for name, text in texts.items()
    }


def models_config(models: str | Path) -> str:
    """TensorFlow Serving's list of every model in a folder.

    Args:
        models: Folders of versions lie in it; what else does is passed over.
    """
    found = sorted(
        path.name for path in Path(models).iterdir()
        if not path.name.startswith(".") and layout.versions_in(path)
    )  # fmt: skip
    lines = ["model_config_list {"]
    for name in found:
        lines += [
            "  config {",
            f"    name: {json.dumps(name)}",
            f"    base_path: {json.dumps(f'{INSIDE}/{name}')}",
            '    model_platform: "tensorflow"',
            "  }",
        ]
    return "\n".join([*lines, "}"]) + "\n"


def models_folder(version_folder: str | Path) -> Path:
    """The folder of models that a version (`MODELS/NAME/1`) lies in."""
    return Path(version_folder).absolute().parent.parent


def marked(text: str) -> str:
    """A text with its mark as the first line."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    return (
        f"# Made by dm-export, mark {digest}: refreshed by it as long as nobody "
        f"edits this file.\n{text}"
    )


def _refresh(path: Path, text: str, overwrite: bool) -> str:
    """Write one file where that is allowed; tell what was done."""
    if path.exists():
        old = path.read_text(encoding="utf-8", errors="replace")
        if old == text:
            return UNCHANGED
        first, _, rest = old.partition("\n")
        if not _MARK.match(first):
            return FOREIGN
        if marked(rest) != old and not overwrite:
            return EDITED
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return WRITTEN


def _dockerfile() -> str:
    flags = ", ".join(json.dumps(flag) for flag in _FLAGS)
    return f"""\
# TensorFlow Serving with this folder's models inside:
#   docker build --tag mammograms .
#   docker run --publish 127.0.0.1:8501:8501 mammograms
# {_release()}
ARG IMAGE={IMAGE}
FROM ${{IMAGE}}
COPY . {INSIDE}/
# gRPC and REST.
EXPOSE 8500 8501
CMD [{flags}]
"""


def _compose() -> str:
    flags = "".join(f"\n      - {flag}" for flag in _FLAGS)
    return f"""\
# TensorFlow Serving with this folder's models mounted: docker compose up
# {_release()}
# The server asks for no password: both ports are those of this machine alone. Put what
# does (TLS, tokens) before it where others are to reach it.
services:
  serving:
    image: {IMAGE}
    command:{flags}
    ports:
      - 127.0.0.1:8500:8500
      - 127.0.0.1:8501:8501
    volumes:
      - .:{INSIDE}:ro
    restart: unless-stopped
"""


def _release() -> str:
    try:
        made = f"The models were written by TensorFlow {version('tensorflow')}"
    except PackageNotFoundError:
        made = "The models need a recent server"
    return f"{made}: take a release of the image that is no older."
