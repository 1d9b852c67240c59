"""How much of the image one cell of a feature map sees.

Counted through a built network's own layers, so that it holds for whatever was built:
a layer with kernel k on a map of step j widens the field by (k - 1) j pixels, and its
stride multiplies the step. Where ways meet, the widest counts.

Source:
    Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks,
    Distill 2019.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras

# Layers after which a cell sees the whole image.
_GLOBAL = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Flatten,
    keras.layers.Dense,
)


def last_map(model: keras.Model) -> keras.layers.Layer:
    """Return the last layer whose output is still a map, with rows and columns."""
    return [layer for layer in model.layers if len(layer.output.shape) == 4][-1]


def receptive_field(
    model: keras.Model, layer: keras.layers.Layer | None = None
) -> tuple[int, int]:
    """Count the receptive field of one cell of a layer's map.

    Args:
        model: A flat network: each of its layers is called once.
        layer: One of its layers with a map as output; None for `last_map`.

    Returns:
        (pixels of the field's side, pixels from a cell to the next). Kernels are
        square in all of our networks; of others, the rows are counted.

    Raises:
        ValueError: The layer's output is no map.
    """
    layer = layer or last_map(model)
    fields: dict[int, tuple[int, int]] = {}
    for each in model.layers:
        before = [fields[id(tensor)] for tensor in _tensors(each.input)
                  if id(tensor) in fields]  # fmt: skip
        field, step = max(before, default=(1, 1))
        kernel, stride = _window(each)
        if not isinstance(each, _GLOBAL):
            fields[id(each.output)] = (field + (kernel - 1) * step, step * stride)
    if id(layer.output) not in fields or len(layer.output.shape) != 4:
        raise ValueError(f"layer {layer.name!r} gives no map of rows and columns")
    return fields[id(layer.output)]


def _window(layer: keras.layers.Layer) -> tuple[int, int]:
    """Rows of a layer's kernel, with dilation, and its stride; (1, 1) for none."""
    kernel = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", (1,))
    dilation = getattr(layer, "dilation_rate", (1,))
    stride = getattr(layer, "strides", (1,))
    return (kernel[0] - 1) * dilation[0] + 1, stride[0]


def _tensors(found) -> Iterator:
    """An input's tensors, whether it is one, a list or nested lists."""
    if isinstance(found, (list, tuple)):
        for each in found:
            yield from _tensors(each)
    else:
        yield found
