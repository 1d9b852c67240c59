"""TensorFlow Serving's JSON of tensors, in both directions.

Row form: `{"instances": [...]}` gives `predictions`, one an instance; column form:
`{"inputs": ...}` gives `outputs`, one array an output. Bytes are written
`{"b64": "..."}`, in answers where the output's name ends in `_bytes`.

Source:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

import numpy as np

from dm_training.serving.errors import RequestError

FORMS = {"instances": "predictions", "inputs": "outputs"}
BYTES_ENDING = "_bytes"


def parse_request(body: bytes) -> tuple[dict, str]:
    """Read a `:predict` body.

    Returns:
        (the JSON object, which of `FORMS` it has).

    Raises:
        RequestError: No JSON object, or not exactly one form.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as err:
        where = f" at byte {err.pos}" if isinstance(err, json.JSONDecodeError) else ""
        raise RequestError(f"JSON Parse error: the body is not JSON{where}") from err
    if not isinstance(request, dict):
        raise RequestError("JSON Value: the body must be a JSON object")
    forms = [form for form in FORMS if form in request]
    if len(forms) != 1:
        raise RequestError(
            "the body must be a JSON object with either 'instances' or 'inputs'"
        )
    return request, forms[0]


def read_arrays(value, form: str, specs: Mapping) -> dict[str, np.ndarray]:
    """A request's inputs by name.

    Args:
        value: What stands under `form`.
        form: "instances" or "inputs".
        specs: The signature's inputs: name -> `tf.TensorSpec`.

    Returns:
        Arrays of the signature's types and shapes; bytes as objects.

    Raises:
        RequestError: It does not fit the signature, or a number is not finite.
    """
    columns = (_rows if form == "instances" else _columns)(value, specs)
    return {name: _array(name, columns[name], spec) for name, spec in specs.items()}


def answer_of(outputs: Mapping[str, np.ndarray], form: str) -> dict:
    """Outputs as the body that answers a form: unnamed where there is one.

    Raises:
        RequestError: A number that JSON has no word for (500).
    """
    lists = {name: _listed(name, array) for name, array in outputs.items()}
    if len(lists) == 1:
        found = next(iter(lists.values()))
    elif form == "instances":
        rows = zip(*lists.values(), strict=True)
        found = [dict(zip(lists, row, strict=True)) for row in rows]
    else:
        found = lists
    return {FORMS[form]: found}


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


def _array(name: str, value, spec) -> np.ndarray:
    is_text = spec.dtype.name == "string"
    try:
        # Not NumPy's own bytes type: it drops zeros at the end.
        array = (
            np.array(_bytes(value), object)
            if is_text
            else _numbers(value, spec.dtype.as_numpy_dtype)
        )
    except (
        ValueError, TypeError, OverflowError, binascii.Error, RecursionError,
    ) as err:  # fmt: skip
        rule = (
            'of text or {"b64": BASE64}, without line breaks'
            if is_text
            else "every row as long as the others, every number finite and in range"
        )
        raise RequestError(
            f"input {name!r} must be an array of {spec.dtype.name}, {rule}"
        ) from err
    if not array.size or not spec.shape.is_compatible_with(array.shape):
        raise RequestError(
            f"input {name!r} must have shape {tuple(spec.shape)}, received "
            f"{array.shape}"
        )
    return array


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


def _listed(name: str, array: np.ndarray):
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError(f"the model's output {name!r} is not finite", 500)
    if array.dtype.kind not in "OS":
        return array.tolist()
    return _written(array.tolist(), as_b64=name.endswith(BYTES_ENDING))


def _written(value, *, as_b64: bool):
    if isinstance(value, list):
        return [_written(item, as_b64=as_b64) for item in value]
    if as_b64:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", "replace")
