"""The architecture and the arrays in a whole model's file, as Keras 2 wrote it.

Nothing here builds a network: a file is read into plain records, every layer's class
checked against a list, and every array against the place where Keras 2 put it. What a
file lists and what its architecture has must agree by layer, role and number.

Source:
    Keras 2.0.8's file layout, as read from files that it wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from dm_models.layer_files import (
    ModelFileError,
    WeightsError,
    check_not_inflated,
    layer_file_names,
    opened_h5,
)

NESTED = ("Model", "Functional", "Sequential")

# Layer -> the settings that change what it computes. Initialisers and constraints of
# training are left behind; regularisers are kept, and an activation is a name.
_POOLING = ("pool_size", "strides", "padding")
_CONVOLUTION = (
    "filters", "kernel_size", "strides", "padding", "dilation_rate", "activation",
    "use_bias",
)  # fmt: skip
LAYERS: Mapping[str, tuple[str, ...]] = {
    "Conv2D": _CONVOLUTION,
    "SeparableConv2D": (*_CONVOLUTION, "depth_multiplier"),
    "DepthwiseConv2D": (*_CONVOLUTION[1:], "depth_multiplier"),
    "Dense": ("units", "activation", "use_bias"),
    "BatchNormalization": ("axis", "momentum", "epsilon", "center", "scale"),
    "Activation": ("activation",),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "LeakyReLU": ("alpha", "negative_slope"),
    "Softmax": ("axis",),
    "MaxPooling2D": _POOLING,
    "AveragePooling2D": _POOLING,
    "GlobalAveragePooling2D": (),
    "GlobalMaxPooling2D": (),
    "ZeroPadding2D": ("padding",),
    "Cropping2D": ("cropping",),
    "Flatten": (),
    "Dropout": ("rate",),
    "SpatialDropout2D": ("rate",),
    "Add": (),
    "Concatenate": ("axis",),
}
_ROLES = {
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_MOVING = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class Net:
    """One level of a file's architecture.

    Attributes:
        layers: Its layers' configurations in the file's order, inputs left out.
        inputs: Layer -> names of the layers it takes, in order.
        entry: The name of its input layer.
        exit: The name of the layer whose output is the net's.
        shape: Of the input: (rows, columns, channels), None where any.
        nested: Layer -> the net that stands in its place.
    """

    layers: tuple[Mapping, ...]
    inputs: Mapping[str, tuple[str, ...]]
    entry: str
    exit: str
    shape: tuple[int | None, ...]
    nested: Mapping[str, Net] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Its layers' names, in the file's order."""
        return [layer["name"] for layer in self.layers]


def is_keras2_model(path: str | Path) -> bool:
    """Whether a file is a whole model saved by Keras 2, without a contract of ours."""
    try:
        with opened_h5(Path(path)) as file:
            return "model_config" in file.attrs and _version(file)[0] == 2
    except ModelFileError:
        return False


