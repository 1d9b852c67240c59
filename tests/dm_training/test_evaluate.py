import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from dm_preprocess.tables import TableError
from dm_training import metrics, score_tables
from dm_training.evaluate import Request, evaluate, main
from dm_training.evaluation import Choices

FAST = ["--draws", "200"]


def predictions(path, women=30, seed=0, strength=1.5, **columns):
    rng = np.random.default_rng(seed)
    y_true = np.repeat(np.arange(women) % 2, 2)
    frame = pd.DataFrame({
        "image_id": [f"i{k}" for k in range(2 * women)],
        "patient_id": [f"p{k // 2}" for k in range(2 * women)],
        "laterality": "L", "view": ["CC", "MLO"] * women, "split": "test",
        "y_true": y_true, "y_score": strength * y_true + rng.normal(size=2 * women),
    })  # fmt: skip
    frame.assign(**columns).to_csv(path, index=False)
    return frame


def value_of(frame):
    return metrics.auc(frame["y_true"], frame["y_score"])


def test_command_writes_figures_at_three_levels(tmp_path, capsys):
    frame = predictions(tmp_path / "p.csv")
    out = tmp_path / "out"
    assert main([str(tmp_path / "p.csv"), "--out", str(out), *FAST]) == 0
    found = json.loads((out / "metrics.json").read_text())
    counts = {level: figure["n"] for level, figure in found["auc"].items()}
    assert counts == {"image": 60, "breast": 30, "patient": 30}
    image = found["auc"]["image"]
    assert image["value"] == pytest.approx(value_of(frame))
    assert image["low"] < image["value"] < image["high"]
    assert (image["positives"], image["level"], image["split"]) == (30, "image", "test")
    assert set(found["sensitivity_at_specificity"]) == {"0.80", "0.90", "0.95"}
    scores = frame["y_true"], frame["y_score"], frame["patient_id"]
    expected = metrics.sensitivity_bootstrap(*scores, 0.8, n=200)
    sensitivity = found["sensitivity_at_specificity"]["0.80"]
    assert [sensitivity[k] for k in ("value", "low", "high")] == pytest.approx(expected)
    assert (out / found["predictions"]).resolve() == (tmp_path / "p.csv").resolve()
    assert (out / "plots" / "roc.png").stat().st_size > 5000
    assert len(pd.read_csv(out / "roc.csv")) == 61  # a step an image and the start
    shown = capsys.readouterr().out
    assert "AUC, breast level" in shown
    assert shown.splitlines()[-1].endswith(str(out))


def test_compared_tables_get_a_paired_difference(tmp_path):
    a = predictions(tmp_path / "a.csv", strength=2)
    b = predictions(tmp_path / "b.csv", strength=0.3, seed=1)
    b.iloc[::-1].to_csv(tmp_path / "b.csv", index=False)  # order does not matter
    found = evaluate(Request([tmp_path / "a.csv", tmp_path / "b.csv"]), tmp_path,
                     Choices(draws=200))  # fmt: skip
    figure = found["paired_differences"]["b"]
    assert figure["value"] == pytest.approx(value_of(a) - value_of(b))
    assert 0 < figure["low"] < figure["high"] and figure["p"] < 0.05
    assert 0 < figure["p_delong"] < 0.05
    assert found["compared"]["b"]["n"] == 60


def test_tables_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        predictions(tmp_path / name / "p.csv")
    sources = [tmp_path / "one/p.csv", tmp_path / "two/p.csv"]
    found = evaluate(Request(sources), tmp_path, Choices(draws=100))
    assert found["model"] == "one/p"
    assert found["paired_differences"]["two/p"]["value"] == 0


def test_rows_without_truth_and_of_other_splits_are_left_out_and_counted(tmp_path):
    frame = predictions(tmp_path / "p.csv").astype({"y_true": object})
    frame.loc[:1, "y_true"] = ""
    frame.loc[2:5, "split"] = "val"
    frame.to_csv(tmp_path / "p.csv", index=False)
    found = evaluate(Request([tmp_path / "p.csv"]), tmp_path, Choices(draws=100))
    assert found["left_out"] == {"other_split": 4, "no_truth": 2}
    assert found["auc"]["image"]["n"] == 54


def test_a_plain_table_from_elsewhere_is_scored_by_column_flags(tmp_path, capsys):
    frame = predictions(tmp_path / "p.csv")
    plain = frame[["image_id", "y_true", "y_score"]].set_axis(
        ["file", "cancer", "prob"], axis=1
    )
    plain.assign(y_score="not this one").to_csv(tmp_path / "plain.csv", index=False)
    flags = ["--id-column", "file", "--truth-column", "cancer"]
    flags += ["--score-column", "prob"]
    out = tmp_path / "out"
    assert main([str(tmp_path / "plain.csv"), "--out", str(out), *flags, *FAST]) == 0
    found = json.loads((out / "metrics.json").read_text())
    assert set(found["auc"]) == {"image"}
    assert found["auc"]["image"] == found["auc_delong"]
    assert "intervals assume independent images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"y_score": "high"}, "p.csv: line 2, column y_score: must be a number"),
        ({"y_score": ""}, "p.csv: line 2, column y_score: must be a finite number"),
        ({"y_true": 3}, "line 2, column y_true: must be 0, 1 or empty, received 3"),
        ({"y_true": 1}, "one class only"),
        ({"image_id": "i"}, "image_id 'i' stands twice"),
        ({"split": "val"}, "no row of split 'test' .* val \\(60\\)"),
        ({"patient_id": ["p"] * 59 + [""]}, "empty in 1 of 60 rows"),
    ],
    ids=["text", "no score", "label 3", "one class", "twice", "split", "women"],
)
def test_a_bad_table_is_refused_and_nothing_is_written(
    tmp_path, capsys, columns, message
):
    predictions(tmp_path / "p.csv", **columns)
    out = tmp_path / "out"
    assert main([str(tmp_path / "p.csv"), "--out", str(out), *FAST]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert not out.exists()


def test_missing_columns_and_files_are_named(tmp_path):
    pd.DataFrame({"id": [1], "y_true": [1]}).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(TableError, match="no column image_id for image_id; found id"):
        score_tables.read_scores(tmp_path / "p.csv")
    with pytest.raises(TableError, match="no column who for patient_id"):
        score_tables.read_scores(
            tmp_path / "p.csv", {"patient_id": "who", "image_id": "id", "y_score": "id"}
        )
    with pytest.raises(TableError, match="none.csv: no such table"):
        score_tables.read_scores(tmp_path / "none.csv")


def test_columns_may_change_places(tmp_path):
    (tmp_path / "p.csv").write_text("image_id,y_true,y_score\na,0.7,1\nb,0.2,0\n")
    frame = score_tables.read_scores(
        tmp_path / "p.csv", {"y_true": "y_score", "y_score": "y_true"}
    )
    assert frame["y_true"].tolist() == [1, 0]
    assert frame["y_score"].tolist() == [0.7, 0.2]


def test_an_earlier_result_is_replaced_only_when_asked(tmp_path, capsys):
    predictions(tmp_path / "p.csv")
    command = [str(tmp_path / "p.csv"), "--out", str(tmp_path), *FAST]
    assert main(command) == 0
    assert main(command) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_help_needs_no_heavy_library():
    code = (
        "import sys\n"
        "from dm_training import baselines, evaluate, report\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'matplotlib', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
