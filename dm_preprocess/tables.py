"""The tables between stages: their columns, types and checks.

Every stage reads and writes CSV (UTF-8, comma, one header line, one row a thing), so
that a user can open what lies between two stages in any program, and so that every
row carries the ids (`image_id`, `patient_id`, `laterality`, `view`) which keep a
woman's images together. Paths in a table are relative to the table's own folder.
Unknown extra columns are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

PATCH_CLASSES = ("background", "calc_mal", "calc_ben", "mass_mal", "mass_ben")
IMAGE_CLASSES = ("neg", "pos")
SPLITS = ("train", "val", "test")
ABNORMALITIES = ("mass", "calc", "other")

IMAGE_COLUMNS = (
    "image_id", "patient_id", "laterality", "view", "split", "label", "path",
    "source_path", "source", "source_height", "source_width", "bits_stored", "height",
    "width", "row_scale", "col_scale", "row_offset", "col_offset", "spacing_mm",
    "grey_mean", "vendor", "density", "age", "note",
)  # fmt: skip
LESION_COLUMNS = (
    "lesion_id", "image_id", "patient_id", "laterality", "abnormality", "malignant",
    "pathology", "subtlety", "assessment", "row0", "col0", "row1", "col1",
    "mask_path", "note",
)  # fmt: skip
PATCH_COLUMNS = (
    "patch_id", "image_id", "patient_id", "lesion_id", "split", "class", "row0",
    "col0", "overlap_region", "overlap_patch", "path",
)  # fmt: skip
PREDICTION_COLUMNS = (
    "image_id", "patient_id", "laterality", "view", "split", "y_true", "y_score",
    "model", "flips",
)  # fmt: skip

_NUMBERS = frozenset(
    "label source_height source_width bits_stored height width row_scale col_scale "
    "row_offset col_offset spacing_mm grey_mean malignant row0 col0 row1 col1 "
    "overlap_region overlap_patch y_true y_score flips".split()
)
_NEEDED = {
    "images": ("image_id", "patient_id", "path"),
    "lesions": ("lesion_id", "image_id", "patient_id", "abnormality", "malignant"),
    "patches": ("patch_id", "image_id", "patient_id", "split", "class", "path"),
    "predictions": ("image_id", "y_true", "y_score"),
}
_COLUMNS = {
    "images": IMAGE_COLUMNS,
    "lesions": LESION_COLUMNS,
    "patches": PATCH_COLUMNS,
    "predictions": PREDICTION_COLUMNS,
}


class TableError(ValueError):
    """A table breaks a rule; the message names file, line and column."""


def read_images(
    path: str | os.PathLike, *, labelled: bool = False, paths_as_ids: bool = False
) -> pd.DataFrame:
    """Read an `images.csv`.

    Args:
        path: The CSV file.
        labelled: Refuse rows without a label (training needs every one).
        paths_as_ids: A table without a column image_id, such as `dm-convert generic`
            takes, is read too: its path cells are the ids.

    Returns:
        One row an image; ids as text, numbers as float64, an empty cell is "" in a
        text column and NaN in a number column. `label` holds 0, 1 or NaN.

    Raises:
        TableError: A needed column is missing, an id stands twice or is empty, or a
            label or split is outside its set; file, line and column are named.
    """
    frame = _read(path, "images", paths_as_ids=paths_as_ids)
    _check_unique(frame, "image_id", path)
    _check_values(frame, "label", (0.0, 1.0), path, empty=not labelled)
    _check_values(frame, "split", SPLITS, path, empty=True)
    return frame


def read_lesions(path: str | os.PathLike) -> pd.DataFrame:
    """Read a `lesions.csv`: one row a lesion and view; rules as `read_images`."""
    frame = _read(path, "lesions")
    _check_values(frame, "malignant", (0.0, 1.0), path, empty=False)
    _check_values(frame, "abnormality", ABNORMALITIES, path, empty=False)
    return frame


def read_patches(path: str | os.PathLike) -> pd.DataFrame:
    """Read a `patches.csv`: one row a patch; rules as `read_images`."""
    frame = _read(path, "patches")
    _check_unique(frame, "patch_id", path)
    _check_values(frame, "class", PATCH_CLASSES, path, empty=False)
    _check_values(frame, "split", SPLITS, path, empty=True)
    return frame


def read_predictions(path: str | os.PathLike) -> pd.DataFrame:
    """Read a `predictions.csv`: `y_true` is 0, 1 or NaN, `y_score` a finite number.

    Raises:
        TableError: As `read_images`; also where a score is missing or not finite.
    """
    frame = _read(path, "predictions")
    _check_values(frame, "y_true", (0.0, 1.0), path, empty=True)
    bad = ~frame["y_score"].abs().lt(float("inf"))
    _refuse(frame, bad, "y_score", path, "must be a finite number")
    return frame


def write_table(frame: pd.DataFrame, path: str | os.PathLike, kind: str) -> Path:
    """Write a table aside and rename it, so that no half-written one is ever seen.

    Args:
        frame: The rows. Columns of the contract that are missing are added empty;
            extra columns follow in their own order.
        path: Where to write.
        kind: "images", "lesions", "patches" or "predictions".

    Returns:
        The path written.
    """
    columns = list(_COLUMNS[kind])
    frame = frame.copy()
    for name in columns:
        if name not in frame:
            frame[name] = ""
    frame = frame[columns + [name for name in frame if name not in columns]]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    try:
        _whole_numbers(frame).to_csv(aside, index=False)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def resolve(cell: str, table_path: str | os.PathLike) -> Path:
    """The file that a path cell of the table at `table_path` means."""
    return Path(table_path).parent / cell


def rebase(
    cell: str, old_table: str | os.PathLike, new_table: str | os.PathLike
) -> str:
    """A path cell seen from a new table's folder; an absolute or empty one stays."""
    if not cell or os.path.isabs(cell):
        return cell
    target = resolve(cell, old_table).resolve()
    return Path(os.path.relpath(target, Path(new_table).parent.resolve())).as_posix()


