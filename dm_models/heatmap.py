"""The heatmap: the patch classifier's verdict at every position of an image.

Average pooling over the patch net's own map, step 1, then the patch head's Dense as a
1x1 convolution with its own weights (Shen et al., 2.1). At the place of a patch this
equals the patch net's answer on that patch, up to what lies beyond the patch's border;
on an image of just the patch's size it equals it exactly: the conversion's test.
"""

from __future__ import annotations

import keras

from dm_models.patch_classifier import HEAD_LAYER, POOL_LAYER

ACTIVATIONS = ("softmax", "relu")


def build_heatmap(
    patch_model: keras.Model,
    *,
    pool: int | tuple[int, int],
    activation: str = "softmax",
    strides: int = 1,
) -> keras.Model:
    """Turn a patch classifier into a map of its classes, on images of any size.

    Args:
        patch_model: A patch classifier; its layers are shared, not copied.
        pool: The patch net's map: (rows, columns), or one number for both (7 for 224
            pixels at stride 32). See `backbones.Backbone.map_size`.
        activation: "softmax" (probabilities) or "relu" (as inside whole-image nets).
        strides: Step between positions, in steps of the feature map.

    Returns:
        Raw grey levels (N, H, W, 1) -> (N, h - pool + 1, w - pool + 1, classes) float32
        at strides 1, where (h, w) is the feature map.
    """
    features = patch_features(patch_model)
    outputs = heatmap(
        features, patch_model, pool=pool, activation=activation, strides=strides
    )
    return keras.Model(patch_model.input, outputs, name=f"{patch_model.name}_heatmap")


def heatmap(
    features,
    patch_model: keras.Model,
    *,
    pool: int | tuple[int, int],
    activation: str = "softmax",
    strides: int = 1,
):
    """Apply the patch head at every position of a feature map; see `build_heatmap`."""
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {ACTIVATIONS}, received {activation!r}"
        )
    head = patch_model.get_layer(HEAD_LAYER)
    pooled = keras.layers.AveragePooling2D(pool, strides=strides, name="heatmap_pool")(
        features
    )
    convolution = keras.layers.Conv2D(
        head.units,
        1,
        activation=activation,
        kernel_regularizer=head.kernel_regularizer,
        dtype="float32",
        name="heatmap",
    )
    outputs = convolution(pooled)
    kernel, bias = head.get_weights()
    convolution.set_weights([kernel[None, None], bias])
    return outputs


def patch_features(patch_model: keras.Model):
    """Return the tensor where a patch classifier is cut: what it pools globally.

    Raises:
        ValueError: No layer `patch_pool`: not a patch classifier of this project.
    """
    if POOL_LAYER not in [layer.name for layer in patch_model.layers]:
        raise ValueError(
            f"model {patch_model.name!r} has no layer {POOL_LAYER!r}: not a patch "
            "classifier of this project, so there is nowhere to cut it"
        )
    return patch_model.get_layer(POOL_LAYER).input
