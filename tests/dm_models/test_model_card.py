"""MODEL_CARD.md: what was measured, of this very model, and nothing else."""

import json
import math
import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from dm_models import model_card_figures as figures
from dm_models import model_card_text as text
from dm_models.decision import Decision, read_decision, store_decision
from dm_models.export import export_saved_model, main
from dm_models.layer_files import ModelFileError
from dm_models.model_card import (
    Evidence,
    Subject,
    gather_evidence,
    render_card,
    weights_digest,
)
from dm_models.weights import load_model, save_model

SECTIONS = [
    "Model details", "Intended use", "Out of scope", "Data", "Metrics",
    "Operating point and calibration", "Subgroups", "Limits", "How to use",
    "Licence and citations",
]  # fmt: skip
DECISION = Decision(0.4, temperature=2.0, rule="sensitivity 0.90",
                    fitted_on={"split": "val", "n": 40})  # fmt: skip


def figure(value, split="test", **more):
    return {"value": value, "low": value - 0.1, "high": value + 0.05, "n": 40,
            "positives": 10, "level": "image", "split": split, **more}  # fmt: skip


METRICS = {
    "steps": 30, "epochs": 4, "best_epoch": 3, "interval": "95 %, by women",
    "data": {
        "train": {"images": 80, "women": 44, "classes": {"neg": 60, "pos": 20},
                  "positives": 20, "positive_women": 11, "source": {"inbreast": 80},
                  "vendor": {"not said": 80}},
        "test": {"images": 40, "women": None, "classes": {"neg": 30, "pos": 10}},
        "split": {"scheme": "paper", "seed": 5, "test_share": 0.15},
    },
    "val_auc": figure(0.91, "val"), "test_auc": figure(0.87),
    "test_auc_augmented": figure(0.88), "test_auc_last_epoch": figure(0.71),
    "operating_point": {
        "threshold": 0.4, "temperature": 2.0,
        "fitted_on": {"sensitivity": figure(0.99, "val")},
        "test": {"threshold": 0.4, "temperature": 2.0, "sensitivity": figure(0.66),
                 "npv": None, "confusion": {"tp": 7, "fp": 5, "fn": 3, "tn": 25}},
    },
    "subgroups": {"density": {"4": figure(0.55)}},
}  # fmt: skip
CONFIG = {
    "kind": "whole", "seed": 9, "precision": "mixed_float16", "train_batch": 2,
    "patients": "checked: no patient of train, val, test stands in another split",
    "counts": {"train": {"neg": 60, "pos": 20}},
    "flags": {"recipe": "squeezenet-s10-8x1", "train": "/home/secret/images.csv",
              "patch_model_state": "/home/secret/patch.keras"},
}  # fmt: skip
VERSIONS = {"packages": {"keras": "3.15.0", "tensorflow": "2.21.0"}}


@pytest.fixture
def subject(contract):
    contract = contract.replace(class_names=("neg", "pos"))
    return Subject(contract, "ab12", 1234, decision=DECISION)


@pytest.fixture
def run():
    return Evidence("whole", METRICS, CONFIG, VERSIONS)


@pytest.fixture
def model():
    """Mean grey of the image / 65535 -> [1 - p, p]: small, and any size goes."""
    inputs = keras.Input((None, None, 1), name="grey")
    x = keras.layers.Rescaling(1 / 65535, name="grey_scale")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    outputs = keras.layers.Dense(2, activation="softmax", name="last")(x)
    return keras.Model(inputs, outputs)


def section(card, title):
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0]


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


# What a card says


def test_a_card_has_the_sections_the_field_knows(subject, run):
    external = Evidence("external", {"auc": figure(0.6)})
    card = render_card(subject, [run, external], name="best", form="keras")
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert card.startswith("# Model card: best\n")
    assert "None" not in card and "{" not in card
    for sources in ([], [external], [run]):
        assert "\n\n\n" not in render_card(subject, sources, name="m", form="weights")


