import numpy as np
import pandas as pd
import pytest

from dm_models.decision import Decision
from dm_training import evaluation, metrics
from dm_training.evaluation import Choices
from dm_training.prediction_rows import MetricError

FAST = Choices(draws=200)


def rows(split="test", women=20, first=0, seed=0, **columns):
    """Two images a woman, half of the women positive, scores in (0, 1)."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(women) % 2, 2)
    logit = 2 * truth - 1 + rng.normal(size=2 * women)
    return pd.DataFrame({
        "image_id": [f"i{first + k}" for k in range(2 * women)],
        "patient_id": [f"w{first + k // 2}" for k in range(2 * women)],
        "laterality": "L", "view": ["CC", "MLO"] * women, "split": split,
        "y_true": truth, "y_score": 1 / (1 + np.exp(-logit)),
    }).assign(**columns)  # fmt: skip


def fitted(**changes):
    validation = rows("val", first=1000, seed=1)
    decision, why = evaluation.fitted_decision(rows(), validation, **changes)
    assert why == ""
    return decision


def test_a_threshold_comes_from_validation_rows_and_says_so():
    decision = fitted()
    assert decision.fitted_on["split"] == "val"
    assert decision.fitted_on["n"] == 40
    assert decision.rule == "youden"
    assert fitted(rule="specificity 0.90").rule == "specificity 0.90"


def test_a_woman_on_both_sides_is_refused_for_the_threshold():
    with pytest.raises(MetricError, match="20 patient_id.* would flatter"):
        evaluation.fitted_decision(
            rows(), rows("val").assign(image_id=[f"v{k}" for k in range(40)])
        )


def test_an_image_on_both_sides_is_refused_even_where_women_differ():
    other_women = rows("val", patient_id=[f"x{k // 2}" for k in range(40)])
    with pytest.raises(MetricError, match="40 image_id.* would flatter"):
        evaluation.fitted_decision(rows(), other_women)


def test_women_are_the_same_whatever_the_case_and_blanks_of_their_ids():
    same = [f" W{k // 2}.0 ".replace("W", "") for k in range(40)]
    mine = rows(patient_id=[str(k // 2) for k in range(40)])
    theirs = rows("val", first=99, patient_id=same)
    with pytest.raises(MetricError, match="20 patient_id"):
        evaluation.fitted_decision(mine, theirs)


def test_validation_rows_that_name_no_women_are_refused_where_the_others_do():
    with pytest.raises(MetricError, match="whether a woman stands in both"):
        evaluation.fitted_decision(rows(), rows("val", first=99, patient_id=""))
    nameless = rows(patient_id="")
    decision, _ = evaluation.fitted_decision(
        nameless, rows("val", first=99, patient_id="")
    )
    assert decision is not None


@pytest.mark.parametrize(
    ("validation", "split", "why"),
    [
        (None, "test", "no validation rows"),
        (rows("val", first=99), "val", "the validation rows that it would be fitted"),
        (rows("val", first=99, y_true=0), "test", "one class only"),
        (rows("val", first=99, y_score=0.5), "test", "scores .* are equal"),
        (rows("val", first=99).assign(y_score=range(40)), "test", "leave \\[0, 1\\]"),
    ],
    ids=["none", "val itself", "one class", "equal", "logits"],
)
def test_where_no_threshold_can_be_fitted_the_reason_is_given(validation, split, why):
    import re

    decision, reason = evaluation.fitted_decision(rows(), validation, split=split)
    assert decision is None
    assert re.search(why, reason)


def test_a_stored_threshold_is_used_unless_it_was_fitted_on_that_very_split(tmp_path):
    stored = tmp_path / "decision.json"
    stored.write_text(Decision(0.25, fitted_on={"split": "val"}).to_json())
    decision, why = evaluation.stored_decision(stored, "test")
    assert (decision.threshold, why) == (0.25, "")
    decision, why = evaluation.stored_decision(stored, "val")
    assert decision is None and "itself fitted on split val" in why


def test_a_threshold_for_single_predictions_is_not_put_on_augmented_ones():
    found = evaluation.operating_facts(rows(flips=4), Decision(0.5), "", FAST)
    assert "1 flip(s), these are of 4" in found["not_measured"]
    assert "confusion" in evaluation.operating_facts(
        rows(flips=1), Decision(0.5), "", FAST
    )


def test_the_operating_point_counts_calls_at_the_threshold():
    table = rows()
    found = evaluation.operating_facts(table, Decision(0.5), "", FAST)
    called = table["y_score"] >= 0.5
    assert found["confusion"] == {
        "tp": int((called & (table["y_true"] == 1)).sum()),
        "fp": int((called & (table["y_true"] == 0)).sum()),
        "fn": int((~called & (table["y_true"] == 1)).sum()),
        "tn": int((~called & (table["y_true"] == 0)).sum()),
    }


def test_scores_that_are_no_probabilities_get_no_calibration_and_no_call():
    table = rows().assign(y_score=range(40))
    found = evaluation.calibration_facts(table, None, FAST)
    assert "no probabilities" in found["not_measured"]
    found = evaluation.operating_facts(table, Decision(0.5), "", FAST)
    assert "no probabilities" in found["not_measured"]


def test_calibration_stands_before_and_after_the_temperature():
    found = evaluation.calibration_facts(rows(), Decision(0.5, temperature=2.0), FAST)
    truth, score = rows()["y_true"], rows()["y_score"]
    expected = ((score - truth) ** 2).mean()  # the Brier score's definition
    assert found["as_scored"]["brier"]["value"] == pytest.approx(expected)
    halved = 1 / (1 + np.exp(-np.log(score / (1 - score)) / 2))
    expected = ((halved - truth) ** 2).mean()
    assert found["after_temperature"]["brier"]["value"] == pytest.approx(expected)
    # dividing all logits by 2 doubles the slope that puts them right
    assert found["after_temperature"]["slope"] == pytest.approx(
        2 * found["as_scored"]["slope"], rel=1e-3
    )


def test_separated_classes_have_no_calibration_line_and_say_so():
    table = rows(y_score=[0.2, 0.3, 0.8, 0.9] * 10)
    found = evaluation.calibration_facts(table, None, FAST)["as_scored"]
    assert "no finite value" in found["line_not_measured"]
    assert "slope" not in found


def test_other_models_are_compared_with_adjusted_p():
    first = rows()
    others = {"a": rows(seed=5), "b": rows(seed=6)}
    found = evaluation.compared(first, others, FAST)
    raw = {name: pair["p"] for name, pair in found["paired_differences"].items()}
    holm = {n: pair["p_holm"] for n, pair in found["paired_differences"].items()}
    low, high = sorted(raw, key=raw.get)
    assert holm[low] == pytest.approx(min(1, 2 * raw[low]))  # by hand: smallest times 2
    assert holm[high] == pytest.approx(max(holm[low], raw[high]))
    assert found["compared"]["a"]["value"] == pytest.approx(
        metrics.auc(others["a"]["y_true"], others["a"]["y_score"])
    )
    assert evaluation.compared(first, {}, FAST) == {
        "compared": {}, "paired_differences": {}
    }  # fmt: skip


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_prevalence_is_a_share(share):
    with pytest.raises(MetricError, match="prevalence must lie in \\(0, 1\\)"):
        Choices(prevalence=share)
