"""What a study says, section by section; how it looks is `report_page`'s.

Each function makes one section or none: a section stands only where something was
measured, and where it was not the operating point and calibration say why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dm_models.decision import Decision, scaled_scores
from dm_preprocess.tables import TableError
from dm_training import (
    calibration,
    metrics,
    operating_point,
    plots,
    plots_results,
    provenance,
    subgroups,
)
from dm_training.report_parts import (
    Bar,
    Headline,
    Picture,
    Section,
    Table,
    figure_table,
)
from dm_training.study import Study

_COLUMN_WORDS = {"abnormality": "lesion type", "age": "age", "assessment": "BI-RADS"}


def study_sections(
    study: Study, out: Path, *, prefix: str = "", pictures: Sequence[Section] = ()
) -> list[Section]:
    """All sections of a study; writes its plots.

    Args:
        study: The study.
        out: Folder of the report; plots go to `plots/` in it.
        prefix: Goes before every heading and plot's name where a report holds more
            than one study, such as "Film".
        pictures: The gallery and what else stands before the run's own facts.

    Returns:
        Sections in reading order.
    """
    folder = Path(out) / "plots"
    stem = f"{prefix.lower().replace(' ', '_')}_" if prefix else ""
    made = [
        _results(study),
        _roc(study, folder, stem), _compared(study),
        _operating(study, folder, stem), _calibration(study, folder, stem),
        _subgroup_section(study, folder, stem), _learning_curve(study),
        *pictures, _run(study), _training(study),
        *provenance.audit_sections(study.request.audit, _converted(study)),
    ]  # fmt: skip
    return [_headed(section, prefix) for section in made if section is not None]


def _headed(section: Section, prefix: str) -> Section:
    title = f"{prefix}: {section.title}" if prefix else section.title
    return replace(section, title=title[:1].upper() + title[1:])


def _results(study: Study) -> Section:
    figures = study.figures
    shown = {f"AUC, {level} level": f for level, f in figures["auc"].items()}
    shown |= {"AUC per image, DeLong's interval": figures["auc_delong"]}
    shown |= {"partial AUC, specificity 0.80 to 1": figures["partial_auc"]}
    for name, of in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
        shown |= {f"{name} at {of} {at}": figure
                  for at, figure in figures[f"{name}_at_{of}"].items()}  # fmt: skip
    headline = {f"AUC per {level}": f for level, f in figures["auc"].items()}
    point = figures["operating_point"]
    for name in ("sensitivity", "specificity"):
        if point.get(name):
            headline[f"{name} at the operating point"] = point[name]
    text = (
        "A sensitivity at a given specificity is read off these very images: it "
        "describes the curve, and is no operating point. The partial AUC is "
        "standardised (McClish): 0.5 is chance. DeLong's interval takes images as "
        "independent."
    )
    missing = [f"No figure per {level}: {f['reason']}."
               for level, f in figures["levels"].items() if "reason" in f]  # fmt: skip
    return Section("Results", [text, _levels_text(study), *missing],
                   [figure_table(shown)], headlines=[Headline(headline)],
                   notices=list(study.request.notes))  # fmt: skip


def _levels_text(study: Study) -> str:
    """How images make breasts and women, and which level there is none of, and why."""
    found, rows = study.figures["auc"], study.rows
    if "patient" not in found:
        return "Image level only: the table names no women."
    how = {"mean": "mean", "max": "highest score"}[study.choices.how]
    said = f"The score of a breast or a woman is the {how} of her images."
    if "breast" not in study.figures["levels"]:
        return f"{said} No breast level: the table names no sides."
    if len(metrics.aggregate(rows, "breast")) == rows["patient_id"].nunique():
        return f"{said} Every woman has one breast here: the two levels are the same."
    return said


def _roc(study: Study, folder: Path, stem: str) -> Section:
    models = {m.name: (m.rows["y_true"].to_numpy(), m.rows["y_score"].to_numpy())
              for m in study.models}  # fmt: skip
    path = plots.plot_roc(models, folder / f"{stem}roc.png",
                          title=f"ROC, image level, {study.choices.split}",
                          figures=study.auc_figures())  # fmt: skip
    return Section("ROC", pictures=[Picture(path, "Per image, with the AUC's 95 % "
                                            "interval", alt="ROC curves")])  # fmt: skip


def _compared(study: Study) -> Section | None:
    pairs = study.figures["paired_differences"]
    if not pairs:
        return None
    women = metrics.has_patients(study.rows)
    test = "the bootstrap of women" if women else "DeLong's test (no women are named)"
    rows = [[study.name, study.figures["auc"]["image"], None, None, None, None]]
    for name, pair in pairs.items():
        plain = {key: pair[key] for key in ("value", "low", "high")} | {"p": None}
        found = [_p(pair[key]) for key in ("p", "p_holm", "p_delong")]
        rows.append([name, study.figures["compared"][name], plain, *found])
    text = (
        f"AUC of {study.name} less that of each other model on the same images; p from "
        f"{test}, and adjusted by Holm for all comparisons in the table; beside it "
        "DeLong's, which takes images as independent."
    )
    columns = ["model", "AUC per image", "difference", "p", "p, Holm", "p, DeLong"]
    return Section("Models compared", [text], [Table(columns, rows)])


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _operating(study: Study, folder: Path, stem: str) -> Section:
    point = study.figures["operating_point"]
    if "not_measured" in point:
        return Section("Operating point", [f"Not measured: {point['not_measured']}."])
    decision, at = study.decision, f"at prevalence {point.get('prevalence')}"
    words = {"sensitivity": "sensitivity", "specificity": "specificity",
             "ppv": "PPV in this table", "npv": "NPV in this table",
             "ppv_at_prevalence": f"PPV {at}",
             "npv_at_prevalence": f"NPV {at}"}  # fmt: skip
    shown = {words[name]: point[name] for name in words if point.get(name)}
    prevalence = (
        f"The prevalence is taken per {decision.level}, as sensitivity and "
        "specificity are."
    )
    said = [prevalence] if "prevalence" in point else []
    text = (
        f"Threshold {decision.threshold:.4f} on the calibrated probability "
        f"(temperature {decision.temperature:.3g}), which is {_raw(decision):.4f} on "
        f"the score as it comes; rule {decision.rule!r}, "
        f"{decision.level} level, "
        f"{_fitted_text(decision.fitted_on)}; applied here as it is."
    )
    cells = point["confusion"]
    table = Table(
        ["", "called negative", "called positive"],
        [["no cancer", cells["tn"], cells["fp"]], ["cancer", cells["fn"], cells["tp"]]],
        f"Calls, {decision.level} level",
    )
    units = operating_point.calibrated_units(study.rows, decision)
    path = plots_results.plot_operating_point(
        units["y_true"], units["y_score"], decision.threshold,
        folder / f"{stem}operating_point.png", figures=point,
        unit={"image": "images", "breast": "breasts", "patient": "women"}[
            decision.level],
    )  # fmt: skip
    return Section("Operating point", [text, *said], [figure_table(shown), table],
                   [Picture(path, "Scores of both classes, the threshold, and the "
                            "calls that it makes", wide=True)])  # fmt: skip


def _raw(decision: Decision) -> float:
    """The threshold on scores that are not calibrated."""
    return float(scaled_scores([decision.threshold], 1 / decision.temperature)[0])


def _fitted_text(fitted: Mapping) -> str:
    if not fitted.get("split"):
        return "set by hand, or by nobody known"
    return (
        f"fitted on {fitted.get('n')} of split {fitted['split']}, "
        f"{fitted.get('positives')} of them positive"
    )


def _calibration(study: Study, folder: Path, stem: str) -> Section:
    facts = study.figures["calibration"]
    if "not_measured" in facts:
        return Section("Calibration", [f"Not measured: {facts['not_measured']}."])
    truth = study.rows["y_true"]
    scores = {"as scored": study.rows["y_score"]}
    if "after_temperature" in facts:
        scores["after temperature scaling"] = study.decision.calibrated(
            study.rows["y_score"]
        )
    curves = {n: calibration.reliability(truth, score) for n, score in scores.items()}
    path = plots_results.plot_reliability(
        curves, folder / f"{stem}reliability.png", scores=scores
    )
    rows = [
        [words, *(facts[name].get(key) for key in
                  ("brier", "calibration_error", "intercept", "slope"))]
        for name, words in zip(("as_scored", "after_temperature"), scores, strict=False)
    ]  # fmt: skip
    columns = ["", "Brier score", "calibration error", "intercept", "slope"]
    worse = "after_temperature" in facts and (
        facts["after_temperature"]["brier"]["value"]
        >= facts["as_scored"]["brier"]["value"]
    )
    said = ["The temperature did not better the Brier score here."] if worse else []
    text = (
        "Of images scored p, a share p should be cancers; the share of cancers in "
        "this table is not that of a screening population. Calibration error: mean gap "
        "over 10 bins of equal count. Intercept 0 and slope 1 would be perfect."
    )
    return Section("Calibration", [text, *said], [Table(columns, rows)],
                   [Picture(path, "Share of cancers over the score, with Wilson's "
                            "intervals (images as independent)")])  # fmt: skip


def _subgroup_section(study: Study, folder: Path, stem: str) -> Section | None:
    groups = study.figures["subgroups"]
    if not any(one["auc"] for one in groups):
        return None
    rows, lines, headed = [], [], ""
    for one in groups:
        column = _COLUMN_WORDS.get(one["column"], one["column"])
        if column != headed:
            lines.append((column, None, ""))
            headed = column
        lines.append((str(one["group"]), one["auc"], one["warning"]))
        bar = Bar(one["auc"]) if one["auc"] else None
        rows.append([f"{column} {one['group']}", one["auc"], bar, one["n"],
                     one["positives"], one["women"], one["warning"]])  # fmt: skip
    path = plots_results.plot_forest(
        lines, folder / f"{stem}subgroups.png", reference=study.figures["auc"]["image"]
    )
    columns = ["group", "AUC per image", "", "n", "positive", "women", "note"]
    text = ["Nothing is adjusted for looking at many groups."]
    if any(one["column"] in subgroups.LESION_COLUMNS for one in groups):
        text.append(
            "A lesion's group holds the images, positive and negative, whose worst "
            "lesion is of that kind, and the negatives without any."
        )
    return Section("Subgroups", text, [Table(columns, rows)],
                   [Picture(path, "AUC by subgroup", wide=True)])  # fmt: skip


def _learning_curve(study: Study) -> Section | None:
    folder = study.request.learning_curve
    if folder is None:
        return None
    table = Path(folder) / "curve.csv"
    if not table.is_file():
        raise TableError(f"{folder}: no curve.csv, so no learning curve")
    frame = _read_curve(table)
    means = frame.groupby(["model", "women"], sort=False).agg(
        images=("images", "mean"), draws=("auc", "size"), auc=("auc", "mean"),
        low=("auc", "min"), high=("auc", "max"),
    )  # fmt: skip
    rows = [[f"{model}, {women} women" if women else f"{model}, as it is",
             round(one.images), int(one.draws), f"{one.auc:.2f}",
             f"{one.low:.2f} to {one.high:.2f}"]
            for (model, women), one in means.iterrows()]  # fmt: skip
    columns = ["trained on", "images", "draws", "mean AUC", "lowest to highest"]
    picture = Path(folder) / "plots" / "learning_curve.png"
    return Section("Learning curve", tables=[Table(columns, rows)],
                   pictures=[Picture(picture, "AUC over the women trained on",
                                     wide=True)])  # fmt: skip


def _read_curve(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except ValueError as error:
        raise TableError(f"{path}: not a CSV table: {error}") from error
    missing = [c for c in ("model", "women", "images", "auc") if c not in frame]
    if missing:
        raise TableError(f"{path}: line 1: no column {', '.join(missing)}")
    return frame


def _run(study: Study) -> Section | None:
    runs = {m.name: m.run for m in study.models if m.run is not None}
    shown = [
        provenance.scores_table(study.models, study.choices.split,
                                study.request.fit_on),
        provenance.run_table(runs), provenance.data_table(study.request.images),
    ]  # fmt: skip
    left = study.models[0].left_out
    text = (
        f"Left out: {left['no_truth']} row(s) without a truth, "
        f"{left.get('no_score', 0)} without a score and "
        f"{left['other_split']} of other splits. {study.interval_text()}; of an AUC, "
        "the draws' deviation on the logit scale."
    )
    return Section("What was run", [text], [t for t in shown if t is not None])


def _training(study: Study) -> Section | None:
    found = [
        Picture(model.run / "plots" / "history.png", f"Loss and AUC, {model.name}")
        for model in study.models
        if model.run is not None and (model.run / "plots" / "history.png").is_file()
    ]
    return Section("Training", pictures=found) if found else None


def _converted(study: Study) -> Path | None:
    """The converted data set's folder: where its lesion table lies."""
    lesions = study.request.lesions
    return Path(lesions).parent if lesions else None
