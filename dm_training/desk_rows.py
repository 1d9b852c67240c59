"""Predictions as rows: the table of images, and what they make of breasts and women.

Images become breasts and women as everywhere here (`prediction_rows.aggregate`):
calibrated probabilities first, then their mean, or the maximum where the model's
decision says so. A threshold holds for the level that it was fitted at and for no
other: at other levels the decision stays empty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from dm_models.decision import Decision
from dm_training.desk_paths import KEPT_COLUMNS, Item
from dm_training.prediction_rows import LEVELS, aggregate
from dm_training.predictor import NEGATIVE, POSITIVE, SCORED, Prediction
from dm_training.shown_share import shown_share

IMAGE_COLUMNS = (
    "image_id", "patient_id", "laterality", "view", "probability", "decision",
    "threshold", "model", "version", "status", "note", "causes", "y_score",
    "flips", "split", "y_true",
)  # fmt: skip
UNIT_COLUMNS = (
    "patient_id", "laterality", "images", "views", "probability", "decision",
    "threshold", "model", "version", "note", "y_score", "flips", "split", "y_true",
)  # fmt: skip
_UNKNOWN = 0.5  # of a truth: more than 0, less than 1


def image_row(item: Item, prediction: Prediction) -> dict:
    """One line of the table of images, also a row of `predictions.csv`."""
    return {
        "image_id": prediction.image_id, "patient_id": prediction.patient_id,
        "laterality": prediction.laterality, "view": prediction.view,
        "probability": prediction.probability, "decision": prediction.decision,
        "threshold": prediction.threshold,
        "model": prediction.model, "version": prediction.version,
        "status": prediction.status, "note": "; ".join(prediction.notes),
        "causes": " ".join(prediction.causes), "y_score": prediction.score,
        "flips": prediction.flips, "split": item.split,
        "y_true": item.y_true, **dict(item.kept),
    }  # fmt: skip


def image_frame(rows: Sequence[Mapping]) -> pd.DataFrame:
    """The table of images; columns of tables only where a table gave some."""
    kept = [name for name in KEPT_COLUMNS if any(row.get(name) for row in rows)]
    frame = pd.DataFrame(list(rows), columns=[*IMAGE_COLUMNS, *kept])
    for name in ("probability", "threshold", "y_score"):
        frame[name] = frame[name].astype("float64")
    return frame.assign(y_true=frame["y_true"].astype("Int64"))


def unit_frames(
    images: pd.DataFrame, decision: Decision | None
) -> dict[str, pd.DataFrame]:
    """Breasts and women.

    Args:
        images: `image_frame`.
        decision: That of these flips, or None.

    Returns:
        "breast" and "patient" -> one row each; a level is left out where no image with
        a score has the ids. Images without a score or without ids make no unit; a
        unit's note counts those of its own that are unlike the training images, and
        those that have no score.
    """
    found = {}
    for level, keys in zip(LEVELS[1:], (["patient_id", "laterality"], ["patient_id"]),
                           strict=True):  # fmt: skip
        named = images[(images[keys] != "").all(axis=1)]
        if (named["status"] == SCORED).any():
            found[level] = _units(named, level, keys, decision)
    return found


def _units(named, level: str, keys: list[str], decision) -> pd.DataFrame:
    scored = named[named["status"] == SCORED]
    own = decision is not None and decision.level == level
    how = decision.how if own else "mean"
    truth = scored["y_true"].astype("float64").fillna(_UNKNOWN)
    probability = scored["probability"]
    units = aggregate(scored.assign(y_true=truth, y_score=probability), level, how)
    units = units.rename(columns={"y_score": "probability"})
    raw = aggregate(scored.assign(y_true=truth), level, how)
    grouped, facts = scored.groupby(keys, sort=True), ("model", "version", "flips")
    units = units.assign(
        y_score=raw["y_score"],
        y_true=units["y_true"].where(units["y_true"] != _UNKNOWN).astype("Int64"),
        views=grouped["view"].agg(lambda views: " ".join(filter(None, views))).values,
        split=grouped["split"].first().to_numpy(),
        note=_unit_notes(named, keys, units),
        decision=_calls(units["probability"], decision if own else None),
        threshold=decision.threshold if own else float("nan"),
        **{name: scored[name].iloc[0] for name in facts},
    )
    return units[[name for name in UNIT_COLUMNS if name in units]]


def _unit_notes(named: pd.DataFrame, keys: list[str], units: pd.DataFrame) -> list[str]:
    """For each unit, how many of its images are unusual or have no score."""
    scored = named["status"] == SCORED
    unlike = _counts(named[scored & (named["causes"] != "")], keys, units)
    lost = _counts(named[~scored], keys, units)
    said = [
        (
            f"{odd} of {of} image(s) unlike the training images" if odd else "",
            f"{gone} image(s) without a score" if gone else "",
        )
        for odd, of, gone in zip(unlike, units["images"], lost, strict=True)
    ]
    return ["; ".join(filter(None, words)) for words in said]


def _counts(rows: pd.DataFrame, keys: list[str], units: pd.DataFrame) -> list[int]:
    found = rows.groupby(keys).size().to_dict()
    index = units[keys].itertuples(index=False, name=None)
    return [found.get(key if len(keys) > 1 else key[0], 0) for key in index]


def _calls(probability: pd.Series, decision: Decision | None) -> list[str]:
    if decision is None:
        return [""] * len(probability)
    reached = probability >= decision.threshold
    return [POSITIVE if yes else NEGATIVE for yes in reached]


def write_rows(frame: pd.DataFrame, path: Path) -> None:
    """Write a table aside and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        frame.to_csv(aside, index=False)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def unit_path(out: Path, level: str) -> Path:
    """`scores.csv` -> `scores_breast.csv`."""
    return out.with_name(f"{out.stem}_{level}{out.suffix}")


def image_line(prediction: Prediction, width: int) -> str:
    """One line for the screen; `width` is that of the image_id."""
    known = prediction.probability is not None
    share = shown_share(prediction.probability) if known else ""
    said = prediction.decision or ("" if share else prediction.status)
    note = "; ".join(prediction.notes)
    side, view = prediction.laterality, prediction.view
    line = f"{prediction.image_id:{width}}  {side:1} {view:4}  {share:>11}  {said:8}"
    return f"{line}  {note}".rstrip()


def header_line(width: int) -> str:
    """What stands above `image_line`s."""
    return f"{'image':{width}}  {'view':6}  {'probability':>11}  decision  note"


def unit_lines(level: str, frame: pd.DataFrame) -> list[str]:
    """Breasts or women for the screen, under a line that says which they are."""
    lines = ["", f"{level:16}  side  images  probability  decision  note"]
    for row in frame.to_dict("records"):
        side = row.get("laterality", "") if level == LEVELS[1] else ""
        share = shown_share(row["probability"])
        lines.append(
            f"{row['patient_id']:16}  {side:4}  {row['images']:6}  "
            f"{share:>11}  {row['decision']:8}  {row['note']}".rstrip()
        )
    return lines


def unit_dicts(level: str, frame: pd.DataFrame) -> list[dict]:
    """Breasts or women for JSON; what is not known is None."""
    clean = frame.astype(object).where(frame.notna(), None)
    return [{"level": level, **row} for row in clean.to_dict("records")]
