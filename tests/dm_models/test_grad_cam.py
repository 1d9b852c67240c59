from pathlib import Path

import keras
import numpy as np
import pytest

from dm_models.grad_cam import GradCamError, cam_layer, grad_cam, map_layers
from dm_models.keras2 import import_keras2
from dm_models.receptive_field import cell_centres
from dm_models.whole_image import build_whole_image

FIXTURES = Path(__file__).parent / "data" / "keras-2.0.8"


def small_net(*, flat=False, last="dense"):
    """Two convolutions on 8 x 8 with an ending of each kind; names are not ours."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(3, 3, activation="tanh", name="a")(inputs)
    x = keras.layers.Conv2D(4, 3, activation="tanh", name="b")(x)
    pooling = keras.layers.Flatten if flat else keras.layers.GlobalAveragePooling2D
    x = keras.layers.Dropout(0.5)(pooling(name="pool")(x))
    if last == "dense":
        x = keras.layers.Dense(2, activation="softmax", name="out")(x)
    else:
        softmax = {
            "softmax": keras.layers.Softmax(name="out"),
            "activation": keras.layers.Activation("softmax", name="out"),
        }
        x = softmax[last](keras.layers.Dense(2, name="logits")(x))
    return keras.Model(inputs, x)


def log_odds(model, layer, maps):
    """log p(pos) - log p(neg) from a layer's maps on, by the softmax itself."""
    rest = keras.Model(model.get_layer(layer).output, model.output)
    p = np.asarray(rest(maps.astype(np.float32), training=False), np.float64)
    return np.log(p[:, 1]) - np.log(p[:, 0])


def by_small_changes(model, layer, image):
    """Grad-CAM of one image with each derivative taken by changing one cell."""
    made = keras.Model(model.input, model.get_layer(layer).output)
    maps = np.asarray(made(image, training=False))
    cells = np.eye(maps[0].size).reshape(-1, *maps.shape[1:]) * 1e-2
    rise = log_odds(model, layer, maps + cells) - log_odds(model, layer, maps - cells)
    weights = (rise / 2e-2).reshape(maps.shape[1:]).mean(axis=(0, 1))
    return np.maximum(maps[0] @ weights, 0)


@pytest.fixture
def image():
    return np.random.default_rng(2).normal(size=(1, 8, 8, 1)).astype(np.float32)


def speaking_for_pos(model):
    """The net with every channel of its last map for pos, so that a map is not 0."""
    for dense in (
        each for each in model.layers if isinstance(each, keras.layers.Dense)
    ):
        kernel, bias = dense.get_weights()
        dense.set_weights([np.abs(kernel) * [-1.0, 1.0], bias])
    return model


@pytest.mark.parametrize("last", ["dense", "softmax", "activation"])
def test_the_averaged_map_needs_no_tape(image, last):
    model = small_net(last=last)
    found = grad_cam(model, image)[0]
    assert cam_layer(model).name == "b"
    assert found.dtype == np.float32 and found.shape == (4, 4) and found.max() > 0
    np.testing.assert_allclose(found, by_small_changes(model, "b", image), atol=2e-5)


@pytest.mark.parametrize(("flat", "layer"), [(False, "a"), (True, "a"), (True, "b")])
def test_other_layers_agree_with_small_changes(image, flat, layer):
    model = small_net(flat=flat)
    found = grad_cam(model, image, layer=layer)[0]
    np.testing.assert_allclose(found, by_small_changes(model, layer, image), atol=2e-4)
    assert found.max() > 1e-3


def test_images_of_a_batch_do_not_mix(image):
    model = small_net()
    both = np.concatenate([image, 1 - image])
    for layer in (None, "a"):
        apart = [grad_cam(model, one[None], layer=layer)[0] for one in both]
        np.testing.assert_allclose(grad_cam(model, both, layer=layer), apart, atol=1e-6)


def test_the_default_map_sums_to_the_logits_difference_without_the_bias(image):
    model = small_net()
    kernel, bias = model.get_layer("out").get_weights()
    model.get_layer("b").activation = keras.ops.abs  # every cell speaks for pos
    kernel = np.abs(kernel) * [-1.0, 1.0]
    model.get_layer("out").set_weights([kernel, bias + [0.1, 0.4]])
    p = np.asarray(model(image, training=False))[0]
    total = grad_cam(model, image)[0].sum()
    assert total == pytest.approx(np.log(p[1] / p[0]) - 0.3, abs=1e-5)  # 0.4 - 0.1


