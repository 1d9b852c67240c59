"""The TensorFlow graph of an exported model: its signatures, as functions of tensors.

`saved_model_layout` names what goes in and comes out. The net is traced once and called
by every signature. Levels, flips, calibration and the call at the operating point are
stock TensorFlow ops, so that a server needs neither Keras nor this project. What a
batch holds never changes an image's own result, but an image that is refused takes its
batch along.

Source:
    Mean over four flips: Shen et al. 3.1.4. Grad-CAM: see `grad_cam`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import tensorflow as tf

from dm_models import saved_model_layout as layout
from dm_models import serving_pixels as pixels
from dm_models.decision import Decision
from dm_models.inputs import ContractError, InputContract

if TYPE_CHECKING:
    import keras

# Axes reversed by each flip: the image itself, left-right, up-down, both.
_FLIPS = ((), (2,), (1,), (1, 2))
_POS = layout.WHOLE_IMAGE.index("pos")
_EDGE = 1e-7  # as in `decision`: scores of 0 and 1 have no logit


class ServingGraph:
    """A model's signatures.

    Args:
        model: In float32; raw grey levels (N, H, W, 1) in, (N, classes) out.
        contract: Its input contract.
        decisions: Number of flips, 1 or 4 -> the decision for it, or None.
        version: What `model_version` says.
        cam: The layer of `grad_cam.cam_layer`; None for no `grad_cam`.

    Raises:
        ContractError: The contract names another number of classes than the net has.

    Attributes:
        signatures: Name -> tf.function of one named tensor.
        net: tf.function of the bare net.
        root: What `tf.saved_model.save` is given with the signatures. It holds the
            variables, which functions hold only loosely.
    """

    def __init__(
        self, model: keras.Model, contract: InputContract,
        decisions: Mapping[int, Decision | None], version: str, cam=None,
    ):  # fmt: skip
        self.contract, self.decisions, self.version = contract, decisions, version
        self.is_whole_image = layout.is_whole_image(contract.class_names)
        self.class_names = class_names(contract, model.output_shape[-1])
        self.root = tf.Module()
        self.root.weights = [variable.value for variable in model.variables]
        self.least = _least_size(model)
        self.grey_spec = grey_spec(model)
        self.net = tf.function(
            lambda grey: tf.cast(model(grey, training=False), tf.float32),
            input_signature=[self.grey_spec],
            autograph=False,
        )
        self.signatures = {}
        for flips, suffix in ((1, ""), (4, layout.TTA)):
            for name, made in self._inputs().items():
                self.signatures[name + suffix] = self._scoring(*made, flips)
        if cam is not None and self.is_whole_image:
            self.signatures[layout.GRAD_CAM_SIGNATURE] = self._mapping(model, cam)

    def _inputs(self) -> dict[str, tuple[tf.TensorSpec, Callable]]:
        """Signature -> (what it takes, how that becomes raw grey levels)."""
        uint16 = tf.TensorSpec(self.grey_spec.shape, tf.uint16, name=layout.GREY_INPUT)
        found = {
            layout.DEFAULT_SIGNATURE: (self.grey_spec, self._checked),
            layout.UINT16_SIGNATURE: (
                uint16, lambda grey: self._checked(tf.cast(grey, tf.float32)),
            ),
        }  # fmt: skip
        if takes_files(self.contract):
            spec = tf.TensorSpec((None,), tf.string, name=layout.PNG_INPUT)
            found[layout.PNG_SIGNATURE] = spec, self._decoded
        return found

    def _checked(self, grey):
        grey = pixels.check_size(grey, self.least)
        return pixels.check_levels(grey, whole_images=self.is_whole_image)

    def _decoded(self, encoded):
        grey = pixels.decoded_batch(
            encoded, self.contract, whole_images=self.is_whole_image
        )
        return pixels.check_size(grey, self.least)

    def _scoring(self, spec: tf.TensorSpec, grey_of: Callable, flips: int):
        @tf.function(input_signature=[spec], autograph=False)
        def score(given):
            grey = grey_of(given)
            scores = self.net(grey) if flips == 1 else self._mean_over_flips(grey)
            return {
                layout.SCORES: scores,
                **self._judged(scores, self.decisions.get(flips)),
                **self._facts(tf.shape(scores)[0]),
            }

        return score

    def _mapping(self, model: keras.Model, cam):
        import keras

        from dm_models.grad_cam import averaged_weights

        weights = tf.constant(averaged_weights(model))
        both = keras.Model(model.input, [cam.output, model.output])

        @tf.function(input_signature=[self.grey_spec], autograph=False)
        def explain(grey):
            maps, scores = both(self._checked(grey), training=False)
            cells = tf.cast(tf.shape(maps)[1] * tf.shape(maps)[2], tf.float32)
            heat = tf.einsum("nhwc,c->nhw", tf.cast(maps, tf.float32), weights / cells)
            judged = self._judged(tf.cast(scores, tf.float32), self.decisions.get(1))
            return {
                layout.PROBABILITY: judged[layout.PROBABILITY],
                layout.HEAT: tf.maximum(heat, 0.0),
            }

        return explain

    def _mean_over_flips(self, grey):
        total = sum(
            tf.cast(self.net(tf.reverse(grey, axes) if axes else grey), tf.float64)
            for axes in _FLIPS
        )
        return tf.cast(total / len(_FLIPS), tf.float32)

    def _judged(self, scores, decision: Decision | None) -> dict:
        """Calibrated probability and call of the positive class, where there is one."""
        if not self.is_whole_image:
            return {}
        positive = scores[:, _POS]
        probability = calibrated(positive, decision)
        found = {layout.PROBABILITY: tf.cast(probability, tf.float32)}
        if decision is not None:
            found[layout.POSITIVE] = probability >= decision.threshold
            found[layout.THRESHOLD] = tf.fill(
                tf.shape(positive), tf.constant(decision.threshold, tf.float32)
            )
        return found

    def _facts(self, count) -> dict:
        """What is the same for every image, one row an image all the same."""
        names = tf.constant(self.class_names)
        return {
            layout.CLASS_NAMES: tf.tile(names[None], (count, 1)),
            layout.CONTRACT: tf.fill([count], contract_text(self.contract)),
            layout.VERSION: tf.fill([count], self.version),
        }


def bare_function(
    model: keras.Model, contract: InputContract, decision: Decision | None
):
    """The net without any check of its levels: scores, and where there is one, the
    calibrated probability. What ONNX can hold.

    Args:
        model: In float32.
        contract: The model's.
        decision: For single predictions.

    Returns:
        A tf.function of `grey`.
    """

    @tf.function(input_signature=[grey_spec(model)], autograph=False)
    def score(grey):
        scores = tf.cast(model(grey, training=False), tf.float32)
        if not layout.is_whole_image(contract.class_names):
            return {layout.SCORES: scores}
        probability = calibrated(scores[:, _POS], decision)
        return {
            layout.SCORES: scores,
            layout.PROBABILITY: tf.cast(probability, tf.float32),
        }

    return score


def grey_spec(model: keras.Model) -> tf.TensorSpec:
    """What the net takes: any number of images, of any size where it takes any."""
    shape = (None, *model.input_shape[1:3], 1)
    return tf.TensorSpec(shape, tf.float32, name=layout.GREY_INPUT)


def takes_files(contract: InputContract) -> bool:
    """Whether a file's preparation can be done in the graph: no search for a breast."""
    return not contract.crop_breast


