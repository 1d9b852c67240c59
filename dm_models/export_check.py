"""Whether what was exported gives the model's own scores, form by form.

A SavedModel is loaded as a stranger would, and each signature is called: its scores,
its calibrated probability and its call are held against the model and its decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_models import saved_model_layout as layout
from dm_models.decision import Decision
from dm_models.inputs import InputContract
from dm_models.saved_model_writer import saved_size

if TYPE_CHECKING:
    import keras

_FLIPPED = {1: ((1, 1),), 4: ((1, 1), (1, -1), (-1, 1), (-1, -1))}


def random_images(
    model: keras.Model, contract: InputContract, count: int = 4
) -> np.ndarray:
    """Images of raw grey levels, dark to bright, of the model's size.

    Args:
        model: Which size it takes.
        contract: Which size it was trained on.
        count: 1 to 4.

    Returns:
        float32 (count, H, W, 1); the first one has levels 0 and 65535, so that
        stretching it changes nothing.
    """
    shape = (4, *saved_size(model, contract), 1)
    levels = np.random.default_rng(0).integers(0, 65536, shape)
    brightness = np.array([1.0, 0.3, 0.1, 0.6]).reshape(4, 1, 1, 1)
    images = np.round(levels * brightness).astype(np.float32)
    images[0, 0, :2, 0] = 0, 65535
    return images[:count]


def scores_of(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Score without `predict`, which compiles first and takes longer."""
    return np.asarray(model(images, training=False))


def flipped_scores(model: keras.Model, images: np.ndarray, flips: int) -> np.ndarray:
    """The mean of a model's scores over 1 or 4 flips, float64 (N, classes)."""
    each = [
        scores_of(model, np.ascontiguousarray(images[:, ::rows, ::cols]))
        for rows, cols in _FLIPPED[flips]
    ]
    return np.mean(np.asarray(each, np.float64), axis=0)


def signature_differences(
    folder: str | Path,
    model: keras.Model,
    contract: InputContract,
    decisions: Mapping[int, Decision],
) -> dict[str, float]:
    """Call every signature of a SavedModel.

    Args:
        folder: The version's own folder.
        model: What it was made of, in float32.
        contract: The model's.
        decisions: Flips -> decision.

    Returns:
        Signature -> largest difference of its scores and probabilities from the
        model's, or of its heat in parts of the hottest; infinite where it calls
        another image positive.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))  # the signatures do not keep it alive
    images = random_images(model, contract, 1)
    flipped = {flips: flipped_scores(model, images, flips) for flips in _FLIPPED}
    found = {}
    for name, function in loaded.signatures.items():
        outputs = {k: v.numpy() for k, v in function(**_request(name, images)).items()}
        if name == layout.GRAD_CAM_SIGNATURE:
            found[name] = _heat_difference(outputs, model, images)
        else:
            flips = 4 if name.endswith(layout.TTA) else 1
            scores = flipped[flips]
            found[name] = _difference(outputs, scores, decisions.get(flips))
    return found


def largest_difference(scores: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference; NaN where either has one."""
    return float(np.abs(scores - expected).max())


def _request(signature: str, images: np.ndarray) -> dict:
    """The same images in the form that a signature takes."""
    import tensorflow as tf

    whole = images.astype(np.uint16)
    if signature.startswith(layout.PNG_SIGNATURE):
        encoded = [tf.io.encode_png(image).numpy() for image in whole]
        return {layout.PNG_INPUT: tf.constant(encoded)}
    is_u16 = signature.startswith(layout.UINT16_SIGNATURE)
    return {layout.GREY_INPUT: tf.constant(whole if is_u16 else images)}


def _difference(outputs, expected: np.ndarray, decision: Decision | None) -> float:
    found = largest_difference(outputs[layout.SCORES], expected)
    if layout.PROBABILITY not in outputs:
        return found
    positive = expected[:, 1]
    if decision is None:
        other = outputs[layout.PROBABILITY] - positive
    else:
        calibrated = decision.calibrated(positive)
        other = outputs[layout.PROBABILITY] - calibrated
        called = outputs[layout.POSITIVE] == decision.calls(positive)
        # Within the rounding of the score, either call is right.
        close = np.abs(calibrated - decision.threshold) < 1e-5
        if not (called | close).all():
            return float("inf")
    return max(found, float(np.abs(other).max()))


def _heat_difference(outputs, model: keras.Model, images: np.ndarray) -> float:
    from dm_models.grad_cam import grad_cam

    expected = grad_cam(model, images)
    scale = max(float(expected.max()), 1.0)
    return largest_difference(outputs[layout.HEAT], expected) / scale