def test_a_map_is_float32_and_hardly_changes_under_mixed_precision(
    contract, patch_model, grey_images
):
    full = speaking_for_pos(build_whole_image(patch_model, contract, "8x1"))
    config = full.get_config()
    for layer in config["layers"]:
        dtype = layer["config"].get("dtype")
        if isinstance(dtype, dict) and not layer["name"].startswith(("grey", "image")):
            dtype["config"]["name"] = "mixed_float16"
    half = keras.Model.from_config(config)
    half.set_weights(full.get_weights())
    assert half.get_layer("fire9_concat").compute_dtype == "float16"
    images = grey_images(1, 160, 128)
    for layer in (None, "fire9_concat"):
        exact, found = (grad_cam(m, images, layer=layer)[0] for m in (full, half))
        assert found.dtype == np.float32
        assert np.abs(found - exact).max() < 0.02 * exact.max()


def test_layers_that_some_ways_pass_by_are_refused(contract, patch_model):
    model = build_whole_image(patch_model, contract, "4-4-8x1")
    names = map_layers(model)
    assert "fire9_concat" in names and "top_block1_unit1_out" in names
    assert "fire9_expand1x1" not in names and "grey" not in names
    said = (r"received 'top_block1_unit1_conv2'; such are top_block2_unit1_out, "
            "top_block2_unit1_add, top_block1_unit1_out")  # fmt: skip
    with pytest.raises(GradCamError, match=said):
        cam_layer(model, "top_block1_unit1_conv2")
    with pytest.raises(GradCamError, match="received 'nothing'"):
        cam_layer(model, "nothing")


def test_a_top_of_fc_layers_is_sent_to_the_patch_heatmap(contract, patch_model):
    model = build_whole_image(
        patch_model, contract, "hm-pool2-fc8-4", height=128, width=128
    )
    with pytest.raises(GradCamError, match="the patch heatmap is what to use"):
        grad_cam(model, np.zeros((1, 128, 128, 1), np.float32))


def test_nets_without_a_softmax_of_two_are_refused(patch_model, image):
    with pytest.raises(GradCamError, match="'patch_prediction' with 5 outputs"):
        cam_layer(patch_model)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
    sigmoid = keras.layers.Dense(1, activation="sigmoid", name="p")(x)
    with pytest.raises(GradCamError, match="received Dense 'p' with 1 outputs"):
        cam_layer(keras.Model(inputs, sigmoid))


def test_an_imported_model_of_keras_2_has_a_map():
    model, _ = import_keras2(FIXTURES / "keras208_resnet.h5", mean=0.0, scale=1)
    images = np.load(FIXTURES / "keras208_resnet.npz")["x"][..., :1]
    heat = grad_cam(model, images)
    assert heat.shape[0] == len(images) and heat.max() > 0
    (_, step), _ = cell_centres(model, cam_layer(model), images.shape[1:3])
    assert heat.shape[1] == -(-images.shape[1] // int(step))


def test_the_map_of_a_net_that_sees_discs_is_hottest_on_the_disc():
    """A net made by hand: the mean within a disc, less that around it."""
    rows, cols = np.mgrid[-12:13, -12:13]
    inside = rows**2 + cols**2 <= 36
    kernel = inside / inside.sum() - ~inside / (~inside).sum()
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(1, 25, strides=8, padding="same", activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    arrays = (kernel[..., None, None], [0.0], [[0.0, 1.0]], [0.0, 0.0])
    model.set_weights([np.asarray(array) for array in arrays])
    for row, col in ((40, 71), (97, 22), (60, 60)):
        image = np.full((128, 96), 8000.0, np.float32)
        grid = np.mgrid[:128, :96]
        image[(grid[0] - row) ** 2 + (grid[1] - col) ** 2 <= 36] = 50000.0
        heat = grad_cam(model, image[None, ..., None])[0]
        cell = np.unravel_index(heat.argmax(), heat.shape)
        (row0, down), (col0, across) = cell_centres(model, cam_layer(model), (128, 96))
        assert abs(row0 + cell[0] * down - row) <= down / 2
        assert abs(col0 + cell[1] * across - col) <= across / 2
