import json

import numpy as np
import pandas as pd
import pytest

from dm_preprocess import tables
from dm_preprocess.images import write_png
from dm_training import baselines, metrics


def make_images(folder, women=24, brighter=6000, unlabelled=0):
    """Two noise images a woman; those of odd women are brighter."""
    rng, rows = np.random.default_rng(0), []
    for k in range(2 * women):
        label = (k // 2) % 2
        levels = rng.normal(26000 + brighter * label, 5000, (20, 16)).clip(0, 65535)
        write_png(folder / f"i{k}.png", levels.astype(np.uint16))
        rows.append({
            "image_id": f"i{k}", "patient_id": f"p{k // 2}", "path": f"i{k}.png",
            "label": "" if k < unlabelled else label,
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    return folder / "images.csv"


def scores_of(features, labels, patients, folds):
    return baselines.out_of_fold_scores(features, labels, patients, folds)


def test_statistics_of_a_literal_image(tmp_path):
    image = np.array([[0, 0, 65535, 65535]], np.uint16)
    path = write_png(tmp_path / "a.png", image)
    found = baselines.global_statistics([path], jobs=1)
    assert found.shape == (1, 34)
    assert found[0, :2].tolist() == [0.5, 0.5]  # mean, deviation
    assert found[0, 2] == 0.5 and found[0, -1] == 0.5 and found[0, 3:-1].sum() == 0


def test_folds_hold_whole_women_and_both_labels():
    patients = np.repeat(np.arange(20), 3)
    labels = patients % 4 == 0
    folds = baselines.fold_of(labels, patients, folds=5, seed=1)
    assert pd.Series(folds).groupby(patients).nunique().max() == 1
    assert all(labels[folds == fold].sum() == 3 for fold in range(5))  # one woman
    assert (baselines.fold_of(labels, patients, folds=5, seed=1) == folds).all()


def test_too_few_women_for_the_folds_are_refused():
    with pytest.raises(baselines.BaselineError, match="women with label 1, received 4"):
        baselines.fold_of(np.arange(20) >= 16, np.arange(20))
    with pytest.raises(baselines.BaselineError, match="at least 2, received 1"):
        baselines.fold_of([0, 1], [0, 1], folds=1)


def test_noise_is_not_learnt_and_signal_is():
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(60), 2)
    labels = patients % 2
    features = rng.normal(size=(120, 6))
    folds = baselines.fold_of(labels, patients, folds=3)
    noise = scores_of(features, labels, patients, folds)
    assert 0.3 < metrics.auc(labels, noise) < 0.7
    features[:, 3] += 3 * labels
    assert metrics.auc(labels, scores_of(features, labels, patients, folds)) > 0.96


def test_held_out_images_do_not_touch_the_fit():
    rng = np.random.default_rng(3)
    patients, labels = np.arange(40), np.arange(40) % 2
    features = rng.normal(size=(40, 3)) + labels[:, None]
    folds = baselines.fold_of(labels, patients, folds=3)
    first = scores_of(features, labels, patients, folds)
    held = np.flatnonzero(folds == 2)
    changed, turned = features.copy(), labels.copy()
    changed[held[1:]] = 1e3  # another image of the fold, and all labels of the fold
    turned[held] = 1 - labels[held]
    again = scores_of(changed, turned, patients, folds)
    assert again[held[0]] == pytest.approx(first[held[0]], abs=1e-12)


def test_a_woman_in_two_folds_is_refused():
    with pytest.raises(baselines.BaselineError, match="1 women, such as p, stand"):
        scores_of(np.zeros((3, 1)), [0, 1, 0], np.array(["p", "p", "q"]), [0, 1, 0])


def test_training_folds_of_one_class_are_refused():
    with pytest.raises(baselines.BaselineError, match="without fold 0 .* one class"):
        scores_of(np.zeros((3, 1)), [0, 1, 1], np.array(["p", "q", "r"]), [0, 1, 2])


def test_command_scores_out_of_fold_and_counts_what_it_leaves_out(tmp_path, capsys):
    table, out = make_images(tmp_path, unlabelled=2), tmp_path / "out"
    command = ["global-statistics", str(table), "--out", str(out), "--folds", "3"]
    assert baselines.main([*command, "--jobs", "1"]) == 0
    found = json.loads((out / "metrics.json").read_text())
    assert (found["baseline"], found["folds"]) == ("global-statistics", 3)
    assert found["without_label"] == 2
    assert found["auc"]["n"] == 46 and found["auc"]["value"] > 0.9
    rows = tables.read_predictions(out / "predictions.csv")
    assert metrics.auc(rows["y_true"], rows["y_score"]) == pytest.approx(
        found["auc"]["value"]
    )
    assert set(rows["split"]) == {"test"} and rows["fold"].nunique() == 3
    assert "n = 46" in capsys.readouterr().out
    assert baselines.main(command) == 2
    assert "not empty; --overwrite" in capsys.readouterr().err


def test_folds_of_another_model_are_used(tmp_path):
    table = make_images(tmp_path)
    ids = [f"i{k}" for k in range(48)]
    fold = [f"f{(k // 4) % 3}" for k in range(48)]
    pd.DataFrame({"image_id": ids, "fold": fold})[::-1].to_csv(
        tmp_path / "folds.csv", index=False
    )
    baselines.run_baseline(
        "global-statistics", table, tmp_path / "out", jobs=1, draws=200,
        folds_from=tmp_path / "folds.csv",
    )  # fmt: skip
    rows = tables.read_predictions(tmp_path / "out" / "predictions.csv")
    assert dict(zip(rows["image_id"], rows["fold"], strict=True)) == dict(
        zip(ids, fold, strict=True)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id\ni0\n", "line 1: missing column fold"),
        ("image_id,fold\ni0,1\n", "none for 47 image.s., such as i1"),
        ("image_id,fold\ni0,1\ni0,2\n", "i0 stands twice"),
    ],
    ids=["no column", "not all", "twice"],
)
def test_bad_folds_are_named(tmp_path, text, message):
    table = make_images(tmp_path)
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(tables.TableError, match=message):
        baselines.run_baseline(
            "global-statistics", table, tmp_path / "o", folds_from=tmp_path / "f.csv"
        )
    assert not (tmp_path / "o").exists()


def test_squeezenet_features_are_pretrained_averages(tmp_path):
    table = make_images(tmp_path, women=2)
    paths = [tables.resolve(name, table) for name in ("i0.png", "i1.png", "i2.png")]
    found = baselines.squeezenet_features(paths, side=64, batch=2)
    assert found.shape == (3, 512) and found.dtype == np.float32
    again = baselines.squeezenet_features(paths[2:], side=64)
    np.testing.assert_allclose(again[0], found[2], rtol=1e-4, atol=1e-4)


def test_images_of_two_sizes_are_refused_by_name(tmp_path):
    paths = [
        write_png(tmp_path / f"{side}.png", np.zeros((side, side), np.uint16))
        for side in (64, 48)
    ]
    with pytest.raises(baselines.BaselineError, match=r"48.png: .*\(48, 48\)"):
        baselines.squeezenet_features(paths)
