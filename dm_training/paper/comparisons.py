"""The paper's tables again: each row's published figure, ours, and the difference."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from dm_models import published
from dm_models.published import FOUR_BEST
from dm_models.tops import parse_top
from dm_training import metrics
from dm_training.operating_point import fit_operating_point, operating_figures
from dm_training.paper import rows
from dm_training.paper.results import Results, mean_auc_figure, read_test
from dm_training.paper.schedule import DONE
from dm_training.paper.tables import PaperTable, difference
from dm_training.runs import read_json

BUILT = "real network, one step"
_PATCH = {
    "row": "recipe", "used": "net used", "paper": "paper", "ours": "ours (95 %)",
    "difference": "ours − paper", "paper_epochs": "best epoch, paper",
    "epochs": "ours", "status": "", "built": BUILT,
}  # fmt: skip
_IMAGE = {
    "row": "recipe", "used": "net used", "paper": "AUC, paper",
    "ours": "AUC, ours (95 %)", "difference": "ours − paper",
    "paper_augmented": "A-AUC, paper", "augmented": "A-AUC, ours (95 %)",
    "augmented_difference": "ours − paper", "paper_epochs": "best epoch, paper",
    "epochs": "ours", "status": "", "built": BUILT,
}  # fmt: skip
_TRANSFER = {
    "women": "women", "paper_images": "images, paper", "images": "ours",
    "model": "model", "used": "net used", "paper": "AUC, paper",
    "ours": "AUC, ours (95 %)", "difference": "ours − paper", "draws": "draws",
    "range": "over draws", "status": "",
}  # fmt: skip
_ENSEMBLE = {
    "data": "data", "model": "model", "used": "net used", "paper": "AUC, paper",
    "ours": "AUC, ours (95 %)", "difference": "ours − paper", "status": "",
}  # fmt: skip
_OPERATING = {
    "data": "data", "paper_sensitivity": "sensitivity, paper",
    "sensitivity": "ours (95 %)", "sensitivity_difference": "ours − paper",
    "paper_specificity": "specificity, paper", "specificity": "ours (95 %)",
    "specificity_difference": "ours − paper", "threshold": "our threshold",
    "status": "",
}  # fmt: skip
MEAN = "mean of the four"
_IN_FOUR = "one of the four"
_CHOSEN = (
    "On INbreast the paper chose its epochs on the images it reports; ours were chosen "
    "on other women, who are missing from its training set."
)


def all_tables(results: Results, parts: Collection[str]) -> list[PaperTable]:
    """The tables that some parts have, in the paper's order."""
    found = []
    if "table1" in parts:
        found.append(patch_table(results))
    found += [image_table(results, part) for part in ("table2", "table3")
              if part in parts]  # fmt: skip
    if "table4" in parts:
        found.append(transfer_table(results))
    if {"ensemble", "figure3"} & set(parts):
        found += [ensemble_table(results), operating_table(results)]
    return found


def patch_table(results: Results) -> PaperTable:
    """Table 1."""
    lines = []
    for row in rows.patch_rows():
        found = results.metrics_of(f"patch.{row.name}") or {}
        ours = found.get("test_accuracy")
        lines.append({
            "row": row.name, "used": _used(results, row.name), "paper": row.accuracy,
            "ours": ours, "difference": difference(ours, row.accuracy),
            "paper_epochs": row.epochs, "epochs": _epochs(found),
            "status": results.status(row.name, f"patch.{row.name}"),
            "built": results.built(row.name),
        })  # fmt: skip
    notes = [
        "Accuracy over five classes on test patches; the interval (Wilson's) takes "
        "patches as independent, which overlapping ones are not."
    ]
    return PaperTable("table1", rows.PARTS["table1"], _PATCH, lines,
                      notes + _notes(results))  # fmt: skip


