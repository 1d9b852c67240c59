"""AUC and its relatives, each with an interval, at a named level: the door to them.

A number that another cannot trust is worth little. The figures stand in modules by
topic (`roc`, `comparison`, `calibration`, `intervals`, `prediction_rows`); what takes
arrays or a table of scores is importable from here. A figure in its JSON form is made
here and nowhere else. Nothing is left out in silence: one class only, a NaN, an id that
stands twice or does not join is a `MetricError`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dm_training.calibration import (
    Recalibration,
    brier,
    brier_bootstrap,
    calibration_error,
    calibration_error_bootstrap,
    fit_temperature,
    recalibration,
    reliability,
)
from dm_training.comparison import (
    FoldTest,
    adjust_p,
    cv_t_test,
    delong_paired,
    paired_auc_difference,
)
from dm_training.intervals import accuracy_wilson
from dm_training.prediction_rows import (
    LEVELS,
    MetricError,
    aggregate,
    check_rows,
    check_scores,
    has_patients,
    join_predictions,
    texts,
)
from dm_training.roc import (
    auc,
    auc_bootstrap,
    auc_delong,
    partial_auc,
    partial_auc_bootstrap,
    roc_points,
    sensitivity_at,
    sensitivity_bootstrap,
    specificity_at,
    specificity_bootstrap,
)

__all__ = [
    "LEVELS", "FoldTest", "MetricError", "Recalibration", "accuracy_wilson", "adjust_p",
    "aggregate", "auc", "auc_bootstrap", "auc_delong", "auc_figure", "brier",
    "brier_bootstrap", "calibration_error", "calibration_error_bootstrap", "check_rows",
    "check_scores", "cv_t_test", "delong_paired", "figure", "fit_temperature",
    "has_patients", "join_predictions", "one_vs_rest_auc", "paired_auc_difference",
    "partial_auc", "partial_auc_bootstrap", "recalibration", "reliability",
    "roc_points", "sensitivity_at", "sensitivity_bootstrap", "specificity_at",
    "specificity_bootstrap",
]  # fmt: skip


def figure(value, low, high, *, n: int, positives, level: str, split: str) -> dict:
    """A measured figure in the form in which every JSON of this project holds it."""
    positives = None if positives is None else int(positives)
    return {
        "value": float(value), "low": float(low), "high": float(high), "n": int(n),
        "positives": positives, "level": level, "split": split,
    }  # fmt: skip


def auc_figure(
    frame: pd.DataFrame, level: str = "image", split: str = "test", *,
    how: str = "mean", n: int = 2000, seed: int = 0,
) -> dict:  # fmt: skip
    """The AUC of a prediction table as a figure.

    The interval is the bootstrap of women; DeLong's where the table names no women
    (`has_patients`), which takes the images as independent.

    Args:
        frame: Rows with y_true, y_score, and as the level needs, patient_id and
            laterality. Rows of another split are refused, not filtered.
        level: "image", "breast" or "patient"; see `aggregate`.
        split: What the rows are; goes into the figure.

    Raises:
        MetricError: As `aggregate` and `auc_bootstrap`.
    """
    if "split" in frame:
        other = sorted(set(texts(frame["split"])) - {split, ""})
        if other:
            raise MetricError(
                f"a figure of split {split!r} holds rows of split {', '.join(other)}"
            )
    rows = aggregate(frame, level, how=how)
    y_true, y_score = check_scores(rows["y_true"], rows["y_score"])
    if has_patients(rows):
        found = auc_bootstrap(y_true, y_score, rows["patient_id"], n=n, seed=seed)
    else:
        found = auc_delong(y_true, y_score)
    return figure(*found, n=len(rows), positives=y_true.sum(), level=level, split=split)


def one_vs_rest_auc(
    classes, probabilities, names: Sequence[str], *, groups=None, seed: int = 0
) -> dict[str, tuple[float, float, float] | None]:
    """AUC of each class against all others.

    Args:
        classes: (N,) the true class as an index into `names`, a whole number from 0.
        probabilities: (N, len(names)).
        groups: (N,) women; None takes the images as independent (DeLong).

    Returns:
        Name -> (value, low, high), or None for a class with no member or all of them.

    Raises:
        MetricError: A class that is no index into `names`, a name that stands twice,
            another shape, or as `auc_bootstrap`.
    """
    classes, probabilities = np.asarray(classes), np.asarray(probabilities, float)
    if probabilities.shape != (len(classes), len(names)):
        raise MetricError(
            f"probabilities must be ({len(classes)}, {len(names)}), "
            f"received {probabilities.shape}"
        )
    unknown = ~np.isin(classes, np.arange(len(names)))
    if unknown.any():
        raise MetricError(
            f"classes must be whole numbers in 0..{len(names) - 1}, received "
            f"{classes[unknown][0]} ({int(unknown.sum())} such image(s))"
        )
    if len(set(names)) < len(names):
        raise MetricError(f"names must differ, received {', '.join(names)}")
    found = {}
    for index, name in enumerate(names):
        truth, score = classes == index, probabilities[:, index]
        if truth.all() or not truth.any():
            found[name] = None
        elif groups is None:
            found[name] = auc_delong(truth, score)
        else:
            found[name] = auc_bootstrap(truth, score, groups, seed=seed)
    return found
