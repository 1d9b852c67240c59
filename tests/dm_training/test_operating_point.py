import inspect
import json

import numpy as np
import pandas as pd
import pytest
from simulated_scores import prediction_table

from dm_models.decision import Decision
from dm_training import metrics
from dm_training.operating_point import (
    fit_operating_point,
    operating_figures,
    ppv_npv,
)

COUNTS = ("tp", "fp", "fn", "tn")


def small(y_true, p, split="val", **columns):
    base = {"image_id": [f"i{k}" for k in range(len(y_true))], "split": split}
    return pd.DataFrame(base | {"y_true": y_true, "y_score": p} | columns)


def fit(y_true, p, rule="youden"):
    return fit_operating_point(small(y_true, p), rule=rule, temperature=False)


def at(threshold, **fields):
    return Decision(threshold, **fields)


def test_threshold_lies_half_way_between_neighbours():
    # sensitivity + specificity: from .6 on 1/2 + 1, from .4 on 1 + 2/3, from .3 1 + 1/3
    decision = fit([0, 0, 1, 0, 1], [0.1, 0.3, 0.4, 0.5, 0.6])
    assert decision.threshold == pytest.approx(0.35)
    assert decision.calls([0.4, 0.3]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("y_true", "p", "rule", "threshold"),
    [
        ([1, 0, 0], [0.2, 0.4, 0.6], "sensitivity 0.90", 0.1),
        ([1, 0, 0], [0.2, 0.4, 0.6], "specificity 0.90", 0.8),
    ],
    ids=["all called: half way to 0", "none called: half way to 1"],
)
def test_threshold_at_the_ends_is_as_stated(y_true, p, rule, threshold):
    assert fit(y_true, p, rule).threshold == pytest.approx(threshold)


def test_none_can_be_called_no_more_where_a_score_is_1():
    with pytest.raises(metrics.MetricError, match="highest score is 1 already"):
        fit([1, 0], [0.2, 1.0], "specificity 0.90")


def test_rounding_turns_no_call():
    rows = prediction_table(40, split="val")
    decision = fit_operating_point(rows)
    exact = decision.calls(rows["y_score"])
    rounded = decision.calls(rows["y_score"].astype("float32").round(6))
    assert (exact == rounded).all() and 0 < exact.sum() < len(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", ["youden", "sensitivity 0.90", "specificity .8"])
def test_rules_agree_with_trying_every_threshold(rule, seed):
    rows = prediction_table(20, seed=seed, split="val")
    y = rows["y_true"] == 1
    found = fit_operating_point(rows, rule=rule)
    score = found.calibrated(rows["y_score"])
    points = [((score[y] >= t).mean(), (score[~y] < t).mean()) for t in [*score, 2]]
    best = {
        "youden": max(points, key=lambda point: (sum(np.round(point, 9)), point[0])),
        "sensitivity 0.90": max((sp, se) for se, sp in points if se >= 0.9)[::-1],
        "specificity .8": max((se, sp) for se, sp in points if sp >= 0.8),
    }[rule]
    shown = found.fitted_on["sensitivity"], found.fitted_on["specificity"]
    assert [figure["value"] for figure in shown] == pytest.approx(best)
    assert found.rule == rule


def test_decision_says_where_it_comes_from_and_survives_json():
    rows = prediction_table(30, split="val")
    decision = fit_operating_point(rows, rule="sensitivity 0.90", level="breast")
    facts = decision.fitted_on
    assert (facts["split"], facts["level"]) == ("val", "breast")
    assert (facts["n"], facts["positives"], facts["women"]) == (30, 15, 30)
    sensitivity = facts["sensitivity"]
    assert sensitivity["low"] < sensitivity["value"] < sensitivity["high"]
    assert (sensitivity["level"], sensitivity["split"]) == ("breast", "val")
    assert (decision.level, decision.how, decision.flips) == ("breast", "mean", 1)
    assert Decision.from_json(decision.to_json()) == decision


def test_temperature_is_the_fitted_one_or_1():
    rows = prediction_table(30, split="val")
    expected = metrics.fit_temperature(rows)
    assert fit_operating_point(rows).temperature == expected != 1
    assert fit_operating_point(rows, temperature=False).temperature == 1


def test_images_are_calibrated_before_they_make_a_woman():
    # temperature 1/2 doubles logits: odds 1/4 and 9 become 1/16 and 81
    rows = small([1, 1, 0], [0.2, 0.9, 0.5], patient_id=["p", "p", "q"])
    women = [1 / 17 / 2 + 81 / 82 / 2, 0.5]  # 0.523, 0.5
    told = operating_figures(rows, at(0.51, temperature=0.5, level="patient"), n=100)
    assert women[0] > 0.51
    assert [told["confusion"][name] for name in COUNTS] == [1, 0, 0, 1]
    # the mean of 0.2 and 0.9 calibrated afterwards would be odds (55/45)², 0.599
    told = operating_figures(rows, at(0.55, temperature=0.5, level="patient"), n=100)
    assert told["confusion"]["fn"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "test"}, "takes rows of split 'val' only; received test \\(40\\)"),
        ({"split": ["val", "train"] * 20}, "received val \\(20\\), train \\(20\\)"),
        ({"split": ""}, "received empty \\(40\\)"),
        ({"split": np.nan}, "received empty \\(40\\)"),
        ({"y_true": 1}, "one class only"),
        ({"y_score": 0.3}, "all scores are equal"),
        ({"y_score": np.nan}, "y_score: 40 NaN"),
        ({"image_id": "a"}, "'a' stands twice"),
        ({"flips": 4}, "for flips 1, the rows hold scores of flips 4"),
    ],
    ids=["test", "mixed", "empty", "NaN split", "one class", "equal", "NaN", "twice",
         "flips"],
)  # fmt: skip
def test_an_operating_point_is_fitted_on_sound_validation_rows_only(change, message):
    with pytest.raises(metrics.MetricError, match=message):
        fit_operating_point(prediction_table(split="val").assign(**change))