def image_table(results: Results, part: str) -> PaperTable:
    """Table 2 or 3."""
    lines = []
    for row in rows.image_rows(part):
        found = results.metrics_of(f"whole.{row.name}") or {}
        ours, augmented = found.get("test_auc"), found.get("test_auc_augmented")
        status = results.status(row.name, f"whole.{row.name}")
        lines.append({
            "row": row.name, "used": _used(results, row.name), "paper": row.auc,
            "ours": ours, "difference": difference(ours, row.auc),
            "paper_augmented": row.augmented_auc, "augmented": augmented,
            "augmented_difference": difference(augmented, row.augmented_auc),
            "paper_epochs": row.epochs, "epochs": _epochs(found),
            "status": f"{status}; {_IN_FOUR}" if row.best else status,
            "notation": parse_top(row.name.split("-", 2)[2]).notation,
            "best": row.best, "built": results.built(row.name),
        })  # fmt: skip
    notes = ["AUC per image of one model; A-AUC: mean over four flips."]
    return PaperTable(part, rows.PARTS[part], _IMAGE, lines, notes + _notes(results))


def transfer_table(results: Results) -> PaperTable:
    """Table 4: fewer women from the learning curves, all of them from fine-tuning."""
    lines = []
    for row in published.TRANSFER_ROWS:
        for (model, recipe), paper in zip(FOUR_BEST.items(), row.aucs, strict=True):
            found = _transfer(results, recipe, None if row.whole else row.patients)
            women = found.pop("ours_women", None)
            said = f"all: {women or '–'} ({row.patients} in the paper)"
            lines.append({
                "women": said if row.whole else row.patients, "model": model,
                "paper_images": row.images, "used": _used(results, recipe),
                "paper": paper,
                "difference": difference(found.get("ours"), paper), **found,
            })  # fmt: skip
    notes = [
        _CHOSEN, "Several draws: the mean of their AUCs with the test women's interval,"
        " and the range over draws; the row of all women is one training.",
    ]  # fmt: skip
    return PaperTable("table4", rows.PARTS["table4"], _TRANSFER, lines,
                      notes + _notes(results))  # fmt: skip


def _transfer(results: Results, recipe: str, women: int | None) -> dict:
    """One cell of Table 4: `ours`, `images`, `draws`, `range`, `status`."""
    if women is None:
        return _transfer_of_all(results, recipe)
    if women not in results.settings.scale.curve_sizes:
        return {"status": "not run"}
    found = {"status": results.status(recipe, f"curve.{recipe}")}
    runs = results.curve_runs(recipe, women)
    if not runs:
        return found
    frames = [read_test(run.out / "predictions_test.csv") for run in runs]
    aucs = [metrics.auc(frame["y_true"], frame["y_score"]) for frame in frames]
    return found | {
        "ours": mean_auc_figure(frames, seed=results.settings.seed),
        "images": round(sum(run.images for run in runs) / len(runs)),
        "draws": len(runs),
        "range": f"{min(aucs):.2f}–{max(aucs):.2f}" if len(aucs) > 1 else None,
    }


def _transfer_of_all(results: Results, recipe: str) -> dict:
    found = results.metrics_of(f"tuned.{recipe}")
    status = results.status(recipe, f"tuned.{recipe}")
    if not found:
        return {"status": status}
    counts = read_json(results.out / "tuned" / recipe / "config.json")["counts"]
    images = sum(counts["train"].values())
    return {"ours": found["test_auc"], "draws": 1, "images": images, "status": status,
            "ours_women": results.training_women()}  # fmt: skip


def ensemble_table(results: Results) -> PaperTable:
    """The means of the four best, the models themselves, and the two-step baseline."""
    film, digital = results.settings.scale.data
    lines = []
    for name, kind in ((film, "whole"), (digital, "tuned")):
        lines += [_single(results, name, kind, model, row)
                  for model, row in FOUR_BEST.items()]  # fmt: skip
    for at, line in zip((len(FOUR_BEST), len(lines) + 1), _means(results), strict=True):
        lines.insert(at, line)
    lines.insert(len(FOUR_BEST) + 1, _two_step(results, film))
    notes = ["Every AUC per image; of a model and a mean of models, over four flips.",
             _CHOSEN]  # fmt: skip
    return PaperTable("ensemble", rows.PARTS["ensemble"], _ENSEMBLE, lines,
                      notes + _notes(results))  # fmt: skip