def test_every_figure_stands_with_its_interval_and_counts(subject, run):
    metrics = section(render_card(subject, [run], name="m"), "Metrics")
    assert "| AUC | 0.91 (0.81–0.96) | 40 | 10 | image | val | whole |" in metrics
    assert "| AUC | 0.87 (0.77–0.92) | 40 | 10 | image | test | whole |" in metrics
    assert "| AUC, mean of four flips | 0.88 (0.78–0.93) |" in metrics
    assert "| AUC, the training's last epoch, not this model | 0.71" in metrics
    assert "Intervals: 95 %, by women." in metrics
    assert "0.66" not in metrics and "0.55" not in metrics


def test_the_operating_point_and_subgroups_have_sections_of_their_own(subject, run):
    card = render_card(subject, [run], name="m")
    told = section(card, "Operating point and calibration")
    assert "sensitivity | 0.66 (0.56–0.71)" in told
    assert "confusion (whole): tp 7, fp 5, fn 3, tn 25." in told
    assert "density, 4 | 0.55 (0.45–0.60)" in section(card, "Subgroups")


def test_what_nobody_measured_is_said_so(subject):
    card = render_card(subject, name="m")
    assert section(card, "Metrics").strip() == "Not measured."
    assert "calibration: not measured" in section(
        card, "Operating point and calibration"
    )
    assert "kind of lesion: not measured" in section(card, "Subgroups")
    assert "not recorded" in section(card, "Data")
    assert not re.search(r"0\.\d\d \(", card)


def test_no_figure_stands_on_a_card_that_the_metrics_do_not_hold(subject, run):
    card = render_card(subject, [run], name="m")
    shown = set(re.findall(r"\| (0\.\d\d) \(", card))
    assert shown == {"0.91", "0.87", "0.88", "0.71", "0.66", "0.55"}


def test_the_data_are_counted_by_split(subject, run):
    data = section(render_card(subject, [run], name="m"), "Data")
    assert "| train | 44 | 80 | 60 neg, 20 pos | 11 |" in data
    assert "| test | – | 40 | 30 neg, 10 pos | – |" in data
    assert "- Split: by woman, scheme paper, seed 5, test share 0.15." in data
    assert "two splits: checked" in data and "inbreast (80)" in data
    assert "- Machines of: not recorded." in data  # one split says "not said", one none


@pytest.mark.parametrize(("vendor", "said"), [
    ({"SYNTHETIC (phantom)": 80}, "SYNTHETIC DATA: 80 of the 80 samples"),
    ({"not said": 60, "Simulated": 20}, "SYNTHETIC DATA: 20 of the 80 samples"),
    ({"ACME": 80}, ""),
])  # fmt: skip
def test_synthetic_images_are_told_before_all_else(subject, vendor, said):
    data = METRICS["data"] | {"train": METRICS["data"]["train"] | {"vendor": vendor}}
    found = Evidence("whole", {**METRICS, "data": data}, CONFIG, VERSIONS)
    card = render_card(replace(subject, notes=("a note",)), [found], name="m")
    assert ("SYNTHETIC" in card) == bool(said)
    if said:
        assert said in card.splitlines()[2]


def test_a_card_tells_the_input_by_its_name_and_what_the_contract_knows(subject):
    card = render_card(subject, name="m")
    assert "- Input `grey`: float32" in card
    assert "stretching and windowing in conversion are part" in card


def test_an_older_run_still_tells_its_counts(subject):
    config = {**CONFIG, "patients": "not checked: no patient ids in /home/secret"}
    card = render_card(subject, [Evidence("old", {}, config)], name="m")
    data = section(card, "Data")
    assert "| train | not recorded | not recorded | 60 neg, 20 pos | – |" in data
    assert "not checked, her ids were not known" in data
    assert "secret" not in card


def test_the_training_is_told(subject, run):
    details = section(render_card(subject, [run], name="m"), "Model details")
    for words in ("squeezenet-s10-8x1", "1,234", "keras 3.15.0, tensorflow 2.21.0",
                  "a patch classifier trained before", "mixed_float16", "`ab12`",
                  "4 epochs, 30 steps, batch 2; this is epoch 3"):  # fmt: skip
        assert words in details


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"resume_from": "a.keras"}, "another whole-image model, fine-tuned here"),
        ({"use_pretrained": True}, "ImageNet weights"),
        ({"use_pretrained": False}, "random weights"),
    ],
)
def test_what_a_model_started_from_is_told(subject, flags, words):
    run = Evidence("r", {}, {"kind": "whole", "flags": flags})
    details = section(render_card(subject, [run], name="m"), "Model details")
    assert f"| started from | {words}" in details


