"""The two-step baseline: a patch classifier's heatmap, then a random forest.

    python -m dm_training.heatmap_forest runs/patch/best.keras images.csv --out forest

The softmax heatmap of each class of lesion is cut at four probabilities; of what is
left, the connected regions' shape and intensity are measured; a random forest learns
the image's label from them. The whole-image network has to beat it.

Source:
    Shen et al. 3.1.4, "The two-step approach": cut-offs 0.3, 0.5, 0.7, 0.9; 500 trees,
    depth 9, at least 300 samples to split. It reached an AUC of 0.73 there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dm_preprocess import tables

CUTOFFS = (0.3, 0.5, 0.7, 0.9)
TREES, DEPTH, MIN_SPLIT = 500, 9, 300
# Of the largest region, as scikit-image names them.
SHAPES = (
    "area", "axis_major_length", "axis_minor_length", "eccentricity", "extent",
    "solidity", "perimeter",
)  # fmt: skip
INTENSITIES = ("intensity_mean", "intensity_max", "intensity_std")
FOREST_FILE = "forest.skops"
# scikit-learn indexes by what a tree holds without looking: `_check_trees` does.
_TREE = "sklearn.tree._tree.Tree"


class ForestError(ValueError):
    """The baseline cannot be fitted on this table; the message says why."""


@dataclass(frozen=True)
class Forest:
    """A fitted forest with what its features mean.

    Attributes:
        classifier: scikit-learn's, fitted.
        names: Of the features, in order.
    """

    classifier: object
    names: tuple[str, ...]


def region_features(
    heat: np.ndarray, classes: Sequence[str], cutoffs: Sequence[float] = CUTOFFS
) -> dict[str, float]:
    """Measure the regions of one image's heatmap.

    Args:
        heat: (H, W, classes) probabilities.
        classes: Names of the last axis; "background" is passed over.
        cutoffs: A region is where a class is at least this probable.

    Returns:
        Name -> value: for each class and cut-off the number of regions and their area
        as a share of the map, then `SHAPES` and `INTENSITIES` of the largest, all 0
        where there is none. Lengths and areas are in cells of the map.
    """
    found = {}
    for index, name in enumerate(classes):
        if name == "background":
            continue
        for cutoff in cutoffs:
            found.update(_of_one(heat[..., index], cutoff, f"{name}_{cutoff:g}"))
    return found


def _of_one(probability: np.ndarray, cutoff: float, prefix: str) -> dict[str, float]:
    from skimage.measure import label, regionprops

    mask = probability >= cutoff
    regions = regionprops(label(mask), intensity_image=probability)
    largest = max(regions, key=lambda region: region.area, default=None)
    found = {f"{prefix}_regions": float(len(regions)), f"{prefix}_share": mask.mean()}
    for name in (*SHAPES, *INTENSITIES):
        value = getattr(largest, name) if largest is not None else 0.0
        found[f"{prefix}_{name}"] = float(value)
    return found


def features_of(
    patch_model, contract, paths: Sequence[Path], *, batch: int = 4, jobs: int = -1
):
    """Measure the heatmaps of images.

    Args:
        patch_model: A patch classifier.
        contract: Its contract, with the patch size.
        paths: 16-bit grey PNGs.
        batch: Images at a time through the network, where they have one size.
        jobs: Processes for the measuring; -1 takes all cores.

    Returns:
        float64 (N, features), and the features' names.

    Raises:
        ImageError: A file cannot be read; it is named.
    """
    from joblib import Parallel, delayed

    model = _heatmap_of(patch_model, contract)
    rows = []
    with Parallel(n_jobs=jobs) as pool:
        for maps in _maps(model, paths, batch):
            rows += pool(
                delayed(region_features)(m, contract.class_names) for m in maps
            )
    names = tuple(rows[0])
    return np.array([[row[name] for name in names] for row in rows]), names


def _heatmap_of(patch_model, contract):
    from dm_models.backbones import get_backbone
    from dm_models.heatmap import build_heatmap

    net = get_backbone(contract.backbone)
    side = (net.map_size(contract.height), net.map_size(contract.width))
    return build_heatmap(patch_model, pool=side)


def _maps(model, paths: Sequence[Path], batch: int):
    """Lists of heatmaps (H, W, classes), `batch` images of one size at a time."""
    from tqdm import tqdm

    from dm_preprocess.images import read_png

    held: list[np.ndarray] = []
    for path in tqdm(paths, "heatmaps", file=sys.stderr, leave=False, disable=None):
        image = read_png(path)
        if held and (len(held) == batch or held[0].shape != image.shape):
            yield _predicted(model, held)
            held = []
        held.append(image)
    if held:
        yield _predicted(model, held)


def _predicted(model, images: Sequence[np.ndarray]) -> np.ndarray:
    grey = np.stack(images)[..., None].astype(np.float32)
    return np.asarray(model(grey, training=False))


def fit_forest(
    features: np.ndarray, labels: np.ndarray, names: Sequence[str], *,
    trees: int = TREES, depth: int = DEPTH, min_split: int = MIN_SPLIT, seed: int = 0,
    jobs: int = -1,
) -> Forest:  # fmt: skip
    """Fit the paper's random forest.

    Args:
        features: (N, features).
        labels: (N,) 0 or 1.
        names: Of the features.
        trees: How many.
        depth: At the most.
        min_split: Fewer samples at a node are not split.
        seed: Of the trees.
        jobs: Threads; -1 takes all cores.

    Raises:
        ForestError: One class only, or so few images that no tree ever branched.
    """
    from sklearn.ensemble import RandomForestClassifier

    if len(set(np.asarray(labels).tolist())) < 2:
        raise ForestError("the training images are of one class only")
    classifier = RandomForestClassifier(
        trees, max_depth=depth, min_samples_split=min_split, random_state=seed,
        n_jobs=jobs,
    )  # fmt: skip
    classifier.fit(features, labels)
    if all(each.tree_.node_count == 1 for each in classifier.estimators_):
        # A tree sees about 63 % of the images, drawn with replacement.
        raise ForestError(
            f"{len(features)} training images, but a node is split from {min_split} "
            "on: no tree ever branched; give --min-samples-split"
        )
    return Forest(classifier, tuple(names))


def save_forest(forest: Forest, path: str | Path) -> Path:
    """Save a forest as a skops file: loading one runs no code, unlike a pickle."""
    import skops.io

    path = Path(path)
    aside = path.with_name(path.name + ".part")
    skops.io.dump({"classifier": forest.classifier, "names": list(forest.names)}, aside)
    aside.replace(path)
    return path


def load_forest(path: str | Path) -> Forest:
    """Load what `save_forest` wrote.

    Raises:
        ForestError: Another kind of file, or one with types that are not trusted.
    """
    import skops.io

    try:
        found = skops.io.load(path, trusted=[_TREE])
        forest = Forest(found["classifier"], tuple(found["names"]))
        _check_trees(forest)
        return forest
    except Exception as error:  # skops raises many kinds; all mean a bad file
        raise ForestError(f"{path}: no forest of this project: {error}") from error


def _check_trees(forest: Forest) -> None:
    """Look at what scikit-learn does not: whether a tree points outside of itself."""
    for each in forest.classifier.estimators_:
        tree, leaf = each.tree_, -1
        for children in (tree.children_left, tree.children_right):
            if (children < leaf).any() or (children >= tree.node_count).any():
                raise ForestError("a tree has a branch to nowhere")
        if (tree.feature >= len(forest.names)).any():
            raise ForestError("a tree asks for a feature that is not there")


def run_forest(
    patch_path: str, images_csv: Path, out: Path, *, min_split: int = MIN_SPLIT,
    seed: int = 0, jobs: int = -1,
) -> dict:  # fmt: skip
    """Fit on the training images, score validation and test images.

    Args:
        patch_path: A patch classifier.
        images_csv: A table with splits and labels.
        out: Gets forest.skops, predictions_val.csv, predictions_test.csv, metrics.json.
        min_split: See `fit_forest`.
        seed: Of the trees and of the interval's bootstrap.
        jobs: Processes.

    Returns:
        What metrics.json holds.

    Raises:
        ForestError, ModelFileError, TableError, ImageError: What is wrong, and where.
    """
    from dm_training import metrics
    from dm_training.runs import write_json

    patch_model, contract = _patch_model(patch_path)
    rows = _labelled(images_csv)
    paths = [tables.resolve(path, images_csv) for path in rows["path"]]
    features, names = features_of(patch_model, contract, paths, jobs=jobs)
    train = (rows["split"] == "train").to_numpy()
    forest = fit_forest(
        features[train], rows["label"].to_numpy()[train].astype(int), names,
        min_split=min_split, seed=seed, jobs=jobs,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    save_forest(forest, out / FOREST_FILE)
    rows["score"] = forest.classifier.predict_proba(features)[:, 1]
    found = {"format": 1, "patch_model": str(patch_path), "features": len(names),
             "train_images": int(train.sum()), "seed": seed}  # fmt: skip
    for split in ("val", "test"):
        part = rows[rows["split"] == split]
        predictions = _predictions(part)
        tables.write_table(predictions, out / f"predictions_{split}.csv", "predictions")
        found[f"{split}_auc"] = metrics.auc_figure(
            predictions, "image", split, seed=seed
        )
    write_json(out / "metrics.json", found)
    return found


def _patch_model(path: str):
    from dm_models.weights import ModelFileError, load_model

    model, contract = load_model(path)
    if "background" not in contract.class_names or contract.height is None:
        raise ModelFileError(f"{path}: not a patch classifier with a patch size")
    return model, contract


def _labelled(images_csv: Path):
    frame = tables.read_images(images_csv)
    rows = frame[frame["label"].notna()].reset_index(drop=True)
    for split in tables.SPLITS:
        if not (rows["split"] == split).any():
            raise ForestError(f"{images_csv}: no labelled image of split {split!r}")
    return rows


def _predictions(rows):
    frame = rows[["image_id", "patient_id", "laterality", "view", "split"]].copy()
    frame["y_true"], frame["y_score"] = rows["label"].astype(int), rows["score"]
    return frame.assign(model="heatmap-forest", flips=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit status 0, or 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m dm_training.heatmap_forest", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    flag = parser.add_argument
    flag("patch_model", help="a patch classifier (.keras)")
    flag("images", type=Path, help="images.csv with splits")
    flag("--out", type=Path, required=True)
    flag("--min-samples-split", type=int, default=MIN_SPLIT, help="default: 300")
    flag("--seed", type=int, default=0)
    flag("--jobs", type=int, default=-1, help="-1: all cores")
    flag("--overwrite", action=argparse.BooleanOptionalAction, default=False)
    options = parser.parse_args(argv)
    from dm_models.weights import ModelFileError
    from dm_preprocess.images import ImageError
    from dm_training.metrics import MetricError
    from dm_training.report import format_figure

    try:
        if (options.out / FOREST_FILE).exists() and not options.overwrite:
            raise ForestError(f"{options.out}: holds a forest; --overwrite replaces it")
        found = run_forest(
            options.patch_model, options.images, options.out, seed=options.seed,
            min_split=options.min_samples_split, jobs=options.jobs,
        )  # fmt: skip
    except (ForestError, ImageError, MetricError, ModelFileError, OSError,
            tables.TableError) as error:  # fmt: skip
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"test images: {format_figure(found['test_auc'])}")
    print(f"forest of {found['features']} features -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
