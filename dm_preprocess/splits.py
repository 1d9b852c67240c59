"""Who trains, who validates, who tests: splits by patient, stratified by worst label.

A woman's images resemble each other, so they stay together: the patient is what is
drawn, and her worst label (any malignant image) is what is stratified on. The schemes:

- `paper`: a share of the women for testing and a share of the rest for validation
  (Shen et al. 3.1.1: 85/15 and 10 % of the training women; INbreast 3.2.1: 70/30).
- `official`: the source's own train and test sets; validation comes out of train.
- `file`: a CSV of ids, for a split that somebody published or already used.
- `folds`: one fold of K is the test set, so that K runs score every woman once.

The mean grey level of the training images is measured here as well, because networks
are centred with it and it must not see the test images.

    python -m dm_preprocess.splits data/images.csv --out data/split --scheme paper
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import tables
from dm_preprocess.patient_draws import (
    SplitError,
    fold_split,
    folds,
    patient_subsets,
    split_patients,
)

__all__ = [
    "SplitError", "fold_split", "folds", "main", "make_split", "patient_subsets",
    "official_split", "split_from_ids", "split_patients", "training_grey_mean",
    "women_on_both_sides", "worst_labels",
]  # fmt: skip
SCHEMES = ("paper", "official", "file", "folds")
TEST_SHARE, VAL_SHARE, SEED = 0.15, 0.10, 12345


def worst_labels(images: pd.DataFrame) -> dict[str, int]:
    """Each patient's worst label; patients with no labelled image are left out."""
    labelled = images[images["label"].notna()]
    worst = labelled.groupby("patient_id")["label"].max()
    return {str(patient): int(label) for patient, label in worst.items()}


def training_grey_mean(
    images: pd.DataFrame, table_path: str | os.PathLike, *, jobs: int = -1
) -> tuple[float, str]:
    """Mean grey level of the training images, every image counting alike.

    Args:
        images: Rows with `split`, `path` and `grey_mean`.
        table_path: The table's own place, which its paths start from.
        jobs: Processes for reading pixels where the column has gaps.

    Returns:
        The mean on the 0-255 scale, and "column" or "pixels": where it comes from.

    Raises:
        SplitError: No image is in train.
    """
    train = images[images["split"] == "train"]
    if train.empty:
        raise SplitError(f"{table_path}: no image in train to measure the grey mean of")
    if train["grey_mean"].notna().all():
        return float(train["grey_mean"].mean()), "column"
    from joblib import Parallel, delayed
    from tqdm import tqdm

    files = [tables.resolve(cell, table_path) for cell in train["path"]]
    work = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_file_grey_mean)(path) for path in files
    )
    means = list(tqdm(work, "grey mean", len(files), disable=None))
    return float(np.mean(means)), "pixels"


def official_split(
    images: pd.DataFrame, val_share: float, *, both_sides: str, seed: int
) -> dict[str, str]:
    """The source's own split by woman, with validation drawn out of its train.

    Args:
        images: With `official_split`: "train", "test" or "both" (of one image).
        val_share: Share of the training women for validation.
        both_sides: Where women go whom the source has on both sides: "train",
            "test" or "drop".
        seed: For the validation women.

    Returns:
        patient -> split; "" for women who are dropped.

    Raises:
        SplitError: The column is missing or holds something else.
    """
    labels = worst_labels(images)
    sides = _official_sides(images[images["label"].notna()])
    goes = {"drop": ""}.get(both_sides, both_sides)
    chosen = {p: goes if side == "both" else side for p, side in sides.items()}
    train = {p: labels[p] for p, side in chosen.items() if side == "train"}
    return chosen | split_patients(train, {"val": val_share}, seed=seed)


def women_on_both_sides(images: pd.DataFrame) -> list[str]:
    """The women whom the source's own split has in train and in test."""
    sides = _official_sides(images[images["label"].notna()])
    return sorted(patient for patient, side in sides.items() if side == "both")


