"""Rows of a prediction table: what makes them sound, and the level they speak of.

An AUC over images, over breasts and over women are three figures, and papers mix them
up. `aggregate` goes from one level to the next and nothing else does. A table that
breaks a rule (an id twice, a NaN, one class) is refused with a `MetricError`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

LEVELS = ("image", "breast", "patient")


class MetricError(ValueError):
    """A figure cannot be had from these scores; the message says why."""


def select_rows(
    frame: pd.DataFrame, split: str, *, where: str = "the table"
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows of one split that have a truth and a score, and how many were left out.

    A table whose split column is empty throughout is taken whole, as `split`.

    Returns:
        (rows, {"other_split": count, "no_truth": count}), with "no_score" where images
        could not be scored.

    Raises:
        MetricError: No row is left; the splits there are are named.
    """
    splits = texts(frame["split"])
    here = splits == split if (splits != "").any() else splits == ""
    rows = frame[here]
    truth = rows["y_true"].notna()
    left_out = {"other_split": int((~here).sum()), "no_truth": int((~truth).sum())}
    if not truth.any():
        counts = splits.value_counts().items()
        found = ", ".join(f"{name or 'empty'} ({count})" for name, count in counts)
        raise MetricError(
            f"{where}: no row of split {split!r} has a truth; splits found: {found}"
        )
    scored = rows["y_score"].notna()
    if not scored.all():
        left_out["no_score"] = int((~scored & truth).sum())
    return rows[truth & scored].assign(split=split), left_out


