import json
import re

import numpy as np
import pandas as pd
import pytest

from dm_preprocess import tables
from dm_training import ensemble, metrics
from dm_training.ensemble import average_predictions, main


def scores(values, *, flips=4, split="test", **columns):
    """Images a, b, c, ... of one woman each; every second one is positive."""
    n = len(values)
    frame = pd.DataFrame({
        "image_id": list("abcdefgh"[:n]), "patient_id": [f"p{k}" for k in range(n)],
        "laterality": "L", "view": "CC", "split": split,
        "y_true": [float(k % 2) for k in range(n)], "y_score": values,
        "model": "own", "flips": flips,
    })  # fmt: skip
    return frame.assign(**columns)


def written(frame, path):
    return str(tables.write_table(frame, path, "predictions"))


def run_folder(path, values, *, val):
    for split, numbers in (("test", values), ("val", val)):
        names = [f"{split}_{k}" for k in range(len(numbers))]
        for suffix, flips in (("", 1), ("_augmented", 4)):
            frame = scores(numbers, flips=flips, split=split, image_id=names)
            written(frame, path / f"predictions_{split}{suffix}.csv")
    return str(path)


def test_the_mean_is_taken_image_by_image_whatever_the_order_of_rows():
    a = scores([0.1, 0.9, 0.4])
    b = scores([0.3, 0.6, 0.0]).iloc[::-1].reset_index(drop=True)
    out = average_predictions({"a": a, "b": b}, name="both")
    assert out["image_id"].tolist() == ["a", "b", "c"]
    # (0.1 + 0.3) / 2, (0.9 + 0.6) / 2, (0.4 + 0.0) / 2
    assert out["y_score"].tolist() == pytest.approx([0.2, 0.75, 0.2])
    assert out["patient_id"].tolist() == ["p0", "p1", "p2"]
    assert set(out["model"]) == {"both"}
    assert set(out["models"]) == {2} and set(out["flips"]) == {4}


def test_the_average_of_four_models_can_rank_better_than_each():
    # Positives b and d; each model is wrong about another pair of images.
    values = ([0.4, 0.3, 0.1, 0.9], [0.1, 0.9, 0.4, 0.3],
              [0.1, 0.3, 0.4, 0.9], [0.4, 0.9, 0.1, 0.3])  # fmt: skip
    frames = {str(k): scores(v) for k, v in enumerate(values)}
    singles = [metrics.auc(f["y_true"], f["y_score"]) for f in frames.values()]
    assert singles == [0.75] * 4
    out = average_predictions(frames)  # 0.25, 0.6, 0.25, 0.6
    assert metrics.auc(out["y_true"], out["y_score"]) == 1


def test_an_image_without_a_truth_keeps_none():
    a = scores([0.1, 0.9, 0.4], y_true=[0, 1, np.nan])
    out = average_predictions({"a": a, "b": a})
    assert out["y_true"].isna().tolist() == [False, False, True]


def test_what_one_table_leaves_empty_is_taken_from_another():
    a = scores([0.1, 0.9], patient_id="", flips=np.nan)
    b = scores([0.1, 0.9], density=["a", "b"])
    out = average_predictions({"a": a, "b": b})
    assert out["patient_id"].tolist() == ["p0", "p1"]
    assert "flips" not in out and "density" not in out  # not both tables say them


