"""A SavedModel and its signatures, called with arrays.

Only TensorFlow loads the model, neither Keras nor this project does, so that any
program's SavedModel can be served; what `dm-export` adds (the input contract) is used
where it is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dm_models.layer_files import ModelFileError
from dm_models.saved_model_layout import (
    DEFAULT_SIGNATURE,
    EXTRA,
    SAVED_MODEL_FILE,
    find_saved_model,
    refusal_of,
)
from dm_training.serving.errors import RequestError, ServeError
from dm_training.serving.limits import MOST_PIXELS

CONTRACT_FILE = "input_contract.json"
LEAST_SIDE = 32


@dataclass(frozen=True)
class Signature:
    """One way to call a model.

    Attributes:
        name: Its name.
        function: What TensorFlow calls.
        specs: Inputs: name -> `tf.TensorSpec`.
        by_row: Whether rows of several requests may be put together: every input has
            any number of rows, and no output is known to have another number.
    """

    name: str
    function: object = field(repr=False)
    specs: Mapping
    by_row: bool


@dataclass(frozen=True)
class Call:
    """A signature and the arrays to call it with."""

    signature: Signature
    inputs: Mapping[str, np.ndarray]

    @property
    def rows(self) -> int:
        """Images in it; 1 where rows mean nothing."""
        if not self.signature.by_row:
            return 1
        return len(next(iter(self.inputs.values())))

    @property
    def row_pixels(self) -> int:
        """Numbers of the largest input of one row; files count as 1."""
        return max((a[:1].size for a in self.inputs.values() if a.ndim), default=1)

    @property
    def kind(self) -> tuple:
        """Equal for calls that can be put together."""
        shapes = tuple((name, a.shape[1:]) for name, a in sorted(self.inputs.items()))
        return self.signature.name, shapes


class ServedModel:
    """A SavedModel and how its signatures are called.

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
        most_pixels: int | None = None,
    ):
        import tensorflow as tf

        try:
            self.folder, self.version, own_name = find_saved_model(folder)
        except ModelFileError as err:
            raise ServeError(str(err)) from err
        self.name = name or own_name
        self.least_size = least_size or _half_the_trained_size(self.folder)
        self.most_pixels = most_pixels or MOST_PIXELS
        try:
            self._loaded = tf.saved_model.load(str(self.folder))  # keeps its variables
        except (OSError, ValueError, tf.errors.OpError) as err:
            raise ServeError(
                f"{self.folder}: TensorFlow cannot load it: {err}"
            ) from err
        found = dict(self._loaded.signatures)
        self.signatures = {name: _signature(name, f) for name, f in found.items()}
        if not self.signatures:
            raise ServeError(f"{self.folder}: a SavedModel without signatures")

    def status(self) -> dict:
        """The body of `GET /v1/models/NAME`."""
        state = {
            "version": str(self.version),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return {"model_version_status": [state]}

    def metadata(self) -> dict:
        """The body of `GET /v1/models/NAME/metadata`: the file's own signatures."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        stored = SavedModel.FromString((self.folder / SAVED_MODEL_FILE).read_bytes())
        # TensorFlow's own initialisation signature is no one's to call.
        defined = {
            name: MessageToDict(
                signature,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, signature in stored.meta_graphs[0].signature_def.items()
            if name in self.signatures
        }
        spec = {"name": self.name, "signature_name": "", "version": str(self.version)}
        shown = {"signature_def": {"signature_def": defined}}
        return {"model_spec": spec, "metadata": shown}

    def signature(self, name=None) -> Signature:
        """A signature by its name; None or "" for the default one.

        Raises:
            RequestError: There is none of that name; those that are there are named.
        """
        name = name or DEFAULT_SIGNATURE
        if not isinstance(name, str) or name not in self.signatures:
            known = ", ".join(sorted(self.signatures))
            shown = json.dumps(name)[:80]
            raise RequestError(
                f"Serving signature name: {shown} not found in signature def; "
                f"known: {known}"
            )
        return self.signatures[name]

    def check_size(self, call: Call) -> None:
        """Refuse images too small or too large, which TensorFlow may not survive.

        Raises:
            RequestError: An input (N, H, W, channels) is below `least_size`, or an
                image of it has more than `most_pixels` (413).
        """
        rows, cols = self.least_size
        for name, array in call.inputs.items():
            shape = array.shape
            if len(shape) == 4 and (shape[1] < rows or shape[2] < cols):
                raise RequestError(
                    f"images of input {name!r} must be at least {rows} x {cols}, "
                    f"received {shape[1]} x {shape[2]}"
                )
            if len(shape) == 4 and shape[1] * shape[2] > self.most_pixels:
                raise RequestError(
                    f"an image of input {name!r} must have at most "
                    f"{self.most_pixels:,} pixels, received {shape[1]} x {shape[2]}; "
                    "the signature 'png' brings files to the model's size",
                    413,
                )

    def run(self, call: Call) -> dict[str, np.ndarray]:
        """Call the model.

        Raises:
            RequestError: The model cannot take these inputs; where it says why in a
                sentence of its own, the sentence.
        """
        import tensorflow as tf

        specs, errors = call.signature.specs, tf.errors
        given = {n: tf.constant(a, specs[n].dtype) for n, a in call.inputs.items()}
        try:
            outputs = call.signature.function(**given)
        except errors.ResourceExhaustedError as err:
            raise RequestError(
                "the inputs need more memory than there is", 413
            ) from err
        except (
            errors.InvalidArgumentError, errors.UnimplementedError, errors.AbortedError,
        ) as err:  # fmt: skip
            raise RequestError(_reason(err.message or "", call)) from err
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def _signature(name: str, function) -> Signature:
    specs = function.structured_input_signature[1]
    shapes = [spec.shape for spec in specs.values()]
    free = all(s.rank and s[0] is None for s in shapes)
    made = [spec.shape for spec in function.structured_outputs.values()]
    follow = all(s.rank is None or (s.rank and s[0] is None) for s in made)
    return Signature(name, function, specs, bool(shapes) and free and follow)


def _reason(message: str, call: Call) -> str:
    """Why the model refused, without what TensorFlow tells of its graph."""
    said = refusal_of(message)
    if said:
        return said
    sizes = ", ".join(f"{name} {array.shape}" for name, array in call.inputs.items())
    if any(array.dtype == object for array in call.inputs.values()):
        return f"the model cannot take inputs of size {sizes}: no image it can decode"
    return f"the model cannot take inputs of size {sizes}"


def contract_text(folder: Path) -> str | None:
    """The input contract beside a model, which other people's models need not have."""
    for place in (folder / CONTRACT_FILE, folder / EXTRA / CONTRACT_FILE):
        if place.is_file():
            return place.read_text(encoding="utf-8")
    return None


def _half_the_trained_size(folder: Path) -> tuple[int, int]:
    text = contract_text(folder)
    if text is None:
        return LEAST_SIDE, LEAST_SIDE
    try:
        contract = json.loads(text)
        sides = [contract.get(name) or 0 for name in ("height", "width")]
        rows, cols = (max(LEAST_SIDE, int(side) // 2) for side in sides)
    except (ValueError, AttributeError, TypeError) as err:
        raise ServeError(f"{folder}/{CONTRACT_FILE}: no input contract: {err}") from err
    return rows, cols
