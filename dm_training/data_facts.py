"""What a run was trained, validated and tested on, counted: no id and no path.

These counts go into metrics.json, where a report and a model card find them. A figure
without the number of women behind it says little, and the tables that it was measured
on may be gone when somebody reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dm_training.runs import RunError, read_json
from dm_training.samples import Samples

# What splits.json says about how a split was made. It holds ids too: those stay there.
_SCHEME = ("scheme", "seed", "test_share", "val_share", "both_sides", "folds", "fold")
_COLUMNS = ("source", "vendor")
_MOST_VALUES = 12


def data_facts(parts: Mapping[str, Samples], table: str | None = None) -> dict:
    """Count women, images and classes of each split, and say how it was made.

    Args:
        parts: Role -> samples.
        table: The training table; `splits.json` beside it is read where its counts are
            these samples'.

    Returns:
        Role -> `sample_counts`, and `split`: scheme, seed and shares of splits.json,
        or a `note` why they are not used; {} where there is none.
    """
    facts = {role: sample_counts(samples) for role, samples in parts.items()}
    return {**facts, "split": _scheme(facts, table)}


def sample_counts(samples: Samples) -> dict:
    """Count what one split holds.

    Returns:
        `images`; `patches` where the samples are some; `women` (None where no ids are
        known); `classes`, name -> samples; for neg and pos also `positives` (images)
        and `positive_women`; `source` and `vendor`, name -> samples, where the table
        has these columns.
    """
    frame = samples.frame
    facts = {"images": len(frame), "women": _women(samples, frame)}
    if "patch_id" in frame:
        facts |= {"images": int(frame["image_id"].nunique()), "patches": len(frame)}
    facts["classes"] = samples.counts()
    if "pos" in samples.classes:
        positive = frame[samples.labels == samples.classes.index("pos")]
        facts |= {"positives": len(positive),
                  "positive_women": _women(samples, positive)}  # fmt: skip
    for name in _COLUMNS:
        if name in frame:
            found = frame[name].fillna("").astype(str).replace("", "not said")
            facts[name] = _commonest(found.value_counts())
    return facts


def _commonest(counts) -> dict[str, int]:
    named = {name: int(count) for name, count in counts[:_MOST_VALUES].items()}
    others = int(counts[_MOST_VALUES:].sum())
    return {**named, "others": others} if others else named


def _women(samples: Samples, frame) -> int | None:
    return int(frame["patient_id"].nunique()) if samples.has_patients else None


def _scheme(facts: Mapping[str, Mapping], table: str | None) -> dict:
    path = Path(table).with_name("splits.json") if table else None
    if path is None or not path.is_file():
        return {}
    try:
        found = read_json(path)
        counts = {role: found["counts"][role]["images"] for role in facts}
    except (RunError, KeyError, TypeError):
        return {"note": "the splits.json beside the table is none of this project"}
    if any(counts[role] != facts[role]["images"] for role in facts):
        return {"note": "the splits.json beside the table is of another split"}
    return {name: found[name] for name in _SCHEME if name in found}
