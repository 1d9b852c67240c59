"""The whole-image classifier: a patch net with a new top (Shen et al., 2.2, 3.1.4).

The patch net is cut before its global pooling and its graph goes on into the top: the
layers stay flat, keep their names and, bit for bit, their weights. They are SHARED with
the patch model, `trainable` flags included: save and reload a patch model to keep a
copy. Where the top has a fixed image size, the patch net's layers are copied instead.
"""

from __future__ import annotations

import keras

from dm_models.backbones import Backbone, get_backbone
from dm_models.heatmap import heatmap, patch_features
from dm_models.inputs import INPUT_NAME, InputContract
from dm_models.tops import Top, TopError, apply_top, parse_top, top_map_size

IMAGE_CLASSES = ("neg", "pos")


def build_whole_image(
    patch_model: keras.Model,
    contract: InputContract,
    top: Top | str,
    *,
    num_classes: int = len(IMAGE_CLASSES),
    dropout: float = 0.0,
    weight_decay: float = 1e-3,
    height: int | None = None,
    width: int | None = None,
    patch_map: int | tuple[int, int] | None = None,
    hm_strides: int = 1,
) -> keras.Model:
    """Put a whole-image top on a patch classifier.

    Args:
        patch_model: A patch classifier of this project; left as it is.
        contract: Its contract; its height and width give the heatmap's pooling.
        top: A `Top` or its notation, such as "512-512-1024x2".
        num_classes: Outputs of the softmax.
        dropout: Rate before the last layer.
        weight_decay: L2 factor on every kernel of the top.
        height: Rows of the images: checked against the top, and fixed where the top has
            FC layers or a shortcut; else the net takes any size all the same.
        width: Columns of the images, likewise.
        patch_map: The patch net's own map, where a heatmap is wanted and the contract
            does not give the patch size: `--avg-pool-size`.
        hm_strides: Step of the heatmap.

    Returns:
        Raw grey levels (N, H, W, 1) float32 -> probabilities (N, num_classes) float32.

    Raises:
        TopError: A fixed-size top without a size, an image too small for the top, or a
            heatmap whose pooling nothing gives.
    """
    top = parse_top(top) if isinstance(top, str) else top
    net = get_backbone(contract.backbone)
    pool = _heatmap_pool(net, contract, top, patch_map)
    if top.fixed_size and (height is None or width is None):
        raise TopError(
            f"top {top} has a fixed image size: height and width are due, received "
            f"{height} and {width}"
        )
    for index, (name, side) in enumerate((("height", height), ("width", width))):
        _check_side(net, top, name, side, pool[index], hm_strides)
    base = _features_model(patch_model)
    if top.fixed_size:
        base = _copied(base, height, width)
    heat = None
    if top.uses_heatmap:
        heat = heatmap(
            base.output, patch_model, pool=pool, activation="relu", strides=hm_strides
        )
    outputs = apply_top(
        base.output,
        top,
        heat=heat,
        num_classes=num_classes,
        dropout=dropout,
        weight_decay=weight_decay,
    )
    return keras.Model(base.input, outputs, name=f"{contract.backbone}_image")


def image_contract(
    contract: InputContract, *, height: int | None, width: int | None
) -> InputContract:
    """Return a patch contract made a whole-image one: two classes, another size."""
    return contract.replace(class_names=IMAGE_CLASSES, height=height, width=width)


def minimum_size(
    backbone: str, top: Top | str, *, patch_map: int = 7, hm_strides: int = 1
) -> int:
    """Return the shortest image side on which something is left after the top.

    Args:
        backbone: A name of `dm_models.backbones`.
        top: A `Top` or its notation.
        patch_map: The patch net's own map, where the top uses the heatmap.
        hm_strides: Step of the heatmap.
    """
    top = parse_top(top) if isinstance(top, str) else top
    net = get_backbone(backbone)
    longest = net.stride * hm_strides * (patch_map + 4 * 2 ** len(top.blocks)) * 8
    longest *= top.pool or 1
    return next(
        side
        for side in range(1, longest)
        if _left(net, top, side, patch_map, hm_strides) >= 1
    )


def _left(net: Backbone, top: Top, side: int, pool: int, hm_strides: int) -> int:
    features = net.map_size(side)
    if features < 1:
        return 0
    return top_map_size(top, features, heatmap_pool=pool, hm_strides=hm_strides)


def _check_side(net, top: Top, name: str, side, pool: int, hm_strides: int) -> None:
    if side is None or _left(net, top, side, pool, hm_strides) >= 1:
        return
    least = minimum_size(net.name, top, patch_map=pool, hm_strides=hm_strides)
    raise TopError(
        f"image {name} {side} is too small for {net.name} with top {top}: nothing "
        f"would be left of its feature map; the least is {least}"
    )


def _heatmap_pool(net, contract, top: Top, patch_map) -> tuple[int, int]:
    """The patch net's own map as (rows, columns); (1, 1) where no heatmap is used."""
    if not top.uses_heatmap:
        return 1, 1
    if patch_map is not None:
        return (patch_map, patch_map) if isinstance(patch_map, int) else patch_map
    if contract.height is None or contract.width is None:
        raise TopError(
            f"top {top} pools over the patch net's own map, but the patch model's "
            "contract holds no patch size: give patch_map (--avg-pool-size)"
        )
    return net.map_size(contract.height), net.map_size(contract.width)


def _features_model(patch_model: keras.Model) -> keras.Model:
    return keras.Model(patch_model.input, patch_features(patch_model))


def _copied(model: keras.Model, height: int, width: int) -> keras.Model:
    """The same layers anew on images of one size, with the same weights."""
    inputs = keras.Input((height, width, 1), dtype="float32", name=INPUT_NAME)
    copy = keras.models.clone_model(model, input_tensors=inputs)
    copy.set_weights(model.get_weights())
    return copy