def split_from_ids(images: pd.DataFrame, ids_path: str | os.PathLike) -> pd.Series:
    """The split of each image from a CSV with `patient_id` or `image_id`, and `split`.

    Args:
        images: The image table.
        ids_path: The CSV. Images it does not name get an empty split.

    Returns:
        One split an image, in the order of `images`.

    Raises:
        SplitError: A column is missing, a split is unknown, an id stands twice with
            different splits, or no id is known; file and line are named.
    """
    ids = pd.read_csv(ids_path, dtype=str, keep_default_na=False)
    key = next((name for name in ("image_id", "patient_id") if name in ids), None)
    if key is None or "split" not in ids:
        raise SplitError(
            f"{ids_path}: line 1: needs the columns split and image_id or patient_id, "
            f"received {', '.join(ids.columns)}"
        )
    _check_ids(ids, key, ids_path)
    found = images[key].map(dict(zip(ids[key], ids["split"], strict=True)))
    if not found.notna().any():
        raise SplitError(f"{ids_path}: none of its {key}s is in the image table")
    return found.fillna("")


def make_split(images: pd.DataFrame, options: argparse.Namespace) -> pd.Series:
    """The split of every image under the scheme of the command line; "" for none."""
    seed, val = options.seed, options.val_share
    if options.scheme == "file":
        if options.ids is None:
            raise SplitError("--scheme file needs --ids FILE.csv")
        chosen = split_from_ids(images, options.ids)
        return chosen.where(images["label"].notna(), "")
    labels = worst_labels(images)
    if options.scheme == "official":
        by_patient = official_split(
            images, val, both_sides=options.both_sides, seed=seed
        )
    elif options.scheme == "folds":
        by_patient = fold_split(labels, options.folds, options.fold, val, seed=seed)
    else:
        shares = {"test": options.test_share, "val": val * (1 - options.test_share)}
        by_patient = split_patients(labels, shares, seed=seed)
    chosen = images["patient_id"].map(by_patient).fillna("")
    return chosen.where(images["label"].notna(), "")


