"""The mean of several models' scores on the same images.

    python -m dm_training.ensemble runs/a runs/b runs/c runs/d --out ensemble.csv
    python -m dm_training.ensemble a.keras scores_b.csv --images images.csv \\
        --split val test --out ensemble.csv

A member is a run folder (its scores are there already), a table of scores, or a model
file, which is scored on `--images` first. Members must have scored the same images,
each with as many flips as the others; no weight is fitted, so that an ensemble sees no
more of the data than its members did. With `--split val test` both splits stand in the
table, and an operating point of the ensemble can be fitted on val.

Source:
    Shen et al. 3.1.4: the mean of the four best models' augmented predictions.
"""

from __future__ import annotations

import argparse
import os
import sys
from argparse import BooleanOptionalAction
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from dm_preprocess import tables
from dm_preprocess.tables import TableError
from dm_training.prediction_rows import MetricError

FORMAT = 1
_MODEL_SUFFIXES = (".keras", ".h5")
_IDS = ("patient_id", "laterality", "view", "split")
_OWN = ("image_id", "y_true", "y_score", "model", "models", "flips")


def average_predictions(
    frames: Mapping[str, pd.DataFrame], *, name: str = "ensemble"
) -> pd.DataFrame:
    """Average the scores of two or more models, image by image.

    Args:
        frames: Member -> its prediction table, in any order of rows.
        name: For the column `model`.

    Returns:
        The first member's images in its order: the ids, split, y_true, the mean as
        y_score, `model`, `flips` where every table says it, `models` (how many were
        averaged), and any further column on which all tables agree. An id or split
        that one table leaves empty is taken from another.

    Raises:
        MetricError: Fewer than two tables, an image twice, other images, another
            truth, id, split or number of flips, or a score that is no probability;
            the member is named.
    """
    if len(frames) < 2:
        raise MetricError(f"an ensemble needs two models, received {len(frames)}")
    for member, frame in frames.items():
        _check_member(frame, member)
    first, *others = frames
    order = frames[first]["image_id"]
    rows = {}
    for member, frame in frames.items():
        _check_same_images(order, frame["image_id"], first, member)
        rows[member] = frame.set_index("image_id").loc[order].reset_index()
    base = rows[first]
    out = base[["image_id"]].copy()
    for column in (c for c in _IDS if any(c in table for table in rows.values())):
        out[column] = _agreed(rows, column)
    for member in others:
        _check_same_truth(base, rows[member], first, member)
    out["y_true"] = base["y_true"]
    out["y_score"] = sum(table["y_score"] for table in rows.values()) / len(rows)
    out["model"] = name
    out = _with_flips(out, rows).assign(models=len(rows))
    return out.assign(**{c: base[c] for c in _shared_columns(rows)})


