"""tf.data pipelines: one stream for training, one pass for evaluation.

Pixels stay one channel of raw 16-bit grey until the network's own input contract.
Training is one endless stream whose element at (epoch, position) depends on nothing but
(run seed, epoch, position): the same on any number of threads, after a resume that
starts in the middle, and whichever process of several it is cut for. Evaluation sees
every image exactly once, the last short batch included.

Order and augmentation of an epoch are drawn at its start. Then a whole batch is read
and warped by OpenCV into one array by one call, in as many threads as there are cores,
and nothing is copied after.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import cv2
import numpy as np
import tensorflow as tf
from joblib import cpu_count

from dm_training import augment
from dm_training.batch_memory import BatchMemory
from dm_training.image_store import ImageStore
from dm_training.samples import Samples

BALANCES = ("none", "batch-weights", "sampling")
ROUTES = ("opencv", "tensorflow")


@dataclass(frozen=True)
class Share:
    """Which part of every global batch one process of several takes.

    Attributes:
        rank: The process's number, from 0.
        count: How many processes there are; the global batch must divide by it.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self):
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank must be below count, received {self}")

    def of(self, batches: np.ndarray) -> np.ndarray:
        """The columns of (steps, batch) that are this process's."""
        size = batches.shape[1] // self.count
        return batches[:, self.rank * size : (self.rank + 1) * size]


def steps_per_epoch(samples: Samples, batch_size: int) -> int:
    """Steps in which every sample could be seen once: N over the batch, rounded up."""
    return math.ceil(len(samples) / batch_size)


def epoch_order(
    labels: np.ndarray, *, seed: int, epoch: int, length: int, balance: str = "none"
) -> np.ndarray:
    """The order of one epoch.

    Args:
        labels: int (N,), the class of each sample.
        seed: The run's seed.
        epoch: Counted from 0 over all stages.
        length: How many positions the epoch has (steps times batch).
        balance: "sampling" gives each class an equal share of the positions, the rarer
            ones repeated; a batch of 2 cannot be balanced by weights within it.

    Returns:
        int64 (length,), indices of samples. No sample repeats before all others of
        its class have been drawn.
    """
    rng = np.random.default_rng([seed, epoch])
    if balance != "sampling":
        return _repeated(rng, np.arange(len(labels)), length)
    classes = np.unique(labels)
    share = math.ceil(length / len(classes))
    drawn = [_repeated(rng, np.flatnonzero(labels == c), share) for c in classes]
    mixed = np.stack(drawn, axis=1)  # row i: the i-th of every class
    return rng.permuted(mixed, axis=1).reshape(-1)[:length]


def batch_weights(labels: np.ndarray) -> np.ndarray:
    """Weights that make each class present count alike in a batch; their mean is 1.

    w_i = 1 / (share of i's class in the batch x number of classes in the batch). The
    authors leave out the second factor, which scales a batch's loss by the number of
    classes that happen to be in it.

    Args:
        labels: int (N,).

    Returns:
        float32 (N,).

    Source:
        Shen et al. 3.1.2.
    """
    _, own, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.float32(len(labels)) / (counts[own] * len(counts)).astype(np.float32)


def make_training_dataset(
    samples: Samples,
    store: ImageStore,
    *,
    batch_size: int,
    seed: int,
    start_epoch: int = 0,
    balance: str = "none",
    class_weights: dict[int, float] | None = None,
    ranges: augment.Ranges = augment.PAPER,
    share: Share = Share(),
    route: str = "opencv",
) -> tf.data.Dataset:
    """An endless stream of (images, labels, weights) batches.

    Args:
        samples: What to train on.
        store: Its pixels, of one size.
        batch_size: Images a step, of all processes together.
        seed: The run's seed.
        start_epoch: The epoch to begin with; a resumed run gives its own.
        balance: One of `BALANCES`.
        class_weights: Class index -> factor on the loss, on top of the balance.
        ranges: Augmentation; `augment.NONE` for none.
        share: Which part of each batch this process takes.
        route: One of `ROUTES`; they agree to the rounding of the resampling.

    Returns:
        Elements float32 (b, H, W, 1) raw grey, int64 (b,), float32 (b,), where b is
        the batch size over the share's count.

    Raises:
        ValueError: An unknown balance or route, or a batch that cannot be shared out.
    """
    _check_choices(balance, route, batch_size, share)
    cv2.setNumThreads(1)  # batches are made side by side; threads within one only cost
    plan = _EpochPlan(samples, store, batch_size, seed, balance, class_weights or {},
                      ranges, share)  # fmt: skip
    pixels = _batch_pixels(store, ranges, route)

    def batch(index, label, weight, maps, shifts):
        return pixels(index, maps, shifts), label, weight

    return (
        tf.data.Dataset.range(start_epoch, np.iinfo(np.int32).max)
        .flat_map(lambda epoch: tf.data.Dataset.from_tensor_slices(plan.tensors(epoch)))
        .map(batch, num_parallel_calls=cpu_count())
        .prefetch(2)
        .with_options(_fixed_threads())
    )