def test_no_rows_are_refused():
    rows = prediction_table(split="val").iloc[:0]
    with pytest.raises(
        metrics.MetricError, match="needs rows of split 'val', received"
    ):
        fit_operating_point(rows)
    with pytest.raises(metrics.MetricError, match="no rows"):
        operating_figures(rows, at(0.5))


def test_nothing_switches_the_check_of_the_split_off():
    known = {"rows", "rule", "level", "how", "flips", "temperature"}
    assert set(inspect.signature(fit_operating_point).parameters) == known


@pytest.mark.parametrize("rule", ["best", "sensitivity 90", "sensitivity 0.0", "0.90"])
def test_an_unknown_rule_lists_those_there_are(rule):
    with pytest.raises(
        metrics.MetricError,
        match="one of youden, sensitivity 0.90, specificity 0.90 .*, received",
    ):
        fit_operating_point(prediction_table(split="val"), rule=rule)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"level": "woman"}, "level must be one of image, .*, received 'woman'"),
        ({"how": "median"}, "how must be one of mean, max, received 'median'"),
        ({"flips": 2}, "flips must be one of 1, 4, received 2"),
    ],
    ids=["level", "how", "flips"],
)
def test_an_unknown_choice_is_an_error_of_metrics(choice, message):
    with pytest.raises(metrics.MetricError, match=message):
        fit_operating_point(prediction_table(split="val"), **choice)


