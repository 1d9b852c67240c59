"""Simple models that a mammography network has to beat, cross-validated by woman.

`global-statistics` sees an image's mean, deviation and grey-level histogram and
nothing else; `thumbnail` the frozen SqueezeNet features of 64 x 64 thumbnails;
`frozen-features` the same features at the working size. Where one of them is good, the
labels can be read off brightness or layout, and a network's AUC proves little. All
three end in a logistic regression. Scaling and the choice of C are fitted inside the
training folds alone, and a woman's images are never on both sides.

Example:
    python -m dm_training.baselines thumbnail data/images.csv --out runs/thumbnail
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

BASELINES = ("global-statistics", "thumbnail", "frozen-features")
BINS = 32
THUMBNAIL = 64
C_GRID = tuple(10.0**power for power in range(-5, 2))
_INNER_FOLDS = 3


class BaselineError(ValueError):
    """A baseline cannot be fitted on this table; the message says why."""


def global_statistics(paths: Sequence[Path], *, jobs: int = -1):
    """Mean, deviation and 32-bin histogram of each image's grey levels.

    Args:
        paths: 16-bit grey PNGs.
        jobs: Processes; -1 takes all cores.

    Returns:
        float64 (N, 34): mean and deviation on [0, 1], then the shares of the bins.

    Raises:
        ImageError: A file cannot be read; it is named.
    """
    import numpy as np
    from joblib import Parallel, delayed

    work = (delayed(_statistics)(path) for path in _progress(paths, "images"))
    return np.stack(Parallel(n_jobs=jobs)(work))


def squeezenet_features(
    paths: Sequence[Path], *, side: int | None = None, batch: int = 8
):
    """Globally averaged features of SqueezeNet with its ImageNet weights, untrained.

    Args:
        paths: 16-bit grey PNGs.
        side: Images are area-averaged to (side, side) first; None leaves them as they
            are, and then all must have one size.
        batch: Images at a time.

    Returns:
        float32 (N, 512).

    Raises:
        BaselineError: Images differ in size; the first that does is named.
        ImageError: A file cannot be read; it is named.
    """
    import numpy as np

    model, found, shape = _squeezenet(), [], None
    for start in _progress(range(0, len(paths), batch), "batches"):
        images = [_image(path, side) for path in paths[start : start + batch]]
        for path, image in zip(paths[start:], images, strict=False):
            shape = shape or image.shape
            if image.shape != shape:
                raise BaselineError(
                    f"{path}: images must have one size, {image.shape} after {shape}"
                )
        found.append(model.predict_on_batch(np.stack(images)[..., None]))
    return np.concatenate(found).astype(np.float32)


def fold_of(labels, patients, *, folds: int = 5, seed: int = 0):
    """Give every image a fold: a woman's images in one, positives spread evenly.

    Returns:
        int64 (N,), 0 to folds - 1.

    Raises:
        BaselineError: Fewer than 2 folds, or a class of fewer women than folds.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    labels, patients = np.asarray(labels), np.asarray(patients)
    if folds < 2:
        raise BaselineError(f"folds must be at least 2, received {folds}")
    for label in (0, 1):
        women = len(np.unique(patients[labels == label]))
        if women < folds:
            need = f"{folds} folds need {folds} women with label {label}"
            raise BaselineError(f"{need}, received {women}")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = np.empty(len(labels), np.int64)
    for fold, (_, held) in enumerate(splitter.split(labels, labels, patients)):
        found[held] = fold
    return found


