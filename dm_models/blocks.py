"""The two kinds of block that a whole-image top is made of (Shen et al., 3.1.4).

A Resnet block `[L-M-N] x K` is K bottleneck units 1x1(L) - 3x3(M) - 1x1(N); a VGG
block `N x K` is K convolutions 3x3(N) and a 2x2 max pooling. Every convolution is
followed by batch norm, is he_normal, padded "same", has a bias, and an L2 penalty on
its kernel. Either block halves the map: the Resnet block by stride 2 in its first 1x1,
rounding up, the VGG block by its pooling, rounding down.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras


def resnet_block(
    x, depths: tuple[int, int, int], *, repetitions: int, name: str, weight_decay: float
):
    """Apply K bottleneck units, the first with stride 2 and a projection shortcut.

    Args:
        x: Feature map (N, H, W, C).
        depths: (L, M, N), the channels of the three convolutions of a unit.
        repetitions: K, at least 1.
        name: Prefix of the layers' names: `<name>_unit<k>_conv<i>`.
        weight_decay: L2 factor on the convolutions' kernels.

    Returns:
        Feature map (N, ceil(H / 2), ceil(W / 2), depths[2]).
    """
    for unit in range(1, repetitions + 1):
        unit_name = f"{name}_unit{unit}"
        strides = 2 if unit == 1 else 1
        shortcut = x
        if unit == 1:
            shortcut = _conv_bn(
                x, depths[2], 1, strides, f"{unit_name}_shortcut", "", weight_decay
            )
        x = _bottleneck(x, depths, strides, unit_name, weight_decay)
        x = keras.layers.Add(name=f"{unit_name}_add")([x, shortcut])
        x = keras.layers.ReLU(name=f"{unit_name}_out")(x)
    return x


def vgg_block(x, depth: int, *, repetitions: int, name: str, weight_decay: float):
    """Apply K times [3x3 convolution, batch norm, ReLU], then 2x2 max pooling.

    Args:
        x: Feature map (N, H, W, C), H and W at least 2.
        depth: Channels of every convolution.
        repetitions: K, at least 1.
        name: Prefix of the layers' names: `<name>_conv<k>`.
        weight_decay: L2 factor on the convolutions' kernels.

    Returns:
        Feature map (N, H // 2, W // 2, depth).
    """
    for index in range(1, repetitions + 1):
        x = _conv_bn(x, depth, 3, 1, name, str(index), weight_decay)
        x = keras.layers.ReLU(name=f"{name}_relu{index}")(x)
    return keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x)


def fc_layers(x, units: Sequence[int], *, name: str, weight_decay: float):
    """Apply fully connected layers, each with batch norm and ReLU.

    Args:
        x: Features (N, C).
        units: Units of each layer in order.
        name: Prefix of the layers' names: `<name>_fc<i>`.
        weight_decay: L2 factor on the kernels.

    Returns:
        Features (N, units[-1]).
    """
    for index, width in enumerate(units, start=1):
        x = keras.layers.Dense(
            width,
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(weight_decay),
            name=f"{name}_fc{index}",
        )(x)
        x = keras.layers.BatchNormalization(name=f"{name}_fc{index}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_fc{index}_relu")(x)
    return x


def pooled_and_flat(heat, pool: int):
    """Max-pool a heatmap of fixed size by `pool` (1: not at all) and flatten it."""
    if pool > 1:
        heat = keras.layers.MaxPooling2D(pool, name="top_heatmap_pool")(heat)
    return keras.layers.Flatten(name="top_flatten")(heat)


def softmax_of(ways: Sequence, num_classes: int, *, weight_decay: float):
    """Apply the last layer, in float32: softmax of the sum of linear maps.

    Args:
        ways: One feature tensor (N, C), or two: the top's and the shortcut's.
        num_classes: Outputs.
        weight_decay: L2 factor on the kernels.

    Returns:
        Probabilities (N, num_classes), layer `image_prediction`.
    """
    names = ("image_logits", "image_shortcut")
    if len(ways) == 1:
        return _dense(num_classes, "image_prediction", weight_decay, "softmax")(ways[0])
    linear = [
        _dense(num_classes, name, weight_decay, None)(way)
        for name, way in zip(names, ways, strict=True)
    ]
    x = keras.layers.Add(dtype="float32", name="image_add")(linear)
    return keras.layers.Softmax(dtype="float32", name="image_prediction")(x)


def _bottleneck(x, depths, strides: int, name: str, weight_decay: float):
    x = _conv_bn(x, depths[0], 1, strides, name, "1", weight_decay)
    x = keras.layers.ReLU(name=f"{name}_relu1")(x)
    x = _conv_bn(x, depths[1], 3, 1, name, "2", weight_decay)
    x = keras.layers.ReLU(name=f"{name}_relu2")(x)
    return _conv_bn(x, depths[2], 1, 1, name, "3", weight_decay)


def _conv_bn(x, filters, kernel, strides, name: str, suffix: str, weight_decay: float):
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(weight_decay),
        name=f"{name}_conv{suffix}",
    )(x)
    return keras.layers.BatchNormalization(name=f"{name}_bn{suffix}")(x)


def _dense(units: int, name: str, weight_decay: float, activation: str | None):
    return keras.layers.Dense(
        units,
        activation=activation,
        kernel_regularizer=keras.regularizers.L2(weight_decay),
        dtype="float32",
        name=name,
    )
