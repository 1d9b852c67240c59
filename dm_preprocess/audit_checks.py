"""The audit's questions about a whole data set, asked of its tables and image facts.

An error makes a result wrong or a stage stop; a warning may; an info is to be known.
Every check gives at most one finding, which lists all that it met.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dm_preprocess import tables
from dm_preprocess.audit_pixels import ImageFacts

SEVERITIES = ("error", "warning", "info")
NEAR = 0.92
_FEW = 10
_PIXEL_CHECKS = {  # check: severity, what it means
    "missing_file": ("error", "image file(s) are not there"),
    "unreadable": ("error", "image file(s) cannot be read"),
    "constant": ("error", "image(s) hold one grey level only"),
    "size": ("error", "image(s) have another size than the table says"),
    "truncated": ("warning", "image(s) end in rows without a picture: truncated?"),
    "clipped": (
        "warning",
        "image(s) are clipped: over 5 % of the breast is at its top",
    ),
    "eight_bit": ("warning", "image(s) hold 8-bit content in 16 bits"),
}
_MASK_CHECKS = {
    "mask_missing": ("error", "mask file(s) are not there"),
    "mask_unreadable": ("error", "mask file(s) cannot be read"),
    "mask_size": ("error", "mask(s) have another size than their image"),
    "mask_empty": ("error", "mask(s) are empty"),
    "mask_not_given": ("warning", "lesion(s) have no mask; sampling will ask for one"),
    "mask_off_breast": ("warning", "mask(s) lie off the breast by more than half"),
    "mask_box": ("warning", "mask(s) do not fill the box that their row gives"),
}
_PAIR_CHECKS = {
    "identical_across_splits": ("error", "pair(s) of identical images between splits"),
    "near_identical_across_splits": (
        "error",
        "pair(s) of nearly identical images between splits",
    ),
    "one_woman_two_ids": (
        "warning",
        "pair(s) of (nearly) identical images under two patient ids",
    ),
    "identical_twice": ("warning", "pair(s) of identical images of one woman"),
}


@dataclass(frozen=True)
class Finding:
    """What one check met.

    Attributes:
        severity: "error", "warning" or "info".
        check: The check's name.
        message: One sentence.
        items: Every image, woman, lesion or pair concerned, with what was met.
    """

    severity: str
    check: str
    message: str
    items: tuple[str, ...] = ()


def check_tables(images: pd.DataFrame, lesions: pd.DataFrame | None) -> list[Finding]:
    """What the tables alone tell: splits, classes, ids, lesions' images and labels."""
    found = [
        _women_in_two_splits(images),
        *_class_counts(images),
        _alike_patient_ids(images),
    ]
    if lesions is not None:
        found += [_lesions_without_image(images, lesions), _labels(images, lesions)]
    return [finding for finding in found if finding]


def check_facts(images: pd.DataFrame, facts: Sequence[ImageFacts]) -> list[Finding]:
    """What single images' pixels and masks tell, and polarity and grey over all.

    Args:
        images: The table.
        facts: One an image, in the table's order.
    """
    eight = dict(zip(images["image_id"], images["bits_stored"] == 8, strict=True))
    met = defaultdict(list)
    for one in facts:
        for check, what in one.problems.items():
            if not (check == "eight_bit" and eight[one.image_id]):
                met[check].append(f"{one.image_id}: {what}")
        for check, what in one.mask_problems:
            met[check].append(what)
    found = [
        Finding(severity, check, f"{len(met[check])} {meaning}", tuple(met[check]))
        for check, (severity, meaning) in (_PIXEL_CHECKS | _MASK_CHECKS).items()
        if met[check]
    ]
    found += [_polarity(images, facts), *_grey_levels(images, facts)]
    return [finding for finding in found if finding]


