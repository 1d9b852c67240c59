"""HDF5 files that hold arrays by layer name: the older `.h5` of Keras 2 and 3.

A group a layer, listed in the attribute `layer_names`; in it the layer's arrays, in the
layer's own order, listed in `weight_names`. Keras 2 and 3 load such a file by order and
by name. A list of names beyond HDF5's 64 KiB stands in pieces, `layer_names0` and on.

Reading is strict: what does not fit raises, and nothing is set before all is checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    import keras

ROLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
# HDF5 keeps an attribute within 64 KiB.
_ATTRIBUTE_BYTES = 60_000
# An array may not unpack to more than this many times its file, beyond a small size.
_INFLATION, _SMALL_BYTES = 100, 64 * 2**20

LayerArrays = Mapping[str, Sequence[tuple[str, np.ndarray]]]


class ModelFileError(ValueError):
    """A model file cannot be read, or is not one of ours; the message names it."""


class WeightsError(ValueError):
    """A file's arrays and a model's weights do not match; nothing was loaded."""


def read_layer_file(path: str | Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Read a layer-named `.h5`: layer -> its (weight name, array), in file order.

    Layers without arrays are left out. A whole-model `.h5` gives its weights.

    Raises:
        ModelFileError: No HDF5 file, or of another layout.
    """
    with opened_h5(Path(path)) as file:
        check_not_inflated(path, file)
        group = file.get("model_weights", file)
        if not layer_file_names(group, "layer_names"):
            raise ModelFileError(
                f"{path}: no attribute 'layer_names': not a layer-named weights file"
            )
        arrays = {}
        for layer in layer_file_names(group, "layer_names"):
            names = layer_file_names(group[layer], "weight_names")
            if names:
                arrays[layer] = [(n, np.asarray(group[layer][n])) for n in names]
    return arrays


def set_layers(
    layers: Sequence[keras.layers.Layer], arrays: LayerArrays, path: str | Path
) -> None:
    """Give each layer the arrays of its name; check everything before the first one.

    Raises:
        WeightsError: Naming the first layer missing from the file, the first surplus
            one in it, or the first array of another number, role or shape.
    """
    wanted = {layer.name: layer for layer in layers}
    check_same_names("layers", wanted, arrays, path)
    for name, layer in wanted.items():
        _check_layer(layer, arrays[name], path)
    for name, layer in wanted.items():
        layer.set_weights([array for _, array in arrays[name]])


def write_layer_file(layers: Sequence[keras.layers.Layer], path: Path) -> None:
    """Write layers' weights as a group a layer, as Keras 2 does.

    Raises:
        WeightsError: Two layers have one name.
    """
    import keras

    names = [layer.name for layer in layers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WeightsError(f"two layers are named {twice[0]!r}: names are addresses")
    with h5py.File(path, "w") as file:
        _put_names(file, "layer_names", names)
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = keras.__version__.encode()
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            _put_names(group, "weight_names", names)
            for name, array in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=array)


@contextlib.contextmanager
def opened_h5(path: Path | IO[bytes]) -> Iterator[h5py.File]:
    """Open an HDF5 file to read.

    Raises:
        ModelFileError: It is none.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ModelFileError(
            f"{path}: not an HDF5 file, or truncated: {error}"
        ) from error
    with file:
        yield file


def layer_file_names(group, attribute: str) -> list[str]:
    """Return a list of names kept in an attribute, in pieces or whole; [] for none."""
    if attribute in group.attrs:
        return _texts(group.attrs[attribute])
    names, piece = [], 0
    while f"{attribute}{piece}" in group.attrs:
        names += _texts(group.attrs[f"{attribute}{piece}"])
        piece += 1
    return names


def _put_names(group, attribute: str, names: Sequence[str]) -> None:
    """Write a list of names, in as many pieces as HDF5 wants."""
    packed = np.array([name.encode() for name in names], dtype="S")
    pieces = max(1, -(-packed.nbytes // _ATTRIBUTE_BYTES))
    if pieces == 1:
        group.attrs[attribute] = packed
        return
    for piece, part in enumerate(np.array_split(packed, pieces)):
        group.attrs[f"{attribute}{piece}"] = part


def check_not_inflated(path: str | Path, file: h5py.File, packed: int | None = None):
    """Refuse a file whose arrays would unpack to far more than it holds.

    Args:
        path: For the message.
        file: The open file.
        packed: Its bytes on disk; None: those of `path`.

    Raises:
        ModelFileError: They would: a damaged file, or one made to exhaust memory.
    """
    packed = Path(path).stat().st_size if packed is None else packed
    limit = max(_INFLATION * packed, _SMALL_BYTES)
    total = 0

    def add(name: str, item) -> None:
        nonlocal total
        total += item.nbytes if isinstance(item, h5py.Dataset) else 0

    file.visititems(add)
    if total > limit:
        raise ModelFileError(
            f"{path}: its arrays unpack to {total / 2**20:,.0f} MiB from "
            f"{packed / 2**20:,.1f} MiB: refused"
        )


def _texts(names: Sequence) -> list[str]:
    return [n.decode("utf-8") if isinstance(n, bytes) else str(n) for n in names]


def check_same_names(what: str, wanted: Mapping, found: Mapping, path) -> None:
    """Refuse a file that lacks names of the model or has others.

    Raises:
        WeightsError: Naming the first missing and the first surplus one.
    """
    missing = [name for name in wanted if name not in found]
    surplus = [name for name in found if name not in wanted]
    if missing or surplus:
        raise WeightsError(
            f"{path}: {what} do not match the model: "
            f"{_first('missing in the file', missing)}; "
            f"{_first('surplus in the file', surplus)}; nothing was loaded"
        )


def _first(what: str, names: Sequence[str]) -> str:
    return f"{what}: {names[0]} ({len(names)} in all)" if names else f"{what}: none"


def _check_layer(
    layer: keras.layers.Layer, arrays: Sequence[tuple[str, np.ndarray]], path
) -> None:
    if len(arrays) != len(layer.weights):
        raise WeightsError(
            f"{path}: layer {layer.name}: the model has {len(layer.weights)} arrays, "
            f"the file {len(arrays)}"
        )
    for weight, (name, array) in zip(layer.weights, arrays, strict=True):
        if tuple(weight.shape) != array.shape:
            raise WeightsError(
                f"{path}: layer {layer.name}, {weight.name}: the model's shape is "
                f"{tuple(weight.shape)}, the file's {array.shape} ({name})"
            )
        role = name.rsplit("/", 1)[-1].split(":")[0]
        if role in ROLES and role != weight.name:
            raise WeightsError(
                f"{path}: layer {layer.name}: {weight.name} is due, the file has {name}"
            )
