"""Requests that TensorFlow Serving replays before a model takes its first real one.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`
messages. Their few fields are encoded here by hand, so that exporting does not need
`tensorflow-serving-api`; a tensor inside is TensorFlow's own message. Images are of the
size trained on and of one grey level, which the message says once for all pixels, and
a PNG packs as well: the file has a few kilobytes.

Source:
    https://www.tensorflow.org/tfx/serving/saved_model_warmup; the messages' fields:
    tensorflow_serving/apis/{prediction_log,predict,model}.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from dm_models import saved_model_layout as layout

GREY = 32768
# Batch sizes asked for: each new one costs the first request that has it.
_BATCHES = {layout.DEFAULT_SIGNATURE: (1, 2), layout.PNG_SIGNATURE: (1, 2)}
# Field numbers of the messages.
_LOG_PREDICT, _PREDICT_REQUEST = 6, 1
_REQUEST_SPEC, _REQUEST_INPUTS = 1, 2
_SPEC_NAME, _SPEC_SIGNATURE = 1, 3
_KEY, _VALUE = 1, 2


def write_warmup(
    path: Path, name: str, specs: dict[str, tf.TensorSpec], size: tuple[int, int]
) -> Path:
    """Write requests for every signature.

    Args:
        path: The file.
        name: The name that the model is served by.
        specs: Signature -> its one input.
        size: (rows, columns) of the images.

    Returns:
        The path.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, spec, count in _wanted(specs):
            tensor = _tensor(spec, count, size).SerializeToString()
            writer.write(prediction_log(name, signature, spec.name, tensor))
    return path


def prediction_log(name: str, signature: str, input_name: str, tensor: bytes) -> bytes:
    """Encode a `PredictionLog` of one request with one input.

    Args:
        name: The model's name.
        signature: The signature's.
        input_name: The input's.
        tensor: A TensorProto, encoded.

    Returns:
        The message's bytes.
    """
    model = _field(_SPEC_NAME, name.encode())
    model += _field(_SPEC_SIGNATURE, signature.encode())
    entry = _field(_KEY, input_name.encode()) + _field(_VALUE, tensor)
    request = _field(_REQUEST_SPEC, model) + _field(_REQUEST_INPUTS, entry)
    return _field(_LOG_PREDICT, _field(_PREDICT_REQUEST, request))


def _wanted(specs) -> Iterator[tuple[str, tf.TensorSpec, int]]:
    for signature, spec in specs.items():
        for count in _BATCHES.get(signature, (1,)):
            yield signature, spec, count


def _tensor(spec: tf.TensorSpec, count: int, size: tuple[int, int]):
    """A TensorProto of grey images; the last number holds for all that follow."""
    if spec.dtype == tf.string:
        image = np.full((*size, 1), GREY, np.uint16)
        encoded = tf.io.encode_png(image, compression=9).numpy()
        return tf.make_tensor_proto([encoded] * count)
    first = np.full((1, 1, 1, 1), GREY, spec.dtype.as_numpy_dtype)
    proto = tf.make_tensor_proto(first)
    for axis, length in enumerate((count, *size, 1)):
        proto.tensor_shape.dim[axis].size = length
    if proto.tensor_content:  # which would have to hold every pixel
        raise AssertionError("TensorFlow packed a single number as raw bytes")
    return proto


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message: tag, length, content."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the top bit set on all but the last."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
