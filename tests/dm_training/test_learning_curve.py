"""Subsets, commands and figures of a learning curve; trainings of seconds."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from tests_support import write_set

from dm_models.backbones import get_backbone
from dm_models.weights import save_model
from dm_preprocess import tables
from dm_preprocess.patient_draws import SplitError
from dm_training import curve_runs, learning_curve, metrics
from dm_training.learning_curve import CurveError, main, plan_runs

QUICK = ["--all-layer-epochs", "1", "--batch-size", "4", "--no-augmentation"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """8 + 2 + 4 women of two images each, every second one positive, and a model."""
    root = tmp_path_factory.mktemp("curve")
    write_set(root / "data", women={"train": 8, "val": 2, "test": 4})
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 1), name="grey")
    x = keras.layers.Rescaling(1 / 65535)(inputs)
    x = keras.layers.Conv2D(2, 3, activation="relu", name="conv1")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(2, activation="softmax", name="image_prediction")(x)
    contract = get_backbone("inception_v3").contract(  # takes no mean: a bare net
        class_names=("neg", "pos"), height=48, width=40
    )
    save_model(keras.Model(inputs, outputs), root / "net.keras", contract)
    return root


@pytest.fixture
def images(data):
    return data / "data" / "images.csv"


@pytest.fixture
def model(data):
    return data / "net.keras"


def plan(data, out, **options):
    given = {"sizes": [2, 4, "all"], "draws": 2, "seed": 5} | options
    models = given.pop("models", {"": data / "net.keras"})
    return plan_runs(models, data / "data" / "images.csv", out, **given)


def women_of(run, split="train"):
    frame = tables.read_images(run.table)
    return set(frame["patient_id"][frame["split"] == split])


@pytest.fixture
def in_process(monkeypatch):
    """Commands as they would be started, run here to save the imports; their list."""
    started = []

    def run(command, check):
        started.append(command)
        status = importlib.import_module(command[2]).main(command[3:])
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(learning_curve.subprocess, "run", run)
    return started


def test_subsets_of_a_draw_are_nested_and_the_others_stay(data, tmp_path):
    runs = [run for run in plan(data, tmp_path) if run.women]
    assert [run.women for run in runs] == [2, 2, 4, 4, 8, 8]
    for draw in (1, 2):
        small, middle, whole = (women_of(r) for r in runs if r.draw == draw)
        assert (len(small), len(middle), len(whole)) == (2, 4, 8)
        assert small < middle < whole
    for run in runs:
        assert women_of(run, "val") == {"val0", "val1"}
        assert women_of(run, "test") == {f"test{k}" for k in range(4)}
        # Every second woman is positive, and each has two images.
        assert (run.images, run.positives) == (2 * run.women, run.women)
    assert women_of(runs[2]) != women_of(runs[3])  # another draw, other women


def test_paths_of_a_subset_lead_to_the_same_files(data, images, tmp_path):
    run = plan(data, tmp_path)[-1]
    there, here = tables.read_images(run.table), tables.read_images(images)
    for cell, own in zip(there["path"], here["path"], strict=True):
        assert not Path(cell).is_absolute()
        assert tables.resolve(cell, run.table).samefile(tables.resolve(own, images))


def test_more_sizes_and_draws_keep_the_women_that_were_drawn(data, tmp_path):
    first = {r.name: women_of(r) for r in plan(data, tmp_path, sizes=[4]) if r.women}
    (tmp_path / "runs").mkdir()
    later = plan(data, tmp_path, sizes=[2, 4, 6], draws=3)
    assert {r.name: women_of(r) for r in later if r.name in first} == first
    planned = {run.name for run in learning_curve.planned_runs(tmp_path)}
    assert planned == {run.name for run in later} and len(planned) == 1 + 9


def test_a_run_is_started_as_the_fine_tuning_command(data, images, model, tmp_path):
    before, run, *_ = plan(data, tmp_path, sizes=[4], flags=QUICK)
    command = run.command[3:]
    assert command[:3] == [str(tmp_path / "subsets" / "draw1_women4.csv")] * 3
    assert command[command.index("--resume-from") + 1] == str(model)
    assert command[command.index("--seed") + 1] == "5"
    assert command[command.index("--out") + 1] == str(tmp_path / "runs/draw1_women4")
    assert command[-len(QUICK) :] == QUICK
    assert before.command[2:5] == ["dm_training.predict", str(model), str(images)]
    run.out.mkdir(parents=True)
    assert run.command == run.command and "--resume" not in run.command
    (run.out / "config.json").write_text("{}")
    assert run.command[-1] == "--resume" and not run.done()
    (run.out / "metrics.json").write_text("{}")
    assert run.done()


def test_the_mean_is_that_of_the_subset_unless_the_flags_say(data, images, tmp_path):
    from dm_preprocess.images import read_png

    run = plan(data, tmp_path / "a", sizes=[2])[1]
    frame = tables.read_images(images).set_index("patient_id")
    files = [images.parent / p for w in women_of(run) for p in frame.loc[w, "path"]]
    mean = np.mean([read_png(file).mean() for file in files]) * 255 / 65535
    at = run.command.index("--featurewise-mean")
    assert float(run.command[at + 1]) == pytest.approx(mean, abs=1e-4)
    own = plan(data, tmp_path / "b", sizes=[2], flags=["--featurewise-mean", "44.33"])
    assert own[1].command.count("--featurewise-mean") == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sizes": [2, 9]}, CurveError, r"must lie in 1..8, .* received 2, 9; 'all'"),
        ({"sizes": [1]}, SplitError, r"a subset of 1 women .* classes in it: \[0\]"),
        ({"draws": 0}, CurveError, "--draws must be at least 1"),
        ({"seed": -4}, CurveError, "--seed must be at least 0, received -4"),
        ({"flags": ["--seed", "3"]}, CurveError, "--seed: set for each run"),
        ({"flags": ["--out=x"]}, CurveError, "--out=x: set for each run"),
        ({"models": {"a": "no.keras"}}, CurveError, "no.keras: no such model file"),
        ({"models": {}}, CurveError, "need a name each"),
    ],
    ids=["too many", "a class lacks", "draws", "negative", "seed", "out", "no model",
         "none"],
)  # fmt: skip
def test_a_curve_that_cannot_be_is_refused(data, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        plan(data, tmp_path / "curve", **options)
    assert not (tmp_path / "curve" / "plan.json").exists()


@pytest.mark.parametrize("name", ["../c", "a/b", "a\\b", ".", "..", ".a", "a\n"])
def test_a_models_name_leads_out_of_no_folder(images, model, tmp_path, capsys, name):
    out = tmp_path / "curve"
    assert main([f"{name}={model}", str(images), "--out", str(out), "--list"]) == 2
    assert f"a plain file name, received {name!r}" in capsys.readouterr().err
    assert not out.exists()


def test_a_keras_file_that_is_none_is_refused_before_anything_is_drawn(data, tmp_path):
    (tmp_path / "net.keras").write_bytes(b"no archive")
    with pytest.raises(CurveError, match="net.keras: not a .keras file, or truncated"):
        plan(data, tmp_path / "curve", models={"": tmp_path / "net.keras"})
    assert not (tmp_path / "curve").exists()


def test_nothing_done_is_said_and_no_plot_promised(images, model, tmp_path, capsys):
    out = tmp_path / "curve"
    argv = [str(model), str(images), "--out", str(out), "--sizes", "4", "--draws", "1"]
    assert main([*argv, "--collect"]) == 0
    told = capsys.readouterr().out
    assert told == f"0 of 2 runs -> curve.csv, curve.json in {out}\n"
    assert sorted(path.name for path in out.iterdir()) == [
        "curve.csv", "curve.json", "plan.json", "subsets"
    ]  # fmt: skip


def test_sizes_of_more_women_than_there_are_may_be_left_out(
    images, model, tmp_path, capsys
):
    out = tmp_path / "curve"
    argv = [str(model), str(images), "--out", str(out), "--draws", "1", "--list",
            "--no-before", "--sizes", "4", "8", "9", "all"]  # fmt: skip
    assert main(argv) == 2  # there are 8 women to train on
    assert "must lie in 1..8" in capsys.readouterr().err
    assert main([*argv, "--skip-larger"]) == 0
    assert "left out: 9; there are 8 women" in capsys.readouterr().err
    assert [run.women for run in learning_curve.planned_runs(out)] == [4, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 6}, r"other seed \(5 before, 6 now\)"),
        ({"flags": ["--lr-patience", "2"]}, "other flags"),
        ({"models": {"": "other.keras"}}, "other model"),
    ],
    ids=["seed", "flags", "model"],
)
def test_two_curves_are_not_mixed_in_one_folder(
    data, model, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(model, "other.keras")
    plan(data, tmp_path / "c")
    plan(data, tmp_path / "c", seed=7)  # nothing has run, so it may change its mind
    plan(data, tmp_path / "c")
    (tmp_path / "c" / "runs").mkdir()
    with pytest.raises(CurveError, match=message):
        plan(data, tmp_path / "c", **options)
    plan(data, tmp_path / "c")


def test_other_women_under_the_same_names_are_found_out(data, images, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(images.parent, copy)
    models, table = {"": data / "net.keras"}, copy / "images.csv"
    plan_runs(models, table, tmp_path / "c", sizes=[4], draws=1)
    (tmp_path / "c" / "runs").mkdir()
    frame = pd.read_csv(table)
    frame.loc[frame["patient_id"] == "val0", "split"] = ""
    frame.to_csv(table, index=False)
    with pytest.raises(CurveError, match="holds other women than .*images.csv"):
        plan_runs(models, table, tmp_path / "c", sizes=[4], draws=1)


@pytest.fixture(scope="module")
def curve(data, tmp_path_factory):
    """A curve of two models, 4 and all women, one draw, made by the command."""
    out = tmp_path_factory.mktemp("out") / "curve"
    shutil.copy(data / "net.keras", data / "twin.keras")
    command = [f"one={data / 'net.keras'}", f"two={data / 'twin.keras'}",
               str(data / "data" / "images.csv"), "--out", str(out), "--sizes", "4",
               "all", "--draws", "1", "--", *QUICK]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        def run(command, check):
            status = importlib.import_module(command[2]).main(command[3:])
            return subprocess.CompletedProcess(command, status)

        patch.setattr(learning_curve.subprocess, "run", run)
        assert main(command) == 0
    return out, command


def test_the_command_leaves_table_figures_and_plot(curve):
    out, _ = curve
    frame = pd.read_csv(out / "curve.csv")
    assert frame["model"].tolist() == ["one"] * 3 + ["two"] * 3
    assert frame["women"].tolist() == [0, 4, 8] * 2
    assert frame["images"].tolist() == [0, 8, 16] * 2
    assert set(frame["n"]) == {8} and set(frame["n_positives"]) == {4}
    assert frame["run"].tolist()[1] == "one/draw1_women4"
    trained = frame[frame["women"] > 0]
    assert trained["auc_last_epoch"].notna().all() and (trained["epochs"] == 1).all()
    assert (trained["low"] <= trained["auc"]).all()
    # Two names of one file, the same women and seed: the same figures.
    same = [frame["auc"][frame["model"] == name].tolist() for name in ("one", "two")]
    assert same[0] == same[1]
    assert (out / "plots" / "learning_curve.png").stat().st_size > 5000


def test_each_figure_is_that_of_the_runs_own_predictions(curve):
    out, _ = curve
    found = json.loads((out / "curve.json").read_text())
    assert found["missing"] == []
    assert found["women"] == {"train": 8, "val": 2, "test": 4}
    model = found["models"]["one"]
    before = tables.read_predictions(out / "runs/one/as_it_is/predictions_test.csv")
    assert model["before"]["value"] == metrics.auc(before["y_true"], before["y_score"])
    assert [size["women"] for size in model["sizes"]] == [4, 8]
    figure = model["sizes"][0]["figures"]["one/draw1_women4"]
    own = tables.read_predictions(out / "runs/one/draw1_women4/predictions_test.csv")
    assert figure["value"] == metrics.auc(own["y_true"], own["y_score"])
    assert (figure["level"], figure["split"], figure["n"]) == ("image", "test", 8)


def test_all_women_are_what_plain_fine_tuning_is_given(curve, data, images, tmp_path):
    from dm_training import image_clf_train

    out = tmp_path / "plain"
    mean = curve_runs.training_grey_mean(tables.read_images(images).query(
        "split == 'train'"), images, jobs=1)[0]  # fmt: skip
    assert image_clf_train.main([
        *[str(images)] * 3, "--no-patch-model-state", "--resume-from",
        str(data / "net.keras"), "--featurewise-mean", str(mean), "--seed", "12345",
        "--out", str(out), *QUICK,
    ]) == 0  # fmt: skip
    plain, run = (tables.read_predictions(folder / "predictions_test.csv")
                  for folder in (out, curve[0] / "runs/one/draw1_women8"))  # fmt: skip
    np.testing.assert_allclose(run["y_score"], plain["y_score"], atol=1e-6)


def test_what_is_done_is_not_done_again_and_what_was_killed_goes_on(
    curve, tmp_path, in_process, capsys
):
    out, command = curve
    (out / "runs/two/draw1_women8/metrics.json").unlink()
    assert main(command) == 0
    assert len(in_process) == 1 and in_process[0][-1] == "--resume"
    said = capsys.readouterr().out
    assert "[1/6] one/as_it_is: done already" in said
    assert "[6/6] two/draw1_women8: 8 women, 16 images (8 positive)" in said
    assert said.splitlines()[-1].startswith("6 of 6 runs -> curve.csv")
    assert main([*command[:8], "--list", *command[8:]]) == 0
    assert capsys.readouterr().out.strip() == ""  # nothing is due


def test_runs_that_are_missing_are_named(curve, in_process):
    out, command = curve
    (out / "runs/two/draw1_women8/metrics.json").rename(out / "aside.json")
    at = command.index("--")
    assert main([*command[:at], "--collect", *command[at:]]) == 0
    assert in_process == []
    assert json.loads((out / "curve.json").read_text())["missing"] == [
        "two/draw1_women8"
    ]
    (out / "aside.json").rename(out / "runs/two/draw1_women8/metrics.json")


def test_draws_are_averaged_with_their_range(tmp_path):
    rows = [("net", 20, 1, 0.8), ("net", 20, 2, 0.9), ("net", 40, 1, 0.95)]
    frame = pd.DataFrame(rows, columns=["model", "women", "draw", "auc"]).assign(
        images=80, positives=30, low=0.7, high=0.99, n=10, n_positives=5, run="r"
    )
    small, large = learning_curve._model_facts(frame)["sizes"]
    assert small["auc"] == {"mean": pytest.approx(0.85), "lowest": 0.8, "highest": 0.9}
    assert (small["draws"], large["draws"]) == (2, 1)
    said = learning_curve._words(frame)
    assert "0.850 (0.800–0.900)" in said


def test_a_failed_run_does_not_stop_the_others(data, tmp_path, monkeypatch, capsys):
    started = []

    def run(command, check):
        started.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(learning_curve.subprocess, "run", run)
    command = [str(data / "net.keras"), str(data / "data" / "images.csv"), "--out",
               str(tmp_path / "c"), "--sizes", "4", "--draws", "2"]  # fmt: skip
    assert main(command) == 1
    assert len(started) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: failed: as_it_is, draw1_women4, draw2_women4"


def test_a_refused_run_stops_the_curve(data, tmp_path, in_process, capsys):
    command = [str(data / "net.keras"), str(data / "data" / "images.csv"), "--out",
               str(tmp_path / "c"), "--sizes", "4", "all", "--no-before", "--",
               "--batch-size", "1", "--train-bs-multiplier", "0.5"]  # fmt: skip
    assert main(command) == 2
    assert len(in_process) == 1
    assert "draw1_women4: refused, see above" in capsys.readouterr().err


def test_sizes_beyond_the_women_there_are_may_be_left_out(data, tmp_path, capsys):
    command = [str(data / "net.keras"), str(data / "data" / "images.csv"), "--out",
               str(tmp_path), "--sizes", "4", "20", "all", "--list"]  # fmt: skip
    assert main(command) == 2
    assert "must lie in 1..8" in capsys.readouterr().err
    assert main([*command, "--skip-larger", "--draws", "1"]) == 0
    said = capsys.readouterr()
    assert said.err == "left out: 20; there are 8 women to train on\n"
    lines = said.out.splitlines()
    assert [line.split()[2] for line in lines] == [
        "dm_training.predict", "dm_training.image_clf_train",
        "dm_training.image_clf_train",
    ]  # fmt: skip


WAITING = """
import sys
from dm_training import learning_curve
class Run:
    name, women, images, positives = "r", 1, 1, 1
    out = learning_curve.Path(sys.argv[1])
    command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True);"
               "time.sleep(60)"]
    def done(self):
        return False
