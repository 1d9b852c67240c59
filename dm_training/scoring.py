"""Scores of whole tables at once: what training, evaluation and ensembles take.

One file after another, as it comes from a machine, is `dm_training.predict`'s.

Source:
    Augmented prediction: Shen et al. 3.1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import tables
from dm_training.samples import ID_COLUMNS, IMAGE_SUFFIXES, Samples

FLIPS = {1: (0,), 4: (0, 1, 2, 3)}


def predict_probabilities(
    model, images: Callable[[], object], *, flips: int = 1
) -> np.ndarray:
    """Class probabilities, averaged over flips.

    Args:
        model: Takes float32 (N, H, W, 1) raw grey, gives (N, classes).
        images: Makes a fresh data set of batches (`make_evaluation_dataset`).
        flips: 1 for the image itself, 4 for identity, left-right, up-down and both.

    Returns:
        float64 (N, classes).

    Raises:
        ValueError: `flips` is neither 1 nor 4.
    """
    import keras

    from dm_training import augment, jax_distribution

    if flips not in FLIPS:
        raise ValueError(f"flips must be 1 or 4, received {flips}")
    # Keras's default is XLA, which on a CPU costs TensorFlow a minute; JAX is slow
    # without it.
    model.jit_compile = keras.backend.backend() == "jax"
    total = 0.0
    for number in FLIPS[flips]:
        flipped = images().map(lambda batch, n=number: augment.flip(batch, n))
        with jax_distribution.undistributed():
            scores = model.predict(flipped, verbose=0)
        total = total + np.asarray(scores, np.float64)
    return total / flips


def predict_samples(
    model, contract, samples: Samples, *, flips: int = 1, batch_size: int = 8,
    name: str = "", store=None,
) -> pd.DataFrame:  # fmt: skip
    """Score whole images into a predictions table.

    Args:
        model: A whole-image classifier.
        contract: Its input contract; images of another size are brought to its size.
        samples: What to score.
        flips: 1 or 4.
        batch_size: Images at a time.
        name: For the column `model`.
        store: The samples' pixels where they are open already.

    Returns:
        The columns of predictions.csv; `y_true` is NaN without a label.
    """
    from dm_training import datasets

    if store is None:
        store = datasets.ImageStore(
            samples, height=contract.height, width=contract.width, fit=contract.fit
        )

    def images():
        return datasets.make_evaluation_dataset(samples, store, batch_size=batch_size)

    probability = predict_probabilities(model, images, flips=flips)
    frame = samples.frame
    kept = [c for c in (*ID_COLUMNS, "split", "density", "vendor", "age") if c in frame]
    out = frame[kept].copy()
    labels = samples.labels.astype(float)
    out["y_true"] = np.where(labels < 0, np.nan, labels)
    out["y_score"] = probability[:, list(contract.class_names).index("pos")]
    return out.assign(model=name, flips=flips)


def check_whole_image(contract, path) -> None:
    """Refuse a model whose classes are not neg and pos."""
    from dm_models.weights import ModelFileError

    if tuple(contract.class_names) != tables.IMAGE_CLASSES:
        raise ModelFileError(
            f"{path}: not a whole-image classifier: its classes are "
            f"{', '.join(contract.class_names)}, not neg, pos"
        )


def samples_of_paths(paths: list[str], split: str) -> Samples:
    """What the command line names, as samples: a table, class folders, folders, files.

    Raises:
        SamplesError: A path is not there, or nothing to score is found.
    """
    from dm_training.samples import SamplesError, read_samples

    first = Path(paths[0])
    if len(paths) == 1 and first.suffix.lower() == ".csv":
        return _table_samples(first, split)
    if len(paths) == 1 and all((first / c).is_dir() for c in tables.IMAGE_CLASSES):
        return read_samples(first, "test", classes=tables.IMAGE_CLASSES)
    rows = [row for path in paths for row in _files(Path(path))]
    if not rows:
        raise SamplesError(f"{', '.join(paths)}: no image found")
    frame = pd.DataFrame(rows, columns=["image_id", "path"])
    for name in ("patient_id", "laterality", "view", "split"):
        frame[name] = ""
    frame["label"] = -1
    return Samples(frame, tables.IMAGE_CLASSES, ", ".join(paths), has_patients=False)


def _table_samples(path: Path, split: str) -> Samples:
    from dm_training.samples import read_samples

    if split != "all":
        return read_samples(path, split, classes=tables.IMAGE_CLASSES, labelled=False)
    frame = tables.read_images(path)
    frame["path"] = [str(tables.resolve(c, path).absolute()) for c in frame["path"]]
    frame["label"] = frame["label"].fillna(-1).astype(int)
    return Samples(frame, tables.IMAGE_CLASSES, str(path), has_patients=True)


def _files(path: Path) -> list[tuple[str, str]]:
    from dm_training.samples import SamplesError

    if path.is_file():
        return [(path.name, str(path.absolute()))]
    if not path.is_dir():
        raise SamplesError(f"{path}: no such file or folder")
    wanted = (*IMAGE_SUFFIXES, ".dcm", ".dicom")
    return [
        (str(p.relative_to(path)), str(p.absolute()))
        for p in sorted(path.rglob("*"))
        if p.is_file() and (p.suffix.lower() in wanted or _is_dicom(p))
    ]


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
