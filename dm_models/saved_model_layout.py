"""What lies where in an exported model, and what its signatures are called.

    MODELS/NAME/1/saved_model.pb, variables/         for TensorFlow Serving
    MODELS/NAME/1/assets.extra/                      input_contract.json, decision.json,
                                                     decision_tta.json, model.json
    MODELS/NAME/1/assets.extra/tf_serving_warmup_requests
    MODELS/NAME/1/MODEL_CARD.md
    MODELS/models.config, batching.config, Dockerfile, compose.yaml

The same JSON files lie beside `saved_model.pb` too. A signature is an input form, with
or without the mean over four flips: `serving_default` (float32 grey levels, any size
the net takes), `uint16` (the same in whole numbers), `png` (encoded PNG or JPEG files,
decoded and brought to size in the graph), each also as `NAME_tta`; `grad_cam` gives a
heat map. Every output has one row an image, so that a server may batch and row-form
answers are possible. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dm_models.layer_files import ModelFileError

SAVED_MODEL_FILE = "saved_model.pb"
EXTRA = "assets.extra"
MODEL_FILE = "model.json"
WARMUP_FILE = "tf_serving_warmup_requests"
MODEL_FORMAT = 1

DEFAULT_SIGNATURE = "serving_default"
UINT16_SIGNATURE = "uint16"
PNG_SIGNATURE = "png"
GRAD_CAM_SIGNATURE = "grad_cam"
TTA = "_tta"

GREY_INPUT = "grey"  # float32 or uint16 (N, H, W, 1), 0..65535
PNG_INPUT = "png"  # string (N,)

SCORES = "scores"  # float32 (N, classes): the net's own
PROBABILITY = "probability"  # float32 (N,): of the positive class, calibrated
POSITIVE = "positive"  # bool (N,): at the operating point; only where there is one
THRESHOLD = "threshold"  # float32 (N,): on `probability`; only where there is one
CLASS_NAMES = "class_names"  # string (N, classes)
CONTRACT = "input_contract"  # string (N,): JSON, without statistics
VERSION = "model_version"  # string (N,): the first digits of the weights' SHA-256
HEAT = "heat"  # float32 (N, h, w): of `grad_cam`
VERSION_DIGITS = 12
_ASSERTED = re.compile(r"assertion failed: \[(.*)\]")
WHOLE_IMAGE = ("neg", "pos")


@dataclass(frozen=True)
class ModelFacts:
    """What `model.json` says of an exported model.

    Attributes:
        name: The name it was exported under.
        weights_sha256: `weights_digest` of the model it was made of; "" for models of
            other programs.
        cam_centres: ((row of cell 0, step), (column of cell 0, step)) of `heat`, in
            pixels of an image of `cam_size`; None without a `grad_cam` signature.
        cam_size: (rows, columns), or None.
    """

    name: str
    weights_sha256: str = ""
    cam_centres: tuple[tuple[float, float], tuple[float, float]] | None = None
    cam_size: tuple[int, int] | None = None

    @property
    def version(self) -> str:
        """The first digits of the digest."""
        return self.weights_sha256[:VERSION_DIGITS]

    def to_json(self) -> str:
        """Return the facts as JSON text, with their format number."""
        return json.dumps({"format": MODEL_FORMAT, **self.__dict__}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> ModelFacts:
        """Read what `to_json` wrote.

        Raises:
            ValueError: No JSON object of that form.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or found.pop("format", None) != MODEL_FORMAT:
            raise ValueError(f"no {MODEL_FILE} of format {MODEL_FORMAT}")
        centres, size = found.get("cam_centres"), found.get("cam_size")
        if centres is not None:
            found["cam_centres"] = tuple(tuple(axis) for axis in centres)
        if size is not None:
            found["cam_size"] = tuple(size)
        try:
            return cls(**found)
        except TypeError as error:
            raise ValueError(f"unknown or missing fields: {error}") from error


def is_whole_image(class_names: Sequence[str]) -> bool:
    """Whether outputs of these names judge whole images: those have a probability."""
    return tuple(class_names) == WHOLE_IMAGE


def is_saved_model(path: str | Path) -> bool:
    """Whether a folder is a SavedModel or holds versions of one."""
    try:
        find_saved_model(path)
    except ModelFileError:
        return False
    return True


def find_saved_model(folder: str | Path) -> tuple[Path, int, str]:
    """Find a SavedModel without loading it.

    Args:
        folder: A SavedModel, or a folder of versions (`1/`, `2/`, ...), of which the
            highest is taken.

    Returns:
        (its own folder, its version, the name it goes by).

    Raises:
        ModelFileError: The folder is none and holds none.
    """
    folder = Path(folder)
    absolute = folder.absolute()
    if (folder / SAVED_MODEL_FILE).is_file():
        if is_version(folder):
            return folder, int(folder.name), absolute.parent.name
        return folder, 1, absolute.name
    versions = versions_in(folder)
    if not versions:
        raise ModelFileError(
            f"{folder}: neither a SavedModel ({SAVED_MODEL_FILE}) nor a folder of its "
            f"versions (1/{SAVED_MODEL_FILE}); `dm-export` writes one"
        )
    newest = max(versions)
    return versions[newest], newest, absolute.name


def versions_in(folder: str | Path) -> dict[int, Path]:
    """Find the SavedModels in a folder of versions: number -> its own folder."""
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() else ()
    return {
        int(path.name): path
        for path in found
        if is_version(path) and (path / SAVED_MODEL_FILE).is_file()
    }


def is_version(folder: str | Path) -> bool:
    """Whether a folder's own name is a number, so that it is one version of a model."""
    name = Path(folder).name
    return name.isascii() and name.isdigit()


def served_name(version: str | Path) -> str:
    """The name that a version's model is served by: its folder's parent's."""
    return Path(version).absolute().parent.name


def read_facts(folder: str | Path) -> ModelFacts:
    """Read `model.json` of a SavedModel's own folder; a bare name where there is none.

    Raises:
        ModelFileError: What is there cannot be read.
    """
    folder = Path(folder)
    path = folder / MODEL_FILE
    if not path.is_file():
        path = folder / EXTRA / MODEL_FILE
    if not path.is_file():
        return ModelFacts(find_saved_model(folder)[2])
    try:
        return ModelFacts.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error


def refusal_of(message: str) -> str | None:
    """The sentence with which a signature refuses its input.

    Args:
        message: Of the InvalidArgumentError that TensorFlow raised.

    Returns:
        At most 300 letters; None of an error that says none.
    """
    asserted = _ASSERTED.search(message)
    if not asserted:
        return None
    # The data of the assertion, each in brackets.
    parts = (part.strip() for part in asserted[1].split("] ["))
    return next((part[:300] for part in parts if part), None)