def check_disjoint_patients(frame: pd.DataFrame, *, where: str) -> None:
    """Refuse a table in which one patient stands in two splits.

    Args:
        frame: Rows with `patient_id` and `split`; rows with an empty split are free.
        where: The table's name for the message.

    Raises:
        TableError: Naming the first such patients and their splits.
    """
    used = frame[frame["split"].astype(str) != ""]
    splits = used.groupby("patient_id")["split"].agg(lambda s: sorted(set(s)))
    both = splits[splits.map(len) > 1]
    if len(both):
        named = ", ".join(f"{p} ({'+'.join(s)})" for p, s in both.head(3).items())
        raise TableError(
            f"{where}: {len(both)} patient(s) stand in more than one split: {named}"
            "; a woman's images belong to one split (dm-split makes such a table)"
        )


def check_labels_present(labels: Iterable, classes: Iterable, *, where: str) -> None:
    """Refuse data in which a class has no member at all.

    Args:
        labels: The labels found.
        classes: Every label that must occur.
        where: What was read, for the message.

    Raises:
        TableError: Naming the empty classes.
    """
    found = set(labels)
    empty = [str(c) for c in classes if c not in found]
    if empty:
        raise TableError(f"{where}: no example of class {', '.join(empty)}")


def _read(
    path: str | os.PathLike, kind: str, *, paths_as_ids: bool = False
) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such table")
    try:
        frame = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except UnicodeDecodeError as err:
        raise TableError(f"{path}: not UTF-8 ({err}); save it as UTF-8") from err
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as err:
        raise TableError(f"{path}: not a CSV table: {err}") from err
    if paths_as_ids and "image_id" not in frame and "path" in frame:
        frame["image_id"] = frame["path"]
    missing = [name for name in _NEEDED[kind] if name not in frame]
    if missing:
        raise TableError(
            f"{path}: line 1: missing column {', '.join(missing)}; a table of {kind} "
            f"needs {', '.join(_NEEDED[kind])}; found {', '.join(frame.columns)}"
        )
    for name in frame.columns.intersection(sorted(_NUMBERS)):
        frame[name] = _numbers(frame, name, path)
    for name in _COLUMNS[kind]:
        if name not in frame:
            frame[name] = float("nan") if name in _NUMBERS else ""
    for name in ("image_id", "patient_id"):
        if name in _NEEDED[kind]:
            _refuse(frame, frame[name] == "", name, path, "must not be empty")
    return frame


def _numbers(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    text = frame[name].str.strip()
    values = pd.to_numeric(text, errors="coerce")
    _refuse(frame, values.isna() & (text != "") & (text.str.lower() != "nan"), name,
            path, "must be a number")  # fmt: skip
    return values.astype("float64")


def _check_unique(frame: pd.DataFrame, name: str, path: str | os.PathLike) -> None:
    _refuse(frame, frame[name].duplicated(), name, path, "stands twice")


def _check_values(frame, name, allowed, path, *, empty: bool) -> None:
    good = frame[name].isin(allowed)
    if empty:
        good |= frame[name].isna() | (frame[name] == "")
    shown = ", ".join(str(int(a)) if isinstance(a, float) else a for a in allowed)
    rule = f"must be one of {shown}" + (" or empty" if empty else "")
    _refuse(frame, ~good, name, path, rule)


def _refuse(frame, bad: pd.Series, name: str, path, rule: str) -> None:
    if bad.any():
        at = int(bad.to_numpy().argmax())
        cell = frame[name].iloc[at]
        shown = f"{cell:g}" if isinstance(cell, float) else repr(cell)
        raise TableError(
            f"{path}: row {at + 1} (line {at + 2}), column {name}: {rule}, "
            f"received {shown} ({int(bad.sum())} such row(s))"
        )


def _whole_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Show 3.0 as 3: ids of rows and pixels are whole numbers, NaN forces floats."""
    for name in frame:
        column = frame[name]
        if column.dtype.kind == "f" and column.notna().any():
            if (column.dropna() % 1 == 0).all() and column.abs().max() < 2**53:
                frame[name] = column.astype("Int64")
    return frame
