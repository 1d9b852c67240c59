"""Model files in and out: a model never travels without its input contract.

`.keras` and full `.h5` files carry the contract inside and stay plain Keras files: any
Keras project loads them. Weight files (`.weights.h5`, and the older layer-named `.h5`)
move arrays between projects. Loading is strict: every array of the file and every
weight of the model is accounted for, or nothing is loaded and the first is named.

Command: `python -m dm_models.weights describe MODEL.keras`
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from dm_models.inputs import ContractError, InputContract

if TYPE_CHECKING:
    import keras

CONTRACT_MEMBER = "input_contract.json"
CONTRACT_ATTRIBUTE = "dm_input_contract"
ROLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")

LayerArrays = Mapping[str, Sequence[tuple[str, np.ndarray]]]


class ModelFileError(ValueError):
    """A model file cannot be read, or is not one of ours; the message names it."""


class WeightsError(ValueError):
    """A file's arrays and a model's weights do not match; nothing was loaded."""


def save_model(model: keras.Model, path: str | Path, contract: InputContract) -> Path:
    """Save a whole model with its contract, aside and then renamed.

    Args:
        model: The model; a `.keras` file keeps its optimizer's state too.
        path: `.keras` (Keras 3) or `.h5` (the older whole-model form).
        contract: Stored inside: zip member `input_contract.json`, or an attribute.

    Returns:
        The path.

    Raises:
        ModelFileError: Another ending.
    """
    path = Path(path)
    _check_ending(path)
    with _written_aside(path) as aside:
        model.save(aside)
        _put_contract(aside, contract)
    return path


def load_model(
    path: str | Path, *, compile: bool = False
) -> tuple[keras.Model, InputContract]:
    """Load a model of this project and its contract; no code in a file is run.

    Args:
        path: A file of `save_model`.
        compile: Restore optimizer, its state and loss too, to go on training; `.keras`
            only. Without it, compile the model yourself before training.

    Raises:
        ModelFileError: Missing, truncated, of another kind, without a contract, or
            compile=True for an `.h5`.
    """
    import keras

    path = Path(path)
    contract = read_contract(path)
    if compile and path.suffix == ".h5":
        raise ModelFileError(
            f"{path}: Keras drops the optimizer's state from .h5 files; training goes "
            "on from a .keras file only"
        )
    try:
        model = keras.models.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # Keras raises many kinds; all mean this file is bad
        raise ModelFileError(f"{path}: Keras cannot load it: {error}") from error
    return model, contract


def read_contract(path: str | Path) -> InputContract:
    """Read only the contract of a model file.

    Raises:
        ModelFileError: Missing, truncated, of another kind, or without a contract.
    """
    path = Path(path)
    _check_ending(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    text = _zip_contract(path) if path.suffix == ".keras" else _h5_contract(path)
    if text is None:
        raise ModelFileError(
            f"{path}: a model file from another project: it holds no input contract, "
            "so nothing says which grey scale and mean it was trained with. Models "
            "saved by this project's training or by dm_models.weights.save_model do"
        )
    try:
        return InputContract.from_json(text)
    except ContractError as error:
        raise ModelFileError(f"{path}: {error}") from error


def save_weights_h5(model: keras.Model, path: str | Path) -> Path:
    """Save weights alone for another Keras project.

    Args:
        model: Any flat model.
        path: `NAME.weights.h5` for Keras 3's own layout; any other `.h5` for the older
            one, a group a layer, which Keras 2 and 3 load by order and by name.

    Returns:
        The path.
    """
    path = Path(path)
    if path.suffix != ".h5":
        raise ModelFileError(f"{path}: a weights file must end with .h5")
    with _written_aside(path) as aside:
        if path.name.endswith(".weights.h5"):
            model.save_weights(aside)
        else:
            _write_layer_file(model, aside)
    return path


def load_weights_strict(model: keras.Model, path: str | Path) -> None:
    """Load a weights file of either layout into all of a model, or not at all.

    Raises:
        ModelFileError: No HDF5 file.
        WeightsError: An array is missing, surplus or of another shape.
    """
    path = Path(path)
    if path.name.endswith(".weights.h5"):
        _check_same_tree(model, path)
        model.load_weights(path)
        return
    layers = [layer for layer in model.layers if layer.weights]
    set_layers(layers, read_layer_file(path), path)


def read_layer_file(path: str | Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Read a layer-named `.h5`: layer -> its (weight name, array), in file order.

    Layers without arrays are left out. A whole-model `.h5` gives its weights.

    Raises:
        ModelFileError: No HDF5 file, or of another layout.
    """
    with _opened_h5(Path(path)) as file:
        group = file.get("model_weights", file)
        if "layer_names" not in group.attrs:
            raise ModelFileError(
                f"{path}: no attribute 'layer_names': not a layer-named weights file"
            )
        arrays = {}
        for layer in _texts(group.attrs["layer_names"]):
            names = _texts(group[layer].attrs["weight_names"])
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
    missing = [name for name in wanted if name not in arrays]
    surplus = [name for name in arrays if name not in wanted]
    if missing or surplus:
        raise WeightsError(
            f"{path}: layers do not match the model: "
            f"{_first('missing in the file', missing)}; "
            f"{_first('surplus in the file', surplus)}; nothing was loaded"
        )
    for name, layer in wanted.items():
        _check_layer(layer, arrays[name], path)
    for name, layer in wanted.items():
        layer.set_weights([array for _, array in arrays[name]])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m dm_models.weights")
    commands = parser.add_subparsers(dest="command", required=True)
    describe = commands.add_parser("describe", help="print a model's input contract")
    describe.add_argument("model", type=Path, help="a .keras or .h5 file")
    arguments = parser.parse_args(argv)
    try:
        print(read_contract(arguments.model).to_json())
    except ModelFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check_ending(path: Path) -> None:
    if path.suffix not in (".keras", ".h5") or path.name.endswith(".weights.h5"):
        raise ModelFileError(
            f"{path}: a model file must end with .keras or .h5 (not .weights.h5, which "
            "holds weights only)"
        )


