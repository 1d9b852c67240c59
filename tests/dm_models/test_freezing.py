import keras
import numpy as np
import pytest

from dm_models.backbones import BackboneError
from dm_models.freezing import (
    set_trainable_from,
    set_weight_decay,
    stage_names,
    trainable_names,
)
from dm_models.patch_classifier import build_patch_classifier
from dm_models.whole_image import build_whole_image


@pytest.fixture
def image_model(patch_model, contract):
    return build_whole_image(patch_model, contract, "4-4-8x1", weight_decay=1e-3)


def test_top_of_a_patch_classifier_is_its_last_layer(patch_model):
    set_trainable_from(patch_model, "top")
    assert trainable_names(patch_model) == ["patch_prediction"]


def test_top_of_a_whole_image_model_is_all_that_is_new(image_model):
    set_trainable_from(image_model, "top")
    names = trainable_names(image_model)
    assert "image_prediction" in names and "top_block1_unit1_bn1" in names
    assert all(name.startswith(("top_", "image_")) for name in names)
    set_trainable_from(image_model, "all")
    assert len(trainable_names(image_model)) == len(names) + 25  # conv1 and 8 x 3


def test_a_heatmap_in_between_is_the_patch_nets_and_waits(patch_model, contract):
    model = build_whole_image(patch_model, contract, "hm+4-4-8x1")
    set_trainable_from(model, "top")
    assert "heatmap" not in trainable_names(model)
    set_trainable_from(model, "fire9")
    assert "heatmap" in trainable_names(model)


def test_a_named_stage_trains_itself_and_all_above(patch_model):
    set_trainable_from(patch_model, "fire8")
    parts = ("squeeze1x1", "expand1x1", "expand3x3")
    assert sorted(trainable_names(patch_model)) == sorted(
        [f"fire{i}_{part}" for i in (8, 9) for part in parts] + ["patch_prediction"]
    )


@pytest.mark.parametrize("frozen_norm", ["inference", "updating"])
def test_frozen_batch_norm_keeps_still_or_updates_on_request(frozen_norm, grey_images):
    model = build_patch_classifier("yaroslav")
    set_trainable_from(model, "top", frozen_norm=frozen_norm)
    assert trainable_names(model) == ["patch_prediction"]
    norm = model.get_layer("block1_conv1_bn")
    before = norm.get_weights()
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    model.train_on_batch(grey_images(2, 64, 64), np.array([0, 1]))
    same = [
        np.array_equal(a, b) for a, b in zip(before, norm.get_weights(), strict=True)
    ]
    still = frozen_norm == "inference"
    assert same == [True, True, still, still]  # gamma, beta, mean, variance
    set_trainable_from(model, "all")
    assert len(norm.trainable_weights) == 2


def test_an_unknown_way_with_frozen_batch_norm_is_refused(patch_model):
    with pytest.raises(ValueError, match="one of .*updating.*received 'theirs'"):
        set_trainable_from(patch_model, "top", frozen_norm="theirs")


def test_none_unfreezes_everything(patch_model):
    set_trainable_from(patch_model, "top")
    set_trainable_from(patch_model, None)
    assert "conv1" in trainable_names(patch_model)


def test_an_unknown_stage_lists_the_known_ones(patch_model):
    with pytest.raises(BackboneError, match="'layer46'; known: top, conv1, fire2"):
        set_trainable_from(patch_model, "layer46")
    assert stage_names(patch_model)[-1] == "all"


def test_frozen_layers_do_not_move_in_training_and_frozen_batch_norm_stands_still(
    image_model, grey_images
):
    set_trainable_from(image_model, "top")
    image_model.get_layer("top_block1_unit1_bn1").trainable = False
    frozen = ("fire9_expand3x3", "top_block1_unit1_bn1")
    before = [image_model.get_layer(name).get_weights() for name in frozen]
    moving = image_model.get_layer("top_block1_unit1_bn2").get_weights()
    image_model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    image_model.train_on_batch(grey_images(2, 96, 96), np.eye(2))
    for name, old in zip(frozen, before, strict=True):
        for array, new in zip(
            old, image_model.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(array, new)
    after = image_model.get_layer("top_block1_unit1_bn2").get_weights()
    assert not np.array_equal(moving[2], after[2])


def test_weight_decay_can_change_between_stages(image_model):
    penalty = float(keras.ops.sum(keras.ops.stack(image_model.losses)))
    changed = set_weight_decay(image_model, 1e-2)
    assert "image_prediction" in changed and "conv1" not in changed
    after = float(keras.ops.sum(keras.ops.stack(image_model.losses)))
    assert after == pytest.approx(10 * penalty, rel=1e-5)
