"""The way of the time: Keras 2's ImageDataGenerator, in a worker a core.

It decodes each PNG in each epoch, spreads it over three float channels and resamples
each of them by SciPy. This is tf_keras's own class, not an imitation.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import degrees

import numpy as np

from dm_training.benchmark import worker_ring


def batches(config: dict) -> Iterator:
    """A candidate (`candidates.Candidate`).

    Args:
        config: `paths`, `height`, `width`, `batch`, `workers`, `ranges` (the fields of
            `augment.Ranges`).

    Raises:
        ImportError: tf_keras is not installed.
    """
    from importlib import metadata

    version = metadata.version("tf_keras")  # the workers import it
    shape = config["batch"], config["height"], config["width"], 3
    maker = f"{__name__}:make_fill"
    ring = worker_ring.batches(maker, config, shape=shape, workers=config["workers"])
    first = next(ring)
    used = f"tf_keras {version} ImageDataGenerator.random_transform"
    yield {"shape": list(first.shape), "dtype": str(first.dtype), "used": used}
    for batch in ring:
        yield len(batch)


def make_fill(config: dict, number: int):
    """A worker's `fill(batch)`; each worker draws from a stream of its own."""
    import cv2
    import tensorflow as tf

    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    generator, paths = make_generator(config["ranges"]), config["paths"]
    rng = np.random.default_rng([2, number])
    np.random.seed(number)  # the generator draws from NumPy's global state

    def fill(batch: np.ndarray) -> None:
        for slot in batch:
            grey = cv2.imread(paths[rng.integers(len(paths))], cv2.IMREAD_UNCHANGED)
            image = np.repeat(grey[..., None].astype(np.float32), 3, axis=2)
            slot[...] = generator.random_transform(image)

    return fill


def make_generator(ranges: dict):
    """tf_keras's generator with the ranges of `augment.Ranges`."""
    from tf_keras.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator(
        rotation_range=ranges["rotation_degrees"],
        shear_range=degrees(ranges["shear_radians"]),
        zoom_range=[1.0 - ranges["zoom"], 1.0 + ranges["zoom"]],
        channel_shift_range=ranges["shift_grey"] * 65535.0 / 255.0,
        horizontal_flip=ranges["flips"], vertical_flip=ranges["flips"],
        fill_mode="nearest",
    )  # fmt: skip
