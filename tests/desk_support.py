"""A model small enough for tests of scoring, one that computes nothing, and images."""

import cv2
import numpy as np

from dm_models.inputs import InputContract

SIZE = (48, 40)


def contract(size=SIZE, **changes):
    height, width = size or (None, None)
    return InputContract(
        "tiny", height=height, width=width, class_names=("neg", "pos"), **changes
    )


def write_model(path, size=SIZE, decisions=(), seed=0, **changes):
    """Save a net of two strided convolutions, which no flip leaves as it is."""
    import keras

    from dm_models.decision import store_decision
    from dm_models.inputs import grey_input
    from dm_models.weights import save_model

    keras.utils.set_random_seed(seed)
    own = contract(size, **changes)
    inputs, x = grey_input(own)
    x = keras.layers.Rescaling(1 / 64)(x)
    for filters in (4, 8):
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(2, activation="softmax", dtype="float32")(x)
    save_model(keras.Model(inputs, outputs), path, own)
    for decision in decisions:
        store_decision(path, decision)
    return path


class MeanScorer:
    """The mean grey level as a score: what a model is, without a network."""

    name, version = "mean", "0123456789ab"

    def __init__(self, own=None, decision=None):
        self.contracts, self._decision = (own or contract(),), decision
        self.batches = []  # shapes of what was scored

    def decision(self, flips):
        held = self._decision
        return held if held is not None and held.flips == flips else None

    def scores(self, prepared, *, flips):
        self.batches.append(prepared[0].shape)
        return prepared[0].mean(axis=(1, 2, 3), dtype=np.float64) / 65535

    def heat(self, image):
        from dm_training.image_maps import MapError

        raise MapError("this model has no map")


def write_images(folder, count, *, size=SIZE, names=None, seed=0):
    """Write 16-bit PNGs that get brighter from one to the next; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(seed), []
    for number in range(count):
        name = names[number] if names else f"{number:04d}"
        top = 1000 + 60000 * (number + 1) // count
        image = rng.integers(0, top, size, dtype=np.uint16)
        paths.append(folder / f"{name}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths
