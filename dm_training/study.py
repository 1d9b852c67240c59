"""One evaluation opened: its models, its threshold, all its figures.

Everything is read and every figure is computed before anything is written, so that a
refused table leaves no half report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dm_models.decision import Decision
from dm_preprocess import tables
from dm_training import (
    ensemble,
    evaluation,
    metrics,
    operating_point,
    scored,
    subgroups,
)
from dm_training.evaluation import Choices
from dm_training.scored import Scored

if TYPE_CHECKING:
    from dm_training.evaluate import Request
    from dm_training.report_parts import Section

ENSEMBLE = "ensemble"
DEFAULT_RULE = "youden"


@dataclass(frozen=True)
class Study:
    """Models on the same images, and all figures of the first.

    Attributes:
        request: What was asked for.
        choices: How figures are made.
        models: The one that the study is about, then the others.
        decision: Threshold and temperature, None where there are none.
        why_not: Why there are none, else "".
        figures: Everything that metrics.json holds but names and paths.
    """

    request: Request
    choices: Choices
    models: tuple[Scored, ...]
    decision: Decision | None
    why_not: str
    figures: Mapping

    @property
    def name(self) -> str:
        """The name of the model that the study is about."""
        return self.models[0].name

    @property
    def rows(self) -> pd.DataFrame:
        """Its rows."""
        return self.models[0].rows

    def auc_figures(self) -> dict[str, dict]:
        """Name -> AUC per image, of every model."""
        return {self.name: self.figures["auc"]["image"], **self.figures["compared"]}

    def roc_points(self) -> pd.DataFrame:
        """The first model's ROC curve as numbers."""
        return metrics.roc_points(self.rows["y_true"], self.rows["y_score"])

    def facts(self, out: Path) -> dict:
        """What metrics.json holds; paths relative to the folder it will lie in."""
        first = self.models[0]
        return {
            "model": first.name, "split": self.choices.split,
            "split_given": not first.unsplit,
            "predictions": os.path.relpath(first.path, out),
            "left_out": dict(first.left_out), "interval": self.interval_text(),
            **self.figures,
        }  # fmt: skip

    def interval_text(self) -> str:
        """What an interval of this study is, in words."""
        if not metrics.has_patients(self.rows):
            return "intervals assume independent images (the table names no patients)"
        choices = self.choices
        return f"95 %, {choices.draws} bootstrap draws of women, seed {choices.seed}"

    def lead(self) -> str:
        """A sentence on what was scored."""
        counts = self.figures["counts"]
        women = f" of {counts['women']} women" if counts["women"] else ""
        return (
            f"{counts['images']} images{women}, {counts['positives']} positive, "
            f"{self.split_text()}. {self.interval_text()}."
        )

    def split_text(self) -> str:
        """Of which split the rows are, and whether the table says so."""
        if self.models[0].unsplit:
            return f"split not given (taken as {self.choices.split})"
        return f"{self.choices.split} split"


def open_study(request: Request, choices: Choices) -> Study:
    """Read the tables and compute every figure.

    Raises:
        TableError, MetricError, ModelFileError: As `evaluate.evaluate`.
    """
    if request.rule:
        operating_point.parse_rule(request.rule)
    models = scored.read_scored(request.sources, choices.split,
                                columns=request.columns,
                                augmented=request.augmented)  # fmt: skip
    if request.ensemble:
        models = [_averaged(models), *models]
    models = [_with_facts(model, request, choices.split) for model in models]
    decision, why_not = _decision(models[0], request, choices)
    figures = _figures(models, decision, why_not, choices)
    return Study(request, choices, tuple(models), decision, why_not, figures)


def pictures(study: Study) -> tuple[list[Section], dict]:
    """The gallery and localisation where there is an image table; else nothing."""
    if not study.request.images:
        return [], {}
    from dm_training.gallery_section import gallery_sections

    return gallery_sections(study)


def footer() -> str:
    """Versions, and what the report is not."""
    from dm_training.runs import package_versions

    packages = ", ".join(f"{k} {v}" for k, v in package_versions().items())
    return f"For research only; no medical device. {packages}"


def _figures(models, decision, why_not: str, choices: Choices) -> dict:
    first, *others = models
    rows = first.rows
    women = rows["patient_id"].nunique() if metrics.has_patients(rows) else None
    counts = {"images": len(rows), "women": women,
              "positives": int(rows["y_true"].sum())}  # fmt: skip
    named = {model.name: model.rows for model in others}
    return {
        "counts": counts,
        **evaluation.evaluate_rows(rows, choices),
        "calibration": evaluation.calibration_facts(rows, decision, choices),
        "operating_point": evaluation.operating_facts(rows, decision, why_not, choices),
        "subgroups": evaluation.subgroup_facts(rows, choices),
        **evaluation.compared(rows, named, choices),
    }  # fmt: skip


def _averaged(models: list[Scored]) -> Scored:
    """The mean of all models, with validation rows where all have them."""
    if len(models) < 2:
        raise metrics.MetricError("an ensemble needs two models or more: --compare")
    name = f"{ENSEMBLE} of {len(models)}"
    rows = ensemble.average_predictions({m.name: m.rows for m in models}, name=name)
    validation = None
    if all(model.validation is not None for model in models):
        validation = ensemble.average_predictions(
            {m.name: m.validation for m in models}, name=name
        )
    members = tuple(model.name for model in models)
    return replace(models[0], name=name, rows=rows, validation=validation, run=None,
                   members=members)  # fmt: skip


def _decision(model: Scored, request: Request, choices: Choices):
    """A threshold given, else that of the run's own model, else one fitted on val."""
    split, flips = choices.split, evaluation.flips_of(model.rows) or 1
    if request.decision:
        return evaluation.stored_decision(request.decision, split, flips=flips)
    own = None if model.run is None else model.run / "best.keras"
    by_hand = request.fit_on or request.rule
    if own is not None and own.is_file() and not by_hand:
        decision, why_not = evaluation.stored_decision(own, split, flips=flips)
        if decision or split == "val":
            return decision, why_not
    validation = _fit_on(request) if request.fit_on else model.validation
    if validation is not None and request.images:
        validation = scored.with_women(validation, tables.read_images(request.images))
    return evaluation.fitted_decision(
        model.rows, validation, rule=request.rule or DEFAULT_RULE, split=split
    )


def _fit_on(request: Request) -> pd.DataFrame:
    """The rows given to fit on: of an ensemble, the mean of every member's."""
    given = [scored.read_validation(path, request.columns) for path in request.fit_on]
    wanted = len(request.sources) if request.ensemble else 1
    if len(given) != wanted:
        raise metrics.MetricError(
            f"--fit-on takes one table for each model whose scores are averaged, in "
            f"their order: {wanted}, received {len(given)}; one member's scores would "
            "set a threshold on another scale"
        )
    if not request.ensemble:
        return given[0]
    return ensemble.average_predictions(
        {f"table {number}": rows for number, rows in enumerate(given, 1)}
    )


def _with_facts(model: Scored, request: Request, split: str) -> Scored:
    rows = model.rows
    if request.images:
        images = tables.read_images(request.images)
        rows = scored.with_image_facts(rows, images, split=split)
    if request.lesions:
        rows = subgroups.join_lesions(rows, tables.read_lesions(request.lesions))
    return replace(model, rows=rows)