LITERAL = small([1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
                [0.9, 0.8, 0.7, 0.2, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1], "test")  # fmt: skip


def test_figures_of_a_literal_example():
    # 3 of 4 positives and 1 of 6 negatives reach 0.5
    found = operating_figures(LITERAL, at(0.5, rule="youden"))
    assert found["confusion"] == {"tp": 3, "fp": 1, "fn": 1, "tn": 5}
    assert (found["rule"], found["threshold"], found["temperature"]) == (
        "youden", 0.5, 1.0,
    )  # fmt: skip
    for name, right, n in (
        ("sensitivity", 3, 4), ("specificity", 5, 6), ("ppv", 3, 4), ("npv", 5, 6),
    ):  # fmt: skip
        figure = found[name]
        shown = [figure[key] for key in ("value", "low", "high")]
        assert shown == pytest.approx(metrics.accuracy_wilson(right, n))
        assert (figure["n"], figure["positives"]) == (10, 4)
        assert (figure["level"], figure["split"]) == ("image", "test")
    assert "prevalence" not in found and json.dumps(found)


def test_a_score_at_the_threshold_is_called():
    assert operating_figures(LITERAL, at(0.6))["confusion"]["fp"] == 1


@pytest.mark.parametrize(
    ("rows", "threshold", "absent"),
    [
        (LITERAL, 1.0, {"ppv"}),
        (LITERAL, 0.0, {"npv"}),
        (LITERAL[LITERAL["y_true"] == 0], 0.5, {"sensitivity"}),
        (LITERAL[LITERAL["y_true"] == 1], 0.5, {"specificity"}),
    ],
    ids=["none called", "all called", "no positives", "no negatives"],
)
@pytest.mark.parametrize("women", [True, False], ids=["women", "no women"])
def test_a_share_of_nothing_is_none(rows, threshold, absent, women):
    if women:
        rows = rows.assign(patient_id=rows["image_id"])
    found = operating_figures(rows, at(threshold), n=100)
    shares = ("sensitivity", "specificity", "ppv", "npv")
    assert {name for name in shares if found[name] is None} == absent


def test_without_positives_there_is_no_value_at_another_prevalence():
    rows = LITERAL[LITERAL["y_true"] == 0]
    found = operating_figures(rows, at(0.5), prevalence=0.01)
    assert found["ppv_at_prevalence"] is None and found["npv_at_prevalence"] is None


def test_shares_of_single_images_of_women_come_close_to_wilsons():
    rng = np.random.default_rng(3)
    y = np.arange(400) % 2
    p = np.clip(0.3 * y + rng.random(400) * 0.7, 0, 1)
    rows = small(y, p, "test", patient_id=[f"p{k}" for k in range(400)])
    ours = operating_figures(rows, at(0.5))
    plain = operating_figures(rows.drop(columns="patient_id"), at(0.5))
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        assert ours[name]["low"] == pytest.approx(plain[name]["low"], abs=0.006)
        assert ours[name]["high"] == pytest.approx(plain[name]["high"], abs=0.006)


def test_two_copies_of_each_image_count_once():
    rng = np.random.default_rng(4)
    y, p = np.arange(200) % 2, rng.random(200)
    once = small(y, p, "test", patient_id=[f"p{k}" for k in range(200)])
    twice = pd.concat([once, once.assign(image_id=once["image_id"] + "b")])
    a, b = (operating_figures(rows, at(0.5)) for rows in (once, twice))
    for name in ("sensitivity", "ppv"):
        widths = [found[name]["high"] - found[name]["low"] for found in (a, b)]
        assert widths[1] == pytest.approx(widths[0], rel=0.03)


def test_a_full_share_has_the_stated_lower_end():
    rows = small([1] * 10 + [0] * 10, [0.9] * 10 + [0.1] * 10, "test")
    rows["patient_id"] = np.repeat([f"p{k}" for k in range(10)], 2)
    found = operating_figures(rows, at(0.5), n=100)["sensitivity"]
    assert (found["value"], found["high"]) == (1, 1)
    assert found["low"] == pytest.approx(0.025 ** (1 / 5))  # 5 positive women


def test_predictive_values_by_bayes():
    # of 1000 women 6 have a cancer: 5.4 found, 99.4 false alarms
    ppv, npv = ppv_npv(0.9, 0.9, 0.006)
    assert ppv == pytest.approx(5.4 / (5.4 + 99.4))
    assert npv == pytest.approx(894.6 / (894.6 + 0.6))
    assert ppv_npv(0, 1, 0.5) == (None, 0.5)
    assert ppv_npv(1, 0, 0.5) == (0.5, None)


def test_at_its_own_prevalence_a_set_has_its_own_predictive_values():
    found = operating_figures(LITERAL, at(0.5), prevalence=0.4)
    assert found["prevalence"] == 0.4
    for name in ("ppv", "npv"):
        shown = found[f"{name}_at_prevalence"]
        assert shown["value"] == pytest.approx(found[name]["value"])
        assert shown["low"] < shown["value"] < shown["high"]


def test_limits_at_a_prevalence_agree_with_the_published_formula():
    rows = prediction_table(200, split="test")
    found = operating_figures(rows, at(0.6), prevalence=0.01)
    se, sp = ([found[name][key] for key in ("value", "low", "high")]
              for name in ("sensitivity", "specificity"))  # fmt: skip
    a, al, au = se
    b, bl, bu = 1 - sp[0], 1 - sp[2], 1 - sp[1]
    assert 0 < bl and bu < 2 * b
    low = (a * b - np.sqrt((a * b) ** 2 - al * bu * (2 * a - al) * (2 * b - bu))) / (
        bu * (2 * b - bu)
    )
    high = (a * b + np.sqrt((a * b) ** 2 - au * bl * (2 * a - au) * (2 * b - bl))) / (
        bl * (2 * b - bl)
    )
    shown = found["ppv_at_prevalence"]
    ends = [ratio / 99 / (1 + ratio / 99) for ratio in (low, high)]
    assert [shown["low"], shown["high"]] == pytest.approx(ends)


def test_no_false_alarm_among_few_is_no_certainty_at_a_prevalence():
    rows = small([1] * 20 + [0] * 20, [0.9] * 20 + [0.1] * 20, "test")
    found = operating_figures(rows, at(0.5), prevalence=0.006)["ppv_at_prevalence"]
    assert (found["value"], found["high"]) == (1, 1)
    assert found["low"] < 0.05


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, float("nan")])
def test_prevalence_lies_between_0_and_1(prevalence):
    with pytest.raises(metrics.MetricError, match="prevalence must lie in \\(0, 1\\)"):
        operating_figures(LITERAL, at(0.5), prevalence=prevalence)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (LITERAL.assign(split=["val"] + ["test"] * 9), "one split; the rows are of"),
        (LITERAL.assign(y_score=3.0), "received scores from 3 to 3"),
        (LITERAL.assign(y_score=np.nan), "y_score: 10 NaN"),
        (LITERAL.assign(image_id="a"), "'a' stands twice"),
        (LITERAL.assign(flips=4), "for flips 1, the rows hold scores of flips 4"),
    ],
    ids=["two splits", "logits", "NaN", "twice", "flips"],
)
def test_rows_that_cannot_be_decided_are_refused(rows, message):
    with pytest.raises(metrics.MetricError, match=message):
        operating_figures(rows, at(0.5))
