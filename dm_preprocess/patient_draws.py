"""Drawing patients: shares, folds and nested subsets, each class in proportion.

Nothing here knows a table or a file: a mapping of patient to label goes in, a mapping
of patient to split comes out. Patients are sorted before they are shuffled, so that
the order of a table's rows never changes who is drawn.

Source: Shen et al. 3.1.1 (85/15 by patient, stratified; 10 % of the training patients
for validation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


class SplitError(ValueError):
    """A split that was asked for cannot be made; the message says what was met."""


def split_patients(
    patient_labels: Mapping[str, int],
    shares: Mapping[str, float],
    *,
    seed: int,
    rest: str = "train",
) -> dict[str, str]:
    """Draw shares of the patients, each class in the same proportion.

    Args:
        patient_labels: Label of each patient; the order does not matter.
        shares: Split name -> share of ALL patients here, such as {"test": 0.15}. A
            share of 0 makes no such split. Every class gives at least one patient
            to every split.
        seed: Same seed and same patients, same split.
        rest: Where the others go.

    Returns:
        patient -> split.

    Raises:
        SplitError: A class has fewer patients than there are splits, or shares do
            not lie in [0, 1) with a sum below 1.
    """
    shares = {name: share for name, share in shares.items() if share}
    if any(not 0 < s < 1 for s in shares.values()) or sum(shares.values()) >= 1:
        raise SplitError(
            f"shares must lie in [0, 1) and sum below 1, received {shares}"
        )
    assigned = {}
    for label, patients in _shuffled_classes(patient_labels, seed).items():
        _check_enough(label, len(patients), len(shares) + 1)
        for name, count in _counts(len(patients), shares).items():
            assigned.update((p, name) for p in patients[:count])
            patients = patients[count:]
        assigned.update((p, rest) for p in patients)
    return assigned


def folds(
    patient_labels: Mapping[str, int], n_folds: int, *, seed: int
) -> dict[str, int]:
    """Deal the patients of each class over folds whose sizes differ by one at most.

    Args:
        patient_labels: Label of each patient; the order does not matter.
        n_folds: Two or more.
        seed: Same seed and same patients, same folds.

    Returns:
        patient -> fold, 0 to n_folds - 1.

    Raises:
        SplitError: Fewer than two folds, or a class with fewer patients than folds.
    """
    if n_folds < 2:
        raise SplitError(f"--folds must be 2 or more, received {n_folds}")
    assigned, dealt = {}, 0
    for label, patients in _shuffled_classes(patient_labels, seed).items():
        _check_enough(label, len(patients), n_folds, "folds")
        for patient in patients:
            assigned[patient] = dealt % n_folds
            dealt += 1
    return assigned


def fold_split(
    patient_labels: Mapping[str, int], n_folds: int, fold: int, val_share: float, *,
    seed: int,
) -> dict[str, str]:  # fmt: skip
    """Fold `fold` tests; of the others `val_share` validates and the rest trains."""
    if not 0 <= fold < n_folds:
        raise SplitError(f"--fold must lie in 0..{n_folds - 1}, received {fold}")
    dealt = folds(patient_labels, n_folds, seed=seed)
    others = {p: patient_labels[p] for p, at in dealt.items() if at != fold}
    split = {p: "test" for p, at in dealt.items() if at == fold}
    return split | split_patients(others, {"val": val_share}, seed=seed)


def patient_subsets(
    patient_labels: Mapping[str, int], sizes: Sequence[int], *, seed: int
) -> dict[int, list[str]]:
    """Nested subsets of patients, each with the whole set's share of every class.

    Args:
        patient_labels: Label of each patient.
        sizes: How many patients each subset has; a smaller one lies in a larger.
        seed: Same seed and same patients, same subsets.

    Returns:
        size -> patients.

    Raises:
        SplitError: A size is out of range, or so small that a class is missing.
    """
    order = []
    for label, patients in _shuffled_classes(patient_labels, seed).items():
        order += [((i + 0.5) / len(patients), label, p) for i, p in enumerate(patients)]
    ranked = [patient for _, _, patient in sorted(order)]
    for size in sizes:
        found = {patient_labels[p] for p in ranked[: max(size, 0)]}
        if size > len(ranked) or found != set(patient_labels.values()):
            raise SplitError(
                f"a subset of {size} women must have every class and at most "
                f"{len(ranked)} women; classes in it: {sorted(found)}"
            )
    return {size: ranked[:size] for size in sizes}


def _shuffled_classes(patient_labels: Mapping, seed: int) -> dict[int, list[str]]:
    """label -> its patients in random order, whatever order they came in."""
    if not len(patient_labels):
        raise SplitError("no patient has a label, so there is nothing to split")
    rng = np.random.default_rng(seed)
    classes = {}
    for label in sorted(set(patient_labels.values())):
        members = sorted(p for p, own in patient_labels.items() if own == label)
        classes[label] = [members[i] for i in rng.permutation(len(members))]
    return classes


def _check_enough(label: int, found: int, needed: int, what: str = "splits") -> None:
    if found < needed:
        raise SplitError(
            f"label {label} has {found} women, and {needed} {what} need at least one "
            "each; use fewer, set a share to 0, or bring more data"
        )


def _counts(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of `total` each share gets: one at least, one left for the rest."""
    counts = {name: max(1, round(share * total)) for name, share in shares.items()}
    while sum(counts.values()) >= total:
        counts[max(counts, key=counts.get)] -= 1
    return counts
