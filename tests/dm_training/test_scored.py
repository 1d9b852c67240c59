import pandas as pd
import pytest

from dm_preprocess.tables import TableError
from dm_training import scored
from dm_training.prediction_rows import MetricError


def table(path, split="test", scores=(0.1, 0.9), first=0, **columns):
    frame = pd.DataFrame({
        "image_id": [f"i{first + k}" for k in range(len(scores))],
        "patient_id": [f"w{first + k}" for k in range(len(scores))],
        "split": split, "y_true": [k % 2 for k in range(len(scores))],
        "y_score": list(scores),
    }).assign(**columns)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


def run_folder(folder):
    table(folder / "predictions_test.csv", scores=(0.1, 0.9))
    table(folder / "predictions_val.csv", split="val", scores=(0.3, 0.7), first=9)
    table(folder / "predictions_test_augmented.csv", scores=(0.2, 0.8))
    table(folder / "predictions_val_augmented.csv", split="val", first=9)
    return folder


def test_a_run_folder_brings_its_validation_rows(tmp_path):
    (found,) = scored.read_scored([run_folder(tmp_path / "whole")], "test")
    assert found.name == "whole" and found.run == tmp_path / "whole"
    assert found.rows["y_score"].tolist() == [0.1, 0.9]
    assert found.validation["y_score"].tolist() == [0.3, 0.7]
    assert set(found.validation["split"]) == {"val"}


def test_a_run_folder_gives_its_augmented_scores_when_asked(tmp_path):
    run = run_folder(tmp_path / "whole")
    (found,) = scored.read_scored([run], "test", augmented=True)
    assert found.rows["y_score"].tolist() == [0.2, 0.8]


def test_a_folder_without_scores_is_no_run(tmp_path):
    with pytest.raises(TableError, match="without predictions_test.csv: no finished"):
        scored.read_scored([tmp_path], "test")


def test_a_table_with_both_splits_is_its_own_validation(tmp_path):
    path = table(tmp_path / "p.csv", split=["test", "test", "val", "val"],
                 scores=(0.1, 0.9, 0.4, 0.6))  # fmt: skip
    (found,) = scored.read_scored([path], "test")
    assert found.rows["y_score"].tolist() == [0.1, 0.9]
    assert found.validation["y_score"].tolist() == [0.4, 0.6]
    assert found.left_out == {"other_split": 2, "no_truth": 0}
    assert found.run is None


def test_a_table_that_names_no_split_is_never_validation(tmp_path):
    path = table(tmp_path / "p.csv", split="")
    (found,) = scored.read_scored([path], "test")
    assert found.validation is None
    with pytest.raises(MetricError, match="no row's split is 'val'"):
        scored.read_validation(path)


def test_a_name_may_be_given_and_else_comes_from_the_path(tmp_path):
    a = table(tmp_path / "one" / "p.csv")
    b = table(tmp_path / "two" / "p.csv")
    found = scored.read_scored([f"mine={a}", b], "test")
    assert [one.name for one in found] == ["mine", "two/p"]
    with pytest.raises(MetricError, match="two models are called 'x'"):
        scored.read_scored([f"x={a}", f"x={b}"], "test")


def test_a_file_with_an_equals_sign_in_its_name_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "lr=1.csv")
    (found,) = scored.read_scored(["lr=1.csv"], "test")
    assert found.path.name == "lr=1.csv"


def test_image_facts_fill_gaps_and_replace_nothing(tmp_path):
    rows = pd.DataFrame({"image_id": ["b", "a"], "view": ["CC", ""],
                         "density": ["", ""], "y_true": [0.0, 1.0]})  # fmt: skip
    images = pd.DataFrame({"image_id": ["a", "b"], "view": ["MLO", "MLO"],
                           "density": ["1", "4"], "age": ["50", "60"]})  # fmt: skip
    found = scored.with_image_facts(rows, images)
    assert found["view"].tolist() == ["CC", ""]  # the rows name views themselves
    assert found["density"].tolist() == ["4", "1"]
    assert found["age"].tolist() == ["60", "50"]


def test_an_image_that_the_image_table_lacks_is_named():
    rows = pd.DataFrame({"image_id": ["a", "z"]})
    images = pd.DataFrame({"image_id": ["a"]})
    with pytest.raises(MetricError, match="1 scored image.* such as z"):
        scored.with_image_facts(rows, images)


def image_table(**changes):
    frame = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["w", "v"],
                          "label": [0.0, 1.0], "split": "test"})  # fmt: skip
    return frame.assign(**changes)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"label": [1.0, 1.0]}, "another label .* 1 image.* such as a"),
        ({"split": "train"}, "another split .* 2 image"),
        ({"patient_id": ["w", "x"]}, "another patient_id .* such as b"),
    ],
    ids=["label", "split", "woman"],
)
def test_an_image_table_that_contradicts_the_scores_is_refused(changes, what):
    rows = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["w", "v"],
                         "y_true": [0.0, 1.0]})  # fmt: skip
    assert len(scored.with_image_facts(rows, image_table())) == 2
    with pytest.raises(MetricError, match=what):
        scored.with_image_facts(rows, image_table(**changes))


def test_an_image_table_without_labels_or_splits_contradicts_nothing():
    rows = pd.DataFrame({"image_id": ["a", "b"], "y_true": [0.0, 1.0]})
    images = image_table(label=float("nan"), split="")
    found = scored.with_image_facts(rows, images)
    assert found["patient_id"].tolist() == ["w", "v"]


def test_women_of_validation_rows_come_from_the_image_table():
    rows = pd.DataFrame({"image_id": ["b", "z"], "patient_id": ""})
    assert scored.with_women(rows, image_table())["patient_id"].tolist() == ["v", ""]
    named = rows.assign(patient_id=["1", "2"])
    assert scored.with_women(named, image_table())["patient_id"].tolist() == ["1", "2"]
