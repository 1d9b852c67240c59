"""Grad-CAM's closed form against TensorFlow's tape over the whole net."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dm_models.grad_cam import cam_layer, grad_cam
from dm_models.whole_image import build_whole_image


@pytest.mark.parametrize("top", ["8x1", "4-4-8x1", "hm+4-4-8x1", "8x1+shortcut-pool2"])
def test_the_closed_form_is_what_the_tape_finds(
    contract, patch_model, grey_images, top
):
    model = build_whole_image(patch_model, contract, top, height=160, width=128)
    for dense in (
        each for each in model.layers if isinstance(each, keras.layers.Dense)
    ):
        kernel, bias = dense.get_weights()
        dense.set_weights([np.abs(kernel) * [-1.0, 1.0], bias])  # or the map may be 0
    images = grey_images(2, 160, 128)
    layer = cam_layer(model)
    assert layer.name in ("top_block2_pool", "top_block2_unit1_out")
    both = keras.Model(model.input, [layer.output, model.output])
    with tf.GradientTape() as tape:
        maps, p = both(tf.constant(images), training=False)
        score = tf.reduce_sum(tf.math.log(p[:, 1]) - tf.math.log(p[:, 0]))
    weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2))
    wanted = tf.nn.relu(tf.einsum("nhwc,nc->nhw", maps, weights))
    found = grad_cam(model, images)
    scale = float(tf.reduce_max(wanted))
    assert scale > 0
    np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-4)