def test_no_path_and_no_id_reaches_a_card(subject):
    metrics = {
        **METRICS, "predictions": "../../home/secret/p.csv",
        "women_on_both_sides": ["P_00018"],
        "compared": {"/home/secret/other (2)": figure(0.61)},
        "paired_differences": {"C:\\secret\\other": figure(0.04, p=0.02)},
    }  # fmt: skip
    card = render_card(subject, [Evidence("e", metrics, CONFIG)], name="m")
    assert "secret" not in card and "P_00018" not in card
    assert "| AUC of other scores, named other (2) | 0.61" in card
    assert "| AUC less that of other | +0.04 (−0.06 to +0.09), p = 0.020 |" in card


def test_text_cannot_break_a_table(subject):
    contract = subject.contract.replace(backbone="a|b\n## Metrics\n<script>")
    card = render_card(Subject(contract, "d", 1, notes=["x\n## y"]), name="m")
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert "a\\|b ## Metrics &lt;script>" in card and "> x ## y" in card


def test_a_patch_classifier_has_a_card_of_its_kind(contract):
    metrics = {"test_accuracy": figure(0.8, level="patch"),
               "test_auc": {"calc_mal": figure(0.9, level="patch")}}  # fmt: skip
    run = Evidence("patch", metrics, {"kind": "patch", "flags": {}})
    card = render_card(Subject(contract, "d", 1), [run], name="m")
    assert "classifier of background, calc_mal" in card
    assert "| accuracy | 0.80 (0.70–0.85) |" in card
    assert "| AUC, calc mal | 0.90 (0.80–0.95) |" in card
    assert "small patches of mammograms" in section(card, "Intended use")


# The stored decision


@pytest.mark.parametrize(
    "decision", [None, Decision(0.3, temperature=2.0), Decision(0.4)],
    ids=["none", "another threshold", "another temperature"],
)  # fmt: skip
def test_figures_at_another_threshold_than_the_stored_one_are_left_out(
    subject, run, decision
):
    card = render_card(replace(subject, decision=decision), [run], name="m")
    told = section(card, "Operating point and calibration")
    assert "0.66" not in told and "tp 7" not in told
    assert "Figures at another threshold than the stored one are left out." in told


def test_a_card_tells_the_decision_and_its_cut_off_on_the_score(subject):
    # At temperature 2 the score s reaches 0.4 where odds(s) = (2/3)^2 = 4/9: s = 4/13.
    card = render_card(Subject(subject.contract, "d", 1, decision=DECISION), name="m")
    told = section(card, "Operating point and calibration")
    assert "| threshold | 0.4, on the calibrated probability |" in told
    assert "| positive where | `scores[:, 1] >= 0.307692308` |" in told
    assert "| chosen by | sensitivity 0.90 |" in told
    assert "| fitted on | split val, n 40 |" in told
    assert "`scores[:, 1] >= 0.307692308`" in section(card, "How to use")


def test_a_card_tells_both_decisions_and_the_figures_at_each(subject, run):
    augmented = {"threshold": 0.25, "temperature": 1.0, "test": {
        "sensitivity": figure(0.77), "confusion": {"tp": 9}}}  # fmt: skip
    metrics = {**METRICS, "operating_point_augmented": augmented}
    run, tta = replace(run, metrics=metrics), Decision(0.25, flips=4)
    title = "Operating point and calibration"
    card = render_card(replace(subject, decision_tta=tta), [run], name="m")
    told = section(card, title)
    assert "For single scores:" in told and "mean of an image's four flips:" in told
    assert "(`decision.json`)" in told and "(`decision_tta.json`)" in told
    assert "| operating point, mean of four flips, test, sensitivity | 0.77 (" in told
    assert "sensitivity | 0.66 (" in told and "tp 9" in told
    assert "`scores[:, 1] >= 0.25` (mean of an image's four flips)" in section(
        card, "How to use"
    )
    without = section(render_card(subject, [run], name="m"), title)
    assert "0.77" not in without and "are left out" in without


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_cut_off_on_the_score_makes_the_decisions_own_calls(temperature):
    decision = Decision(0.37, temperature=temperature)
    scores = np.random.default_rng(0).uniform(0, 1, 1000)
    calls = scores >= text.raw_threshold(decision)
    np.testing.assert_array_equal(calls, decision.calls(scores))
    assert 0 < calls.sum() < 1000