def test_a_further_column_is_kept_where_all_tables_agree():
    a = scores([0.1, 0.9], density=["1", "2"], call=[0, 1])
    b = scores([0.1, 0.9], density=["1", "2"], call=[1, 1])
    out = average_predictions({"a": a, "b": b})
    assert out["density"].tolist() == ["1", "2"]
    assert "call" not in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": ["a", "b", "x"]}, "b holds other images than a: 2 .* c, x"),
        ({"image_id": ["a", "b", "b"]}, "b: image_id 'b' stands twice"),
        ({"y_true": [0, 0, 0]}, "y_true differs between a and b for 1 .* as b"),
        ({"y_true": [0, np.nan, 0]}, "y_true differs"),
        ({"flips": 1}, "flips must be alike, received a: 4; b: 1"),
        ({"flips": [4, 4, 1]}, "flips must be alike, received a: 4; b: 1, 4"),
        ({"split": "val"}, "split of image a is 'val' in b and 'test' before it"),
        ({"patient_id": ["p0", "p1", "p9"]}, "patient_id of image c is 'p9' in b"),
        ({"y_score": [0.5, 1.2, 0.1]}, r"b: y_score must be .*received 1.2 for b"),
        ({"y_score": [0.5, np.nan, 0.1]}, "b: y_score must be .* received nan"),
    ],
    ids=["image", "twice", "truth", "no truth", "flips", "flips within", "split",
         "woman", "logit", "nan"],
)  # fmt: skip
def test_members_that_do_not_fit_together_are_refused(change, message):
    a = scores([0.1, 0.9, 0.4])
    with pytest.raises(metrics.MetricError, match=message):
        average_predictions({"a": a, "b": a.assign(**change)})


def test_one_model_is_no_ensemble():
    with pytest.raises(metrics.MetricError, match="needs two models, received 1"):
        average_predictions({"a": scores([0.1, 0.9])})


def test_runs_and_tables_are_averaged_by_command(tmp_path, capsys):
    one = run_folder(tmp_path / "one", [0.2, 0.6], val=[0.0, 0.4, 0.1])
    two = run_folder(tmp_path / "two", [0.4, 0.8], val=[0.2, 0.6, 0.3])
    third = pd.concat([scores([0.6, 0.7], image_id=["test_0", "test_1"]),
                       scores([0.1, 0.2, 0.5], split="val",
                              image_id=["val_0", "val_1", "val_2"])])  # fmt: skip
    table = written(third, tmp_path / "third.csv")
    out = tmp_path / "e" / "mean.csv"
    command = [one, two, table, "--split", "val", "test", "--out", str(out)]
    assert main(command) == 0
    frame = tables.read_predictions(out).set_index("image_id")
    assert frame["split"].value_counts().to_dict() == {"val": 3, "test": 2}
    # (0.2 + 0.4 + 0.6) / 3 and (0.4 + 0.6 + 0.2) / 3
    assert frame["y_score"][["test_0", "val_1"]].tolist() == pytest.approx([0.4, 0.4])
    said = capsys.readouterr().out
    assert "mean of 3 models, each the mean of four flips: one, two, third" in said
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["splits"]["val"] == {"images": 3, "positives": 1}
    sources = [out.parent / member["source"] for member in facts["members"]]
    assert [path.resolve() for path in sources] == [
        tmp_path / "one", tmp_path / "two", tmp_path / "third.csv"
    ]  # fmt: skip
    assert main(command) == 2
    assert "exists already (--overwrite)" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_single_images_are_averaged_on_demand(tmp_path):
    runs = [run_folder(tmp_path / n, [0.2, 0.6], val=[0.1]) for n in "ab"]
    out = tmp_path / "mean.csv"
    assert main([*runs, "--no-augmented", "--out", str(out)]) == 0
    assert set(tables.read_predictions(out)["flips"]) == {1}