def out_of_fold_scores(features, labels, patients, folds, *, seed: int = 0):
    """Score each fold's images by a logistic regression fitted on the other folds.

    The columns are standardised and C is chosen (folds of women) within the training
    folds of each fit: by log loss, not AUC, since the folds' scores are pooled and must
    mean the same. Chosen by AUC, one fold may end with all its scores near 0.5.

    Args:
        features: (N, D).
        labels: (N,) 0 or 1.
        patients: (N,) ids.
        folds: (N,) any fold names; a woman must not stand in two.

    Returns:
        float64 (N,), probability of 1 by the model that never saw this woman.

    Raises:
        BaselineError: A woman in two folds, or training folds with one class.
    """
    import numpy as np

    labels, patients = np.asarray(labels).astype(int), np.asarray(patients)
    folds = np.asarray(folds)
    _check_folds(labels, patients, folds)
    scores = np.empty(len(labels))
    for fold in _progress(np.unique(folds), "folds"):
        held = folds == fold
        model = _fitted(features[~held], labels[~held], patients[~held], seed)
        scores[held] = model.predict_proba(features[held])[:, 1]
    return scores


def run_baseline(
    name: str, images_csv: str | os.PathLike, out: str | os.PathLike, *, folds: int = 5,
    folds_from: str | os.PathLike | None = None, seed: int = 0, jobs: int = -1,
    draws: int = 2000,
) -> dict:  # fmt: skip
    """Fit and score one baseline on a table of images.

    Args:
        name: One of `BASELINES`.
        images_csv: Images; those without a label are left out and counted.
        out: Gets predictions.csv (out of fold, split "test") and metrics.json.
        folds: How many, where `folds_from` gives none.
        folds_from: A CSV with image_id and fold, so that a baseline is compared under
            another model's folds.

    Returns:
        What metrics.json holds: `auc` (a figure), `folds`, `without_label`, ...

    Raises:
        TableError, ImageError, BaselineError, MetricError: What is wrong, and where.
    """
    import numpy as np

    from dm_preprocess import tables
    from dm_training import metrics

    images = tables.read_images(images_csv)
    rows = images[images["label"].notna()].reset_index(drop=True)
    if not len(rows):
        raise BaselineError(f"{images_csv}: no image has a label")
    if folds_from is None:
        fold = fold_of(rows["label"], rows["patient_id"], folds=folds, seed=seed)
    else:
        fold = _folds_from_file(folds_from, rows["image_id"])
    _check_folds(rows["label"].to_numpy(), rows["patient_id"].to_numpy(), fold)
    features = _features(name, jobs)([tables.resolve(p, images_csv) for p in rows.path])
    scores = out_of_fold_scores(
        features, rows["label"], rows["patient_id"], fold, seed=seed
    )
    predictions = _predictions(rows, scores, fold, name)
    found = {
        "format": 1, "baseline": name, "folds": len(np.unique(fold)), "seed": seed,
        "without_label": len(images) - len(rows),
        "auc": metrics.auc_figure(predictions, "image", "test", n=draws, seed=seed),
    }  # fmt: skip
    tables.write_table(predictions, Path(out) / "predictions.csv", "predictions")
    _write_json(found, Path(out) / "metrics.json")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = _parser().parse_args(argv)
    from dm_preprocess.images import ImageError
    from dm_preprocess.tables import TableError
    from dm_training.metrics import MetricError
    from dm_training.report import format_figure

    out = Path(args.out)
    try:
        if out.exists() and any(out.iterdir()) and not args.overwrite:
            raise BaselineError(f"{out}: not empty; --overwrite replaces what is in it")
        found = run_baseline(
            args.baseline, args.images, out, folds=args.folds,
            folds_from=args.folds_from, seed=args.seed, jobs=args.jobs,
        )  # fmt: skip
    except (BaselineError, ImageError, TableError, MetricError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.baseline}, {found['folds']} folds by woman, out of fold:")
    print(f"  {format_figure(found['auc'])}")
    print(f"Wrote predictions.csv and metrics.json to {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("baseline", choices=BASELINES)
    parser.add_argument("images", metavar="IMAGES.csv")
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--folds", type=int, default=5, help="default: 5")
    parser.add_argument("--folds-from", metavar="CSV", help="image_id and fold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=-1, help="-1: all cores")
    overwrite = argparse.BooleanOptionalAction
    parser.add_argument("--overwrite", action=overwrite, default=False)
    return parser


def _features(name: str, jobs: int) -> Callable:
    known = {
        "global-statistics": partial(global_statistics, jobs=jobs),
        "thumbnail": partial(squeezenet_features, side=THUMBNAIL, batch=64),
        "frozen-features": squeezenet_features,
    }
    if name not in known:
        raise BaselineError(f"unknown baseline {name!r}; known: {', '.join(known)}")
    return known[name]


def _statistics(path: Path):
    import numpy as np

    from dm_preprocess.images import U16_MAX, read_png

    image = read_png(path)
    counts, _ = np.histogram(image, BINS, (0, U16_MAX))
    level = image.astype(np.float64) / U16_MAX
    return np.concatenate([[level.mean(), level.std()], counts / image.size])


def _image(path: Path, side: int | None):
    import numpy as np

    from dm_preprocess.images import read_png, resize_area

    image = read_png(path)
    return (resize_area(image, side, side) if side else image).astype(np.float32)


def _squeezenet():
    import keras

    from dm_models.backbones import build_backbone, get_backbone
    from dm_models.imagenet import load_imagenet
    from dm_models.inputs import grey_input

    inputs, prepared = grey_input(get_backbone("squeezenet").contract())
    maps = build_backbone("squeezenet", prepared)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
    load_imagenet(model, "squeezenet")
    return model


def _fitted(features, labels, patients, seed: int):
    """Scaling and logistic regression; C by folds of women among these rows."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    fewest = min(len(np.unique(patients[labels == label])) for label in (0, 1))
    if fewest < _INNER_FOLDS:
        return model.fit(features, labels)
    inner = StratifiedGroupKFold(_INNER_FOLDS, shuffle=True, random_state=seed)
    grid = {"logisticregression__C": C_GRID}
    search = GridSearchCV(model, grid, scoring="neg_log_loss", cv=inner)
    return search.fit(features, labels, groups=patients).best_estimator_


def _check_folds(labels, patients, folds) -> None:
    import pandas as pd

    held_in = pd.Series(folds).groupby(patients).nunique()
    if (held_in > 1).any():
        named = f"{int((held_in > 1).sum())} women, such as {held_in.idxmax()}"
        raise BaselineError(f"{named}, stand in more than one fold")
    for fold in pd.unique(pd.Series(folds)):
        if len(set(labels[folds != fold])) < 2:
            raise BaselineError(f"without fold {fold} the labels are of one class only")


def _folds_from_file(path: str | os.PathLike, image_ids):
    import pandas as pd

    from dm_preprocess.tables import TableError

    if not Path(path).is_file():
        raise TableError(f"{path}: no such table")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in ("image_id", "fold"):
        if name not in frame:
            raise TableError(f"{path}: line 1: missing column {name}")
    if frame["image_id"].duplicated().any():
        twice = frame["image_id"][frame["image_id"].duplicated()].iloc[0]
        raise TableError(f"{path}: column image_id: {twice} stands twice")
    fold = image_ids.map(frame.set_index("image_id")["fold"]).fillna("")
    missing = image_ids[fold == ""]
    if len(missing):
        named = f"{len(missing)} image(s), such as {missing.iloc[0]}"
        raise TableError(f"{path}: column fold: none for {named}")
    return fold.to_numpy()


def _predictions(rows, scores, folds, name: str):
    frame = rows[["image_id", "patient_id", "laterality", "view"]].copy()
    frame["split"] = "test"
    frame["y_true"], frame["y_score"] = rows["label"], scores
    return frame.assign(model=name, flips=1, fold=folds)


def _write_json(found: dict, path: Path) -> None:
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)


def _progress(things: Sequence, what: str):
    from tqdm import tqdm

    return tqdm(things, what, file=sys.stderr, leave=False, disable=None)


if __name__ == "__main__":
    sys.exit(main())