def calibrated(scores, decision: Decision | None):
    """`Decision.calibrated` in the graph: float32 (N,) -> float64 (N,)."""
    scores = tf.cast(scores, tf.float64)
    if decision is None or decision.temperature == 1:
        return scores
    inside = tf.clip_by_value(scores, _EDGE, 1 - _EDGE)
    logits = tf.math.log(inside) - tf.math.log(1 - inside)
    return tf.sigmoid(logits / decision.temperature)


def class_names(contract: InputContract, count: int) -> list[str]:
    """The outputs' names; of a contract that names none, their numbers.

    Raises:
        ContractError: It names another count.
    """
    names = list(contract.class_names) or [f"class_{index}" for index in range(count)]
    if len(names) != count:
        raise ContractError(
            f"class_names must name the net's {count} outputs, received "
            f"{', '.join(names)}"
        )
    return names


def contract_text(contract: InputContract) -> str:
    """The contract in one line, without the statistics of its training images."""
    fields = json.loads(contract.to_json())
    fields.pop("grey_stats", None)
    return json.dumps(fields, separators=(",", ":"))


def _least_size(model: keras.Model) -> tuple[int, int]:
    """Rows and columns below which the net has nothing left; 1 where nobody can say."""
    from dm_models.receptive_field import least_size

    try:
        return least_size(model)
    except ValueError:  # a net of others that enlarges maps
        return 1, 1