def member_predictions(
    source: str | os.PathLike, splits: Sequence[str], *, augmented: bool = True,
    images: str | os.PathLike | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The scores of one member.

    Args:
        source: A table of scores, a run folder, or a model file.
        splits: Which rows; a table that names no split is taken whole as the only one.
        augmented: Of a run folder or a model: the mean over four flips.
        images: The image table that a model file is scored on.

    Raises:
        MetricError: A split has no row, or a model comes without `images`.
        TableError, SamplesError, ModelFileError: What is there cannot be used.
    """
    source = Path(source)
    if source.is_dir():
        suffix = "_augmented" if augmented else ""
        paths = [source / f"predictions_{split}{suffix}.csv" for split in splits]
        frames = [tables.read_predictions(path) for path in paths]
        return _of_splits(pd.concat(frames, ignore_index=True), splits, source)
    if source.suffix.lower() not in _MODEL_SUFFIXES:
        return _of_splits(tables.read_predictions(source), splits, source)
    if images is None:
        raise MetricError(f"{source}: a model is scored on --images, which is missing")
    return _model_predictions(source, splits, images, flips=4 if augmented else 1)


def _model_predictions(path: Path, splits, images, *, flips: int) -> pd.DataFrame:
    from dm_models import weights
    from dm_training import scoring
    from dm_training.reading import readable
    from dm_training.samples import SamplesError

    model, contract = weights.load_model(path)
    scoring.check_whole_image(contract, path)
    frames = []
    for split in splits:
        samples = scoring.samples_of_paths([str(images)], split)
        store, samples, failed = readable(samples, contract)
        if failed:
            raise SamplesError(
                f"{images}: {len(failed)} image(s) of split {split} cannot be read, "
                f"such as {failed[0][0]}: {failed[0][1]}"
            )
        scores = scoring.predict_samples(
            model, contract, samples, flips=flips, name=path.stem, store=store
        )
        frames.append(scores.assign(split=split))
    return pd.concat(frames, ignore_index=True)


def _of_splits(frame: pd.DataFrame, splits: Sequence[str], where) -> pd.DataFrame:
    named = frame["split"].astype(str).str.strip()
    if not (named != "").any() and len(splits) == 1:
        return frame.assign(split=splits[0])
    missing = [split for split in splits if split not in set(named)]
    if missing:
        found = ", ".join(sorted(set(named) - {""})) or "none is named"
        raise MetricError(
            f"{where}: no row of split {', '.join(missing)}; splits found: {found}"
        )
    return frame[named.isin(splits)].reset_index(drop=True)


def _check_member(frame: pd.DataFrame, member: str) -> None:
    missing = [c for c in ("image_id", "y_true", "y_score") if c not in frame]
    if missing:
        raise MetricError(f"{member}: no column {', '.join(missing)}")
    twice = frame["image_id"][frame["image_id"].duplicated()]
    if len(twice):
        raise MetricError(
            f"{member}: image_id {twice.iloc[0]!r} stands twice ({len(twice)} such "
            "row(s)); one model's scores at a time"
        )
    bad = ~frame["y_score"].between(0, 1)
    if bad.any():
        raise MetricError(
            f"{member}: y_score must be a probability in [0, 1], received "
            f"{frame['y_score'][bad].iloc[0]:g} for {frame['image_id'][bad].iloc[0]} "
            f"({int(bad.sum())} such row(s)); scores on other scales have no mean"
        )


def _check_same_images(ids: pd.Series, other: pd.Series, first: str, member: str):
    unmatched = sorted(set(ids) ^ set(other), key=str)
    if unmatched:
        raise MetricError(
            f"{member} holds other images than {first}: {len(unmatched)} image_id(s) "
            f"stand in one only, such as {', '.join(map(str, unmatched[:3]))}"
        )


def _check_same_truth(base: pd.DataFrame, other: pd.DataFrame, first, member) -> None:
    wrong = ~_alike(base["y_true"], other["y_true"])
    if wrong.any():
        raise MetricError(
            f"y_true differs between {first} and {member} for {int(wrong.sum())} "
            f"image(s), such as {base['image_id'][wrong].iloc[0]}"
        )


def _agreed(rows: Mapping[str, pd.DataFrame], column: str) -> pd.Series:
    """A text column of all tables, filled from whichever has a cell."""
    found = None
    for member, table in rows.items():
        if column not in table:
            continue
        cells = table[column].fillna("").astype(str)
        if found is None:
            found = cells
            continue
        wrong = (cells != found) & (cells != "") & (found != "")
        if wrong.any():
            raise MetricError(
                f"{column} of image {table['image_id'][wrong].iloc[0]} is "
                f"{cells[wrong].iloc[0]!r} in {member} and {found[wrong].iloc[0]!r} "
                f"before it ({int(wrong.sum())} such row(s))"
            )
        found = found.where(found != "", cells)
    return found


def _with_flips(out: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    said = {m: set(t["flips"].dropna()) for m, t in rows.items() if "flips" in t}
    known = set().union(*said.values())
    if len(known) > 1:
        shown = "; ".join(
            f"{member}: {', '.join(f'{n:g}' for n in sorted(flips))}"
            for member, flips in said.items()
        )
        raise MetricError(
            f"flips must be alike, received {shown}; a score of four flips and one of "
            "a single image are two kinds of prediction"
        )
    if len(said) < len(rows) or any(t["flips"].isna().any() for t in rows.values()):
        return out
    return out.assign(flips=int(known.pop()))


def _shared_columns(rows: Mapping[str, pd.DataFrame]) -> list[str]:
    """Further columns that every table has, alike in all."""
    first, *others = rows.values()
    return [
        c for c in first if c not in (*_IDS, *_OWN)
        and all(c in t and _alike(first[c], t[c]).all() for t in others)
    ]  # fmt: skip


def _alike(a: pd.Series, b: pd.Series) -> pd.Series:
    return (a == b) | (a.isna() & b.isna())


def member_names(sources: Sequence[str | os.PathLike]) -> list[str]:
    """Short names that differ: the run's, else the file's, else the whole path."""
    short = []
    for source in map(Path, sources):
        generic = source.stem == "best" or source.stem.startswith("predictions")
        own = source.name if source.is_dir() else source.stem
        short.append(source.absolute().parent.name if generic else own)
    return [
        name if short.count(name) == 1 else str(source)
        for name, source in zip(short, sources, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 or 2 (the members do not fit together)."""
    args = _parser().parse_args(argv)
    out = Path(args.out)
    if out.suffix.lower() != ".csv":
        return _refused(f"--out must end in .csv, received {args.out!r}")
    facts = out.with_suffix(".json")
    for path in (out, facts):
        if path.exists() and not args.overwrite:
            return _refused(f"{path}: exists already (--overwrite)")
    from dm_models.layer_files import ModelFileError
    from dm_training.runs import write_json
    from dm_training.samples import SamplesError

    try:
        frame, found = _ensemble(args, out)
        tables.write_table(frame, out, "predictions")
        write_json(facts, found)
    except (MetricError, TableError, SamplesError, ModelFileError, OSError) as error:
        return _refused(str(error))
    print(_words(found))
    print(f"{len(frame)} images -> {out}, what was averaged -> {facts}")
    return 0


def _ensemble(args, out: Path) -> tuple[pd.DataFrame, dict]:
    names = member_names(args.members)
    files = {Path(member).resolve() for member in args.members}
    if len(set(names)) < len(names) or len(files) < len(names):
        raise MetricError(f"a member is named twice: {', '.join(names)}")
    frames = {
        name: member_predictions(source, args.split, augmented=args.augmented,
                                 images=args.images)
        for name, source in zip(names, args.members, strict=True)
    }  # fmt: skip
    frame = average_predictions(frames, name=args.name)
    members = [
        {"name": name, "source": os.path.relpath(source, out.parent)}
        for name, source in zip(names, args.members, strict=True)
    ]
    counts = {
        split: {"images": len(rows), "positives": int((rows["y_true"] == 1).sum())}
        for split, rows in frame.groupby("split", sort=False)
    }
    flips = int(frame["flips"].iloc[0]) if "flips" in frame else None
    return frame, {"format": FORMAT, "name": args.name, "members": members,
                   "flips": flips, "splits": counts}  # fmt: skip


def _words(found: dict) -> str:
    flips = {4: ", each the mean of four flips", 1: ", without flips", None: ""}
    names = [member["name"] for member in found["members"]]
    counts = ", ".join(
        f"{split}: {count['images']} images, {count['positives']} positive"
        for split, count in found["splits"].items()
    )
    return (
        f"{found['name']}: mean of {len(names)} models{flips[found['flips']]}: "
        f"{', '.join(names)}; {counts}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag = parser.add_argument
    flag("members", nargs="+", help="run folders, tables of scores, or model files")
    flag("--out", required=True, help=".csv to write; a .json beside it says of what")
    flag("--split", nargs="+", default=["test"], choices=("train", "val", "test"),
         help="splits to take (default: test)")  # fmt: skip
    flag("--images", help="image table that model files are scored on")
    flag("--augmented", action=BooleanOptionalAction, default=True,
         help="of runs and models: the mean over four flips")  # fmt: skip
    flag("--name", default="ensemble", help="for the column model")
    flag("--overwrite", action=BooleanOptionalAction, default=False)
    return parser


def _refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
