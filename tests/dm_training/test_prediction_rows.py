import numpy as np
import pandas as pd
import pytest

from dm_training import metrics
from dm_training.prediction_rows import require_split, texts


def table(**columns):
    base = {
        "image_id": ["a", "b", "c", "d"], "patient_id": ["p", "p", "q", "q"],
        "laterality": ["L", "R", "L", "L"], "y_true": [0, 1, 0, 0],
        "y_score": [0.1, 0.9, 0.2, 0.6], "split": "test",
    }  # fmt: skip
    return pd.DataFrame(base | columns)


def test_aggregate_makes_breasts_and_women_of_images():
    breasts = metrics.aggregate(table(), "breast")
    assert breasts["y_true"].tolist() == [0, 1, 0]  # p L, p R, q L
    assert breasts["y_score"].tolist() == [0.1, 0.9, 0.4]  # (.2 + .6) / 2
    assert breasts["images"].tolist() == [1, 1, 2]
    women = metrics.aggregate(table(), "patient", how="max")
    assert women["y_true"].tolist() == [1, 0]
    assert women["y_score"].tolist() == [0.9, 0.6]
    assert metrics.aggregate(table(), "image").equals(table())


@pytest.mark.parametrize(
    ("change", "level", "message"),
    [
        ({}, "lesion", "must be one of image, breast, patient"),
        ({"image_id": ["a", "b", "a", "d"]}, "image", "'a' stands twice"),
        ({"y_score": [0.1, np.nan, 0, 1]}, "image", "y_score: 1 NaN"),
        ({"laterality": ["L", "", "L", "L"]}, "breast", "laterality is missing or"),
    ],
    ids=["level", "twice", "NaN", "no side"],
)
def test_aggregate_refuses(change, level, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.aggregate(table(**change), level)


def test_tables_join_by_id_in_any_order():
    other = table(y_score=[1.0, 2.0, 3.0, 4.0]).iloc[::-1]
    joined = metrics.join_predictions(table(), other)
    assert joined["y_score_b"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": ["a", "b", "c", "e"]}, "2 image_id.s. stand in one only.* d, e"),
        ({"y_true": [0, 1, 1, 0]}, "y_true differs .* 1 image.s., such as c"),
    ],
    ids=["other images", "other truth"],
)
def test_tables_that_do_not_join_are_refused(change, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.join_predictions(table(), table(**change))


def test_rows_of_the_split_asked_for_pass():
    rows = table(split="val")
    assert require_split(rows, "val", "a threshold") is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(), "a threshold takes rows of split 'val' only; received test \\(4\\)"),
        (table(split=["val", "", "test", "val"]), "val \\(2\\), empty \\(1\\), test"),
        (table(split=np.nan), "received empty \\(4\\)"),
        (table().iloc[:0], "needs rows of split 'val', received none"),
        (table().drop(columns="split"), "a column split that says 'val'"),
    ],
    ids=["other", "mixed", "NaN", "none", "no column"],
)
def test_rows_of_another_split_are_refused(rows, message):
    with pytest.raises(metrics.MetricError, match=message):
        require_split(rows, "val", "a threshold")


def test_one_class_passes_only_where_it_is_asked_for():
    truth, score = metrics.check_scores([1, 1], [0.1, 0.2], one_class=True)
    assert truth.tolist() == [True, True] and score.tolist() == [0.1, 0.2]
    with pytest.raises(metrics.MetricError, match="no rows: nothing to measure"):
        metrics.check_scores([], [], one_class=True)


def test_cells_become_text_without_points_and_blanks():
    column = pd.Series([3.0, 2.5, " a ", None, np.nan, 7], dtype=object)
    assert texts(column).tolist() == ["3", "2.5", "a", "", "", "7"]
