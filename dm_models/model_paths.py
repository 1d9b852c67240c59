"""Which file is meant where a run folder is given: the one rule of all commands."""

from __future__ import annotations

from pathlib import Path

from dm_models.layer_files import ModelFileError

BEST = "best.keras"


def best_of_run(path: str | Path) -> Path:
    """RUN/best.keras of a run folder; any other path as it is."""
    path = Path(path)
    return path / BEST if (path / BEST).is_file() else path


def model_file(path: str | Path) -> Path:
    """The model file meant, for what cannot be done with a SavedModel.

    Args:
        path: A model file, or a run folder.

    Raises:
        ModelFileError: A folder that holds no best.keras.
    """
    found = best_of_run(path)
    if found.is_dir():
        raise ModelFileError(
            f"{path}: a model file or a run folder with {BEST} in it is due, received "
            "another folder"
        )
    return found
