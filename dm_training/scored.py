"""One model's scores as an evaluation takes them: from any CSV, or from a run folder.

A run folder brings more than a table: its validation rows (threshold and temperature
are fitted on them), its history and its configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import tables
from dm_preprocess.tables import TableError
from dm_training.prediction_rows import MetricError, select_rows, texts
from dm_training.score_tables import alike, read_scores

_FROM_IMAGES = ("patient_id", "laterality", "view", "density", "age", "vendor")


@dataclass(frozen=True)
class Scored:
    """A model's rows of one split, and what else is known of it.

    Attributes:
        name: For tables and legends.
        path: The table.
        rows: Rows of the split that have a truth.
        left_out: Rows of the table that are not among them, counted by reason.
        validation: Labelled rows of split val, None where there are none.
        run: The run folder, None for a plain table.
        members: Of an ensemble, the names of the models averaged.
        unsplit: Whether the table names no split and was taken whole.
    """

    name: str
    path: Path
    rows: pd.DataFrame
    left_out: Mapping[str, int]
    validation: pd.DataFrame | None = None
    run: Path | None = None
    members: tuple[str, ...] = ()
    unsplit: bool = False


def read_scored(
    sources: Sequence[str | os.PathLike], split: str, *,
    columns: Mapping[str, str] | None = None, augmented: bool = False,
) -> list[Scored]:  # fmt: skip
    """Read several models' scores.

    Args:
        sources: CSV files or run folders, each with or without `NAME=` before it.
        split: Which rows to report for.
        columns: Our name -> the name in plain tables, as `read_scores`.
        augmented: Of run folders take the mean of four flips.

    Returns:
        One each, in order, under names that differ.

    Raises:
        TableError, MetricError: As `read_scores`, `select_rows`; two equal names.
    """
    pairs = [_named(source) for source in sources]
    names = _told_apart([path for _, path in pairs])
    given = [name or names[at] for at, (name, _) in enumerate(pairs)]
    twice = {name for name in given if given.count(name) > 1}
    if twice:
        raise MetricError(f"two models are called {sorted(twice)[0]!r}; NAME=PATH")
    return [
        _read_one(name, path, split, columns, augmented)
        for name, (_, path) in zip(given, pairs, strict=True)
    ]


def with_image_facts(
    rows: pd.DataFrame, images: pd.DataFrame, *, split: str = "test"
) -> pd.DataFrame:
    """Fill in view, density, age, vendor and ids from an image table.

    Raises:
        MetricError: Images are scored that the table does not know, or of which it
            says another label, woman or split.
    """
    unknown = sorted(set(rows["image_id"]) - set(images["image_id"]))
    if unknown:
        raise MetricError(
            f"{len(unknown)} scored image(s) are not in the image table, such as "
            f"{', '.join(unknown[:3])}"
        )
    known = images.set_index("image_id").loc[rows["image_id"]]
    _check_same(rows, known, split)
    filled = rows.copy()
    for name in _FROM_IMAGES:
        own = rows[name].fillna("").astype(str) if name in rows else None
        if (own is None or (own == "").all()) and name in known:
            filled[name] = known[name].to_numpy()
    return filled


def with_women(rows: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Name the women of rows that name none, as far as an image table knows them."""
    if "patient_id" in rows and (texts(rows["patient_id"]) != "").any():
        return rows
    women = dict(zip(images["image_id"], images["patient_id"], strict=True))
    return rows.assign(patient_id=rows["image_id"].map(women).fillna(""))


def _check_same(rows: pd.DataFrame, known: pd.DataFrame, split: str) -> None:
    """What a table of scores and an image table say of the same images."""
    label = known["label"].to_numpy() if "label" in known else np.full(len(rows), None)
    other = pd.notna(label) & (label != rows["y_true"].to_numpy())
    found = {"label": other}
    said = texts(known["split"]).to_numpy() if "split" in known else split
    found["split"] = (said != split) & (said != "")
    if "patient_id" in rows:
        mine, theirs = alike(rows["patient_id"]), alike(known["patient_id"])
        mine, theirs = mine.to_numpy(), theirs.to_numpy()
        found["patient_id"] = (mine != theirs) & (mine != "") & (theirs != "")
    for name, wrong in found.items():
        if np.any(wrong):
            raise MetricError(
                f"the image table says another {name} than the scores for "
                f"{int(np.sum(wrong))} image(s), such as "
                f"{rows['image_id'].iloc[int(np.argmax(wrong))]}: are they about the "
                "same data?"
            )


def _read_one(name, path: Path, split: str, columns, augmented: bool) -> Scored:
    if not path.is_dir():
        frame = read_scores(path, columns)
        rows, left = select_rows(frame, split, where=str(path))
        unsplit = bool((texts(frame["split"]) == "").all())
        return Scored(name, path, rows, left, _validation(frame, path), unsplit=unsplit)
    suffix = "_augmented" if augmented else ""
    table = path / f"predictions_{split}{suffix}.csv"
    if not table.is_file():
        raise TableError(f"{path}: a folder without {table.name}: no finished run")
    rows, left = select_rows(read_scores(table), split, where=str(table))
    other = path / f"predictions_val{suffix}.csv"
    validation = _validation(read_scores(other), other) if other.is_file() else None
    return Scored(name, table, rows, left, validation, path)


def _validation(frame: pd.DataFrame, path: Path) -> pd.DataFrame | None:
    """The labelled rows that say they are of split val; never an unnamed split."""
    if not (frame["split"].astype(str).str.strip() == "val").any():
        return None
    return select_rows(frame, "val", where=str(path))[0]


def _named(source: str | os.PathLike) -> tuple[str, Path]:
    """`NAME=PATH` or `PATH`; a file whose own name holds = is taken as it is."""
    text = os.fspath(source)
    name, equals, rest = text.partition("=")
    if equals and not Path(text).exists() and name and "/" not in name:
        return name, Path(rest)
    return "", Path(text)


def _told_apart(paths: Sequence[Path]) -> list[str]:
    """Folder names or file names without suffix, or what of the paths differs."""
    for names in (
        [path.stem for path in paths],
        [f"{path.parent.name}/{path.stem}" for path in paths],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, 1)]


def read_validation(path: str | os.PathLike, columns=None) -> pd.DataFrame:
    """The rows of a table given to fit on; every labelled one must say split val.

    Raises:
        MetricError: No row of split val.
    """
    found = _validation(read_scores(path, columns), Path(path))
    if found is None:
        raise MetricError(
            f"{path}: no row's split is 'val': a threshold is fitted on validation "
            "rows only, and the table must say that these are"
        )
    return found


def read_image_table(path: str | os.PathLike | None) -> pd.DataFrame | None:
    """The image table where one was given."""
    return None if path is None else tables.read_images(path)
