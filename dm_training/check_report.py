"""What `dm-check` prints and writes: a table to read, JSON, and a line an image.

A range that rests on few training images is wide and says little, and a few checked
images show little of all: both are said where they are so.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dm_training import grey_stats
from dm_training.check_rules import CAUSES, Checked, told

NAMED = 3  # images named a line
LEAST_TOGETHER = 20  # images from which on they are looked at together
# Together: this share of the images at least on one side of the training median, and so
# far from a half, in standard errors, taking the two views of a breast as one.
_SHARE, _ERRORS, _VIEWS = 0.85, 2.5, 2
_TOGETHER = tuple(
    n for n in grey_stats.STATISTICS if n not in ("height", "width", "aspect")
)


def lines(checked: Sequence[Checked], stored: Mapping) -> list[str]:
    """The table of statistics, then what to do, commonest first."""
    ends = "".join(f"{end:>8}" for end in ("1 %", "median", "99 %")).rjust(26)
    found = [
        f"{'':22}{'trained on':>26}{'these images':>26}   out of range",
        f"{'':22}{ends}{ends}",
    ]
    for name in grey_stats.names_in(stored):
        found.append(_statistic_line(name, checked, stored["statistics"][name]))
    return [*found, *_file_notes(checked), *_advice(checked),
            *_remarks(checked, stored)]  # fmt: skip


def facts(
    checked: Sequence[Checked], failed: Sequence[tuple[str, str]], stored: Mapping
) -> dict:
    """Everything, as JSON takes it.

    Args:
        checked: What could be read.
        failed: (image_id, reason) of what could not.
        stored: The training images' statistics.
    """
    return {
        "training_images": stored["images"],
        "rests_on_few": stored["images"] < grey_stats.FEW,
        "checked": len(checked),
        "out_of_range": sum(bool(one.excesses) for one in checked),
        "together": shifted(checked, stored),
        "trained_on": {n: stored["statistics"][n] for n in grey_stats.names_in(stored)},
        "images": [_image_facts(one) for one in checked],
        "failed": [{"image_id": name, "reason": reason} for name, reason in failed],
    }


def write_csv(
    path: Path, checked: Sequence[Checked], failed: Sequence[tuple[str, str]]
) -> None:
    """Write a line an image, aside and then renamed; those that failed come last."""
    header = ("image_id", "in_range", "causes", "warnings", "notes", "error",
              *grey_stats.STATISTICS)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    try:
        with open(aside, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header, lineterminator="\n")
            writer.writeheader()
            for one in checked:
                writer.writerow({
                    "image_id": one.image_id, "in_range": int(not one.excesses),
                    "causes": " ".join(one.causes), "warnings": "; ".join(one.warnings),
                    "notes": "; ".join(one.notes),
                    **{name: f"{value:.6g}" for name, value in one.row.items()},
                })  # fmt: skip
            for name, reason in failed:
                writer.writerow({"image_id": name, "error": reason})
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def shifted(checked: Sequence[Checked], stored: Mapping) -> dict[str, float]:
    """Which statistics lie on one side of the training median in nearly all images.

    Returns:
        Statistic -> the share of images above the training median, half of those at
        it; empty for fewer than `LEAST_TOGETHER`.
    """
    if len(checked) < LEAST_TOGETHER:
        return {}
    # The median of few training images is no sure half either.
    effective = 1 / (1 / len(checked) + 1 / stored["images"]) / _VIEWS
    found = {}
    for name in grey_stats.names_in(stored):
        trained = stored["statistics"][name]
        if name not in _TOGETHER or trained["low"] == trained["high"]:
            continue
        values, middle = [one.row[name] for one in checked], trained["median"]
        above = sum((v > middle) + 0.5 * (v == middle) for v in values) / len(values)
        far = abs(above - 0.5) * 2 * math.sqrt(effective)
        if max(above, 1 - above) >= _SHARE and far >= _ERRORS:
            found[name] = round(above, 3)
    return found


def _statistic_line(name: str, checked: Sequence[Checked], trained: Mapping) -> str:
    these = grey_stats.summary([one.row[name] for one in checked])
    out = [(one.image_id, e) for one in checked for e in one.excesses if e.name == name]
    line = f"{grey_stats.STATISTICS[name].title:22}{_range(trained)}{_range(these)}"
    if not out:
        return f"{line}   none"
    worst, excess = max(out, key=lambda item: abs(item[1].by))
    side = "above" if excess.by > 0 else "below"
    return (
        f"{line}   {len(out)} of {len(checked)}; {worst}: "
        f"{_number(abs(excess.by))} {side}"
    )


def _advice(checked: Sequence[Checked]) -> list[str]:
    found: dict[str, list[Checked]] = {}
    unfit = [one.image_id for one in checked if one.unsuitable]
    for one in checked:
        for cause in () if one.unsuitable else one.causes:
            found.setdefault(cause, []).append(one)
    said = ["", "What to do:"] if found or unfit else []
    if unfit:
        said.append(
            f"- {len(unfit)} of {len(checked)} images: no model should judge them, as "
            "their files say."
        )
        said += ["  Leave them out.", f"  {_named(unfit)}"]
    for cause, ones in sorted(found.items(), key=lambda item: -len(item[1])):
        of = f"{len(ones)} of {len(checked)} images"
        said.append(f"- {of}: {CAUSES[cause].what}.")
        said.append(f"  {CAUSES[cause].cure}")
        said.append(f"  {_named([one.image_id for one in ones])}")
    return said


def _file_notes(checked: Sequence[Checked]) -> list[str]:
    found: dict[str, list[str]] = {}
    for one in checked:
        for note in one.notes:
            found.setdefault(note, []).append(one.image_id)
    said = ["", "What the files say:"] if found else []
    return said + [f"- {note}: {_named(ids)}" for note, ids in found.items()]


def _remarks(checked: Sequence[Checked], stored: Mapping) -> list[str]:
    """On how much the findings rest, and what the images are together."""
    said = []
    together = shifted(checked, stored)
    if together:
        sides = [f"{grey_stats.STATISTICS[n].title} {'above' if s > 0.5 else 'below'}"
                 for n, s in together.items()]  # fmt: skip
        said.append(
            f"Together: at least {_SHARE:.0%} of these images lie on one side of the "
            f"training images' median: {', '.join(sides)}. Even where each is in "
            "range, scores and threshold may be off; fine-tune, or fit the threshold "
            "anew (dm-decide)."
        )
    if stored["images"] < grey_stats.FEW:
        said.append(
            f"The ranges rest on {stored['images']} training images only: they are "
            "widened for that, and what is in range is not thereby usual."
        )
    return [*([""] * bool(said)), *said]


def _image_facts(one: Checked) -> dict:
    return {
        "image_id": one.image_id, "in_range": not one.excesses,
        "causes": list(one.causes), "warnings": one.warnings,
        "notes": list(one.notes),
        "out_of_range": [
            {
                "statistic": e.name, "said": told(e), "value": e.value, "by": e.by,
                "low": e.low, "high": e.high, "least_allowed": _finite(e.least),
                "most_allowed": _finite(e.most),
            }
            for e in one.excesses
        ],
        "statistics": {name: round(value, 4) for name, value in one.row.items()},
    }  # fmt: skip


def _finite(value: float) -> float | None:
    """An open end as null: JSON knows no infinity."""
    return round(float(value), 4) if math.isfinite(value) else None


def _range(values: Mapping[str, float]) -> str:
    cells = (_number(values[end]) for end in ("low", "median", "high"))
    return "".join(f"{cell:>8}" for cell in cells).rjust(26)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _named(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:NAMED])
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"{shown}{more}"
