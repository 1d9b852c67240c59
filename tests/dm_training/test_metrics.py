import numpy as np
import pandas as pd
import pytest
from simulated_scores import women_and_scores

from dm_training import metrics


def table(**columns):
    base = {
        "image_id": ["a", "b", "c", "d"], "patient_id": ["p", "p", "q", "q"],
        "laterality": ["L", "R", "L", "L"], "y_true": [0, 1, 0, 0],
        "y_score": [0.1, 0.9, 0.2, 0.6], "split": "test",
    }  # fmt: skip
    return pd.DataFrame(base | columns)


def test_accuracy_has_wilsons_interval():
    # 8 of 10, z = 1.96: (0.8 + z²/20 ± z sqrt(0.16/10 + z²/400)) / (1 + z²/10)
    assert metrics.accuracy_wilson(8, 10) == pytest.approx(
        (0.8, 0.49016, 0.94331), abs=1e-5
    )
    with pytest.raises(metrics.MetricError, match="received 0 of 0"):
        metrics.accuracy_wilson(0, 0)


def test_one_vs_rest_says_nothing_of_a_class_without_members():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    found = metrics.one_vs_rest_auc([0, 1, 0], probabilities, ("a", "b", "c"))
    assert found["a"][0] == 1 and found["b"][0] == 1 and found["c"] is None
    with pytest.raises(metrics.MetricError, match=r"must be \(2, 3\)"):
        metrics.one_vs_rest_auc([0, 1], probabilities, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        ([0, 3, 1], "abc", r"in 0..2, received 3 \(1 such image"),
        ([0, -1, -1], "abc", r"received -1 \(2 such"),
        ([0, 1, 0.5], "abc", "whole numbers in 0..2, received 0.5"),
        ([0, 1, np.nan], "abc", "received nan"),
        ([0, 1, 2], "aba", "names must differ, received a, b, a"),
    ],
    ids=["too large", "negative", "half", "NaN", "names"],
)
def test_one_vs_rest_takes_classes_and_names_that_are_clear(classes, names, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.one_vs_rest_auc(classes, np.full((3, 3), 1 / 3), names)


def test_figure_of_a_table_resamples_its_women():
    y_true, score, women = women_and_scores(0.85, 40, 0.5, np.random.default_rng(14))
    ids = [f"i{k}" for k in range(80)]
    frame = pd.DataFrame(
        {"image_id": ids, "patient_id": women.astype(str), "y_true": y_true,
         "y_score": score}
    )  # fmt: skip
    found = metrics.auc_figure(frame, n=200)
    expected = metrics.auc_bootstrap(y_true, score, women, n=200)
    assert (found["value"], found["low"], found["high"]) == pytest.approx(expected)
    assert (found["n"], found["positives"]) == (80, 40)
    assert (found["level"], found["split"]) == ("image", "test")
    without = metrics.auc_figure(frame.drop(columns="patient_id"))
    assert without["low"] == pytest.approx(metrics.auc_delong(y_true, score)[1])
    assert metrics.auc_figure(frame, "patient", n=200)["n"] == 40


def test_a_figure_never_holds_rows_of_another_split():
    with pytest.raises(metrics.MetricError, match="'test' holds rows of split val"):
        metrics.auc_figure(table(split=["test", "val", "test", "test"]))


def test_some_rows_without_a_woman_are_refused():
    with pytest.raises(metrics.MetricError, match="empty in 1 of 4 rows"):
        metrics.auc_figure(table(patient_id=["p", "", "q", "q"]))
