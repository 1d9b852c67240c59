"""What one cell of a feature map sees of the image: how much, and where.

Counted through a built network's own layers, so that it holds for whatever was built:
a layer with kernel k on a map of step j widens the field by (k - 1) j pixels, and its
stride multiplies the step. Where ways meet, the widest counts.

Where cell 0 looks depends on padding, and so on the image's size: "same" pads by size,
and at an odd number the surplus comes after. A cell of ResNet50's last map looks at
pixels 0, 32, 64, ... and one of VGG16's at the middle of each square of 32: laid over
the image as if cells were tiles, ResNet50's map would lie half a step off.

Source:
    Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks,
    Distill 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras

Centres = tuple[tuple[float, float], tuple[float, float]]

# Layers after which a cell sees the whole image.
_GLOBAL = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Flatten,
    keras.layers.Dense,
)
# Layers that enlarge or warp a map, which no net of ours has.
_UNCOUNTED = (
    keras.layers.Conv2DTranspose,
    keras.layers.UpSampling2D,
    keras.layers.Resizing,
)


_LARGEST_LEAST = 1024


class _MeetError(ValueError):
    """Maps meet that do not fit."""


@dataclass(frozen=True)
class _Reach:
    """What the cells of a map see along one axis: cell i from first + i * step on.

    Attributes:
        first: The first pixel of cell 0's field; below 0 where it lies on padding.
        last: Its last pixel, included.
        step: Pixels from a cell to the next.
        count: How many cells there are.
    """

    first: int
    last: int
    step: int
    count: int


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
        before = [fields[id(tensor)] for tensor in tensors_of(each.input)
                  if id(tensor) in fields]  # fmt: skip
        field, step = max(before, default=(1, 1))
        kernel, stride = _window(each)
        if not isinstance(each, _GLOBAL):
            fields[id(each.output)] = (field + (kernel - 1) * step, step * stride)
    if id(layer.output) not in fields or len(layer.output.shape) != 4:
        raise ValueError(f"layer {layer.name!r} gives no map of rows and columns")
    return fields[id(layer.output)]


def cell_centres(
    model: keras.Model, layer: keras.layers.Layer | None, size: tuple[int, int]
) -> Centres:
    """Find where the cells of a layer's map look, in an image of a given size.

    The centre is the middle of the receptive field, padding included: that of the
    first cells may lie outside the image. Where ways meet that look at places one
    pixel of theirs apart (Xception's shortcuts), it is the middle of all they see.

    Args:
        model: A flat network: each of its layers is called once.
        layer: One of its layers with a map as output; None for `last_map`.
        size: (rows, columns) of the image.

    Returns:
        ((row of cell 0's centre, rows from a cell to the next), the same in columns);
        a pixel's own centre counts as its index, so that the first pixel is at 0.

    Raises:
        ValueError: The layer's output is no map, the image leaves nothing of it, or a
            layer on the way enlarges maps (`Conv2DTranspose`, `UpSampling2D`).
    """
    layer = layer or last_map(model)
    found = [_reach(model, layer, length, axis) for axis, length in enumerate(size)]
    if min(reach.count for reach in found) < 1:
        raise ValueError(
            f"an image of {size[0]} x {size[1]} leaves nothing of {layer.name!r}"
        )
    rows, cols = [((each.first + each.last) / 2, float(each.step)) for each in found]
    return rows, cols


def least_size(model: keras.Model) -> tuple[int, int]:
    """Find the smallest image that leaves every map of a net at least one cell.

    On a smaller one TensorFlow's kernels fail, and some end the whole process.

    Args:
        model: A flat network: each of its layers is called once.

    Returns:
        (rows, columns); those of its input where they are fixed.

    Raises:
        ValueError: A layer enlarges maps, or no image up to 1024 pixels will do.
    """
    rows, cols = (
        fixed or _least_side(model, axis)
        for axis, fixed in enumerate(model.input_shape[1:3])
    )
    return rows, cols


def tensors_of(found) -> Iterator:
    """Yield a layer's input tensors, whether they are one, a list or nested lists."""
    if isinstance(found, (list, tuple)):
        for each in found:
            yield from tensors_of(each)
    else:
        yield found


def _least_side(model: keras.Model, axis: int) -> int:
    for length in range(1, _LARGEST_LEAST + 1):
        try:
            reaches = _reaches(model, None, length, axis).values()
        except _MeetError:  # so small that ways which meet differ in cells
            continue
        if min(reach.count for reach in reaches) >= 1:
            return length
    raise ValueError(f"no image up to {_LARGEST_LEAST} pixels leaves cells of all maps")


def _reach(model: keras.Model, layer, length: int, axis: int) -> _Reach:
    """Follow one axis through the layers up to one of them."""
    found = _reaches(model, layer, length, axis)
    if id(layer.output) not in found or len(layer.output.shape) != 4:
        raise ValueError(f"layer {layer.name!r} gives no map of rows and columns")
    return found[id(layer.output)]


def _reaches(model: keras.Model, last, length: int, axis: int) -> dict[int, _Reach]:
    """Follow one axis through the layers up to one, or all: by the output's id."""
    found: dict[int, _Reach] = {}
    for each in model.layers:
        before = [found[id(tensor)] for tensor in tensors_of(each.input)
                  if id(tensor) in found]  # fmt: skip
        if isinstance(each, keras.layers.InputLayer):
            found[id(each.output)] = _Reach(0, 0, 1, length)
        elif before and not isinstance(each, _GLOBAL):
            found[id(each.output)] = _through(each, _met(before, each), axis)
        if each is last:
            break
    return found


def _met(ways: list[_Reach], layer) -> _Reach:
    """All that cells see by any of the ways that meet in a layer."""
    if len({(way.step, way.count) for way in ways}) > 1:
        raise _MeetError(f"layer {layer.name!r} joins maps of different steps or sizes")
    first, last = min(way.first for way in ways), max(way.last for way in ways)
    return _Reach(first, last, ways[0].step, ways[0].count)


def _through(layer, start: _Reach, axis: int) -> _Reach:
    if isinstance(layer, _UNCOUNTED):
        raise ValueError(f"layer {layer.name!r} enlarges maps: its cells' places are "
                         "not counted")  # fmt: skip
    kernel, stride = _window(layer, axis)
    before, after = _padding(layer, axis, start.count, kernel, stride)
    return _Reach(
        start.first - before * start.step,
        start.last + (kernel - 1 - before) * start.step,
        start.step * stride,
        (start.count + before + after - kernel) // stride + 1,
    )


def _window(layer: keras.layers.Layer, axis: int = 0) -> tuple[int, int]:
    """Kernel along an axis, with dilation, and stride of a layer; (1, 1) for none."""
    kernel = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", (1, 1))
    dilation = getattr(layer, "dilation_rate", (1, 1))
    stride = getattr(layer, "strides", (1, 1))
    return (kernel[axis] - 1) * dilation[axis] + 1, stride[axis]


def _padding(layer, axis: int, count: int, kernel: int, stride: int) -> tuple[int, int]:
    """Cells that a layer adds before and after a map; negative for a cropping."""
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return tuple(layer.padding[axis])
    if isinstance(layer, keras.layers.Cropping2D):
        before, after = layer.cropping[axis]
        return -before, -after
    if getattr(layer, "padding", "valid") != "same":
        return 0, 0
    total = max((-(-count // stride) - 1) * stride + kernel - count, 0)
    return total // 2, total - total // 2
