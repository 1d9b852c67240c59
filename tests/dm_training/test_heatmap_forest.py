import numpy as np
import pandas as pd
import pytest
from tests_support import write_set

from dm_models.backbones import get_backbone
from dm_models.imagenet import load_imagenet
from dm_models.patch_classifier import PATCH_CLASSES, build_patch_classifier
from dm_models.weights import save_model
from dm_training import heatmap_forest as forest


def heat_of(*blobs, side=20):
    """A heatmap of background with rectangles (class, rows, cols, probability)."""
    heat = np.zeros((side, side, len(PATCH_CLASSES)))
    for index, rows, cols, probability in blobs:
        heat[rows, cols, index] = probability
    heat[..., 0] = 1 - heat.sum(axis=-1)
    return heat


def test_regions_are_counted_at_every_cut_off():
    mal = PATCH_CLASSES.index("mass_mal")
    heat = heat_of((mal, slice(2, 6), slice(2, 6), 0.8),  # 4 x 4
                   (mal, slice(10, 12), slice(10, 13), 0.4))  # fmt: skip
    found = forest.region_features(heat, PATCH_CLASSES)
    assert found["mass_mal_0.3_regions"] == 2
    assert found["mass_mal_0.5_regions"] == found["mass_mal_0.7_regions"] == 1
    assert found["mass_mal_0.9_regions"] == 0
    assert found["mass_mal_0.3_share"] == (16 + 6) / 400
    assert found["mass_mal_0.3_area"] == 16  # of the largest
    assert found["mass_mal_0.3_intensity_mean"] == pytest.approx(0.8)
    assert found["mass_mal_0.5_extent"] == found["mass_mal_0.5_solidity"] == 1
    assert found["mass_mal_0.9_area"] == found["calc_mal_0.3_regions"] == 0
    assert not [name for name in found if name.startswith("background")]
    assert len(found) == 4 * 4 * 12


def test_a_longer_region_has_a_longer_major_axis():
    long = heat_of((1, slice(5, 7), slice(2, 14), 0.6))
    found = forest.region_features(long, PATCH_CLASSES, (0.5,))
    assert (
        found["calc_mal_0.5_axis_major_length"]
        > 5 * (found["calc_mal_0.5_axis_minor_length"])
    )
    assert found["calc_mal_0.5_eccentricity"] > 0.9


def separable(count, seed):
    labels = np.arange(count) % 2
    noise = np.random.default_rng(seed).normal(size=(count, 3))
    noise[:, 1] += 3 * labels
    return noise, labels


def test_a_forest_learns_saves_and_scores_alike(tmp_path):
    features, labels = separable(200, 1)
    fitted = forest.fit_forest(features, labels, "abc", trees=30, min_split=20)
    held, truth = separable(200, 2)
    scores = fitted.classifier.predict_proba(held)[:, 1]
    assert ((scores > 0.5) == truth).mean() > 0.9
    path = forest.save_forest(fitted, tmp_path / "forest.skops")
    again = forest.load_forest(path)
    assert again.names == ("a", "b", "c")
    np.testing.assert_allclose(again.classifier.predict_proba(held)[:, 1], scores)


def test_a_tree_that_points_outside_of_itself_is_refused(tmp_path):
    features, labels = separable(60, 1)
    fitted = forest.fit_forest(features, labels, "abc", trees=9, min_split=20)
    path = forest.save_forest(forest.Forest(fitted.classifier, "ab"), tmp_path / "f")
    with pytest.raises(forest.ForestError, match="a feature that is not there"):
        forest.load_forest(path)


def test_the_papers_forest_is_the_default():
    features, labels = separable(600, 1)
    settings = forest.fit_forest(features, labels, "abc").classifier.get_params()
    assert settings["n_estimators"] == 500 and settings["max_depth"] == 9
    assert settings["min_samples_split"] == 300


def test_too_few_images_for_any_branch_is_an_error():
    features, labels = separable(400, 1)  # a tree sees some 250 of them
    with pytest.raises(forest.ForestError, match="400 training images, .* from 300 on"):
        forest.fit_forest(features, labels, "abc")
    with pytest.raises(forest.ForestError, match="of one class only"):
        forest.fit_forest(features, np.zeros(100), "abc")


def test_a_file_that_is_no_forest_is_refused(tmp_path):
    (tmp_path / "x.skops").write_bytes(b"nothing")
    with pytest.raises(forest.ForestError, match="x.skops: no forest"):
        forest.load_forest(tmp_path / "x.skops")


@pytest.fixture
def patch_file(tmp_path):
    contract = get_backbone("squeezenet").contract(
        height=32, width=32, class_names=PATCH_CLASSES
    )
    model = build_patch_classifier("squeezenet", contract=contract)
    load_imagenet(model, "squeezenet")
    kernel, bias = model.get_layer("patch_prediction").get_weights()
    model.get_layer("patch_prediction").set_weights([kernel * 3, bias])  # some >= 0.3
    return str(save_model(model, tmp_path / "patch.keras", contract))


def test_the_command_trains_scores_and_saves(patch_file, tmp_path, capsys):
    women = {"train": 6, "val": 2, "test": 4}
    table = write_set(tmp_path / "d", women=women, size=(96, 80))
    out = tmp_path / "forest"
    command = [patch_file, str(table), "--out", str(out), "--jobs", "1"]
    assert forest.main(command) == 2
    assert "12 training images" in capsys.readouterr().err
    assert forest.main([*command, "--min-samples-split", "4"]) == 0
    assert "test images: " in capsys.readouterr().out
    test = pd.read_csv(out / "predictions_test.csv")
    assert len(test) == 8 and test["y_score"].between(0, 1).all()
    names = forest.load_forest(out / "forest.skops").names
    assert len(names) == 4 * 4 * 12
    assert forest.main([*command, "--min-samples-split", "4"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_whole_image_model_is_no_patch_classifier(tmp_path, capsys):
    contract = get_backbone("squeezenet").contract(class_names=("neg", "pos"))
    model = build_patch_classifier("squeezenet", contract=contract, num_classes=2)
    path = save_model(model, tmp_path / "w.keras", contract)
    table = write_set(tmp_path / "d", women={"train": 2, "val": 2, "test": 2},
                      size=(96, 80))  # fmt: skip
    assert forest.main([str(path), str(table), "--out", str(tmp_path / "o")]) == 2
    assert "not a patch classifier" in capsys.readouterr().err