def split_counts(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Women, images and positive images and women of each split that has any."""
    counts = {}
    for name in tables.SPLITS:
        rows = images[images["split"] == name]
        positive = rows[rows["label"] == 1]
        counts[name] = {
            "women": int(rows["patient_id"].nunique()),
            "images": len(rows),
            "positives": len(positive),
            "positive_women": int(positive["patient_id"].nunique()),
        }
    return {name: found for name, found in counts.items() if found["images"]}


def main(argv: list[str] | None = None) -> int:
    """Split an image table by patient; see `--help`."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    table, summary = _outputs(options)
    images = tables.read_images(options.images)
    images["split"] = make_split(images, options)
    tables.check_disjoint_patients(images, where=str(options.ids or options.images))
    for name, rows in images[images["split"] != ""].groupby("split"):
        tables.check_labels_present(rows["label"], (0, 1), where=f"split {name}")
    facts = _facts(images, options)
    _print_counts(facts, images)
    for name in ("path", "source_path"):
        images[name] = [
            tables.rebase(cell, options.images, table) for cell in images[name]
        ]
    tables.write_table(images, table, "images")
    _write_json(facts, summary)
    print(f"wrote the split of {len(images)} images to {table} and {summary}")
    return 0


def _file_grey_mean(path: Path) -> float:
    from dm_preprocess.images import read_png

    return float(read_png(path).mean() * 255.0 / 65535.0)


def _official_sides(images: pd.DataFrame) -> dict[str, str]:
    if "official_split" not in images:
        raise SplitError(
            "--scheme official needs the column official_split, which only sources "
            "with a split of their own have; use --scheme paper or file"
        )
    bad = images[~images["official_split"].isin(("train", "test", "both"))]
    if len(bad):
        raise SplitError(
            f"image {bad['image_id'].iloc[0]}: official_split must be train, test or "
            f"both, received {bad['official_split'].iloc[0]!r} ({len(bad)} such row(s))"
        )
    sides = images.groupby("patient_id")["official_split"].agg(set)
    return {p: s.pop() if len(s) == 1 else "both" for p, s in sides.items()}


def _check_ids(ids: pd.DataFrame, key: str, path) -> None:
    bad = ~ids["split"].isin((*tables.SPLITS, ""))
    if bad.any():
        at = int(bad.to_numpy().argmax())
        raise SplitError(
            f"{path}: line {at + 2}, column split: must be one of "
            f"{', '.join(tables.SPLITS)} or empty, received {ids['split'].iloc[at]!r}"
        )
    clash = ids.groupby(key)["split"].nunique()
    if (clash > 1).any():
        raise SplitError(f"{path}: {key} {clash.idxmax()} stands with two splits")


def _outputs(options: argparse.Namespace) -> tuple[Path, Path]:
    """The table and the summary to write; refuses what is there already."""
    out = Path(options.out)
    table = out if out.suffix == ".csv" else out / "images.csv"
    summary = table.with_name("splits.json")
    for path in (table, summary):
        if path.exists() and not options.overwrite:
            raise SplitError(f"{path} exists already; --overwrite replaces it")
    return table, summary


def _facts(images: pd.DataFrame, options: argparse.Namespace) -> dict:
    grey_mean, measured = training_grey_mean(images, options.images, jobs=options.jobs)
    facts = {
        "format": 1,
        "scheme": options.scheme,
        "seed": options.seed,
        "counts": split_counts(images),
        "images_without_split": int((images["split"] == "").sum()),
        "grey_mean": round(grey_mean, 4),
        "grey_mean_from": measured,
    }
    used = {
        "paper": ("test_share", "val_share"),
        "official": ("both_sides", "val_share"),
        "folds": ("folds", "fold", "val_share"),
        "file": (),
    }[options.scheme]
    facts |= {name: getattr(options, name) for name in used}
    if options.scheme == "official":
        facts["women_on_both_sides"] = women_on_both_sides(images)
    return facts


def _print_counts(facts: dict, images: pd.DataFrame) -> None:
    print(f"{'split':8}{'women':>8}{'images':>8}{'positive':>10}")
    for name, found in facts["counts"].items():
        print(f"{name:8}{found['women']:8}{found['images']:8}{found['positives']:10}")
    if facts["images_without_split"]:
        unlabelled = int(images["label"].isna().sum())
        print(
            f"{facts['images_without_split']} image(s) are in no split"
            f" ({unlabelled} of them have no label)"
        )
    if facts.get("women_on_both_sides"):
        print(
            f"{len(facts['women_on_both_sides'])} women are on both sides of the "
            f"official split; --both-sides {facts['both_sides']} decided"
        )
    print(f"grey mean of the training images: {facts['grey_mean']:.2f} (of 0-255)")


def _write_json(facts: dict, path: Path) -> None:
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-split",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", type=Path, help="images.csv of a converted data set")
    add("--out", type=Path, required=True, help="folder (or .csv) for the split table")
    add("--scheme", choices=SCHEMES, default="paper", help="default: %(default)s")
    add(
        "--test-share", type=float, default=TEST_SHARE, help="paper: share of all women"
    )
    add("--val-share", type=float, default=VAL_SHARE, help="share of the women left")
    add("--ids", type=Path, help="file: CSV with image_id or patient_id, and split")
    add("--folds", type=int, default=5, help="folds: how many (default: %(default)s)")
    add("--fold", type=int, default=0, help="folds: which one tests, from 0")
    add("--both-sides", choices=("train", "test", "drop"), default="train",
        help="official: where women go whom it has in train and test")  # fmt: skip
    add("--seed", type=int, default=SEED, help="default: %(default)s")
    add("--jobs", type=int, default=-1, help="processes (default: all cores)")
    add("--overwrite", action=argparse.BooleanOptionalAction, default=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