def check_duplicates(
    images: pd.DataFrame, facts: Sequence[ImageFacts]
) -> list[Finding]:
    """Identical and near-identical images: between splits, women, or of one woman."""
    digests = [one.digest for one in facts]
    pairs = {pair: "identical" for pair in identical_pairs(digests)}
    for i, j, alike in near_pairs([one.fingerprint for one in facts], NEAR):
        pairs.setdefault((i, j), f"correlation {alike:.3f}")
    met = defaultdict(list)
    rows = images[["image_id", "patient_id", "split"]].to_numpy()
    for (i, j), how in sorted(pairs.items()):
        kind = _pair_kind(rows[i], rows[j], how == "identical")
        if kind:
            met[kind].append(f"{_shown(rows[i])} and {_shown(rows[j])}: {how}")
    return [
        Finding(severity, kind, f"{len(met[kind])} {meaning}", tuple(met[kind]))
        for kind, (severity, meaning) in _PAIR_CHECKS.items()
        if met[kind]
    ]


def identical_pairs(digests: Iterable[str]) -> list[tuple[int, int]]:
    """Each image that equals an earlier one, with the first such."""
    first, pairs = {}, []
    for at, digest in enumerate(digests):
        if digest and first.setdefault(digest, at) != at:
            pairs.append((first[digest], at))
    return pairs


def near_pairs(
    fingerprints: Sequence[np.ndarray | None], least: float, *, block: int = 1024
) -> list[tuple[int, int, float]]:
    """Pairs (i < j) whose fingerprints correlate by `least` or more.

    Args:
        fingerprints: Unit vectors; None for images that have none.
        least: Correlation to reach.
        block: Rows compared at a time: memory is block x images.

    Returns:
        (i, j, correlation).
    """
    known = [at for at, one in enumerate(fingerprints) if one is not None]
    if len(known) < 2:
        return []
    stack = np.stack([fingerprints[at] for at in known])
    pairs = []
    for start in range(0, len(stack), block):
        alike = stack[start : start + block] @ stack[start:].T
        for i, j in np.argwhere(np.triu(alike >= least, k=1)):
            pairs.append((known[start + i], known[start + j], float(alike[i, j])))
    return pairs


def _pair_kind(one, other, identical: bool) -> str:
    if one[2] and other[2] and one[2] != other[2]:
        return (
            "identical_across_splits" if identical else "near_identical_across_splits"
        )
    if one[1] != other[1]:
        return "one_woman_two_ids"
    return "identical_twice" if identical else ""


def _shown(row) -> str:
    image, patient, split = row
    return f"{image} (patient {patient}{', ' + split if split else ''})"


def _women_in_two_splits(images: pd.DataFrame) -> Finding | None:
    used = images[images["split"] != ""]
    splits = used.groupby("patient_id")["split"].agg(lambda s: sorted(set(s)))
    both = splits[splits.map(len) > 1]
    if both.empty:
        return None
    items = tuple(f"{patient}: {', '.join(s)}" for patient, s in both.items())
    text = f"{len(items)} women stand in more than one split"
    return Finding("error", "women_in_two_splits", text, items)


def _class_counts(images: pd.DataFrame) -> Iterable[Finding]:
    """A line of counts for each split; an empty class is an error, a small one no."""
    unlabelled = images.loc[
        images["label"].isna() & (images["split"] != ""), "image_id"
    ]
    if len(unlabelled):
        yield Finding("error", "no_label", f"{len(unlabelled)} image(s) are in a split "
                      "and have no label", tuple(unlabelled))  # fmt: skip
    for split, rows in images.groupby("split"):
        name = split or "no split"
        counts = [int((rows["label"] == label).sum()) for label in (0, 1)]
        women = rows["patient_id"].nunique()
        yield Finding("info", "counts", f"{name}: {women} women, {len(rows)} images, "
                      f"{counts[0]} negative, {counts[1]} positive")  # fmt: skip
        if split and min(counts) < _FEW:
            empty = min(counts) == 0
            label = tables.IMAGE_CLASSES[int(np.argmin(counts))]
            text = f"{name} has {min(counts)} image(s) of class {label}"
            yield Finding("error" if empty else "warning",
                          "empty_class" if empty else "small_class", text)  # fmt: skip


