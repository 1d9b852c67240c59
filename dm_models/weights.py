"""Model files in and out: a model never travels without its input contract.

`.keras` and full `.h5` files carry the contract inside and stay plain Keras files: any
Keras project loads them. Weight files (`.weights.h5`, and the older layer-named `.h5`)
move arrays between projects. Loading is strict: every array of the file and every
weight of the model is accounted for, or nothing is loaded and the first is named.

    python -m dm_models.weights describe MODEL.keras
    python -m dm_models.weights import FILE.h5 --mean 52.18 --out MODEL.keras
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import h5py

from dm_models.inputs import ContractError, InputContract
from dm_models.layer_files import (
    ModelFileError,
    WeightsError,
    check_not_inflated,
    check_same_names,
    opened_h5,
    read_layer_file,
    set_layers,
    write_layer_file,
)

if TYPE_CHECKING:
    import keras

CONTRACT_MEMBER = "input_contract.json"
_WEIGHTS_MEMBER = "model.weights.h5"
# A member of a .keras file may not unpack to more than this many times its size.
_INFLATION, _SMALL_BYTES = 100, 64 * 2**20
CONTRACT_ATTRIBUTE = "dm_input_contract"


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
    check_model_ending(path)
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
    _check_safe(path)
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
    check_model_ending(path)
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
            write_layer_file(model.layers, aside)
    return path


def save_backbone_h5(model: keras.Model, path: str | Path) -> Path:
    """Save the weights of a model's backbone alone, for a plain Keras net.

    Args:
        model: A patch or whole-image classifier.
        path: `NAME.h5`, but not `.weights.h5`: a group a layer, in the order and under
            the names of Keras's own net, so that both of these load it in Keras 2 and
            3: `keras.applications.VGG16(include_top=False, weights=NAME)`, by order,
            and `load_weights(NAME, by_name=True)`.

    Returns:
        The path.

    Raises:
        ModelFileError: Another ending, or a model without a backbone of ours.
    """
    from dm_models.backbones import backbone_layers, backbone_of

    path = Path(path)
    if path.suffix != ".h5" or path.name.endswith(".weights.h5"):
        raise ModelFileError(f"{path}: must end with .h5, and not with .weights.h5")
    if backbone_of(model) is None:
        raise ModelFileError(f"model {model.name!r} has no backbone that is known here")
    with _written_aside(path) as aside:
        write_layer_file(backbone_layers(model), aside)
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


def main(argv: Sequence[str] | None = None) -> int:
    """Describe or import a model file; see `dm_models.weights_command`."""
    from dm_models import weights_command

    return weights_command.main(argv)


def check_model_ending(path: Path) -> None:
    """Refuse a name that is not a model file's.

    Raises:
        ModelFileError: Not `.keras` or `.h5`, or `.weights.h5`.
    """
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


def _check_safe(path: Path) -> None:
    """Refuse what would fill the memory before Keras could say that it does not fit."""
    if path.suffix == ".h5":
        with opened_h5(path) as file:
            check_not_inflated(path, file)
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > max(_INFLATION * member.compress_size, _SMALL_BYTES):
                raise ModelFileError(
                    f"{path}: {member.filename} unpacks to "
                    f"{member.file_size / 2**20:,.0f} MiB from "
                    f"{member.compress_size / 2**20:,.1f} MiB: refused"
                )
        if _WEIGHTS_MEMBER in archive.namelist():
            size = archive.getinfo(_WEIGHTS_MEMBER).compress_size
            with _opened_weights(archive) as member, opened_h5(member) as file:
                check_not_inflated(path, file, size)


def _opened_weights(archive: zipfile.ZipFile) -> IO[bytes]:
    """Keras stores weights unpacked: then all at once is many times quicker.

    An open member that seeks back is read anew from its start each time.
    """
    if archive.getinfo(_WEIGHTS_MEMBER).compress_type == zipfile.ZIP_STORED:
        return io.BytesIO(archive.read(_WEIGHTS_MEMBER))
    return archive.open(_WEIGHTS_MEMBER)


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
    with opened_h5(path) as file:
        return file.attrs.get(CONTRACT_ATTRIBUTE)


def _check_same_tree(model: keras.Model, path: Path) -> None:
    """Compare a `.weights.h5` with what the model itself would write."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "model.weights.h5"
        model.save_weights(own)
        wanted = _dataset_shapes(own)
    found = _dataset_shapes(path)
    check_same_names("arrays", wanted, found, path)
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

    with opened_h5(path) as file:
        file.visititems(note)
    return shapes


if __name__ == "__main__":
    sys.exit(main())