def operating_table(results: Results) -> PaperTable:
    """Sensitivity and specificity of the two means at a threshold that val gave."""
    notes = [
        "The threshold has the most sensitivity and specificity on validation images "
        "(Youden), on scores calibrated there; the paper does not say how its own was "
        "chosen."
    ]
    return PaperTable(
        "operating_point", "Ensembles: sensitivity and specificity per image",
        _OPERATING, _means(results), notes + _notes(results),
    )  # fmt: skip


def _means(results: Results) -> list[dict]:
    named = zip(("film", "digital"), results.settings.scale.data,
                published.ENSEMBLE_ROWS, strict=True)  # fmt: skip
    return [_mean(results, *one) for one in named]


def _single(results: Results, data: str, kind: str, model: str, row: str) -> dict:
    found = results.metrics_of(f"{kind}.{row}") or {}
    ours = found.get("test_auc_augmented")
    paper = published.image_row(row).augmented_auc if kind == "whole" else None
    return {"data": data, "model": model, "used": _used(results, row), "paper": paper,
            "ours": ours, "difference": difference(ours, paper),
            "status": results.status(row, f"{kind}.{row}")}  # fmt: skip


def _mean(results: Results, data: str, name: str, paper) -> dict:
    line = {"data": name, "model": MEAN, "paper": paper.auc,
            "used": "the four above", "paper_sensitivity": paper.sensitivity,
            "paper_specificity": paper.specificity,
            "status": _ran(results, f"ensemble.{data}")}  # fmt: skip
    test = results.predictions(f"ensemble/{data}.csv", "test")
    if test is None:
        return line
    ours = metrics.auc_figure(test, seed=results.settings.seed)
    line |= {"ours": ours, "difference": difference(ours, paper.auc)}
    return line | _operating(results, data, test, paper)


def _operating(results: Results, data: str, test: pd.DataFrame, paper) -> dict:
    """Sensitivity and specificity on test at the threshold that val gave."""
    val = results.predictions(f"ensemble/{data}.csv", "val")
    decision = fit_operating_point(val, flips=4)
    found = operating_figures(test, decision, seed=results.settings.seed)
    line = {"threshold": decision.threshold, "temperature": decision.temperature}
    for name in ("sensitivity", "specificity"):
        ours = found[name]
        line[name] = ours
        line[f"{name}_difference"] = difference(ours, getattr(paper, name))
    return line


def _two_step(results: Results, data: str) -> dict:
    found = results.metrics_of("forest") or {}
    ours = found.get("test_auc")
    return {
        "data": data, "model": "two steps: heatmap, random forest",
        "used": _used(results, rows.TWO_STEP_PATCH), "paper": published.TWO_STEP_AUC,
        "ours": ours, "difference": difference(ours, published.TWO_STEP_AUC),
        "status": _ran(results, "forest"),
    }  # fmt: skip


def _ran(results: Results, stage: str) -> str:
    outcome = results.outcomes.get(stage)
    if outcome is None:
        return "not asked for"
    return "" if outcome.status == DONE else f"{outcome.status}: {outcome.why}"


def _used(results: Results, row: str) -> str:
    scale = results.settings.scale
    return scale.net_used(row) if scale.is_trained(row) else "not trained"


def _epochs(found: Mapping) -> str | None:
    if not found:
        return None
    return f"{found['best_epoch']} of {found['epochs']}"


def _notes(results: Results) -> list[str]:
    settings = results.settings
    scale = settings.scale
    notes = ["Intervals are of our own test set; the paper prints none, so that a "
             "difference holds our uncertainty alone."]  # fmt: skip
    if settings.split == "official":
        notes.append(
            "The paper's values are of its own 85/15 split, ours of the official test "
            "set, on which others report 0.69 to 0.79 per image."
        )
    if scale.stand_ins:
        notes.append(
            f"Demo: {scale.data[0]} and {scale.data[1]} instead of CBIS-DDSM and "
            "INbreast, and small networks instead of the paper's: "
            f"{scale.stand_in_words(settings.seed)}. That a figure is near the "
            "paper's, or far from it, says nothing of real mammograms."
        )
    return notes
