"""The figures of one model's rows, and of models beside each other.

What is reported for a test set is fixed before it is looked at: threshold and
temperature come from validation rows, and women who stand in both are refused here,
so that no flag can report a figure on the images that chose it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dm_models.decision import Decision, read_decision
from dm_training import calibration, levels, metrics, operating_point, subgroups
from dm_training.prediction_rows import MetricError
from dm_training.score_tables import alike

FLIP_WORDS = {1: "single predictions", 4: "the mean over four flips"}
_CURVE = ("partial_auc", "sensitivity_at_specificity", "specificity_at_sensitivity")


@dataclass(frozen=True)
class Choices:
    """How every figure of an evaluation is made.

    Attributes:
        split: Of which split the rows are.
        how: How images make a breast or a woman: "mean" or "max".
        draws: Bootstrap draws of women.
        seed: Of the draws.
        prevalence: Of cancer where the model is to be used, for PPV and NPV; None
            states them for the table's own share only.
    """

    split: str = "test"
    how: str = "mean"
    draws: int = 2000
    seed: int = 0
    prevalence: float | None = None

    def __post_init__(self) -> None:
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise MetricError(
                f"prevalence must lie in (0, 1), received {self.prevalence!r}"
            )

    @property
    def bootstrap(self) -> dict:
        """The draws and their seed as keywords."""
        return {"n": self.draws, "seed": self.seed}


def evaluate_rows(rows: pd.DataFrame, choices: Choices) -> dict:
    """Discrimination of one model's rows.

    Args:
        rows: What `prediction_rows.select_rows` gives.
        choices: Split, draws, seed.

    Returns:
        `auc` by level (those that the table's ids allow) and `auc_delong`;
        `partial_auc`, `sensitivity_at_specificity`, `specificity_at_sensitivity` at
        image level; and `levels`, all of these at each level.

    Raises:
        MetricError: One class only, an image twice, NaN, some rows without a patient.
    """
    at_levels = levels.level_figures(
        rows, choices.split, how=choices.how, **choices.bootstrap
    )
    delong = metrics.auc_delong(rows["y_true"], rows["y_score"])
    of_images = {name: at_levels["image"][name] for name in _CURVE}
    return {
        "auc": {name: f["auc"] for name, f in at_levels.items() if "auc" in f},
        "auc_delong": image_figure(rows, delong, choices),
        **of_images,
        "levels": at_levels,
    }


def image_figure(rows: pd.DataFrame, interval: tuple, choices: Choices) -> dict:
    """(value, low, high) over these rows as a figure at image level."""
    return metrics.figure(*interval, n=len(rows), positives=rows["y_true"].sum(),
                          level="image", split=choices.split)  # fmt: skip


def women_of(rows: pd.DataFrame) -> pd.Series:
    """Whom a bootstrap resamples: the women, or the images where none are named."""
    return rows["patient_id" if metrics.has_patients(rows) else "image_id"]


def calibration_facts(
    rows: pd.DataFrame, decision: Decision | None, choices: Choices
) -> dict:
    """How far scores are probabilities: as they are, and after temperature scaling.

    Returns:
        `as_scored` and, where a decision has a temperature, `after_temperature`, each
        with `brier`, `calibration_error`, `intercept`, `slope`; or `not_measured`, a
        reason.
    """
    if not rows["y_score"].between(0, 1).all():
        return {"not_measured": "the scores leave [0, 1]: they are no probabilities"}
    found = {"as_scored": _calibration(rows, rows["y_score"].to_numpy(), choices)}
    if decision and decision.temperature != 1:
        scaled = decision.calibrated(rows["y_score"])
        found["after_temperature"] = _calibration(rows, scaled, choices)
        found["temperature"] = decision.temperature
    return found


def _calibration(rows: pd.DataFrame, probability, choices: Choices) -> dict:
    truth, women = rows["y_true"].to_numpy(), women_of(rows)
    given = truth, probability, women
    found = {
        "brier": calibration.brier_bootstrap(*given, **choices.bootstrap),
        "calibration_error": calibration.calibration_error_bootstrap(
            *given, **choices.bootstrap
        ),
    }
    figures = {name: image_figure(rows, one, choices) for name, one in found.items()}
    try:
        line = calibration.recalibration(truth, probability)
    except MetricError as why:  # such as classes that the scores separate
        return figures | {"line_not_measured": str(why)}
    return figures | {"intercept": line.intercept, "slope": line.slope,
                      "in_the_large": line.in_the_large}  # fmt: skip


def operating_facts(
    rows: pd.DataFrame, decision: Decision | None, why_not: str, choices: Choices
) -> dict:
    """The threshold applied to these rows, or why there is none.

    Returns:
        What `operating_point.operating_figures` gives, with `fitted_on`; or
        `not_measured`, a reason.
    """
    if decision is None:
        return {"not_measured": why_not}
    if not rows["y_score"].between(0, 1).all():
        return {"not_measured": "the scores leave [0, 1]: they are no probabilities"}
    flips = flips_of(rows)
    if flips not in (None, decision.flips):
        return {"not_measured": "the threshold was fitted on predictions of "
                f"{decision.flips} flip(s), these are of {flips}"}  # fmt: skip
    found = operating_point.operating_figures(
        rows, decision, prevalence=choices.prevalence, **choices.bootstrap
    )
    return found | {"fitted_on": dict(decision.fitted_on)}


def stored_decision(
    path: str | os.PathLike, split: str = "test", *, flips: int = 1
) -> tuple[Decision | None, str]:
    """The threshold that a model, an export or a JSON file holds.

    Args:
        path: Where it is stored.
        split: Of the rows to report for.
        flips: 1 or 4, of those rows: a model may hold one for each.

    Returns:
        (decision, ""), or (None, why not): there is none, or it was fitted on the very
        split that figures are to be reported for.

    Raises:
        ModelFileError: The file cannot be read.
    """
    decision = read_decision(path, flips)
    if decision is None:
        return None, f"{Path(path).name} holds no decision for {FLIP_WORDS[flips]}"
    if decision.fitted_on.get("split") == split:
        return None, f"the stored threshold was itself fitted on split {split}"
    return decision, ""


def fitted_decision(
    rows: pd.DataFrame, validation: pd.DataFrame | None, *, rule: str = "youden",
    split: str = "test",
) -> tuple[Decision | None, str]:  # fmt: skip
    """Threshold and temperature fitted on validation rows.

    Args:
        rows: What they will be applied to.
        validation: Rows of split val to fit on, or None.
        rule: As `operating_point.fit_operating_point`.
        split: Of `rows`.

    Returns:
        (decision, "") or (None, why there is none).

    Raises:
        MetricError: Women, or images, stand in both tables; or the rows to report for
            name women and the validation rows do not, so that nobody can tell.
    """
    if validation is None or not len(validation):
        return None, "no validation rows and no stored threshold were given"
    if split == "val":
        return None, "these are the validation rows that it would be fitted on"
    _check_apart(rows, validation)
    if validation["y_true"].nunique() < 2:
        return None, "the validation rows hold one class only"
    if validation["y_score"].nunique() < 2:
        return None, "all scores of the validation rows are equal"
    if not validation["y_score"].between(0, 1).all():
        return None, "the validation scores leave [0, 1]: they are no probabilities"
    fitted = operating_point.fit_operating_point(
        validation, rule=rule, flips=flips_of(validation) or 1
    )
    return fitted, ""


def flips_of(rows: pd.DataFrame) -> int | None:
    """Of which predictions: 1 or 4 where all rows say so, None where they do not."""
    found = set(rows["flips"].astype(str)) if "flips" in rows else set()
    return {("1",): 1, ("4",): 4}.get(tuple(text.removesuffix(".0") for text in found))


def _check_apart(rows: pd.DataFrame, validation: pd.DataFrame) -> None:
    keys = ["image_id"]
    if metrics.has_patients(rows):
        if not metrics.has_patients(validation):
            raise MetricError(
                "the rows to report for name women and the validation rows do not: "
                "whether a woman stands in both cannot be told; give them a column "
                "patient_id (or --images with a table that names them)"
            )
        keys.append("patient_id")
    for key in keys:
        both = set(alike(rows[key])) & set(alike(validation[key]))
        if both:
            raise MetricError(
                f"{len(both)} {key}(s) stand both in the rows to report for and in "
                "the validation rows to fit on: a threshold fitted on them would "
                "flatter"
            )


def subgroup_facts(rows: pd.DataFrame, choices: Choices) -> list[dict]:
    """AUC by view, density, lesion type and what else the rows name."""
    found = subgroups.subgroup_figures(rows, split=choices.split, **choices.bootstrap)
    return [
        {"column": one.column, "group": one.group, "n": one.n,
         "positives": one.positives, "women": one.women, "auc": one.figure,
         "warning": one.warning}
        for one in found
    ]  # fmt: skip


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, choices: Choices) -> dict:
    """AUC(a) - AUC(b) over the same images, image level.

    Args:
        a: Rows of one model, as `select_rows` gives.
        b: Rows of the other; the same images in any order.
        choices: Split, draws, seed.

    Returns:
        A figure with `p` of the bootstrap of women and `p_delong` beside it; where
        there are no women, DeLong's interval and p.

    Raises:
        MetricError: The tables do not hold the same images and truths.
    """
    rows = metrics.join_predictions(a, b)
    scores = rows["y_true"], rows["y_score"], rows["y_score_b"]
    *interval, p = independent = metrics.delong_paired(*scores)
    if metrics.has_patients(rows):
        *interval, p = metrics.paired_auc_difference(
            *scores, rows["patient_id"], **choices.bootstrap
        )
    figure = image_figure(rows, tuple(interval), choices)
    return figure | {"p": p, "p_delong": independent[3]}


def compared(
    first: pd.DataFrame, others: Mapping[str, pd.DataFrame], choices: Choices
) -> dict:
    """Other models' AUCs, and how far the first is from each; p adjusted by Holm."""
    figures = {
        name: metrics.auc_figure(rows, "image", choices.split, **choices.bootstrap)
        for name, rows in others.items()
    }
    pairs = {n: paired_difference(first, rows, choices) for n, rows in others.items()}
    raw = [pair["p"] for pair in pairs.values()]
    for pair, p in zip(pairs.values(), _adjusted(raw), strict=True):
        pair["p_holm"] = p
    return {"compared": figures, "paired_differences": pairs}


def _adjusted(p_values: Sequence[float]) -> list[float]:
    if not p_values:
        return []
    return [float(p) for p in np.atleast_1d(metrics.adjust_p(p_values, "holm"))]
