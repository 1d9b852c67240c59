import keras
import numpy as np
import pytest

from dm_models.heatmap import build_heatmap
from dm_models.inputs import grey_input


def test_on_a_patch_the_heatmap_is_the_patch_nets_answer(patch_model, grey_images):
    """Pool-then-Dense equals the mean of the same weights as a 1x1 convolution."""
    images = grey_images(3, 64, 64)
    found = np.asarray(build_heatmap(patch_model, pool=3)(images))
    assert found.shape == (3, 1, 1, 5)
    np.testing.assert_allclose(
        found[:, 0, 0], np.asarray(patch_model(images)), rtol=1e-5, atol=1e-7
    )


def test_the_lowest_position_sees_the_last_rows(patch_model, grey_images):
    image = grey_images(1, 96, 64)  # a map of 5 x 3: three positions
    found = np.asarray(build_heatmap(patch_model, pool=3)(image))
    assert found.shape == (1, 3, 1, 5)
    changed = image.copy()
    changed[:, 90:] = 0  # the last rows: within reach of the lowest position
    other = np.asarray(build_heatmap(patch_model, pool=3)(changed))
    assert not np.allclose(found[0, 2], other[0, 2], rtol=1e-6)


def test_relu_is_the_linear_head_cut_at_zero(patch_model, grey_images):
    images = grey_images(2, 64, 64)
    relu = np.asarray(build_heatmap(patch_model, pool=3, activation="relu")(images))
    features = build_features(patch_model)(images)
    kernel, bias = patch_model.get_layer("patch_prediction").get_weights()
    linear = np.asarray(features).mean(axis=(1, 2)) @ kernel + bias
    assert (linear < 0).any() and (linear > 0).any()
    np.testing.assert_allclose(
        relu[:, 0, 0], np.maximum(linear, 0), rtol=1e-4, atol=1e-4
    )


def build_features(patch_model):
    return keras.Model(patch_model.input, patch_model.get_layer("patch_pool").input)


def test_strides_thin_the_map_out(patch_model, grey_images):
    image = grey_images(1, 160, 160)  # a map of 9 x 9
    dense = np.asarray(build_heatmap(patch_model, pool=3)(image))
    thin = np.asarray(build_heatmap(patch_model, pool=3, strides=2)(image))
    np.testing.assert_allclose(thin, dense[:, ::2, ::2], rtol=1e-5)


def test_the_patch_model_is_left_as_it_was(patch_model, grey_images):
    images = grey_images(1, 64, 64)
    before = np.asarray(patch_model(images))
    build_heatmap(patch_model, pool=3)
    np.testing.assert_array_equal(np.asarray(patch_model(images)), before)


def test_an_unknown_activation_is_refused(patch_model):
    with pytest.raises(ValueError, match="one of .*received 'tanh'"):
        build_heatmap(patch_model, pool=3, activation="tanh")


def test_a_model_without_a_patch_pool_is_refused(contract):
    other = keras.Model(*grey_input(contract), name="other")
    with pytest.raises(ValueError, match="'other' has no layer 'patch_pool'"):
        build_heatmap(other, pool=3)