def check_scores(
    y_true, y_score, *, one_class: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Truth as bool and scores as float64, or a `MetricError` that says why not.

    Args:
        y_true: (N,) 0 or 1.
        y_score: (N,) finite.
        one_class: Whether all may be of one class; N must be at least 1 even so.
    """
    y_true, y_score = np.asarray(y_true, float), np.asarray(y_score, float)
    if y_true.ndim != 1 or y_true.shape != y_score.shape:
        raise MetricError(
            f"y_true and y_score must be (N,) alike, received {y_true.shape} and "
            f"{y_score.shape}"
        )
    if not np.isfinite(y_score).all():
        bad = int((~np.isfinite(y_score)).sum())
        raise MetricError(f"y_score: {bad} of {len(y_score)} are NaN or infinite")
    if not np.isin(y_true, (0.0, 1.0)).all():
        bad = y_true[~np.isin(y_true, (0.0, 1.0))]
        raise MetricError(f"y_true must hold 0 and 1 only, received {bad[0]:g}")
    positives = int(y_true.sum())
    if one_class and not len(y_true):
        raise MetricError("no rows: nothing to measure")
    if not one_class and positives in (0, len(y_true)):
        raise MetricError(
            f"one class only ({positives} positives of {len(y_true)}): there is no AUC"
        )
    return y_true.astype(bool), y_score


def require_split(rows: pd.DataFrame, split: str, purpose: str) -> None:
    """Refuse rows unless there are some and every one is of the split.

    What is fitted on validation images must not see others, so no flag turns this off.

    Raises:
        MetricError: No rows, no column split, or rows of another split or of none; the
            splits met are named.
    """
    if not len(rows):
        raise MetricError(f"{purpose} needs rows of split {split!r}, received none")
    if "split" not in rows:
        raise MetricError(f"{purpose} needs a column split that says {split!r}")
    found = texts(rows["split"])
    if (found != split).any():
        met = ", ".join(
            f"{k or 'empty'} ({v})" for k, v in found.value_counts().items()
        )
        raise MetricError(
            f"{purpose} takes rows of split {split!r} only; received {met}"
        )


def aggregate(
    frame: pd.DataFrame, level: str = "image", how: str = "mean"
) -> pd.DataFrame:
    """One row an image, a breast or a woman.

    A breast or woman is positive where any of her images is; her score is the mean or
    the maximum of the images there are, so a missing view is no error.

    Args:
        frame: Rows with image_id, y_true, y_score; patient_id (and laterality) for the
            upper levels.
        level: "image", "breast" (patient_id and laterality) or "patient".
        how: "mean" or "max".

    Returns:
        The rows themselves, or the keys with y_true, y_score and `images`, sorted.

    Raises:
        MetricError: Unknown level, an image_id twice, a NaN, or a missing key.
    """
    if level not in LEVELS or how not in ("mean", "max"):
        raise MetricError(
            f"level must be one of {', '.join(LEVELS)} and how mean or max; "
            f"received {level!r}, {how!r}"
        )
    check_rows(frame)
    if level == "image":
        return frame
    keys = ["patient_id", "laterality"][: 2 if level == "breast" else 1]
    for key in keys:
        if key not in frame or (texts(frame[key]) == "").any():
            raise MetricError(f"level {level}: column {key} is missing or has empties")
    grouped = frame.groupby(keys, sort=True)
    columns = {"y_true": ("y_true", "max"), "y_score": ("y_score", how)}
    return grouped.agg(**columns, images=("y_true", "size")).reset_index()


def join_predictions(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Bring two models' rows on the same images together, in the order of `a`.

    Returns:
        The rows of `a` with `y_score_b` beside them.

    Raises:
        MetricError: Images of one table are not in the other, or truths or women
            differ.
    """
    check_rows(a)
    check_rows(b)
    unmatched = sorted(set(a["image_id"]) ^ set(b["image_id"]))
    if unmatched:
        raise MetricError(
            f"the tables do not hold the same images: {len(unmatched)} image_id(s) "
            f"stand in one only, such as {', '.join(map(str, unmatched[:3]))}"
        )
    other = b.set_index("image_id").loc[a["image_id"]]
    wrong = a["y_true"].to_numpy() != other["y_true"].to_numpy()
    if wrong.any():
        named = a["image_id"].iloc[int(wrong.argmax())]
        raise MetricError(
            f"y_true differs between the tables for {int(wrong.sum())} image(s), "
            f"such as {named}"
        )
    if "patient_id" in a and "patient_id" in b:
        mine = texts(a["patient_id"]).to_numpy()
        theirs = texts(other["patient_id"]).to_numpy()
        wrong = (mine != theirs) & (mine != "") & (theirs != "")
        if wrong.any():
            raise MetricError(
                f"patient_id differs between the tables for {int(wrong.sum())} "
                f"image(s), such as {a['image_id'].iloc[int(wrong.argmax())]}"
            )
    return a.assign(y_score_b=other["y_score"].to_numpy())


def has_patients(frame: pd.DataFrame) -> bool:
    """Whether every row names its woman.

    Raises:
        MetricError: Some rows do and some do not, so that neither reading is right.
    """
    if "patient_id" not in frame:
        return False
    named = texts(frame["patient_id"]) != ""
    if named.any() and not named.all():
        raise MetricError(
            f"column patient_id: empty in {int((~named).sum())} of {len(frame)} rows; "
            "give every row one, or none"
        )
    return bool(named.any())


def check_rows(frame: pd.DataFrame) -> None:
    """Refuse an image twice, a missing truth or score, or a NaN in them."""
    if "image_id" in frame and frame["image_id"].duplicated().any():
        twice = frame["image_id"][frame["image_id"].duplicated()]
        raise MetricError(
            f"image_id {twice.iloc[0]!r} stands twice ({len(twice)} such row(s)); "
            "one model's scores at a time"
        )
    for name in ("y_true", "y_score"):
        if name not in frame:
            raise MetricError(f"the table has no column {name}")
        if frame[name].isna().any():
            raise MetricError(f"column {name}: {int(frame[name].isna().sum())} NaN")


def texts(column: pd.Series) -> pd.Series:
    """Cells as text without outer blanks: 3.0 as "3", NaN and None as nothing."""
    return column.map(_text)


def _text(cell) -> str:
    if pd.isna(cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()
