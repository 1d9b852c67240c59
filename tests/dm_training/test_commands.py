"""The two training commands and prediction, end to end on small images."""

import json
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from tests_support import INBREAST, write_set

from dm_models.decision import Decision, read_decision, store_decision
from dm_models.export import main as export
from dm_models.weights import load_model, read_contract
from dm_preprocess.tables import PATCH_CLASSES
from dm_training import image_clf_train, patch_clf_train, predict

SIZE = ["--img-size", "96", "80"]
QUICK = ["--batch-size", "4", "--nb-epoch", "1", "--all-layer-epochs", "2"]
RECIPE = ["--recipe", "squeezenet-s10-8x1"]


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """Class folders of 32 x 32 patches: train/, val/ and test/."""
    root, rng = tmp_path_factory.mktemp("patches"), np.random.default_rng(1)
    for split in ("train", "val", "test"):
        for level, name in enumerate(PATCH_CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(2):
                image = rng.integers(0, 8000, (32, 32)) + 10000 * level
                path = root / split / name / f"{split}{number}_L_CC_{level}.png"
                cv2.imwrite(str(path), image.astype(np.uint16))
    return [str(root / split) for split in ("train", "val", "test")]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """An images.csv of 96 x 80 images."""
    women = {"train": 4, "val": 2, "test": 2}
    return str(write_set(tmp_path_factory.mktemp("set") / "d", women=women,
                         size=(96, 80)))  # fmt: skip


@pytest.fixture(scope="module")
def patch_run(patches, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "patch"
    status = patch_clf_train.main([
        *patches, "--out", str(out), "--net", "squeezenet", "--img-size", "32", "32",
        *QUICK, "--top-layer-epochs", "1", "--best-model", str(out.parent / "patch.h5"),
    ])  # fmt: skip
    assert status == 0
    return out


@pytest.fixture(scope="module")
def whole_run(table, patch_run):
    out = patch_run.parent / "whole"
    status = image_clf_train.main([
        *[table] * 3, "--out", str(out), *RECIPE, *SIZE, *QUICK,
        "--patch-model-state", str(patch_run / "best.keras"),
        "--best-model", str(out.parent / "whole.h5"),
    ])  # fmt: skip
    assert status == 0
    return out


def train(table, out, *extra):
    return image_clf_train.main([*[str(table)] * 3, "--out", str(out), *SIZE, *extra])


def refused(capsys, status):
    assert status == 2
    return capsys.readouterr().err


def test_a_patch_run_folder_explains_itself(patch_run):
    for name in ("config.json", "versions.json", "log.txt", "history.csv", "best.keras",
                 "predictions_val.csv", "predictions_test.csv", "metrics.json",
                 "plots/history.png", "plots/confusion.png"):  # fmt: skip
        assert (patch_run / name).stat().st_size > 0, name
    found = json.loads((patch_run / "metrics.json").read_text())
    assert found["test_accuracy"]["n"] == 10
    assert set(found["test_auc"]) == set(PATCH_CLASSES)
    assert found["steps"] == 2 * 3  # two epochs of 10 patches in batches of 4
    assert len(pd.read_csv(patch_run / "history.csv")) == 2
    assert list((patch_run / "tensorboard").rglob("events*"))


def test_a_copy_in_h5_holds_the_same_model(patch_run):
    copy, contract = load_model(patch_run.parent / "patch.h5")
    best, _ = load_model(patch_run / "best.keras")
    assert contract.class_names == PATCH_CLASSES
    for one, two in zip(copy.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_whole_image_run_scores_each_test_image_once(whole_run):
    for flips, suffix in ((1, ""), (4, "_augmented")):
        frame = pd.read_csv(whole_run / f"predictions_test{suffix}.csv")
        assert len(frame) == frame["image_id"].nunique() == 4
        assert (frame["flips"] == flips).all()
        assert frame["y_score"].between(0, 1).all()
    found = json.loads((whole_run / "metrics.json").read_text())
    assert found["test_auc"]["level"] == "image"
    contract = read_contract(whole_run / "best.keras")
    assert contract.class_names == ("neg", "pos")
    assert (contract.height, contract.width) == (96, 80)
    assert contract.grey_stats["images"] == 8


def test_a_run_counts_its_data_and_tells_no_path(whole_run, table):
    text = (whole_run / "metrics.json").read_text()
    found = json.loads(text)["data"]
    assert {role: found[role]["images"] for role in ("train", "val", "test")} == {
        "train": 8, "val": 4, "test": 4
    }  # fmt: skip
    assert found["train"]["women"] == 4 and found["train"]["positives"] == 4
    assert str(Path(table).parent) not in text


def test_a_run_stores_the_operating_point_of_its_validation_images(whole_run):
    decision = read_decision(whole_run / "best.keras")
    assert decision.rule == "youden" and decision.fitted_on["split"] == "val"
    assert read_decision(whole_run.parent / "whole.h5") == decision
    assert read_decision(whole_run / "last.keras") is None
    found = json.loads((whole_run / "metrics.json").read_text())["operating_point"]
    assert found["threshold"] == decision.threshold
    assert sum(found["test"]["confusion"].values()) == 4
    test = pd.read_csv(whole_run / "predictions_test.csv")
    called = decision.calls(test["y_score"])
    assert found["test"]["confusion"]["tp"] == (called & (test["y_true"] == 1)).sum()
    assert "operating point: threshold" in (whole_run / "log.txt").read_text()


def test_a_run_stores_a_second_one_for_four_flips(whole_run):
    decision = read_decision(whole_run / "best.keras", flips=4)
    assert decision.flips == 4 and decision.fitted_on["split"] == "val"
    assert read_decision(whole_run.parent / "whole.h5", flips=4) == decision
    metrics = json.loads((whole_run / "metrics.json").read_text())
    found = metrics["operating_point_augmented"]
    assert found["threshold"] == decision.threshold
    test = pd.read_csv(whole_run / "predictions_test_augmented.csv")
    called = decision.calls(test["y_score"])
    assert found["test"]["confusion"]["tp"] == (called & (test["y_true"] == 1)).sum()


def test_an_exported_run_has_a_card_with_its_own_figures(whole_run, tmp_path):
    out = tmp_path / "sm"
    assert export([str(whole_run / "best.keras"), "--out", str(out)]) == 0
    for flips in (1, 4):
        stored = read_decision(whole_run / "best.keras", flips)
        assert read_decision(out / "1", flips) == stored
    card = (out / "1" / "MODEL_CARD.md").read_text()
    value = json.loads((whole_run / "metrics.json").read_text())["test_auc"]["value"]
    assert f"| AUC | {value:.2f} (" in card and "| train | 4 | 8 |" in card
    assert "operating point, test, sensitivity" in card
    assert "another threshold" not in card


def test_gradient_checkpoints_change_no_score(whole_run, patch_run, table, tmp_path):
    model = str(patch_run / "best.keras")
    status = train(table, tmp_path / "run", *RECIPE, *QUICK, "--gradient-checkpointing",
                   "--patch-model-state", model)  # fmt: skip
    assert status == 0
    assert "gradient checkpoints after" in (tmp_path / "run" / "log.txt").read_text()
    plain, other = (
        pd.read_csv(run / "predictions_test.csv")["y_score"]
        for run in (whole_run, tmp_path / "run")
    )
    np.testing.assert_allclose(other, plain, atol=1e-4)


def test_prediction_repeats_the_runs_own_scores(whole_run, table, tmp_path):
    out = tmp_path / "p.csv"
    model = str(whole_run / "best.keras")
    assert predict.main([model, table, "--split", "test", "--out", str(out)]) == 0
    ours, runs = pd.read_csv(out), pd.read_csv(whole_run / "predictions_test.csv")
    np.testing.assert_allclose(ours["y_score"], runs["y_score"], atol=1e-6)


def test_files_get_the_score_of_their_row_and_a_bad_one_costs_its_own_line(
    whole_run, table, tmp_path, capsys
):
    frame = pd.read_csv(whole_run / "predictions_test.csv")
    folder = tmp_path / "files"
    folder.mkdir()
    source = pd.read_csv(table).set_index("image_id")["path"]
    for image_id in frame["image_id"]:
        png = (tmp_path.parent / table).parent / source[image_id]
        (folder / f"{image_id}.png").write_bytes(png.read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG no more")
    out = tmp_path / "p.csv"
    model = str(whole_run / "best.keras")
    status = predict.main([model, str(folder), "--out", str(out)])
    assert status == 1
    assert "broken.png" in capsys.readouterr().err
    found = pd.read_csv(out).sort_values("image_id")
    assert found["status"].tolist() == ["failed"] + ["scored"] * 4
    scored = found[found["status"] == "scored"]
    np.testing.assert_allclose(
        scored["y_score"], frame.sort_values("image_id")["y_score"], atol=1e-6
    )


def test_the_inbreast_command_runs_as_printed_on_a_model_of_this_project(
    whole_run, patches, tmp_path
):
    root = tmp_path / "tree"
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("neg", "pos"):
            (root / split / name).mkdir(parents=True)
            for k in range(2):
                image = rng.integers(0, 65535, (96, 80), dtype=np.uint16)
                cv2.imwrite(str(root / split / name / f"{split}{k}.png"), image)
    best, start = tmp_path / "B.h5", tmp_path / "whole.h5"
    shutil.copyfile(whole_run.parent / "whole.h5", start)
    store_decision(start, Decision(0.123456))
    status = image_clf_train.main([
        "--no-patch-model-state", "--resume-from", str(start),
        *INBREAST, "--best-model", str(best), "--out", str(tmp_path / "run"),
        *[str(root / split) for split in ("train", "val", "test")],
    ])  # fmt: skip
    assert status == 0
    assert read_contract(best).backbone == "squeezenet"
    for trained_on in (best, tmp_path / "run" / "best.keras"):
        found = read_decision(trained_on)  # of the new weights, or none
        assert found is None or found.threshold != 0.123456
    assert read_decision(tmp_path / "run" / "last.keras") is None
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["patients"].startswith("not checked")
    assert config["train_batch"] == 2  # 4 x 0.5
    stages = json.loads((tmp_path / "run" / "stages.json").read_text())
    assert stages[1]["learning_rate"] == pytest.approx(1e-6)  # 1e-4 x 0.01
    assert [s["epochs"] for s in stages] == [0, 1]


def test_a_killed_run_resumes_and_one_that_is_done_only_reports(whole_run, table):
    patch_model = str(whole_run.parent / "patch" / "best.keras")
    status = train(table, whole_run, *RECIPE, *QUICK, "--resume",
                   "--patch-model-state", patch_model)  # fmt: skip
    assert status == 0
    assert len(pd.read_csv(whole_run / "history.csv")) == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([*RECIPE, "--nb-epoch", "0"], "stage 1 of zero epochs leaves a fresh top"),
        (["--img-scale"], "auto-level"),
        (["--equalize-hist"], "no longer done while training"),
        (["--recipe", "squeezenet-s10-8z1"], "cannot read '8z1'"),
        (["--recipe", "lenet-s10-8x1"], "unknown net 'lenet'"),
        ([*RECIPE, "--batch-size", "1", "--train-bs-multiplier", "0.5"],
         "less than one image"),
        ([*RECIPE, "--img-size", "32", "32"], "too small"),
        ([*RECIPE, "--featurewise-mean", "bright"], "neither a number nor a file"),
        ([*RECIPE, "--class-list", "neg", "maybe", "pos"], "no example of class"),
        ([*RECIPE, "--patch-model-state", "no.keras"], "no such model file"),
        ([*RECIPE, "--weights", "no.h5"], "no such file of squeezenet weights"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "_".join(value)[:40],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(table, tmp_path, capsys, extra, message):
    options = extra if "--nb-epoch" in extra else [*extra, "--nb-epoch", "1"]
    said = refused(capsys, train(table, tmp_path / "run", *options))
    assert message in said
    assert said.count("\n") == 1


def test_a_model_of_another_project_is_refused(table, tmp_path, capsys):
    inputs = keras.Input((None, None, 1))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(
        tmp_path / "foreign.keras"
    )
    said = refused(capsys, train(table, tmp_path / "run", *RECIPE, "--resume-from",
                                 str(tmp_path / "foreign.keras")))  # fmt: skip
    assert "from another project" in said


def test_a_patch_model_is_not_taken_for_a_whole_image_model(
    patch_run, table, tmp_path, capsys
):
    model = str(patch_run / "best.keras")
    said = refused(capsys, train(table, tmp_path / "run", "--resume-from", model))
    assert "its classes are background" in said
    out = str(tmp_path / "p.csv")
    said = refused(capsys, predict.main([model, table, "--out", out]))
    assert "not a whole-image classifier" in said


def test_a_run_folder_that_exists_is_not_replaced_unasked(
    whole_run, table, tmp_path, capsys
):
    said = refused(capsys, train(table, whole_run, *RECIPE))
    assert "exists already; --overwrite" in said
    assert (whole_run / "best.keras").exists()


def test_stage_one_of_zero_epochs_is_refused_for_patches_too(patches, tmp_path, capsys):
    status = patch_clf_train.main(
        [*patches, "--out", str(tmp_path / "r"), "--nb-epoch", "0"]
    )
    assert "stage 1 of zero epochs" in refused(capsys, status)
    assert not (tmp_path / "r").exists()


def test_a_refused_overwrite_leaves_the_old_run_as_it_was(
    whole_run, table, tmp_path, capsys
):
    copy = tmp_path / "run"
    shutil.copytree(whole_run, copy)
    before = (copy / "best.keras").read_bytes()
    status = train(table, copy, *RECIPE, "--nb-epoch", "1", "--overwrite",
                   "--patch-model-state", "typo.keras")  # fmt: skip
    assert "no such model file" in refused(capsys, status)
    assert (copy / "best.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_truncated_png_in_a_table_costs_its_own_line(
    whole_run, table, tmp_path, capsys
):
    root = tmp_path / "d"
    shutil.copytree(Path(table).parent, root)
    victim = sorted((root / "images").glob("test*"))[0]
    victim.write_bytes(victim.read_bytes()[:-30])
    out = tmp_path / "p.csv"
    model = str(whole_run / "best.keras")
    assert predict.main([model, str(root / "images.csv"), "--out", str(out)]) == 1
    assert victim.stem in capsys.readouterr().err
    found = pd.read_csv(out)
    assert found["y_score"].isna().sum() == 1 and len(found) == 4


@pytest.mark.parametrize(
    ("extra", "message"),
    [(["--batch-size", "0"], "at least 1"), (["--out", "/dev/null"], "regular file")],
    ids=["no batch", "a device"],
)
def test_prediction_refuses_before_it_reads(
    whole_run, table, tmp_path, capsys, extra, message
):
    model = str(whole_run / "best.keras")
    status = predict.main([model, table, "--out", str(tmp_path / "p.csv"), *extra])
    assert message in refused(capsys, status)


def test_a_dicom_and_the_png_made_of_it_get_the_same_score(whole_run, tmp_path):
    from dm_preprocess import convert, phantom

    size = ["--size", "192", "160"]
    raw = tmp_path / "raw"
    assert phantom.main(["--out", str(raw), "--patients", "2", "--digital-patients",
                         "2", "--seed", "3", *size]) == 0  # fmt: skip
    data = tmp_path / "data"
    source = str(raw / "inbreast")
    assert convert.main(["inbreast", source, str(data), "--size", "96", "80"]) == 0
    model = str(whole_run / "best.keras")
    for name, what in (("png", data / "images.csv"), ("dicom", raw / "inbreast")):
        out = str(tmp_path / f"{name}.csv")
        assert predict.main([model, str(what), "--split", "all", "--out", out]) == 0
    png = pd.read_csv(tmp_path / "png.csv", dtype={"image_id": str})
    dicom = pd.read_csv(tmp_path / "dicom.csv")
    number = dicom["image_id"].str.extract(r"(\d{8})_")[0]
    scores = dict(zip(number, dicom["y_score"], strict=True))
    assert len(png) == len(scores) >= 4
    for image_id, score in zip(png["image_id"], png["y_score"], strict=True):
        found = [v for k, v in scores.items() if k in image_id]
        assert found == [pytest.approx(score, abs=1e-5)]
