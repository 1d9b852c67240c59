"""What may be said of a model: the metrics of a run or of an evaluation, if its own.

A run writes down which weights its figures were measured on (`weights_digest`), so that
nothing praises one model by another one's results: not a file that lies beside
`best.keras`, and not a `best.keras` that is newer than the metrics beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dm_models.layer_files import ModelFileError
from dm_models.model_paths import BEST

if TYPE_CHECKING:
    import keras

DIGEST = "weights_sha256"
# The file that a run's metrics are of, where they do not say which weights.
# What an evaluation calls its model where it is the mean of several.
_ENSEMBLE = "ensemble of "


@dataclass(frozen=True)
class Evidence:
    """What a run folder or an evaluation wrote down.

    Attributes:
        name: The folder's own name.
        metrics: Its metrics.json.
        config: Its config.json; empty for an evaluation.
        versions: Its versions.json; empty likewise.
    """

    name: str
    metrics: Mapping
    config: Mapping = field(default_factory=dict)
    versions: Mapping = field(default_factory=dict)


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over a model's arrays and their shapes: the same in every file form."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read_evidence(folder: str | Path) -> Evidence:
    """Read a run's or an evaluation's folder.

    Raises:
        ModelFileError: No metrics.json there, or a file that is no JSON object.
    """
    folder = Path(folder)
    if not (folder / "metrics.json").is_file():
        raise ModelFileError(f"{folder}: holds no metrics.json to make a card from")
    found = {name: _read(folder / f"{name}.json")
             for name in ("metrics", "config", "versions")}  # fmt: skip
    return Evidence(folder.resolve().name, **found)


def gather_evidence(
    model_path: str | Path, digest: str, folders: Sequence[str | Path] = ()
) -> tuple[list[Evidence], list[str]]:
    """Collect what may be said of a model.

    Args:
        model_path: Its file; a run folder around it is read.
        digest: Its `weights_digest`.
        folders: Further run or evaluation folders, the caller's word that they are of
            this model.

    Returns:
        (evidence, remarks): why the folder around the model was not used.

    Raises:
        ModelFileError: As `read_evidence`; or a folder named is of other weights, or of
            an ensemble.
    """
    own = Path(model_path).resolve().parent
    named = {Path(folder).resolve(): folder for folder in folders}
    found, remarks = [], []
    if (own / "metrics.json").is_file() and own not in named:
        evidence = read_evidence(own)
        if _is_of(evidence, digest, Path(model_path).name == BEST):
            found.append(evidence)
        else:
            remarks.append("the metrics.json beside the model is of other weights: "
                           "its figures are not on the card")  # fmt: skip
    for folder in named.values():
        evidence = read_evidence(folder)
        if str(evidence.metrics.get("model", "")).startswith(_ENSEMBLE):
            raise ModelFileError(
                f"{folder}: its figures are of an ensemble of models, not of this one"
            )
        if not _is_of(evidence, digest, True):
            raise ModelFileError(
                f"{folder}: its metrics.json is of other weights than this model's"
            )
        found.append(evidence)
    return found, remarks


def _read(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelFileError(
            f"{path}: must hold a JSON object, received {type(found).__name__}"
        )
    return found


def _is_of(evidence: Evidence, digest: str, otherwise: bool) -> bool:
    recorded = evidence.metrics.get(DIGEST)
    return otherwise if recorded is None else recorded == digest
