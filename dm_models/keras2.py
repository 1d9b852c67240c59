"""Whole models that Keras 2 saved, such as the authors' of 2017, in Keras 3.

The file's own architecture is rebuilt layer by layer from a list of known layers, so
that no code in a file is run and `keras.applications` is not trusted to be what it was
(Keras 2.0.8's ResNet50 pads and normalises otherwise, and shapes do not betray it).
A nested patch net is laid out flat, under its own layers' names; the layers around it
get the prefix `top_`, since both may be called `activation_1`. Every array is checked
by layer, role and shape before the first is set. The file is only read.

The network is opened by our input contract, which a Keras 2 file does not hold: the
grey scale and mean that it was trained with must be told.

Command: `python -m dm_models.weights import FILE.h5 --mean 52.18 --out MODEL.keras`

Source:
    Keras 2.0.8's file layout, as read from files that it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dm_models.inputs import FULL_SCALE, InputContract, grey_input
from dm_models.keras2_files import (
    LAYERS,
    Net,
    checked_arrays,
    ordered_arrays,
    read_keras2,
)
from dm_models.layer_files import ModelFileError, WeightsError

if TYPE_CHECKING:
    import keras

OUTER_PREFIX = "top_"

_PENALISED = {
    "Conv2D": "kernel_regularizer", "Dense": "kernel_regularizer",
    "DepthwiseConv2D": "depthwise_regularizer",
}  # fmt: skip


def import_keras2(
    path: str | Path,
    *,
    mean: float,
    scale: float = FULL_SCALE,
    backbone: str | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[keras.Model, InputContract]:
    """Rebuild a Keras 2 model behind our input contract.

    Args:
        path: A whole model as Keras 2 saved it (`.h5` or `.hdf5`); never changed.
        mean: The one scalar that was subtracted from its images, on the 0-255 scale
            (the authors' scripts: 52.18 on DDSM, 44.33 on INbreast).
        scale: Factor from 16-bit grey levels to the scale that it was trained on.
        backbone: A name for the contract; None: recognised by the layers' names, else
            "keras2".
        class_names: In the order of its outputs, which a file does not hold; None: neg
            and pos of two, the paper's five patch classes of five.

    Returns:
        (model, contract): raw grey levels (N, H, W, 1) -> what the file's last layer
        gives. Which layers train is as in the file; `freezing.set_trainable_from`
        changes it. A patch classifier's pooling and last layer are named as ours, so
        that `build_whole_image` and `build_heatmap` take it.

    Raises:
        ModelFileError: Not such a file, or a layer that is not in `LAYERS`.
        WeightsError: An array is missing, surplus, or of another layer, role or shape.
    """
    path = Path(path)
    net, groups = read_keras2(path)
    names = _our_names(net)
    wanted = {name: list(ordered_arrays(net, name, names)) for name in names}
    found = checked_arrays(path, wanted, groups)
    contract = InputContract(
        backbone=backbone or "keras2", scale=scale, mean=float(mean),
        channels=_channels(path, net), height=net.shape[0], width=net.shape[1],
    )  # fmt: skip
    model = _built(path, net, contract)
    _set_arrays(path, model, found)
    return model, _described(contract, model, backbone, class_names)


def _channels(path: Path, net: Net) -> int:
    channels = net.shape[2]
    if channels not in (1, 3):
        raise ModelFileError(f"{path}: takes {channels} channels; 1 or 3 are due")
    return channels


def _built(path: Path, net: Net, contract: InputContract) -> keras.Model:
    import keras

    height, width = net.shape[:2]
    inputs, prepared = grey_input(contract, height=height, width=width)
    try:
        outputs = _applied(net, prepared, _our_names(net))
        return keras.Model(inputs, outputs, name=re.sub(r"\W", "_", path.stem))
    except (TypeError, ValueError, KeyError) as error:
        raise ModelFileError(f"{path}: cannot be rebuilt: {error}") from error


def _our_names(net: Net) -> dict[str, str]:
    """A file's top-level layers -> our layers' names."""
    from dm_models.patch_classifier import HEAD_LAYER, POOL_LAYER

    if net.nested:
        return {name: OUTER_PREFIX + name for name in net.names}
    names = {name: name for name in net.names}
    kinds = {layer["name"]: layer["class_name"] for layer in net.layers}
    pools = [name for name, kind in kinds.items() if kind == "GlobalAveragePooling2D"]
    if len(pools) == 1 and kinds[net.exit] == "Dense":
        names.update({pools[0]: POOL_LAYER, net.exit: HEAD_LAYER})
    return names


def _applied(net: Net, tensor, names: Mapping[str, str]):
    """Apply a net's layers to a tensor, nets within it laid out in their places."""
    outputs = {net.entry: tensor}
    waiting = list(net.layers)
    while waiting:
        ready = [
            layer
            for layer in waiting
            if all(source in outputs for source in net.inputs[layer["name"]])
        ]
        if not ready:
            raise ValueError(f"nothing leads to layer {waiting[0]['name']!r}")
        for layer in ready:
            taken = [outputs[source] for source in net.inputs[layer["name"]]]
            name = layer["name"]
            if name in net.nested:
                inner = net.nested[name]
                same = {each: each for each in inner.names}
                outputs[name] = _applied(inner, taken[0], same)
            else:
                made = _layer(layer, names[name])
                outputs[name] = made(taken if len(taken) > 1 else taken[0])
            waiting.remove(layer)
    return outputs[net.exit]


def _layer(layer: Mapping, name: str) -> keras.layers.Layer:
    """A stock Keras 3 layer of a Keras 2 configuration."""
    import keras

    kind, config = layer["class_name"], layer["config"]
    if config.get("data_format", "channels_last") != "channels_last":
        raise ValueError(f"layer {layer['name']!r} holds its channels first")
    settings = {key: config[key] for key in LAYERS[kind] if key in config}
    if "activation" in settings and not isinstance(settings["activation"], str):
        raise ValueError(
            f"layer {layer['name']!r} has an activation that is no name: "
            f"{settings['activation']!r}"
        )
    if isinstance(settings.get("axis"), list):
        settings["axis"] = settings["axis"][0]
    if kind == "LeakyReLU" and "alpha" in settings:
        settings["negative_slope"] = settings.pop("alpha")
    penalty = _penalty(config.get(_PENALISED.get(kind, ""), None))
    if penalty is not None:
        settings[_PENALISED[kind]] = penalty
    made = getattr(keras.layers, kind)(**settings, name=name, dtype="float32")
    made.trainable = bool(config.get("trainable", True))
    return made


def _penalty(config: Mapping | None):
    """Keras 2's L1L2 with an L2 part -> L2, whose factor `freezing` can change."""
    import keras

    factors = (config or {}).get("config", {})
    if factors.get("l1"):
        return keras.regularizers.L1L2(factors["l1"], factors.get("l2", 0.0))
    return keras.regularizers.L2(factors["l2"]) if factors.get("l2") else None


def _set_arrays(path: Path, model: keras.Model, found) -> None:
    """Give every layer its arrays, all shapes checked before the first is set."""
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers:
        for weight in layer.weights:
            array = found[layer.name][weight.name]
            if tuple(weight.shape) != array.shape:
                raise WeightsError(
                    f"{path}: {layer.name}/{weight.name}: its architecture gives "
                    f"{tuple(weight.shape)}, the file holds {array.shape}"
                )
    for layer in layers:
        layer.set_weights([found[layer.name][w.name] for w in layer.weights])


def _described(
    contract: InputContract, model: keras.Model, backbone: str | None, class_names
) -> InputContract:
    """The contract with the net's name and its classes."""
    from dm_models.backbones import backbone_of
    from dm_models.patch_classifier import PATCH_CLASSES
    from dm_models.whole_image import IMAGE_CLASSES

    count = model.output_shape[-1]
    known = {2: IMAGE_CLASSES, len(PATCH_CLASSES): PATCH_CLASSES}
    names = tuple(class_names or known.get(count) or ())
    if len(names) != count:
        raise ModelFileError(
            f"the model has {count} outputs: name them in order, received {names}"
        )
    recognised = backbone_of(model)
    name = backbone or (recognised.name if recognised else contract.backbone)
    return contract.replace(backbone=name, class_names=names)