def make_evaluation_dataset(
    samples: Samples, store: ImageStore, *, batch_size: int
) -> tf.data.Dataset:
    """Every image once, in the order of the table, the last batch as short as it is.

    Returns:
        Elements float32 (B, H, W, 1), raw grey levels.
    """
    pixels = _batch_pixels(store, augment.NONE, "opencv")
    return (
        tf.data.Dataset.range(len(samples))
        .batch(batch_size)
        .map(pixels, num_parallel_calls=cpu_count())
        .prefetch(2)
    )


@dataclass(frozen=True)
class _EpochPlan:
    """Which samples an epoch takes, in which order, at which weight, and moved how."""

    samples: Samples
    store: ImageStore
    batch_size: int
    seed: int
    balance: str
    class_weights: dict[int, float]
    ranges: augment.Ranges
    share: Share

    @property
    def steps(self) -> int:
        return steps_per_epoch(self.samples, self.batch_size)

    def arrays(self, epoch: int) -> tuple[np.ndarray, ...]:
        """Indices, labels, weights, maps and shifts: (steps, this process's share)."""
        length, epoch = self.steps * self.batch_size, int(epoch)
        labels = self.samples.labels
        order = epoch_order(
            labels, seed=self.seed, epoch=epoch, length=length, balance=self.balance
        )
        drawn = augment.draw([self.seed, epoch, 1], length, self.ranges)
        maps = augment.transforms(drawn, self.store.height, self.store.width)
        parts = order, labels[order], self._weights(labels[order]), maps, drawn["shift"]
        return tuple(
            self.share.of(part.reshape(self.steps, self.batch_size, *part.shape[1:]))
            for part in parts
        )

    def tensors(self, epoch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The same inside tf.data."""
        kinds = (tf.int64, tf.int64, tf.float32, tf.float32, tf.float32)
        parts = tf.numpy_function(self.arrays, [epoch], kinds)
        shape = self.steps, self.batch_size // self.share.count
        return tuple(
            tf.ensure_shape(part, (*shape, 8) if part is parts[3] else shape)
            for part in parts
        )

    def _weights(self, labels: np.ndarray) -> np.ndarray:
        names = range(len(self.samples.classes))
        factors = np.array([self.class_weights.get(k, 1.0) for k in names], np.float32)
        weights = factors[labels]
        if self.balance == "batch-weights":
            batches = labels.reshape(self.steps, self.batch_size)
            weights *= np.concatenate([batch_weights(batch) for batch in batches])
        return weights


def _batch_pixels(store: ImageStore, ranges: augment.Ranges, route: str):
    """(indices, maps, shifts) -> float32 (B, H, W, 1), inside tf.data."""
    memory, own = BatchMemory(), threading.local()

    def moved(indices, maps, shifts):
        if not hasattr(own, "scratch"):
            own.scratch = np.empty((store.height, store.width), np.uint16)
        out = memory.take((len(indices), store.height, store.width, 1))
        for at, index in enumerate(indices):
            image = store.read(index)
            augment.warp(image, maps[at], shifts[at], out[at, :, :, 0], own.scratch)
        return out

    def pixels(indices, maps=None, shifts=None):
        plain = ranges == augment.NONE
        if plain or route == "tensorflow":
            images = tf.numpy_function(store.batch, [indices], tf.float32)
        else:
            images = tf.numpy_function(moved, [indices, maps, shifts], tf.float32)
        images.set_shape((indices.shape[0], store.height, store.width, 1))
        if not plain and route == "tensorflow":
            images = augment.apply(images, maps, shifts)
        return images

    return pixels


def _fixed_threads() -> tf.data.Options:
    """No tuning while it runs: a thread a core is right, and looking for it costs."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _check_choices(balance: str, route: str, batch_size: int, share: Share) -> None:
    if balance not in BALANCES:
        raise ValueError(f"balance must be one of {BALANCES}, received {balance!r}")
    if route not in ROUTES:
        raise ValueError(f"route must be one of {ROUTES}, received {route!r}")
    if batch_size % share.count:
        raise ValueError(
            f"batch_size must divide by {share.count}, the number of processes, so "
            f"that each takes an equal part; received {batch_size}"
        )


def _repeated(rng: np.random.Generator, pool: np.ndarray, length: int) -> np.ndarray:
    """`length` draws from `pool`: whole permutations one after another."""
    rounds = math.ceil(length / len(pool))
    return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:length]
