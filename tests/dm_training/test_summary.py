import pandas as pd
import pytest

from dm_preprocess.tables import write_table
from dm_training import summary


def predictions(scores, women=None, truth=(0, 0, 1, 1), first=0):
    count = len(scores)
    return pd.DataFrame({
        "image_id": [f"i{first + k}" for k in range(count)],
        "patient_id": women or [f"w{first + k}" for k in range(count)],
        "y_true": list(truth), "y_score": list(scores), "split": "test",
    })  # fmt: skip


def test_the_paired_difference_is_that_of_the_two_aucs():
    first = predictions([0.1, 0.2, 0.8, 0.9])
    second = predictions([0.9, 0.2, 0.8, 0.1])
    found = summary.paired_figure(first, second.iloc[::-1])
    assert found["value"] == pytest.approx(1.0 - 0.25)  # 1 of 4 pairs in order
    assert found["low"] <= found["value"] <= found["high"]
    assert (found["n"], found["positives"]) == (4, 2)


def test_models_scored_on_different_images_are_not_compared():
    first = predictions([0.1, 0.2, 0.8, 0.9])
    second = predictions([0.1, 0.2, 0.3, 0.4], first=2)
    with pytest.raises(summary.SummaryError, match="images: 4 and 4 rows, 2 in common"):
        summary.paired_figure(first, second)


def test_pooling_keeps_every_fold_and_says_which(tmp_path):
    paths = [
        write_table(predictions([0.1, 0.2, 0.8, 0.9], first=4 * k),
                    tmp_path / f"{k}.csv", "predictions")
        for k in range(2)
    ]  # fmt: skip
    summary.pool(paths, tmp_path / "out")
    pooled = pd.read_csv(tmp_path / "out" / "predictions.csv")
    folds = pd.read_csv(tmp_path / "out" / "folds.csv")
    assert pooled["image_id"].tolist() == [f"i{k}" for k in range(8)]
    assert folds["fold"].tolist() == [0] * 4 + [1] * 4


def test_an_image_tested_in_two_folds_is_refused(tmp_path):
    table = predictions([0.1, 0.2, 0.8, 0.9])
    paths = [write_table(table, tmp_path / f"{k}.csv", "predictions") for k in "ab"]
    with pytest.raises(summary.SummaryError, match="image i0 was tested in more than"):
        summary.pool(paths, tmp_path / "out")


def test_a_run_that_is_missing_is_named(tmp_path, capsys):
    assert summary.main(["demo", str(tmp_path)]) == 2
    assert "film_scores/predictions.csv" in capsys.readouterr().err
