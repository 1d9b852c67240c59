"""The patch classifier: what is in this piece of breast? (Shen et al., 3.1.2).

A backbone without its top, global average pooling, dropout, Dense softmax. It is born
convolutional: built on images of any size, so that the whole-image net reuses its graph
up to `patch_pool`, and its head becomes a 1x1 convolution with the same weights.
"""

from __future__ import annotations

import keras

from dm_models.backbones import BackboneError, get_backbone
from dm_models.inputs import InputContract, grey_input

PATCH_CLASSES = ("background", "calc_mal", "calc_ben", "mass_mal", "mass_ben")
POOL_LAYER = "patch_pool"
HEAD_LAYER = "patch_prediction"


def build_patch_classifier(
    backbone: str,
    *,
    contract: InputContract | None = None,
    num_classes: int = len(PATCH_CLASSES),
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    height: int | None = None,
    width: int | None = None,
) -> keras.Model:
    """Build a patch classifier with random weights.

    Args:
        backbone: One of `backbones.backbone_names()`.
        contract: The preparation to build in; None for the backbone's own, mean 0.
        num_classes: Outputs of the softmax.
        dropout: Rate before the last layer.
        weight_decay: L2 factor on the last layer's kernel.
        height: Rows of the images, checked; the net takes any size all the same.
        width: Columns of the images, checked.

    Returns:
        Raw grey levels (N, H, W, 1) float32 -> probabilities (N, num_classes) float32.

    Raises:
        BackboneError: Unknown backbone, a contract of another one, or a size too small.
    """
    net = get_backbone(backbone)
    contract = contract or net.contract(class_names=PATCH_CLASSES[:num_classes])
    if contract.backbone != backbone:
        raise BackboneError(
            f"the input contract is for {contract.backbone!r}, the net is {backbone!r}"
        )
    _check_side(net, "height", height)
    _check_side(net, "width", width)
    inputs, prepared = grey_input(contract)
    x = net.build(prepared)
    x = keras.layers.GlobalAveragePooling2D(name=POOL_LAYER)(x)
    x = keras.layers.Dropout(dropout, name="patch_dropout")(x)
    outputs = keras.layers.Dense(
        num_classes,
        activation="softmax",
        kernel_regularizer=keras.regularizers.L2(weight_decay),
        dtype="float32",
        name=HEAD_LAYER,
    )(x)
    return keras.Model(inputs, outputs, name=f"{backbone}_patch")


def _check_side(net, side: str, length: int | None) -> None:
    if length is not None and net.map_size(length) < 1:
        raise BackboneError(
            f"{side} {length} leaves nothing of {net.name}'s feature map; the least is "
            f"{net.least_size()}"
        )
