import json

import numpy as np
import pytest
from simulated_scores import prediction_table

from dm_training import metrics
from dm_training.levels import level_figures, levels_of


def test_levels_are_those_that_the_ids_allow():
    rows = prediction_table(10)
    assert levels_of(rows) == ("image", "breast", "patient")
    assert levels_of(rows.assign(laterality="")) == ("image", "patient")
    assert levels_of(rows.drop(columns="laterality")) == ("image", "patient")
    assert levels_of(rows.assign(patient_id=np.nan)) == ("image",)
    assert levels_of(rows.drop(columns="patient_id")) == ("image",)


def test_levels_stand_side_by_side_with_their_own_counts():
    rows = prediction_table(40)
    # women p0 to p9 have both breasts seen, one image each
    rows.loc[1:19:2, "laterality"] = "R"
    found = level_figures(rows, n=100)
    counts = {level: figures["auc"]["n"] for level, figures in found.items()}
    assert counts == {"image": 80, "breast": 50, "patient": 40}
    for level, figures in found.items():
        assert figures["auc"] == metrics.auc_figure(rows, level, n=100)
        assert figures["partial_auc"]["level"] == level
        shares = set(figures["sensitivity_at_specificity"])
        assert shares == {"0.80", "0.90", "0.95"}
    json.dumps(found)


def test_figures_are_those_of_the_women():
    rows = prediction_table(40)
    women = metrics.aggregate(rows, "patient", how="max")
    figures = level_figures(rows, how="max", n=100)["patient"]
    given = women["y_true"], women["y_score"], women["patient_id"]
    expected = metrics.specificity_bootstrap(*given, 0.9, n=100)
    shown = figures["specificity_at_sensitivity"]["0.90"]
    assert tuple(shown[key] for key in ("value", "low", "high")) == expected
    expected = metrics.partial_auc_bootstrap(*given, min_specificity=0.8, n=100)
    assert figures["partial_auc"]["value"] == expected[0]


def test_a_missing_view_is_no_error():
    rows = prediction_table(40).drop(index=[0, 7])
    found = level_figures(rows, n=100)
    assert found["image"]["auc"]["n"] == 78
    assert found["breast"]["auc"]["n"] == 40


def test_an_upper_level_of_one_class_says_so():
    rows = prediction_table(20, y_true=[0, 1] * 20, laterality=["L", "R"] * 20)
    found = level_figures(rows, n=100)
    assert found["patient"] == {"reason": "one class only among 20 units"}
    assert found["breast"]["auc"]["positives"] == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_true": 0}, "one class only"),
        ({"image_id": "a"}, "'a' stands twice"),
        ({"y_score": np.nan}, "y_score: 40 NaN"),
        ({"split": "val"}, "'test' holds rows of split val"),
        ({"patient_id": [""] + ["p"] * 39}, "empty in 1 of 40 rows"),
    ],
    ids=["one class", "twice", "NaN", "split", "some without a woman"],
)
def test_rows_without_figures_are_refused(change, message):
    with pytest.raises(metrics.MetricError, match=message):
        level_figures(prediction_table(20).assign(**change), n=100)


def test_equal_scores_are_no_error():
    found = level_figures(prediction_table(20, y_score=0.5), n=100)["image"]
    assert found["auc"]["value"] == 0.5
    assert found["sensitivity_at_specificity"]["0.90"]["value"] == 0