def read_keras2(path: Path) -> tuple[Net, dict[str, list[tuple[str, np.ndarray]]]]:
    """Read a file's architecture, and its arrays by top-level layer.

    Raises:
        ModelFileError: Not a whole model of Keras 2, or with a layer unknown to us.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    with opened_h5(path) as file:
        if "model_config" not in file.attrs:
            raise ModelFileError(
                f"{path}: weights only, without an architecture: import takes a model "
                "saved whole (Keras 2's model.save)"
            )
        version = _version(file)
        if version[0] != 2:
            raise ModelFileError(
                f"{path}: saved by Keras {'.'.join(map(str, version))}; import reads "
                "Keras 2's files. Load a Keras 3 model with keras.models.load_model "
                "and save it with dm_models.weights.save_model"
            )
        check_not_inflated(path, file)
        try:
            config = json.loads(_text(file.attrs["model_config"]))
        except ValueError as error:
            raise ModelFileError(f"{path}: its architecture is not JSON") from error
        net = _parsed(path, config)
        group = file["model_weights"]
        arrays = {
            layer: [
                (name, np.asarray(group[layer][name]))
                for name in layer_file_names(group[layer], "weight_names")
            ]
            for layer in layer_file_names(group, "layer_names")
        }
    return net, {layer: found for layer, found in arrays.items() if found}


def _version(file: h5py.File) -> tuple[int, ...]:
    text = _text(file.attrs.get("keras_version", "1"))
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3]) or (1,)


def _text(value) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _parsed(path: Path, config: Mapping) -> Net:
    """A net's configuration, every layer's class checked."""
    kind, body = config.get("class_name"), config.get("config")
    if kind not in NESTED or not body:
        raise ModelFileError(f"{path}: its architecture is a {kind!r}, not a network")
    if kind == "Sequential":
        return _parsed_chain(path, body)
    layers = body["layers"]
    inputs = {layer["name"]: _sources(path, layer) for layer in layers}
    ends = [body["input_layers"], body["output_layers"]]
    if any(len(end) != 1 for end in ends):
        raise ModelFileError(
            f"{path}: {len(ends[0])} inputs and {len(ends[1])} outputs; one each is due"
        )
    (entry, *_), (exit_name, *_) = ends[0][0], ends[1][0]
    return _net(path, layers, inputs, entry, exit_name)


def _parsed_chain(path: Path, body) -> Net:
    """A Sequential model: a list of layers, each taking the one before."""
    layers = body["layers"] if isinstance(body, dict) else body
    layers = [{"name": layer["config"]["name"], **layer} for layer in layers]
    first = layers[0]["config"]
    if layers[0]["class_name"] != "InputLayer":
        shape = first.get("batch_input_shape")
        entry = {"class_name": "InputLayer", "name": "input",
                 "config": {"name": "input", "batch_input_shape": shape}}  # fmt: skip
        layers = [entry, *layers]
    names = [layer["name"] for layer in layers]
    inputs = {name: (before,) for before, name in zip(names, names[1:], strict=False)}
    return _net(path, layers, inputs, names[0], names[-1])


def _net(path: Path, layers, inputs, entry: str, exit_name: str) -> Net:
    nested, kept, shape = {}, [], None
    for layer in layers:
        kind = layer["class_name"]
        if kind == "InputLayer":
            shape = layer["config"].get("batch_input_shape")
            continue
        if kind in NESTED:
            nested[layer["name"]] = _parsed(path, layer)
        elif kind not in LAYERS:
            raise ModelFileError(
                f"{path}: layer {layer['name']!r} is a {kind}: no code in a file is "
                f"run, so only these layers are read: {', '.join(LAYERS)}"
            )
        kept.append(layer)
    if not shape or len(shape) != 4:
        raise ModelFileError(f"{path}: its input is no image: shape {shape}")
    return Net(tuple(kept), inputs, entry, exit_name, tuple(shape[1:]), nested)


def _sources(path: Path, layer: Mapping) -> tuple[str, ...]:
    """Names of the layers that a layer takes.

    Keras 2.0 counted a nested model's own making as its call 0, so that its output is
    asked for by index 1. A layer that is called once needs no index at all.
    """
    calls = layer["inbound_nodes"]
    if len(calls) > 1:
        raise ModelFileError(
            f"{path}: layer {layer['name']!r} is called {len(calls)} times; layers "
            "shared between places are not read"
        )
    return tuple(source[0] for source in calls[0]) if calls else ()


def ordered_arrays(
    net: Net, name: str, names: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Yield (layer, role, our name) in the order in which Keras 2 lists arrays.

    Args:
        net: The architecture.
        name: One of its layers.
        names: Its layers -> our names; a nested net's layers keep theirs.

    A plain layer's stand in its own order; a nested net's trainable ones come first.
    """
    layer = next(layer for layer in net.layers if layer["name"] == name)
    if name not in net.nested:
        for role in _roles(layer):
            yield name, role, names[name]
        return
    everything = list(_walk(net.nested[name]))
    for wanted in (True, False):
        for inner, role, trains in everything:
            if trains is wanted:
                yield inner, role, inner


def _walk(net: Net) -> Iterator[tuple[str, str, bool]]:
    """(layer, role, whether it trains), nets within nets laid out in their places."""
    for layer in net.layers:
        if layer["name"] in net.nested:
            yield from _walk(net.nested[layer["name"]])
            continue
        trains = layer["config"].get("trainable", True)
        for role in _roles(layer):
            yield layer["name"], role, bool(trains and role not in _MOVING)


def _roles(layer: Mapping) -> list[str]:
    config = layer["config"]
    absent = {
        "bias": not config.get("use_bias", True),
        "gamma": not config.get("scale", True),
        "beta": not config.get("center", True),
    }
    roles = _ROLES.get(layer["class_name"], ())
    return [role for role in roles if not absent.get(role, False)]


def checked_arrays(
    path: Path, wanted: Mapping, groups: Mapping
) -> dict[str, dict[str, np.ndarray]]:
    """Return our layer -> role -> array, every array of the file accounted for.

    Raises:
        WeightsError: Naming the first layer or array that is missing or surplus.
    """
    due = {layer: order for layer, order in wanted.items() if order}
    missing = [name for name in due if name not in groups]
    surplus = [name for name in groups if name not in due]
    for kind, names in (("missing", missing), ("surplus", surplus)):
        if names:
            raise WeightsError(f"{path}: {kind} in the file: the arrays of {names[0]}")
    found: dict[str, dict[str, np.ndarray]] = {}
    for layer, order in due.items():
        if len(order) != len(groups[layer]):
            raise WeightsError(
                f"{path}: layer {layer}: its architecture has {len(order)} arrays, the "
                f"file {len(groups[layer])}"
            )
        for (inner, role, ours), (name, array) in zip(
            order, groups[layer], strict=True
        ):
            if not _is_named(name, inner, role):
                raise WeightsError(
                    f"{path}: {inner}/{role} is due, the file has {name}"
                )
            found.setdefault(ours, {})[role] = array
    return found


def _is_named(name: str, layer: str, role: str) -> bool:
    """Whether a weight's name is a layer's; TensorFlow may have added a number."""
    stem, _, tail = name.rpartition("/")
    last = stem.rpartition("/")[2]
    return tail.split(":")[0] == role and bool(
        re.fullmatch(re.escape(layer) + r"(_\d+)?", last)
    )