def test_a_threshold_at_the_ends_calls_all_or_none():
    assert text.raw_threshold(Decision(0.0, temperature=2.0)) == 0
    assert text.raw_threshold(Decision(1.0, temperature=2.0)) == math.inf


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flips": 4}, "`scores[:, 1] >= 0.4` (mean of an image's four flips)"),
        ({"level": "breast", "how": "max"}, ">= 0.4` of any image of a breast"),
        ({"level": "patient", "temperature": 2.0},
         "the mean over a woman's images of the calibrated probability of "
         "`scores[:, 1]` is at least 0.4"),
    ],
)  # fmt: skip
def test_a_card_says_of_which_scores_a_threshold_is(subject, fields, words):
    decision = Decision(0.4, **fields)
    card = render_card(Subject(subject.contract, "d", 1, decision=decision), name="m")
    assert words in section(card, "How to use")


# Figures


def test_figures_are_found_wherever_they_stand_and_nothing_else_is():
    found = figures.measured_figures({
        "a": {"b": {"c_auc": figure(0.5)}}, "list": [0.1, "x"], "text": "0.9",
        "nan": {**figure(0.5), "value": math.nan}, "n": 3,
        "half": {"value": 0.5, "low": 0.4},
        "words": {"value": "x", "low": 0, "high": 1},
    })  # fmt: skip
    assert [(one.name, one.topic) for one in found] == [("a, b, c AUC", "metrics")]


@pytest.mark.parametrize(
    ("key", "topic"),
    [
        ("calibration", "operating"), ("ece", "operating"), ("auc", "metrics"),
        ("brier_score", "operating"), ("subgroups", "subgroups"),
        ("specificity_at", "metrics"), ("operating_point", "operating"),
    ],
)  # fmt: skip
def test_a_figure_goes_to_the_section_of_its_topic(key, topic):
    assert figures.measured_figures({key: figure(0.5)})[0].topic == topic


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"value": 0.5, "low": 0.4, "high": 0.6}, "0.50 (0.40–0.60)"),
        ({"value": 0.031, "low": 0.0, "high": 0.06}, "0.031 (0.00–0.060)"),
        ({"value": 0.0949, "low": 1e-7, "high": 1}, "0.095 (0.00–1.00)"),
        ({"value": 0.5, "low": math.nan, "high": 1.0}, "0.50 (not measured–1.00)"),
        ({"value": -0.1, "low": -0.2, "high": 0.1}, "−0.10 (−0.20 to +0.10)"),
        ({"value": 0.1, "low": 0.1, "high": 0.1, "p": 1e-9},
         "+0.10 (+0.10 to +0.10), p < 0.001"),
    ],
)  # fmt: skip
def test_an_interval_is_written_in_one_way(given, shown):
    assert figures.interval(given) == shown


def test_a_figure_that_is_told_twice_stands_once():
    found = figures.measured_figures({
        "auc": {"image": figure(0.5), "breast": figure(0.5, level="breast")},
        "levels": {"image": {"auc": figure(0.5)}, "breast": {"auc": figure(0.4)}},
    })  # fmt: skip
    assert [(one.name, one.figure["value"]) for one in found] == [
        ("AUC", 0.5), ("AUC", 0.5), ("AUC", 0.4)
    ]  # fmt: skip


def test_a_list_of_subgroups_is_told_with_its_warnings(subject):
    groups = [
        {"column": "density", "group": "4", "auc": figure(0.55),
         "warning": "only 2 positives: read with care"},
        {"column": "view", "group": "CC", "auc": figure(0.65)},
        {"column": "vendor", "group": "X", "auc": None, "warning": "no negative"},
    ]  # fmt: skip
    evidence = [Evidence("e", {"subgroups": groups})]
    told = section(render_card(subject, evidence, name="m"), "Subgroups")
    assert "| subgroups, density 4, AUC | 0.55 (0.45–0.60) |" in told
    assert "| subgroups, view CC, AUC | 0.65" in told
    assert "- density 4: only 2 positives: read with care (e)." in told
    assert "- vendor X: no negative (e)." in told


