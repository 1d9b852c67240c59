"""Grad-CAM: which places of an image spoke for a whole-image net's score.

At a map layer, each channel's weight is the mean over the map of the derivative of
(logit of pos - logit of neg); the map is the weighted sum of the channels, and what
speaks against is cut off at 0. Where a map is averaged and read by one Dense, as in
every convolutional top, that derivative is known: the difference of the Dense's two
columns over the map's area. No tape is needed, and the sum over the map, before the
cut, is the difference of the logits but for the bias: the score itself, spread out.

Other map layers need a derivative of the backend's own: TensorFlow's or JAX's.

Source:
    Selvaraju et al., Grad-CAM: visual explanations from deep networks via
    gradient-based localization, ICCV 2017. The closed form: Zhou et al., Learning deep
    features for discriminative localization, CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from dm_models.receptive_field import tensors_of

# What changes nothing between an averaged map and the last Dense when scoring.
_IDLE = (keras.layers.Dropout, keras.layers.SpatialDropout2D)
_NAMED = 5


class GradCamError(ValueError):
    """A net or a layer that has no Grad-CAM map; the message says what has one."""


@dataclass(frozen=True)
class _Ending:
    """How a net ends.

    Attributes:
        denses: The layers whose sum the softmax takes: one, or two by a shortcut.
        averaged: The layer whose map `reader` reads averaged; None where none does.
        reader: Which of the denses.
    """

    denses: tuple[keras.layers.Dense, ...]
    averaged: keras.layers.Layer | None = None
    reader: keras.layers.Dense | None = None


def grad_cam(model: keras.Model, images, *, layer: str | None = None) -> np.ndarray:
    """Map what spoke for `pos` in images.

    Args:
        model: A whole-image classifier: a softmax of two outputs, neg and pos.
        images: Raw grey levels, float32 (N, H, W, 1), at the net's own size.
        layer: Name of a layer with a map, see `cam_layer`; None for the map that the
            last Dense reads averaged, which is the coarsest and needs no tape.

    Returns:
        float32 (N, h, w), at least 0, in parts of a logit and not scaled to 1. An
        image in which nothing speaks for pos is 0 throughout.

    Raises:
        GradCamError: As `cam_layer`; also a named layer on a backend other than
            TensorFlow and JAX.

    Example:
        >>> heat = grad_cam(model, image[None, ..., None].astype("float32"))[0]
        >>> shown = heat / max(heat.max(), 1e-12)
    """
    ending = _ending(model)
    chosen = cam_layer(model, layer)
    maps = keras.Model(model.input, chosen.output)(images, training=False)
    if chosen is ending.averaged:
        weights = _direction(ending.reader) / (maps.shape[1] * maps.shape[2])
        weights = np.broadcast_to(weights, (len(maps), len(weights)))
    else:
        slope = _derivative(model, ending, chosen, maps)
        weights = _float32(slope).mean(axis=(1, 2))
    return np.maximum(np.einsum("nhwc,nc->nhw", _float32(maps), weights), 0.0)


def averaged_weights(model: keras.Model) -> np.ndarray:
    """What each channel of `cam_layer(model)`'s averaged map adds to the logit.

    Divided by the map's number of cells, these are `grad_cam`'s weights of channels,
    the same for every image: what an export needs to map without a derivative.

    Returns:
        float32 (channels,).

    Raises:
        GradCamError: As `cam_layer`.
    """
    cam_layer(model)
    return _direction(_ending(model).reader)


def cam_layer(model: keras.Model, name: str | None = None) -> keras.layers.Layer:
    """Return the layer at which `grad_cam` maps, for `receptive_field.cell_centres`.

    Args:
        model: A whole-image classifier.
        name: A layer with rows and columns that every way from the image to the score
            passes (in a residual net: what ends a unit, not what stands within it);
            None for the one whose map the last Dense reads averaged.

    Raises:
        GradCamError: The net does not end in a softmax of two; no name, and no map is
            averaged (a top of FC layers); or a name that does not fit.
    """
    ending = _ending(model)
    if name is None and ending.averaged is None:
        raise GradCamError(
            f"model {model.name!r}: its last layers read no averaged map (a top of FC "
            "layers?): the patch heatmap is what to use; or name a layer, such as "
            f"{_examples(model)}"
        )
    if name is None or (ending.averaged and name == ending.averaged.name):
        return ending.averaged
    if name not in map_layers(model):
        raise GradCamError(
            f"model {model.name!r}: layer must have rows and columns and be passed by "
            f"every way to the score, received {name!r}; such are {_examples(model)}"
        )
    return model.get_layer(name)


def map_layers(model: keras.Model) -> list[str]:
    """Name the layers with a map that every way from the image to the score passes."""
    return [
        layer.name
        for layer in model.layers
        if len(layer.output.shape) == 4
        and not isinstance(layer, keras.layers.InputLayer)
        and not _can_be_passed_by(model, layer)
    ]


def _ending(model: keras.Model) -> _Ending:
    makers = {id(layer.output): layer for layer in model.layers}

    def before(layer) -> list[keras.layers.Layer]:
        return [makers[id(tensor)] for tensor in tensors_of(layer.input)]

    denses = _softmax_of(model, makers[id(model.output)], before)
    for dense in denses:
        (below,) = before(dense)
        while isinstance(below, _IDLE):
            (below,) = before(below)
        if isinstance(below, keras.layers.GlobalAveragePooling2D):
            return _Ending(denses, before(below)[0], dense)
    return _Ending(denses)


def _softmax_of(model: keras.Model, last, before) -> tuple[keras.layers.Dense, ...]:
    """The Dense layers whose sum a net's softmax takes.

    Raises:
        GradCamError: It does not end so, or not in two classes.
    """
    found = []
    if _is_softmax(last):
        (below,) = before(last)
        found = before(below) if isinstance(below, keras.layers.Add) else [below]
        found = [each for each in found if _activation(each) == "linear"]
    elif _activation(last) == "softmax":
        found = [last]
    if not found or {getattr(each, "units", None) for each in found} != {2}:
        raise GradCamError(
            f"model {model.name!r} must end in a softmax of two classes, neg and pos, "
            f"over Dense; received {type(last).__name__} {last.name!r} with "
            f"{model.output.shape[-1]} outputs"
        )
    return tuple(found)


def _is_softmax(layer) -> bool:
    is_activation = isinstance(layer, keras.layers.Activation)
    return isinstance(layer, keras.layers.Softmax) or (
        is_activation and layer.activation.__name__ == "softmax"
    )


def _activation(layer) -> str | None:
    """The activation of a Dense; None for another layer."""
    is_dense = isinstance(layer, keras.layers.Dense)
    return layer.activation.__name__ if is_dense else None


def _can_be_passed_by(model: keras.Model, layer) -> bool:
    """Whether a way leads from the image to the output, but not through a layer."""
    reached = {id(tensor) for tensor in tensors_of(model.input)}
    for each in model.layers:
        taken = {id(tensor) for tensor in tensors_of(each.input)}
        if each is not layer and reached & taken:
            reached.add(id(each.output))
    return id(model.output) in reached


def _examples(model: keras.Model) -> str:
    return ", ".join(map_layers(model)[: -_NAMED - 1 : -1]) or "none"


def _direction(dense: keras.layers.Dense) -> np.ndarray:
    """What a Dense adds to (logit of pos - logit of neg) by each feature, (C,)."""
    kernel = _float32(dense.kernel)
    return kernel[:, 1] - kernel[:, 0]


def _float32(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def _derivative(model: keras.Model, ending: _Ending, layer, maps):
    """The slope of (logit of pos - logit of neg) at a layer's maps, (N, h, w, C)."""
    rest = keras.Model(layer.output, [dense.input for dense in ending.denses])
    directions = [_direction(dense) for dense in ending.denses]

    def score(features):
        parts = zip(keras.tree.flatten(features), directions, strict=True)
        return sum(keras.ops.sum(keras.ops.cast(f, "float32") * d) for f, d in parts)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(maps)
            found = score(rest(maps, training=False))
        return tape.gradient(found, maps)
    if backend == "jax":
        import jax

        state = ([v.value for v in rest.trainable_variables],
                 [v.value for v in rest.non_trainable_variables])  # fmt: skip
        return jax.grad(
            lambda values: score(rest.stateless_call(*state, values, training=False)[0])
        )(maps)
    raise GradCamError(
        f"layer {layer.name!r} needs a derivative of TensorFlow or JAX, received the "
        f"backend {backend}; the default layer needs none"
    )
