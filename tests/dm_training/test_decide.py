"""The operating point stored with a model: by a training, by dm-decide, by hand."""

import keras
import pandas as pd
import pytest

from dm_models.backbones import get_backbone
from dm_models.decision import Decision, read_decision, store_decision
from dm_models.weights import save_model
from dm_training.decide import decide_run, main

# Positives at 0.4 and from 0.7 to 0.9, negatives up to 0.5.
TRUTH = [0, 0, 0, 1, 0, 1, 1, 1]
SCORE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9]


def rows(split="val", truth=TRUTH, score=SCORE, **columns):
    numbers = [str(k) for k in range(len(truth))]
    return pd.DataFrame({
        "image_id": numbers, "patient_id": numbers, "laterality": "L", "split": split,
        "y_true": truth, "y_score": score, **columns,
    })  # fmt: skip


def of_run(val, test):
    """What a run has scored: the scores of four flips are a little lower."""
    return {
        (split, flips): frame.assign(
            flips=flips, y_score=frame["y_score"].pow(1.25 if flips == 4 else 1)
        )
        for split, frame in (("val", val), ("test", test))
        for flips in (1, 4)
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model file of two classes: what it computes does not matter here."""
    inputs = keras.Input((None, None, 1))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    contract = get_backbone("squeezenet").contract(class_names=("neg", "pos"))
    folder = tmp_path_factory.mktemp("model")
    return {
        "whole": save_model(model, folder / "m.keras", contract),
        "patch": save_model(model, folder / "p.keras",
                            contract.replace(class_names=("background", "mass_mal"))),
    }  # fmt: skip


@pytest.fixture
def model(saved, tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(saved["whole"].read_bytes())
    return path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "predictions_val.csv"
    rows().to_csv(path, index=False)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def refused(capsys):
    def check(status, message):
        said = capsys.readouterr().err
        assert status == 2 and said.startswith("error: ") and said.count("\n") == 1
        assert message in said

    return check


# By the command


def test_youden_is_fitted_stored_and_its_shares_are_said(model, table, capsys):
    # Called from 0.7: 3 of 4 and 4 of 4, sum 1.75; from 0.4: 4 of 4 and 3 of 4, the
    # same sum, and more sensitive: half way between 0.3 and 0.4.
    assert run(model, table, "--no-calibrate") == 0
    said = capsys.readouterr().out.splitlines()
    decision = read_decision(model)
    assert decision.threshold == pytest.approx(0.35) and decision.temperature == 1
    assert (decision.rule, decision.level, decision.flips) == ("youden", "image", 1)
    assert decision.fitted_on["split"] == "val" and decision.fitted_on["women"] == 8
    assert "threshold 0.35, temperature 1, youden, image level" in said[0]
    assert said[1].strip().startswith("sensitivity 1.00 (")
    assert said[2].strip().startswith("specificity 0.75 (")
    assert "n = 8, 4 positive, image level, val split" in said[2]
    assert said[-1] == f"stored in {model}"


def test_another_rule_replaces_it_and_says_so(model, table, capsys):
    assert run(model, table, "--no-calibrate") == 0
    assert run(model, table, "--no-calibrate", "--rule", "specificity 0.90") == 0
    assert "replaced: threshold 0.35, " in capsys.readouterr().out
    decision = read_decision(model)
    assert decision.threshold == pytest.approx(0.6)  # between 0.5 and 0.7
    assert decision.rule == "specificity 0.90"


def test_a_temperature_is_fitted_unless_it_is_not_wanted(model, table):
    assert run(model, table) == 0
    decision = read_decision(model)
    assert decision.temperature != 1
    calls = decision.calls(SCORE).tolist()
    assert calls == [score > 0.35 for score in SCORE]  # the same images either way


def test_level_how_and_flips_reach_the_decision(model, tmp_path):
    path = tmp_path / "four.csv"
    rows(flips=4).to_csv(path, index=False)
    options = ["--level", "breast", "--how", "max", "--flips", "4"]
    assert run(model, path, *options) == 0
    decision = read_decision(model, 4)
    assert (decision.level, decision.how, decision.flips) == ("breast", "max", 4)


def test_scores_of_other_flips_than_asked_for_are_refused(model, tmp_path, refused):
    path = tmp_path / "four.csv"
    rows(flips=4).to_csv(path, index=False)
    refused(run(model, path, "--flips", "1"), "flips 4")
    assert read_decision(model) is None and read_decision(model, 4) is None


def test_a_tables_own_flips_say_which_decision_it_is(model, tmp_path, capsys):
    for flips in (4, 1):
        path = tmp_path / f"{flips}.csv"
        rows(flips=flips).to_csv(path, index=False)
        assert run(model, path, "--no-calibrate", "--rule", "specificity 0.90") == 0
        assert "replaced" not in capsys.readouterr().out
    assert [read_decision(model, flips).flips for flips in (1, 4)] == [1, 4]
    assert run(model, "--threshold", "0.9", "--flips", "4") == 0
    assert "replaced: threshold 0.6," in capsys.readouterr().out
    assert run(model, "--show") == 0
    said = capsys.readouterr().out
    assert "threshold 0.6, temperature 1, specificity 0.90, image level\n" in said
    assert "threshold 0.9, temperature 1, given, image level, four flips\n" in said


def test_a_threshold_is_set_by_hand(model, table, capsys):
    assert run(model, "--threshold", "0.3", "--temperature", "2") == 0
    assert read_decision(model) == Decision(0.3, temperature=2.0, rule="given")
    assert run(model, table, "--threshold", "0.6") == 0
    assert read_decision(model) == Decision(0.6, rule="given")
    assert "sensitivity 0.75 (" in capsys.readouterr().out  # 0.4 is missed


def test_a_run_folder_stands_for_its_best_model(model, table, tmp_path, capsys):
    best = model.rename(tmp_path / "best.keras")
    assert run(tmp_path, table) == 0
    assert read_decision(best).threshold > 0
    assert run(tmp_path, "--show") == 0
    assert f"{best}: threshold" in capsys.readouterr().out
    (tmp_path / "other").mkdir()
    assert run(tmp_path / "other", "--show") == 2
    assert "a run folder with best.keras" in capsys.readouterr().err


def test_show_tells_what_is_stored_and_changes_nothing(model, table, capsys):
    assert run(model, "--show") == 0
    assert "no operating point is stored" in capsys.readouterr().out
    run(model, table, "--no-calibrate")
    before = model.read_bytes()
    capsys.readouterr()
    assert run(model, "--show") == 0
    said = capsys.readouterr().out
    assert "threshold 0.35, temperature 1, youden" in said
    assert "fitted on: split val, level image, n 8, positives 4, women 8" in said
    assert "sensitivity 1.00 (" in said
    assert model.read_bytes() == before
    run(model, "--threshold", "0.5")
    capsys.readouterr()
    assert run(model, "--show") == 0
    assert "fitted on: not recorded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("split", "named"),
    [
        ("test", "received test"), ("", "received empty"), ("train", "received train"),
        (["val"] * 7 + ["test"], "received test, val"),
    ],
    ids=["test", "none", "train", "one row of test"],
)  # fmt: skip
def test_rows_of_another_split_are_refused(model, tmp_path, refused, split, named):
    path = tmp_path / "p.csv"
    rows(split).to_csv(path, index=False)
    refused(run(model, path), named)
    refused(run(model, path, "--threshold", "0.5"), named)
    assert read_decision(model) is None


def test_rows_without_a_truth_are_left_out_and_counted(model, tmp_path, capsys):
    path = tmp_path / "p.csv"
    rows(truth=[*TRUTH, None], score=[*SCORE, 0.99]).to_csv(path, index=False)
    assert run(model, path) == 0
    assert "1 row(s) without a truth left out" in capsys.readouterr().out
    assert read_decision(model).fitted_on["n"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a table of validation scores is due"),
        (("--show", "--threshold", "0.5"), "--show changes nothing, but threshold"),
        (("--rule", "youden", "--threshold", "0.5"), "--rule and --threshold: give"),
        (("TABLE", "--temperature", "2"), "--temperature goes with --threshold"),
        (("TABLE", "--rule", "best"), "rule must be one of youden"),
        (("--threshold", "1.5"), "threshold must lie in [0, 1], received 1.5"),
        (("--threshold", "nan"), "threshold must lie in [0, 1], received nan"),
        (("none.csv",), "none.csv: no such table"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(model, table, refused, arguments, message):
    given = [table if word == "TABLE" else word for word in arguments]
    refused(run(model, *given), message)
    assert read_decision(model) is None


def test_a_model_that_cannot_have_one_is_named(saved, table, tmp_path, refused):
    refused(run(saved["patch"], table), "its classes are background, mass_mal")
    refused(run(tmp_path / "no.keras", table), "no.keras: no such model file")
    refused(run(tmp_path / "no.keras", "--show"), "no.keras: decision cannot be read")


# By a training


def test_a_run_stores_what_its_validation_images_chose(model):
    # Test: 0.6 and 0.9 are positive, called with 0.8; 0.2 is not: tp 2, fp 1, tn 1.
    test = rows("test", [0, 1, 0, 1], [0.2, 0.6, 0.8, 0.9])
    said = []
    facts = decide_run(model, of_run(rows(), test), said.append)
    decision, found = read_decision(model), facts["operating_point"]
    assert decision.rule == "youden" and decision.fitted_on["n"] == 8
    assert found["threshold"] == decision.threshold == found["test"]["threshold"]
    assert found["fitted_on"]["split"] == "val"
    assert found["test"]["confusion"] == {"tp": 2, "fp": 1, "fn": 0, "tn": 1}
    assert found["test"]["specificity"]["value"] == 0.5
    assert found["test"]["specificity"]["split"] == "test"
    assert said[0].startswith("operating point: threshold ") and len(said) == 6
    assert ", four flips" in said[3]
    augmented, other = read_decision(model, 4), facts["operating_point_augmented"]
    assert augmented.fitted_on["split"] == "val"
    assert other["threshold"] == augmented.threshold != decision.threshold
    assert other["flips"] == 4 and sum(other["test"]["confusion"].values()) == 4


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ([1, 1, 1, 1, 0, 0, 0, 0], "temperature 20 (the most allowed: the scores say"),
        ([0, 0, 0, 0, 1, 1, 1, 1], "temperature 0.05 (the least allowed: it told all"),
    ],
    ids=["worse than none", "perfect"],
)
def test_a_temperature_at_the_end_of_its_range_is_said(model, truth, words):
    said = []
    score = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
    val = rows("val", truth, score)
    assert decide_run(model, of_run(val, rows("test")), said.append)
    assert words in said[0]


@pytest.mark.parametrize(
    ("truth", "score", "why"),
    [
        ([1, 1], [0.2, 0.6], "one class only"),
        ([0, 1], [0.5, 0.5], "all scores are equal"),
        ([], [], "row"),
    ],
    ids=["one class", "equal scores", "no rows"],
)
def test_where_nothing_can_be_fitted_the_run_goes_on_and_keeps_no_old_one(
    model, truth, score, why
):
    store_decision(model, Decision(0.2))
    store_decision(model, Decision(0.2, flips=4))
    said, val = [], rows("val", truth, score)
    tables = of_run(val, rows("test"))
    assert decide_run(model, tables, said.append) == {}
    assert said[0].startswith("no operating point is stored: ")
    assert said[1].startswith("no operating point for four flips is stored: ")
    assert all(why in line.partition(": ")[2] for line in said)
    assert read_decision(model) is None and read_decision(model, 4) is None


def test_one_that_cannot_be_fitted_does_not_take_the_other_along(model):
    store_decision(model, Decision(0.2, flips=4))
    tables = of_run(rows(), rows("test"))
    tables["val", 4] = tables["val", 4].assign(y_score=0.5)
    assert list(decide_run(model, tables, str)) == ["operating_point"]
    assert read_decision(model) and read_decision(model, 4) is None


def test_a_model_without_one_is_not_written_anew_for_nothing(model):
    before = model.stat().st_mtime_ns, model.stat().st_ino
    tables = of_run(rows(truth=[1] * 8), rows("test"))
    assert decide_run(model, tables, str) == {}
    assert (model.stat().st_mtime_ns, model.stat().st_ino) == before