@pytest.mark.parametrize(("temperature", "told"), [(2.0, True), (3.0, False)])
def test_calibration_after_another_temperature_is_left_out(subject, temperature, told):
    calibration = {"temperature": temperature, "as_scored": {"brier": figure(0.31)},
                   "after_temperature": {"brier": figure(0.21)}}  # fmt: skip
    evidence = [Evidence("e", {"calibration": calibration})]
    card = render_card(subject, evidence, name="m")
    assert "| calibration, as scored, brier | 0.31" in card
    assert ("after temperature, brier | 0.21" in card) is told


# Whose figures they are


def test_the_figures_of_an_ensemble_are_not_a_models_own(tmp_path):
    folder = write(tmp_path / "both", metrics={"model": "ensemble of 2"})
    with pytest.raises(ModelFileError, match="both: its figures are of an ensemble"):
        gather_evidence(tmp_path / "m.keras", "d", [folder])


def test_the_digest_is_of_the_weights_not_of_the_file(tmp_path, model, contract):
    digest = weights_digest(model)
    for name in ("m.keras", "m.h5"):
        path = save_model(model, tmp_path / name, contract)
        assert weights_digest(load_model(path)[0]) == digest
    model.get_layer("last").bias.assign([0.0, 1e-6])
    assert weights_digest(model) != digest


def test_the_runs_figures_are_taken_for_its_own_weights_only(tmp_path):
    run = write(tmp_path / "run", metrics={**METRICS, "weights_sha256": "mine"})
    found, remarks = gather_evidence(run / "any.keras", "mine")
    assert [one.name for one in found] == ["run"] and not remarks
    found, remarks = gather_evidence(run / "best.keras", "other")
    assert not found and "is of other weights" in remarks[0]
    with pytest.raises(ModelFileError, match="run: its metrics.json is of other"):
        gather_evidence(tmp_path / "m.keras", "other", [run])


def test_a_run_that_names_no_weights_is_believed_of_its_best_model(tmp_path):
    run = write(tmp_path / "run", metrics=METRICS)
    assert gather_evidence(run / "best.keras", "d")[0]
    assert not gather_evidence(run / "last.keras", "d")[0]
    assert gather_evidence(run / "last.keras", "d", [run])[0]  # named by hand


def test_a_folder_named_twice_counts_once(tmp_path, monkeypatch):
    run = write(tmp_path / "run", metrics=METRICS, config=CONFIG)
    other = write(tmp_path / "external", metrics={"auc": figure(0.6)})
    monkeypatch.chdir(run)
    found, _ = gather_evidence("best.keras", "d", ["../run", other, other])
    assert [one.name for one in found] == ["run", "external"]


def test_a_folder_without_metrics_is_refused_and_a_broken_file_named(tmp_path):
    with pytest.raises(ModelFileError, match="empty: holds no metrics.json"):
        gather_evidence(tmp_path / "m.keras", "d", [write(tmp_path / "empty")])
    for name, content in (("broken", "{"), ("list", "[]")):
        folder = write(tmp_path / name, metrics={})
        (folder / "config.json").write_text(content)
        with pytest.raises(ModelFileError, match="config.json: (no JSON|must hold)"):
            gather_evidence(tmp_path / "m.keras", "d", [folder])


# Beside an export


@pytest.fixture
def trained(tmp_path, model, contract):
    """RUN/best.keras with a decision, and the run's own figures."""
    contract = contract.replace(class_names=("neg", "pos"), height=8, width=8)
    path = save_model(model, tmp_path / "run" / "best.keras", contract)
    store_decision(path, DECISION)
    digest = weights_digest(model)
    write(path.parent, metrics={**METRICS, "weights_sha256": digest}, config=CONFIG)
    return path


def exported(trained, out, *extra):
    return main([str(trained), "--out", str(out), *map(str, extra)])