def _alike_patient_ids(images: pd.DataFrame) -> Finding | None:
    """Ids that differ only in case, separators or leading zeros: one woman twice?"""
    groups = defaultdict(list)
    for patient in images["patient_id"].unique():
        parts = re.findall(r"[a-z]+|\d+", patient.lower())
        groups[tuple(p.lstrip("0") if p.isdigit() else p for p in parts)].append(
            patient
        )
    items = tuple(
        " = ".join(ids) + "?" for key, ids in groups.items() if key and ids[1:]
    )
    if not items:
        return None
    return Finding("warning", "alike_patient_ids", f"{len(items)} patient id(s) differ "
                   "only in case, separators or zeros", items)  # fmt: skip


def _lesions_without_image(images, lesions) -> Finding | None:
    lost = lesions[~lesions["image_id"].isin(images["image_id"])]
    if lost.empty:
        return None
    items = tuple(f"{row.lesion_id}: {row.image_id}" for row in lost.itertuples())
    return Finding("error", "lesion_without_image",
                   f"{len(items)} lesion(s) name an image that is not in the table",
                   items)  # fmt: skip


def _labels(images: pd.DataFrame, lesions: pd.DataFrame) -> Finding | None:
    worst = images["image_id"].map(lesions.groupby("image_id")["malignant"].max())
    wrong = images[worst.notna() & images["label"].notna() & (worst > images["label"])]
    if wrong.empty:
        return None
    return Finding("error", "label_below_lesion",
                   f"{len(wrong)} image(s) are negative and have a malignant lesion",
                   tuple(wrong["image_id"]))  # fmt: skip


def _groups(images: pd.DataFrame) -> Iterable[tuple[str, dict[str, np.ndarray]]]:
    """The two ways to part the images: by class and by split; only real parts."""
    by_class = {
        name: (images["label"] == label).to_numpy()
        for label, name in enumerate(tables.IMAGE_CLASSES)
    }
    by_split = {name: (images["split"] == name).to_numpy() for name in tables.SPLITS}
    for what, parts in (("classes", by_class), ("splits", by_split)):
        yield what, {name: rows for name, rows in parts.items() if rows.any()}


def _polarity(images: pd.DataFrame, facts: Sequence[ImageFacts]) -> Finding | None:
    """Inverted images: an error where one class or split has clearly more of them."""
    inverted = np.array([one.inverted for one in facts])
    if not inverted.any():
        return None
    shares, one_sided = [], False
    for _, parts in _groups(images):
        own = {name: float(inverted[rows].mean()) for name, rows in parts.items()}
        shares += [f"{name} {share:.0%}" for name, share in own.items()]
        apart = max(own.values()) - min(own.values()) if own else 0.0
        one_sided |= bool(apart >= 0.2 and inverted.sum() >= 3)
    text = f"{inverted.sum()} image(s) have a bright background: inverted?"
    if one_sided:
        text += " One side has more of them, which tells it apart."
    items = tuple(one.image_id for one in facts if one.inverted)
    return Finding("error" if one_sided else "warning", "polarity",
                   f"{text} ({', '.join(shares)})", items)  # fmt: skip


def _grey_levels(images: pd.DataFrame, facts) -> Iterable[Finding]:
    """A mean grey level that tells classes or splits apart, beyond chance."""
    grey = np.array([one.grey_mean for one in facts])
    for what, parts in _groups(images):
        values = {name: grey[rows & ~np.isnan(grey)] for name, rows in parts.items()}
        names = [name for name, own in values.items() if len(own) >= _FEW]
        items = [
            f"{a} {values[a].mean():.1f}, {b} {values[b].mean():.1f} (of 0-255)"
            for at, a in enumerate(names) for b in names[at + 1 :]
            if _differ(values[a], values[b])
        ]  # fmt: skip
        if items:
            yield Finding("warning", f"grey_between_{what}",
                          f"the mean grey level differs strongly between {what}",
                          tuple(items))  # fmt: skip


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Means 0.8 deviations apart, and four standard errors: large, and no chance."""
    apart = abs(one.mean() - other.mean())
    spread = np.sqrt((one.var() + other.var()) / 2)
    error = np.sqrt(one.var() / len(one) + other.var() / len(other))
    return bool(apart > 0.8 * spread and apart > 4 * error and apart > 1.0)
