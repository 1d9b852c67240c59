"""The same model by image, breast and woman, side by side.

They are three figures, and papers mix them up. Which of them a table allows depends on
its ids; a missing view is no error, for a breast's score is that of the images it has.
"""

from __future__ import annotations

import pandas as pd

from dm_training.metrics import auc_figure, figure
from dm_training.prediction_rows import (
    LEVELS,
    aggregate,
    check_scores,
    has_patients,
    texts,
)
from dm_training.roc import (
    partial_auc_bootstrap,
    sensitivity_bootstrap,
    specificity_bootstrap,
)

SPECIFICITIES = (0.8, 0.9, 0.95)
SENSITIVITIES = (0.8, 0.9, 0.95)
PARTIAL_FROM = 0.8


def levels_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The levels that the ids of a table allow: image, and with women breast, patient.

    Raises:
        MetricError: Some rows name their woman and some do not.
    """
    if not has_patients(rows):
        return LEVELS[:1]
    sided = "laterality" in rows and (texts(rows["laterality"]) != "").all()
    return LEVELS if sided else ("image", "patient")


def level_figures(
    rows: pd.DataFrame, split: str = "test", *, how: str = "mean", n: int = 2000,
    seed: int = 0,
) -> dict[str, dict]:  # fmt: skip
    """All figures of the curve at each level that the table allows.

    Args:
        rows: A prediction table, an image a row, of one split.
        split: What the rows are; goes into each figure.
        how: How images make a breast or woman: "mean" or "max".
        n: Bootstrap draws.
        seed: Of the draws.

    Returns:
        Level -> auc, partial_auc (specificity at least 0.8), and by share, such as
        "0.80", sensitivity_at_specificity and specificity_at_sensitivity: figures. An
        upper level at which all units are of one class (every woman has a cancer) is
        {"reason": why there is no figure}.

    Raises:
        MetricError: The images themselves are of one class, an image twice, NaN, rows
            of another split, or some rows without a woman.
    """
    found = {}
    for level in levels_of(rows):
        units = aggregate(rows, level, how=how)
        if level != "image" and units["y_true"].nunique() < 2:
            found[level] = {"reason": f"one class only among {len(units)} units"}
            continue
        measured = auc_figure(rows, level, split, how=how, n=n, seed=seed)
        found[level] = {"auc": measured, **_curve(units, measured, n, seed)}
    return found


def _curve(units: pd.DataFrame, measured: dict, n: int, seed: int) -> dict:
    """What is read off the curve, each figure with the counts of the AUC's."""
    y_true, score = check_scores(units["y_true"], units["y_score"])
    women = units["patient_id"] if has_patients(units) else range(len(units))
    given, drawn = (y_true, score, women), {"n": n, "seed": seed}
    about = {key: measured[key] for key in ("n", "positives", "level", "split")}

    def at(measure, shares):
        return {
            f"{share:.2f}": figure(*measure(*given, share, **drawn), **about)
            for share in shares
        }

    partial = partial_auc_bootstrap(*given, min_specificity=PARTIAL_FROM, **drawn)
    return {
        "partial_auc": figure(*partial, **about),
        "sensitivity_at_specificity": at(sensitivity_bootstrap, SPECIFICITIES),
        "specificity_at_sensitivity": at(specificity_bootstrap, SENSITIVITIES),
    }
