"""A SavedModel that answers TensorFlow Serving's predict requests, JSON to JSON.

`dm_training.serve` puts it on the net. Only TensorFlow loads the model, neither Keras
nor this project does. Row form: `{"instances": [...]}` gives `predictions`, one an
instance; column form: `{"inputs": ...}` gives `outputs`, one array an output. Bytes are
written `{"b64": "..."}`.

Source:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

DEFAULT_SIGNATURE = "serving_default"
CONTRACT_FILE = "input_contract.json"
LEAST_SIDE = 32
_FORMS = {"instances": "predictions", "inputs": "outputs"}


class ServeError(ValueError):
    """What is to be served cannot be; the message names it."""


class RequestError(ValueError):
    """A request cannot be answered.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class ServedModel:
    """A SavedModel and how its signatures are called with JSON.

    Args:
        folder: A SavedModel, or a folder of versions (`1/`, `2/`, ...), of which the
            highest is taken.
        name: The name in the URL; the folder's where it is not given.
        least_size: Rows and columns of the smallest image that is let through: one too
            small for the net's poolings can end the whole process in TensorFlow. None
            for half the size trained on where the model's contract says it, else 32.

    Raises:
        ServeError: No SavedModel is there, or TensorFlow cannot load it.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        least_size: tuple[int, int] | None = None,
    ):
        import tensorflow as tf

        path, self.version, own_name = find_model(Path(folder))
        self.name = name or own_name
        self.least_size = least_size or _half_the_trained_size(path)
        try:
            loaded = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as err:
            raise ServeError(f"{path}: TensorFlow cannot load it: {err}") from err
        self.signatures = dict(loaded.signatures)
        self._loaded = loaded  # its variables live as long as it does
        if not self.signatures:
            raise ServeError(f"{path}: a SavedModel without signatures")

    def status(self) -> dict:
        """The body of `GET /v1/models/NAME`."""
        state = {
            "version": str(self.version),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return {"model_version_status": [state]}

    def predict(self, body: bytes) -> dict:
        """Answer the body of a `:predict` request.

        Raises:
            RequestError: It is no JSON, or does not fit the signature.
        """
        request = _parsed(body)
        forms = [form for form in _FORMS if form in request]
        if len(forms) != 1:
            raise RequestError(
                "the body must be a JSON object with either 'instances' or 'inputs'"
            )
        function = self._signature(request.get("signature_name", DEFAULT_SIGNATURE))
        specs = function.structured_input_signature[1]
        columns = (_rows if forms[0] == "instances" else _columns)(
            request[forms[0]], specs
        )
        tensors = {n: _tensor(n, columns[n], spec) for n, spec in specs.items()}
        for input_name, tensor in tensors.items():
            self._check_size(input_name, tuple(tensor.shape))
        outputs = _call(function, tensors)
        answer = _answer(outputs, by_row=forms[0] == "instances")
        return {_FORMS[forms[0]]: answer}

    def _check_size(self, name: str, shape: tuple[int, ...]) -> None:
        rows, cols = self.least_size
        if len(shape) == 4 and (shape[1] < rows or shape[2] < cols):
            raise RequestError(
                f"images of input {name!r} must be at least {rows} x {cols}, received "
                f"{shape[1]} x {shape[2]}"
            )

    def _signature(self, name):
        if not isinstance(name, str) or name not in self.signatures:
            known = ", ".join(sorted(self.signatures))
            raise RequestError(
                f"serving signature name {json.dumps(name)[:80]} is not known; "
                f"known: {known}"
            )
        return self.signatures[name]


def find_model(folder: Path) -> tuple[Path, int, str]:
    """Find a SavedModel without loading it.

    Returns:
        (its own folder, its version, the name it goes by).

    Raises:
        ServeError: The folder is none and holds none.
    """
    absolute = folder.absolute()
    if (folder / "saved_model.pb").is_file():
        if folder.name.isdigit():
            return folder, int(folder.name), absolute.parent.name
        return folder, 1, absolute.name
    found = folder.iterdir() if folder.is_dir() else ()
    numbered = [p for p in found if p.name.isdigit()]
    versions = [p for p in numbered if (p / "saved_model.pb").is_file()]
    if not versions:
        raise ServeError(
            f"{folder}: neither a SavedModel (saved_model.pb) nor a folder of its "
            "versions (1/saved_model.pb); `dm-export` writes one"
        )
    newest = max(versions, key=lambda p: int(p.name))
    return newest, int(newest.name), absolute.name


def _half_the_trained_size(path: Path) -> tuple[int, int]:
    """From the contract beside the model, which other people's models need not have."""
    places = (path / CONTRACT_FILE, path / "assets.extra" / CONTRACT_FILE)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        return LEAST_SIDE, LEAST_SIDE
    try:
        contract = json.loads(found.read_text(encoding="utf-8"))
        sides = [contract.get(name) or 0 for name in ("height", "width")]
        rows, cols = (max(LEAST_SIDE, int(side) // 2) for side in sides)
    except (ValueError, AttributeError, TypeError) as err:
        raise ServeError(f"{found}: no input contract: {err}") from err
    return rows, cols


def _parsed(body: bytes) -> dict:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as err:
        where = f" at byte {err.pos}" if isinstance(err, json.JSONDecodeError) else ""
        raise RequestError(f"JSON Parse error: the body is not JSON{where}") from err
    if not isinstance(request, dict):
        raise RequestError("JSON Value: the body must be a JSON object")
    return request


def _rows(instances, specs: Mapping) -> dict[str, list]:
    """Row form: one value, or one object with every input by name, an instance."""
    if not isinstance(instances, list) or not instances:
        raise RequestError("'instances' must be a list with at least one instance")
    if _named(instances[0]):
        rows = [_columns(instance, specs) for instance in instances]
        return {name: [row[name] for row in rows] for name in specs}
    return {_only(specs): instances}


def _columns(inputs, specs: Mapping) -> dict:
    """Column form: the one input's value, or an object with every input by name."""
    if not _named(inputs):
        return {_only(specs): inputs}
    if set(inputs) != set(specs):
        raise RequestError(
            f"inputs must be {', '.join(sorted(specs))}, received "
            f"{', '.join(sorted(inputs))[:200]}"
        )
    return inputs


def _named(value) -> bool:
    """An object of inputs by name, not one of encoded bytes."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _only(specs: Mapping) -> str:
    if len(specs) != 1:
        raise RequestError(f"inputs must be named: {', '.join(sorted(specs))}")
    return next(iter(specs))


def _tensor(name: str, value, spec):
    """JSON as a tensor of the signature's type and shape; numbers must be finite."""
    import tensorflow as tf

    try:
        if spec.dtype == tf.string:
            array = np.asarray(_bytes(value))
        else:
            array = _numbers(value, spec.dtype.as_numpy_dtype)
    except (ValueError, TypeError, OverflowError, binascii.Error) as err:
        raise RequestError(
            f"input {name!r} must be an array of {spec.dtype.name}, every row as long "
            "as the others, every number finite and in range"
        ) from err
    if not array.size or not spec.shape.is_compatible_with(array.shape):
        raise RequestError(
            f"input {name!r} must have shape {tuple(spec.shape)}, received "
            f"{array.shape}"
        )
    return tf.constant(array, spec.dtype)


def _numbers(value, dtype) -> np.ndarray:
    """Numbers as an array; a ValueError where one does not fit the type."""
    given = np.asarray(value)
    if given.dtype.kind not in "iuf":
        raise ValueError("not numbers only")
    with np.errstate(over="ignore", invalid="ignore"):
        array = given.astype(dtype)
    if np.issubdtype(dtype, np.integer):
        fits = array == given
    else:
        fits = np.isfinite(array)
    if not fits.all():
        raise ValueError("out of range")
    return array


def _bytes(value):
    """Text as bytes, `{"b64": ...}` decoded, at any depth of lists."""
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    if not isinstance(value, str):
        raise TypeError("no text")
    return value.encode()


def _call(function, tensors: Mapping) -> dict[str, np.ndarray]:
    import tensorflow as tf

    try:
        outputs = function(**tensors)
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.UnimplementedError,
        tf.errors.AbortedError,
    ) as err:
        sizes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in tensors.items())
        raise RequestError(f"the model cannot take inputs of size {sizes}") from err
    except tf.errors.ResourceExhaustedError as err:
        raise RequestError("the inputs need more memory than there is", 413) from err
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _answer(outputs: dict[str, np.ndarray], *, by_row: bool):
    """Outputs as JSON: unnamed where there is one, else by name in each row or once."""
    lists = {name: array.tolist() for name, array in outputs.items()}
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RequestError(f"the model's output {name!r} is not finite", 500)
        if array.dtype.kind in "OS":
            lists[name] = _as_text(lists[name])
    if len(lists) == 1:
        return next(iter(lists.values()))
    if not by_row:
        return lists
    rows = zip(*lists.values(), strict=True)
    return [dict(zip(lists, row, strict=True)) for row in rows]


def _as_text(value):
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value.decode("utf-8", "replace")