learning_curve.train_all([Run()])
"""


def test_a_curve_that_is_ended_leaves_no_training_behind(tmp_path):
    curve = subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path / "r")],
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert curve.stdout.readline().startswith("[1/1] r: 1 women")
    child = int(curve.stdout.readline())
    curve.terminate()
    assert curve.wait(timeout=30) == 143  # 128 + SIGTERM
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(child, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [(["a.keras", "b.keras"], "several models need names"),
     (["a=a.keras", "a=b.keras"], "names that differ")],
    ids=["no names", "one name"],
)  # fmt: skip
def test_several_models_are_told_apart_by_name(given, message):
    with pytest.raises(CurveError, match=message):
        learning_curve._models(given)


def test_a_model_of_keras_2_is_not_scored_before(data, tmp_path, monkeypatch):
    from dm_models import keras2_files

    monkeypatch.setattr(keras2_files, "is_keras2_model", lambda path: True)
    assert [run.women for run in plan(data, tmp_path, sizes=[4], draws=1)] == [4]


def test_a_folder_without_a_plan_is_named(tmp_path):
    from dm_training.runs import RunError

    with pytest.raises(RunError, match="plan.json: no such file"):
        curve_runs.planned_runs(tmp_path)


@pytest.mark.slow
def test_the_curve_runs_in_processes_of_its_own(data, tmp_path):
    out = tmp_path / "curve"
    command = [str(data / "net.keras"), str(data / "data" / "images.csv"), "--out",
               str(out), "--sizes", "4", "all", "--draws", "2", "--",
               *QUICK]  # fmt: skip
    assert main(command) == 0
    frame = pd.read_csv(out / "curve.csv")
    assert frame["women"].tolist() == [0, 4, 4, 8, 8]
    assert set(frame["draw"][1:]) == {1, 2}