@contextlib.contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` with the same ending; rename it if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = ".weights.h5" if path.name.endswith(".weights.h5") else path.suffix
    aside = path.with_name(f".{path.name}.{os.getpid()}.part{ending}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _put_contract(path: Path, contract: InputContract) -> None:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(CONTRACT_MEMBER, contract.to_json())
    else:
        with h5py.File(path, "a") as file:
            file.attrs[CONTRACT_ATTRIBUTE] = contract.to_json()


def _zip_contract(path: Path) -> str | bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if CONTRACT_MEMBER not in archive.namelist():
                return None
            return archive.read(CONTRACT_MEMBER)
    except zipfile.BadZipFile as error:
        raise ModelFileError(
            f"{path}: not a .keras file, or truncated: {error}"
        ) from error


def _h5_contract(path: Path) -> str | None:
    with _opened_h5(path) as file:
        return file.attrs.get(CONTRACT_ATTRIBUTE)


@contextlib.contextmanager
def _opened_h5(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ModelFileError(
            f"{path}: not an HDF5 file, or truncated: {error}"
        ) from error
    with file:
        yield file


def _texts(names: Sequence) -> list[str]:
    return [n.decode("utf-8") if isinstance(n, bytes) else str(n) for n in names]


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


def _write_layer_file(model: keras.Model, path: Path) -> None:
    import keras

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = keras.__version__.encode()
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=array)


def _check_same_tree(model: keras.Model, path: Path) -> None:
    """Compare a `.weights.h5` with what the model itself would write."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "model.weights.h5"
        model.save_weights(own)
        wanted = _dataset_shapes(own)
    found = _dataset_shapes(path)
    missing = [name for name in wanted if name not in found]
    surplus = [name for name in found if name not in wanted]
    if missing or surplus:
        raise WeightsError(
            f"{path}: arrays do not match the model: "
            f"{_first('missing in the file', missing)}; "
            f"{_first('surplus in the file', surplus)}; nothing was loaded"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise WeightsError(
                f"{path}: {name}: the model's shape is {shape}, the file's "
                f"{found[name]}; nothing was loaded"
            )


def _dataset_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    shapes = {}

    def note(name: str, item) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[name] = item.shape

    with _opened_h5(path) as file:
        file.visititems(note)
    return shapes


if __name__ == "__main__":
    sys.exit(main())