def test_every_exported_form_has_its_card_and_the_decision_goes_along(
    trained, tmp_path, capsys
):
    out, copy, arrays = tmp_path / "sm", tmp_path / "m.keras", tmp_path / "w.h5"
    other = write(tmp_path / "external", metrics={"auc": {"image": figure(0.6)}})
    options = ["--keras", copy, "--weights-h5", arrays, "--card-from", other]
    note = ["--card-note", "Synthetic women only."]
    assert exported(trained, out, *options, *note) == 0
    assert "3 model cards, figures from run, external" in capsys.readouterr().out
    cards = [out / "1" / "MODEL_CARD.md", tmp_path / "m.keras.MODEL_CARD.md",
             tmp_path / "w.h5.MODEL_CARD.md"]  # fmt: skip
    for card in cards:
        said = card.read_text(encoding="utf-8")
        assert "| AUC | 0.87 (0.77–0.92) | 40 | 10 | image | test | run |" in said
        assert "| AUC | 0.60 (0.50–0.65) |" in said
        assert "> Synthetic women only." in said
        assert str(tmp_path) not in said
    for place in (out / "1", out / "1" / "assets.extra", copy):
        assert read_decision(place) == DECISION
    assert "not here" in section(cards[2].read_text(), "How to use")


def test_the_code_on_a_card_runs_and_gives_the_models_scores(
    trained, tmp_path, monkeypatch, model
):
    out, copy = tmp_path / "sm", tmp_path / "m.keras"
    assert exported(trained, out, "--keras", copy) == 0
    monkeypatch.chdir(tmp_path)
    images = np.full((2, 9, 7, 1), 30000, np.float32)
    for card in (out / "1" / "MODEL_CARD.md", tmp_path / "m.keras.MODEL_CARD.md"):
        how = section(card.read_text(), "How to use")
        space = {"images": images}
        exec(re.search(r"```python\n(.*?)```", how, re.DOTALL)[1], space)
        np.testing.assert_allclose(space["scores"], model(images), atol=1e-6)
        cut = re.search(r"`(scores\[:, 1\] >= [\d.]+)`", how)[1]
        expected = DECISION.calls(space["scores"][:, 1])
        np.testing.assert_array_equal(eval(cut, space), expected)


def test_the_code_of_a_weights_file_fills_the_same_net(
    trained, tmp_path, monkeypatch, model
):
    assert exported(trained, tmp_path / "sm", "--weights-h5", tmp_path / "w.h5") == 0
    monkeypatch.chdir(tmp_path)
    fresh = type(model).from_config(model.get_config())
    assert weights_digest(fresh) != weights_digest(model)
    how = section((tmp_path / "w.h5.MODEL_CARD.md").read_text(), "How to use")
    exec(re.search(r"```python\n(.*?)```", how, re.DOTALL)[1], {"model": fresh})
    assert weights_digest(fresh) == weights_digest(model)


def test_an_earlier_card_is_not_overwritten_unasked(trained, tmp_path, capsys):
    card = tmp_path / "m.keras.MODEL_CARD.md"
    card.write_text("mine")
    options = ("--keras", tmp_path / "m.keras")
    assert exported(trained, tmp_path / "sm", *options) == 2
    assert "MODEL_CARD.md exists; give --overwrite" in capsys.readouterr().err
    assert card.read_text() == "mine" and not (tmp_path / "sm").exists()
    assert exported(trained, tmp_path / "sm", *options, "--overwrite") == 0
    assert card.read_text().startswith("# Model card: m.keras")


def test_figures_of_other_weights_never_reach_a_card(trained, tmp_path, capsys):
    write(trained.parent, metrics={**METRICS, "weights_sha256": "of another epoch"})
    assert exported(trained, tmp_path / "sm") == 0
    captured = capsys.readouterr()
    assert "warning: the metrics.json beside the model is of other" in captured.err
    assert "no run folder beside the model" in captured.out
    card = (tmp_path / "sm" / "1" / "MODEL_CARD.md").read_text()
    assert section(card, "Metrics").strip() == "Not measured."
    status = exported(trained, tmp_path / "s2", "--card-from", trained.parent)
    assert status == 2 and not (tmp_path / "s2").exists()


def test_a_saved_model_written_from_python_has_a_card_too(tmp_path, model, contract):
    contract = contract.replace(class_names=("neg", "pos"))
    out = export_saved_model(model, tmp_path / "sm", contract=contract)
    card = (out / "MODEL_CARD.md").read_text()
    assert weights_digest(model) in card and "Not measured." in card
    assert read_decision(out) is None
