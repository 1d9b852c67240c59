import json

import numpy as np
import pandas as pd
import pytest

from dm_training import study
from dm_training.evaluate import Request, evaluate, main
from dm_training.evaluation import Choices
from dm_training.metrics import MetricError
from dm_training.study_sections import study_sections

FAST = Choices(draws=200)


def table(path, split, women=20, seed=0, flips=1, **columns):
    """Two images a woman; women of another split have other ids."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(women) % 2, 2)
    logit = 2 * truth - 1 + rng.normal(size=2 * women)
    frame = pd.DataFrame({
        "image_id": [f"{split}{k}" for k in range(2 * women)],
        "patient_id": [f"{split}_w{k // 2}" for k in range(2 * women)],
        "laterality": "L", "view": ["CC", "MLO"] * women, "split": split,
        "y_true": truth, "y_score": 1 / (1 + np.exp(-logit)), "flips": flips,
        "model": path.parent.name,
    }).assign(**columns)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return frame


def run_folder(folder, seed=0):
    """What a finished training leaves, as far as a study reads it."""
    for split in ("val", "test"):
        table(folder / f"predictions_{split}.csv", split, seed=seed)
        augmented = folder / f"predictions_{split}_augmented.csv"
        table(augmented, split, seed=seed + 9, flips=4)
    config = {"seed": 7, "flags": {"recipe": "vgg16-s10-256x1+128x1"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def titles(sections):
    return [section.title for section in sections]


def test_a_plain_table_alone_makes_a_report_that_says_what_is_not_measured(tmp_path):
    table(tmp_path / "p.csv", "test")
    found = study.open_study(Request([tmp_path / "p.csv"]), FAST)
    sections = {s.title: s for s in study_sections(found, tmp_path)}
    assert set(sections) == {"Results", "ROC", "Operating point", "Calibration",
                             "Subgroups", "What was run"}  # fmt: skip
    text = sections["Operating point"].paragraphs[0]
    assert text.startswith("Not measured: no validation rows")


def test_a_run_brings_its_threshold_recipe_and_split(tmp_path):
    found = study.open_study(Request([run_folder(tmp_path / "whole")]), FAST)
    assert found.decision.fitted_on["split"] == "val"
    assert found.figures["operating_point"]["confusion"]
    sections = {s.title: s for s in study_sections(found, tmp_path)}
    cells = dict(sections["What was run"].tables[1].rows)
    assert cells["recipe"] == "vgg16-s10-256x1+128x1"


def test_an_ensemble_is_the_mean_of_all_and_has_its_own_threshold(tmp_path):
    runs = [run_folder(tmp_path / name, seed) for seed, name in enumerate("ab")]
    found = study.open_study(Request(runs, ensemble=True, augmented=True), FAST)
    assert found.name == "ensemble of 2"
    assert [model.name for model in found.models] == ["ensemble of 2", "a", "b"]
    scores = [pd.read_csv(run / "predictions_test_augmented.csv")["y_score"]
              for run in runs]  # fmt: skip
    np.testing.assert_allclose(found.rows["y_score"], (scores[0] + scores[1]) / 2)
    assert found.decision.flips == 4
    assert set(found.figures["paired_differences"]) == {"a", "b"}


def test_an_ensemble_of_one_is_refused(tmp_path):
    table(tmp_path / "p.csv", "test")
    with pytest.raises(MetricError, match="needs two models or more"):
        study.open_study(Request([tmp_path / "p.csv"], ensemble=True), FAST)


def test_subgroups_come_from_the_image_table_and_small_ones_are_marked(tmp_path):
    frame = table(tmp_path / "p.csv", "test", women=30)
    images = frame[["image_id", "patient_id"]].assign(
        path="x.png", density=["1"] * 4 + ["2"] * 56
    )
    images.to_csv(tmp_path / "images.csv", index=False)
    request = Request([tmp_path / "p.csv"], images=tmp_path / "images.csv", gallery=0)
    found = study.open_study(request, FAST)
    groups = {(one["column"], one["group"]): one
              for one in found.figures["subgroups"]}  # fmt: skip
    assert groups["density", "1"]["positives"] == 2
    assert groups["density", "1"]["warning"] == "only 2 positives: read with care"
    assert groups["density", "2"]["warning"] == ""
    assert groups["view", "CC"]["n"] == 30


def test_a_learning_curve_without_its_table_is_refused(tmp_path):
    from dm_preprocess.tables import TableError

    table(tmp_path / "p.csv", "test")
    request = Request([tmp_path / "p.csv"], learning_curve=tmp_path)
    found = study.open_study(request, FAST)
    with pytest.raises(TableError, match="no curve.csv, so no learning curve"):
        study_sections(found, tmp_path)


def test_two_studies_in_one_report_keep_their_plots_apart(tmp_path):
    table(tmp_path / "p.csv", "test")
    found = study.open_study(Request([tmp_path / "p.csv"]), FAST)
    first = study_sections(found, tmp_path, prefix="Film")
    second = study_sections(found, tmp_path, prefix="Digital")
    assert titles(first)[0] == "Film: Results"
    plots = {str(picture.source) for section in (*first, *second)
             for picture in section.pictures}  # fmt: skip
    assert len(plots) == 2 * 3  # ROC, reliability, subgroups of each
    assert all((tmp_path / plot).is_file() for plot in plots)


def test_the_report_holds_the_same_figures_in_all_three_forms(tmp_path):
    run_folder(tmp_path / "whole")
    found = evaluate(Request([tmp_path / "whole"]), tmp_path / "out", FAST)
    auc = f"{found['auc']['image']['value']:.2f}"
    for name in ("report.html", "report.md"):
        assert auc in (tmp_path / "out" / name).read_text(encoding="utf-8")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    held = json.dumps(report)
    assert json.dumps(found["auc"]["image"]["value"]) in held
    assert str(tmp_path) not in held  # no path of this machine
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored == found


def test_the_command_names_models_and_fits_on_another_table(tmp_path, capsys):
    table(tmp_path / "t.csv", "test")
    table(tmp_path / "u.csv", "test", seed=3)
    table(tmp_path / "v.csv", "val", seed=4)
    command = [f"ours={tmp_path / 't.csv'}",
               "--compare", f"theirs={tmp_path / 'u.csv'}",
               "--fit-on", str(tmp_path / "v.csv"), "--rule", "sensitivity 0.80",
               "--prevalence", "0.006", "--draws", "200",
               "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "AUC of theirs" in shown and "Holm" in shown
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["operating_point"]["rule"] == "sensitivity 0.80"
    assert found["operating_point"]["prevalence"] == 0.006
    sensitivity, specificity = (found["operating_point"][n]["value"]
                                for n in ("sensitivity", "specificity"))  # fmt: skip
    hits = sensitivity * 0.006
    ppv = hits / (hits + (1 - specificity) * 0.994)  # Bayes
    assert found["operating_point"]["ppv_at_prevalence"]["value"] == pytest.approx(ppv)


def test_a_table_that_is_not_validation_cannot_be_fitted_on(tmp_path, capsys):
    table(tmp_path / "t.csv", "test")
    table(tmp_path / "v.csv", "train", seed=4)
    command = [str(tmp_path / "t.csv"), "--fit-on", str(tmp_path / "v.csv"),
               "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 2
    assert "validation rows only" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_columns_of_a_table_from_elsewhere_are_named_for_subgroups_too(tmp_path):
    frame = table(tmp_path / "p.csv", "test")
    density = ["b"] * 20 + ["c"] * 20
    frame = frame.assign(breast_density=density, seen_from=frame["view"])
    frame.drop(columns="view").to_csv(tmp_path / "p.csv", index=False)
    command = [str(tmp_path / "p.csv"), "--density-column", "breast_density",
               "--view-column", "seen_from", "--draws", "200",
               "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    groups = {(one["column"], one["group"]) for one in found["subgroups"]}
    assert groups == {("view", "CC"), ("view", "MLO"), ("density", "b"),
                      ("density", "c")}  # fmt: skip


def test_the_threshold_of_a_run_is_the_one_that_its_model_holds(tmp_path):
    import zipfile

    from dm_models.decision import Decision, store_decision

    run = run_folder(tmp_path / "whole")
    with zipfile.ZipFile(run / "best.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    held = Decision(0.9, rule="given")
    store_decision(run / "best.keras", held)
    assert study.open_study(Request([run]), FAST).decision == held
    fitted = study.open_study(Request([run], rule="youden"), FAST).decision
    assert fitted.fitted_on["split"] == "val"
    augmented = study.open_study(Request([run], augmented=True), FAST).decision
    assert augmented.flips == 4 and augmented.fitted_on["split"] == "val"
    stored = Decision(0.8, rule="given", flips=4)
    store_decision(run / "best.keras", stored)
    for request, wanted in ((Request([run]), held),
                            (Request([run], augmented=True), stored)):  # fmt: skip
        assert study.open_study(request, FAST).decision == wanted
    named = Request([run], augmented=True, decision=run / "best.keras")
    assert study.open_study(named, FAST).decision == stored


def test_a_run_is_not_measured_on_the_validation_rows_of_its_threshold(tmp_path):
    request = Request([run_folder(tmp_path / "whole")], split="val")
    found = study.open_study(request, Choices("val", draws=200))
    assert found.decision is None
    assert "validation rows that it would be fitted on" in found.why_not


def test_women_of_the_image_table_are_compared_with_those_fitted_on(tmp_path):
    test = table(tmp_path / "t.csv", "test", patient_id="")
    val = table(tmp_path / "v.csv", "val", patient_id="")
    same = [f"w{k // 2}" for k in range(40)]
    both = pd.concat([test, val]).assign(path="x.png", patient_id=same + same)
    images = both[["image_id", "patient_id", "path", "split"]]
    images.to_csv(tmp_path / "images.csv", index=False)
    request = Request([tmp_path / "t.csv"], fit_on=[tmp_path / "v.csv"], gallery=0,
                      images=tmp_path / "images.csv")  # fmt: skip
    with pytest.raises(MetricError, match="20 patient_id.* would flatter"):
        study.open_study(request, FAST)


def test_an_evaluation_replaces_an_earlier_one_whole(tmp_path):
    out = tmp_path / "out"
    runs = run_folder(tmp_path / "whole")
    evaluate(Request([runs]), out, FAST)
    assert (out / "plots" / "operating_point.png").is_file()
    (out / "predictions.csv").write_text("kept")
    table(tmp_path / "p.csv", "test")
    evaluate(Request([tmp_path / "p.csv"]), out, FAST)
    assert not (out / "plots" / "operating_point.png").exists()
    assert (out / "predictions.csv").read_text() == "kept"
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("text", ["{", "[]", '{"findings": [{}]}', '{"findings": 1}'])
def test_a_broken_audit_is_named_and_nothing_is_written(tmp_path, capsys, text):
    table(tmp_path / "t.csv", "test")
    (tmp_path / "audit.json").write_text(text)
    command = [str(tmp_path / "t.csv"), "--audit", str(tmp_path / "audit.json"),
               "--draws", "200", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 2
    assert "audit.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--decision", "x.json", "--rule", "youden"], "give either"),
        (["--model", "x.keras"], "give --images too"),
        (["--rule", "foo"], "rule must be one of"),
        (["--ensemble"], "needs two models or more"),
    ],
    ids=["two thresholds", "no images", "rule", "ensemble of one"],
)
def test_flags_that_contradict_each_other_are_refused(tmp_path, capsys, flags, message):
    table(tmp_path / "t.csv", "test")
    command = [str(tmp_path / "t.csv"), *flags, "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_single_and_augmented_predictions_have_no_mean(tmp_path, capsys):
    table(tmp_path / "a.csv", "test", flips=1)
    table(tmp_path / "b.csv", "test", flips=4)
    command = [str(tmp_path / "a.csv"), "--compare", str(tmp_path / "b.csv"),
               "--ensemble", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 2
    assert "flips must be alike" in capsys.readouterr().err


def test_an_ensembles_threshold_needs_every_members_validation_rows(tmp_path, capsys):
    for seed, name in enumerate("ab"):
        table(tmp_path / f"{name}.csv", "test", seed=seed)
        table(tmp_path / f"{name}_val.csv", "val", seed=seed + 5)
    paths = [tmp_path / f"{name}.csv" for name in "ab"]
    fit_on = [tmp_path / f"{name}_val.csv" for name in "ab"]
    with pytest.raises(MetricError, match="in their order: 2, received 1"):
        study.open_study(Request(paths, ensemble=True, fit_on=fit_on[:1]), FAST)
    found = study.open_study(Request(paths, ensemble=True, fit_on=fit_on), FAST)
    scores = [pd.read_csv(path)["y_score"] for path in fit_on]
    mean = pd.read_csv(fit_on[0]).assign(y_score=(scores[0] + scores[1]) / 2)
    from dm_training.operating_point import fit_operating_point

    expected = fit_operating_point(mean)
    assert found.decision.threshold == pytest.approx(expected.threshold)
    assert found.decision.temperature == pytest.approx(expected.temperature)
    command = [str(paths[0]), "--compare", str(paths[1]), "--ensemble",
               "--decision", "one.keras", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 2
    assert "not that of a mean" in capsys.readouterr().err


def test_a_table_without_a_split_is_not_called_the_test_split(tmp_path, capsys):
    table(tmp_path / "p.csv", "")
    found = study.open_study(Request([tmp_path / "p.csv"]), FAST)
    assert "split not given (taken as test)" in found.lead()
    command = [str(tmp_path / "p.csv"), "--draws", "200", "--out", str(tmp_path / "o")]
    assert main(command) == 0
    assert "p, split not given, taken as test;" in capsys.readouterr().out
    table(tmp_path / "q.csv", "test")
    found = study.open_study(Request([tmp_path / "q.csv"]), FAST)
    assert "test split" in found.lead()


def test_the_report_says_how_levels_are_made_and_which_there_are_not(tmp_path):
    def said(**columns):
        table(tmp_path / "p.csv", "test", **columns)
        found = study.open_study(Request([tmp_path / "p.csv"]), FAST)
        sections = {s.title: s for s in study_sections(found, tmp_path)}
        return sections["Results"].paragraphs[1]

    assert "mean of her images. Every woman has one breast" in said()
    assert "No breast level: the table names no sides" in said(laterality="")
    assert said(patient_id="") == "Image level only: the table names no women."
    both = said(laterality=["L", "R"] * 20)
    assert both == "The score of a breast or a woman is the mean of her images."


def test_notes_and_the_sources_of_scores_stand_in_the_report(tmp_path):
    import hashlib

    table(tmp_path / "p.csv", "test")
    request = Request([tmp_path / "p.csv"], notes=["Synthetic images"])
    found = study.open_study(request, FAST)
    sections = {s.title: s for s in study_sections(found, tmp_path)}
    assert sections["Results"].notices == ["Synthetic images"]
    row = sections["What was run"].tables[0].rows[0]
    digest = hashlib.sha256((tmp_path / "p.csv").read_bytes()).hexdigest()
    assert row == ["p", "p.csv", 40, "test", digest[:12]]


def test_the_threshold_is_given_on_the_scores_own_scale_too(tmp_path):
    from dm_models.decision import Decision

    table(tmp_path / "p.csv", "test")
    (tmp_path / "d.json").write_text(Decision(0.75, temperature=2.0).to_json())
    request = Request([tmp_path / "p.csv"], decision=tmp_path / "d.json")
    found = study.open_study(request, FAST)
    sections = {s.title: s for s in study_sections(found, tmp_path)}
    # logit 0.75 = log 3; times 2 = log 9; back: 9 / 10
    text = sections["Operating point"].paragraphs[0]
    assert "Threshold 0.7500" in text and "which is 0.9000 on the score" in text