@pytest.mark.parametrize(
    ("split", "extra", "message"),
    [
        ("val", [], "a.csv: no row of split test; splits found: val"),
        ("", ["--split", "val", "test"], "no row of split val, test; .* none is named"),
        ("test", ["m.keras"], "m.keras: a model is scored on --images"),
        ("test", ["none.csv"], "none.csv: no such table"),
        ("test", ["a.csv"], "a member is named twice: a.csv, b, a.csv"),
        ("test", ["../here/b.csv"], "a member is named twice: a, b.csv, ../here/b.csv"),
    ],
    ids=["split", "no split", "no images", "no file", "twice", "twice by two paths"],
)
def test_what_cannot_be_averaged_is_said_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, split, extra, message
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in "ab":
        written(scores([0.1, 0.9], split=split), here / f"{name}.csv")
    assert main(["a.csv", "b.csv", *extra, "--out", "e.csv"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert sorted(path.name for path in here.iterdir()) == ["a.csv", "b.csv"]


@pytest.mark.parametrize("out", ["e.json", "e", "", ".csv"])
def test_the_table_is_a_csv_so_that_the_json_beside_it_is_another(
    tmp_path, monkeypatch, capsys, out
):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        written(scores([0.1, 0.9]), tmp_path / f"{name}.csv")
    assert main(["a.csv", "b.csv", "--out", out, "--overwrite"]) == 2
    assert f"--out must end in .csv, received {out!r}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_a_table_without_splits_is_the_only_split_asked_for(tmp_path):
    path = written(scores([0.1, 0.9], split=""), tmp_path / "a.csv")
    frame = ensemble.member_predictions(path, ["val"])
    assert frame["split"].tolist() == ["val", "val"]


def test_members_are_named_by_run_or_file():
    paths = ["runs/a/best.keras", "x/b.csv", "runs/c/predictions_test.csv", "d.keras"]
    assert ensemble.member_names(paths) == ["a", "b", "c", "d"]
    assert ensemble.member_names(["x/a.csv", "y/a.csv"]) == ["x/a.csv", "y/a.csv"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small whole-image classifiers of other weights, and a patch classifier."""
    import keras

    from dm_models.backbones import get_backbone
    from dm_models.weights import save_model

    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two")):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((None, None, 1), name="grey")
        x = keras.layers.Rescaling(1 / 65535)(inputs)
        x = keras.layers.Conv2D(2, 3, activation="relu")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        outputs = keras.layers.Dense(2, activation="softmax")(x)
        contract = get_backbone("squeezenet").contract(
            class_names=("neg", "pos"), height=48, width=40
        )
        save_model(keras.Model(inputs, outputs), folder / f"{name}.keras", contract)
    patches = contract.replace(class_names=("background", "mass"))
    save_model(keras.Model(inputs, outputs), folder / "patch.keras", patches)
    return folder


def test_model_files_are_scored_with_four_flips_first(models, image_set, tmp_path):
    from dm_training import predict

    files = [str(models / f"{name}.keras") for name in ("one", "two")]
    out = tmp_path / "mean.csv"
    command = [*files, "--images", str(image_set), "--out", str(out)]
    assert main([*command, "--split", "val", "test"]) == 0
    frame = tables.read_predictions(out)
    assert frame["split"].value_counts().to_dict() == {"val": 4, "test": 4}
    own = []
    for file in files:
        single = tmp_path / "p.csv"
        assert predict.main([file, str(image_set), "--out", str(single), "--tta",
                             "--overwrite"]) == 0  # fmt: skip
        own.append(tables.read_predictions(single).set_index("image_id")["y_score"])
    mean = frame[frame["split"] == "test"].set_index("image_id")["y_score"]
    np.testing.assert_allclose(mean, ((own[0] + own[1]) / 2)[mean.index], atol=1e-6)
    assert (own[0] - own[1]).abs().min() > 1e-4  # the two are not one model


def test_a_patch_model_is_no_member(models, image_set, tmp_path, capsys):
    files = [str(models / f"{name}.keras") for name in ("one", "patch")]
    command = [*files, "--images", str(image_set), "--out", str(tmp_path / "e.csv")]
    assert main(command) == 2
    assert "patch.keras: not a whole-image classifier" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_ends_it(models, image_set, tmp_path, capsys):
    victim = sorted((image_set.parent / "images").glob("test*"))[0]
    victim.write_bytes(b"\x89PNG no more")
    files = [str(models / f"{name}.keras") for name in ("one", "two")]
    command = [*files, "--images", str(image_set), "--out", str(tmp_path / "e.csv")]
    assert main(command) == 2
    assert "1 image(s) of split test cannot be read, such as test0_L_CC" in (
        capsys.readouterr().err
    )
