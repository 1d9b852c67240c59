"""Gradient checkpointing: a network's activations, computed twice instead of kept.

A step of training keeps every layer's output until its gradient is due; on images of
4096 x 3328 that is what fills a GPU. Here the patch net is cut into segments where its
graph narrows to one tensor; only the tensors between segments are kept, and a segment
runs again when its gradient is due (`keras.remat`). A step takes a quarter longer.

On TensorFlow, batch norm would update its moving statistics in both runs. Two updates
by the same batch at momentum sqrt(m) are one at m, so that a checkpointed training ends
with the same statistics as a plain one. On JAX the first run's updates alone count.

Source:
    Chen, Xu, Zhang and Guestrin, Training deep nets with sublinear memory cost, 2016.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import keras

_RANDOM = (keras.layers.Dropout, keras.layers.SpatialDropout2D)


def checkpoint(model: keras.Model, *, segments: int | None = None) -> list[str]:
    """Make a model train with checkpoints, in place; its predictions stay as they are.

    Args:
        model: A flat classifier of this project. Saving, loading and scoring do not
            notice; a model loaded from a file is plain again.
        segments: At most so many pieces; None for as many as need the least memory.

    Returns:
        Names of the layers whose outputs are kept.

    Raises:
        ValueError: A model that cannot be cut, or a backend that is neither TensorFlow
            nor JAX.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(
            "gradient checkpointing works on Keras's TensorFlow and JAX backends, "
            f"received {keras.backend.backend()!r}"
        )
    places = cut_points(model)
    if not places:
        raise ValueError(f"model {model.name!r} narrows to one tensor nowhere")
    kept = _least_memory(model, places, segments or len(places) + 1)
    pieces = _pieces(model, kept)
    plain = model.call

    def call(inputs, training=None, mask=None):
        if not training:
            return plain(inputs, training=training, mask=mask)
        x = inputs
        for piece, norms in pieces[:-1]:
            x = _recomputed(piece, norms)(x)
        return pieces[-1][0](x, training=True)

    model.call = call
    return [layer.name for layer in kept]


def held_share(model: keras.Model) -> float:
    """Numbers that a checkpointed step holds, of those that a plain one holds.

    Returns:
        Below 1, or 1.0 for a model that cannot be cut.
    """
    places = cut_points(model)
    if not places:
        return 1.0
    sizes = _sizes(model)
    order = {id(layer): index for index, layer in enumerate(model.layers)}
    at = [order[id(p)] for p in _least_memory(model, places, len(places) + 1)]
    ends = zip([0, *(i + 1 for i in at)], [*(i + 1 for i in at), None], strict=True)
    largest = max(sum(sizes[start:end]) for start, end in ends)
    return min(1.0, (sum(sizes[i] for i in at) + largest) / sum(sizes))


def cut_points(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers where all that follows hangs on one tensor, in order.

    Nothing random stands before a cut: it would draw anew when it runs again.
    """
    last_use: dict[int, int] = {}
    for index, layer in enumerate(model.layers):
        for tensor in _inputs(layer):
            last_use[id(tensor)] = index
    found, alive, learned = [], {}, False
    for index, layer in enumerate(model.layers):
        if isinstance(layer, _RANDOM):
            break
        alive[id(layer.output)] = last_use.get(id(layer.output), len(model.layers))
        alive = {key: last for key, last in alive.items() if last > index}
        learned = learned or bool(layer.weights)
        if set(alive) != {id(layer.output)}:
            continue
        if learned:
            found.append(layer)
        elif found:
            found[-1] = layer  # past an activation or a pooling: less to keep
        learned = False
    return found[:-1]


def _least_memory(model: keras.Model, places: Sequence, segments: int) -> list:
    """The places to cut at, so that what is kept and the largest piece take least.

    A piece's size is that of all its layers' outputs, which live again while its
    gradient is computed; each limit on it gives one way to cut, as late as it allows.
    """
    sizes = _sizes(model)
    order = {id(layer): index for index, layer in enumerate(model.layers)}
    ends = [sum(sizes[: order[id(layer)] + 1]) for layer in places] + [sum(sizes)]
    best, least = places[:1], float("inf")
    for limit in sorted({end - start for start in (0, *ends) for end in ends}):
        cuts, start, largest = [], 0, 0
        for index, end in enumerate(ends[:-1]):
            if ends[index + 1] - start > limit:
                cuts.append(places[index])
                largest, start = max(largest, end - start), end
        memory = max(largest, ends[-1] - start)
        memory += sum(sizes[order[id(layer)]] for layer in cuts)
        if cuts and len(cuts) < segments and memory < least:
            best, least = cuts, memory
    return list(best)


def _sizes(model: keras.Model) -> list[int]:
    """Numbers in each layer's output, on an image of 512 x 512 where any size goes."""
    height, width, channels = (side or 512 for side in model.input_shape[1:])
    outputs = keras.Model(model.input, [layer.output for layer in model.layers])
    shapes = outputs.compute_output_shape((1, height, width, channels))
    return [math.prod(shape[1:]) for shape in shapes]


def _pieces(model: keras.Model, kept: Sequence) -> list[tuple]:
    """(part of the model, its batch norms) from each kept tensor to the next."""
    ends = [*(layer.output for layer in kept), model.output]
    starts = [model.input, *ends[:-1]]
    pieces = []
    for start, end in zip(starts, ends, strict=True):
        piece = keras.Model(start, end)
        norms = [layer for layer in piece.layers
                 if isinstance(layer, keras.layers.BatchNormalization)]  # fmt: skip
        pieces.append((piece, norms))
    return pieces


def _recomputed(piece: keras.Model, norms: Sequence) -> Callable:
    if keras.backend.backend() == "jax":
        return _recomputed_by_jax(piece)

    def run(x):
        with _half_updates(norms):
            return piece(x, training=True)

    return keras.remat(run)


def _recomputed_by_jax(piece: keras.Model) -> Callable:
    """JAX traces a piece once: what it updates comes out of it and is assigned once."""
    learned = piece.trainable_variables
    kept = piece.non_trainable_variables

    def run(x):
        values = [[v.value for v in group] for group in (learned, kept)]
        y, updated = keras.remat(partial(piece.stateless_call, training=True))(
            *values, x
        )
        for variable, value in zip(kept, updated, strict=True):
            variable.assign(value)
        return y

    return run


@contextlib.contextmanager
def _half_updates(norms: Sequence) -> Iterator[None]:
    """Batch norms at the square root of their momentum, while a piece is traced."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = norm.momentum**0.5
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def _inputs(layer: keras.layers.Layer) -> Iterator:
    found = layer.input
    yield from found if isinstance(found, (list, tuple)) else [found]
