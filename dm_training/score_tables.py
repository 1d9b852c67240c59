"""Reading tables of scores, from this project or from anyone.

What differs in writing only is made alike here, once: blanks around an id, 7.0 for 7,
nan for nothing, LEFT for L. Else one woman would count as several, and her images
as independent.
"""

from __future__ import annotations

import csv
import lzma
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dm_preprocess.tables import TableError

_NEEDED = ("image_id", "y_true", "y_score")
_OPTIONAL = ("patient_id", "laterality", "split")
_IDS = ("image_id", "patient_id")
_NOTHING = ("", "nan", "none", "null", "<na>")
_SIDES = {"left": "L", "right": "R", "l": "L", "r": "R"}


def read_scores(
    path: str | os.PathLike, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a table of scores, its columns renamed to those of `predictions.csv`.

    Args:
        path: The CSV, of this project or from elsewhere.
        columns: Our name -> the name in the file; what is left out is named as ours.

    Returns:
        image_id, y_true (0, 1 or NaN), y_score, flips as a number (NaN where empty) if
        there is such a column, and what else the file has; patient_id, laterality (L,
        R or as written) and split are empty text where the file has none. y_score is
        NaN where a column status says that dm-predict gave none: failed or refused.

    Raises:
        TableError: No such file, a column missing or there twice, or a cell that is no
            number, no score or no 0 or 1; file, line and column are named.
    """
    frame = _read_text(path)
    chosen = dict(columns or {})
    named = {ours: ours for ours in (*_NEEDED, *_OPTIONAL)} | chosen
    for ours, theirs in named.items():
        if theirs not in frame and (ours in _NEEDED or ours in chosen):
            raise TableError(
                f"{path}: line 1: no column {theirs} for {ours}; found "
                f"{', '.join(frame.columns)}; the flags --...-column name others"
            )
    frame = _with_ids(_renamed(frame, named))
    for name in ("y_true", "y_score", *(["flips"] if "flips" in frame else [])):
        frame[name] = _numbers(frame[name], path, named.get(name, name))
    truth, score = frame["y_true"], frame["y_score"]
    wrong = truth.notna() & ~truth.isin((0.0, 1.0))
    _refuse(truth, wrong, path, named["y_true"], "must be 0, 1 or empty")
    infinite = ~score.abs().lt(float("inf")) & ~(score.isna() & _unscored(frame))
    _refuse(score, infinite, path, named["y_score"], "must be a finite number")
    return frame


def _unscored(frame: pd.DataFrame) -> pd.Series:
    if "status" not in frame:
        return pd.Series(False, index=frame.index)
    return frame["status"].str.strip().isin(("failed", "refused"))


def alike(ids: pd.Series) -> pd.Series:
    """Ids as they are compared between tables: without case and outer blanks."""
    return ids.fillna("").astype(str).map(_id_text).str.casefold()


def _read_text(path: str | os.PathLike) -> pd.DataFrame:
    if not Path(path).is_file():
        raise TableError(f"{path}: no such table")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, header=None,
                            encoding="utf-8-sig", index_col=False)  # fmt: skip
    except (ValueError, csv.Error, OSError, EOFError, zipfile.BadZipFile,
            lzma.LZMAError) as err:  # fmt: skip
        raise TableError(f"{path}: not a CSV table: {err}") from err
    frame = frame.fillna("")  # a row that ends early
    names = frame.iloc[0].tolist()
    twice = [name for name in names if names.count(name) > 1 and name]
    if twice:
        raise TableError(f"{path}: line 1: column {twice[0]} stands twice")
    return frame.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)


def _renamed(frame: pd.DataFrame, named: Mapping[str, str]) -> pd.DataFrame:
    return frame.assign(
        **{ours: frame[name] if name in frame else "" for ours, name in named.items()}
    )


def _with_ids(frame: pd.DataFrame) -> pd.DataFrame:
    sides = frame["laterality"].map(_plain)
    return frame.assign(
        **{name: frame[name].map(_id_text) for name in _IDS},
        laterality=sides.map(lambda side: _SIDES.get(side.lower(), side)),
        split=frame["split"].map(_plain),
    )


def _plain(cell: str) -> str:
    text = cell.strip()
    return "" if text.lower() in _NOTHING else text


def _id_text(cell: str) -> str:
    """An id without outer blanks, and a number without a point: 7.0 is 7."""
    text = _plain(cell)
    whole, point, rest = text.partition(".")
    return whole if point and whole.isdigit() and not rest.strip("0") else text


def _numbers(column: pd.Series, path, name: str) -> pd.Series:
    text = column.str.strip()
    values = pd.to_numeric(text, errors="coerce").astype("float64")
    bad = values.isna() & (text != "") & (text.str.lower() != "nan")
    _refuse(column, bad, path, name, "must be a number")
    return values


def _refuse(column: pd.Series, bad: pd.Series, path, name: str, rule: str) -> None:
    if bad.any():
        at = int(bad.to_numpy().argmax())
        cell = column.iloc[at]
        shown = f"{cell:g}" if isinstance(cell, float) else repr(cell)
        raise TableError(
            f"{path}: line {at + 2}, column {name}: {rule}, received {shown} "
            f"({int(bad.sum())} such row(s))"
        )
