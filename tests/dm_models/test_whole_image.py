import keras
import numpy as np
import pytest

from dm_models.imagenet import load_imagenet
from dm_models.inputs import grey_input
from dm_models.patch_classifier import build_patch_classifier
from dm_models.tops import TopError
from dm_models.whole_image import build_whole_image, image_contract, minimum_size

TOPS = [
    "4-4-8x1",
    "4-4-8x2+4-4-4x1",
    "8x1+4x2",
    "hm+4-4-8x1",
    "hm-pool2-fc8-4",
    "hm-pool1-fc8-noshortcut",
    "8x1+4x1+shortcut-pool2",
]


@pytest.mark.parametrize("top", TOPS)
def test_every_kind_of_top_builds_flat_and_keeps_every_patch_weight(
    top, patch_model, contract, grey_images
):
    load_imagenet(patch_model, "squeezenet")
    model = build_whole_image(patch_model, contract, top, height=160, width=128)
    found = np.asarray(model(grey_images(2, 160, 128)))
    assert found.shape == (2, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    names = [layer.name for layer in model.layers]
    assert names[-1] == "image_prediction"
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]
    for layer in patch_model.layers:
        if not layer.weights or layer.name == "patch_prediction":
            continue
        for old, new in zip(
            layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(old, new)


def test_the_heatmap_in_between_has_the_patch_heads_weights(patch_model, contract):
    model = build_whole_image(patch_model, contract, "hm+4-4-8x1")
    kernel, bias = patch_model.get_layer("patch_prediction").get_weights()
    found = model.get_layer("heatmap").get_weights()
    np.testing.assert_array_equal(found[0][0, 0], kernel)
    np.testing.assert_array_equal(found[1], bias)
    assert model.get_layer("heatmap_pool").pool_size == (3, 3)


@pytest.mark.parametrize("top", ["4-4-8x1", "8x1", "hm+4-4-8x1"])
def test_a_convolutional_top_takes_images_of_any_size(
    top, patch_model, contract, grey_images
):
    model = build_whole_image(patch_model, contract, top, height=160, width=128)
    assert model(grey_images(1, 160, 128)).shape == (1, 2)
    assert model(grey_images(1, 121, 200)).shape == (1, 2)


def test_a_top_with_fc_layers_has_one_size_and_asks_for_it(patch_model, contract):
    with pytest.raises(TopError, match="fixed image size: height and width are due"):
        build_whole_image(patch_model, contract, "hm-pool2-fc8-4", height=160)
    model = build_whole_image(
        patch_model, contract, "hm-pool2-fc8-4", height=160, width=128
    )
    assert model.input_shape == (None, 160, 128, 1)


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ("8x1", "height 64 is too small for squeezenet with top 8x1: .* least is 79"),
        ("hm+8x1", r"too small for squeezenet with top hm\+8x1"),
        ("hm-pool5-fc8", "with top hm-pool5-fc8-noshortcut|with top hm-pool5-fc8"),
    ],
)
def test_an_image_too_small_for_the_top_names_the_least_size(
    top, said, patch_model, contract
):
    with pytest.raises(TopError, match=said):
        build_whole_image(patch_model, contract, top, height=64, width=300)


def test_the_minimum_size_is_where_the_map_vanishes(patch_model, contract, grey_images):
    least = minimum_size("squeezenet", "8x1+4x1")
    model = build_whole_image(patch_model, contract, "8x1+4x1")
    inside = keras.Model(model.input, model.get_layer("top_block2_pool").output)
    assert inside(grey_images(1, least, least)).shape[1:3] == (1, 1)
    assert least == 79  # a map of 4, halved twice; 78 pixels give 3
    assert minimum_size("vgg16", "512x1") == 128
    assert minimum_size("resnet50", "512-512-1024x2") == 32


def test_a_heatmap_needs_the_patch_size_from_somewhere(patch_model, contract):
    unsized = contract.replace(height=None, width=None)
    with pytest.raises(TopError, match="--avg-pool-size"):
        build_whole_image(patch_model, unsized, "hm+8x1")
    model = build_whole_image(patch_model, unsized, "hm+8x1", patch_map=2)
    assert model.get_layer("heatmap_pool").pool_size == (2, 2)


def test_a_model_that_is_no_patch_classifier_is_refused(contract):
    other = keras.Model(*grey_input(contract), name="other")
    with pytest.raises(ValueError, match="'other' has no layer 'patch_pool'"):
        build_whole_image(other, contract, "8x1")


@pytest.mark.parametrize("top", ["4-4-8x1", "hm-pool2-fc8-4"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_float32(top, policy, contract, grey_images):
    keras.mixed_precision.set_dtype_policy(policy)
    patch_model = build_patch_classifier("squeezenet", contract=contract)
    load_imagenet(patch_model, "squeezenet")
    model = build_whole_image(patch_model, contract, top, height=96, width=96)
    found = np.asarray(model(grey_images(2, 96, 96)))
    assert found.dtype == np.float32 and np.isfinite(found).all()


def test_a_training_step_changes_patch_net_and_top(patch_model, contract, grey_images):
    model = build_whole_image(patch_model, contract, "4-4-8x1")
    names = ("conv1", "top_block1_unit1_conv1", "image_prediction")
    before = [model.get_layer(name).get_weights()[0] for name in names]
    model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(grey_images(2, 64, 64), np.eye(2)))
    for name, old in zip(names, before, strict=True):
        assert not np.array_equal(model.get_layer(name).get_weights()[0], old)


def test_a_whole_image_contract_names_two_classes_and_the_new_size(contract):
    found = image_contract(contract, height=288, width=224)
    assert found.class_names == ("neg", "pos")
    assert (found.height, found.width, found.backbone) == (288, 224, "squeezenet")
