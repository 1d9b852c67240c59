"""tf.data pipelines: one stream for training, one pass for evaluation.

Pixels stay one channel of raw 16-bit grey until the network's own input contract.
Training is one endless stream whose element at (epoch, position) depends on nothing but
(run seed, epoch, position): the same on any number of threads, and after a resume that
starts in the middle. Evaluation sees every image exactly once, the last short batch
included.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from dm_training import augment
from dm_training.image_store import ImageStore
from dm_training.samples import Samples

BALANCES = ("none", "batch-weights", "sampling")


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


def batch_weights(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Weights that make each class present count alike in a batch; their mean is 1.

    w_i = 1 / (share of i's class in the batch x number of classes in the batch). The
    authors leave out the second factor, which scales a batch's loss by the number of
    classes that happen to be in it.

    Args:
        labels: int (N,).
        num_classes: How many classes there are.

    Returns:
        float32 (N,).

    Source:
        Shen et al. 3.1.2.
    """
    counts = tf.math.bincount(tf.cast(labels, tf.int32), minlength=num_classes)
    present = tf.cast(tf.math.count_nonzero(counts), tf.float32)
    own = tf.cast(tf.gather(counts, labels), tf.float32)
    return tf.cast(tf.size(labels), tf.float32) / (own * present)


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
) -> tf.data.Dataset:
    """An endless stream of (images, labels, weights) batches.

    Args:
        samples: What to train on.
        store: Its pixels, of one size.
        batch_size: Images a step.
        seed: The run's seed.
        start_epoch: The epoch to begin with; a resumed run gives its own.
        balance: One of `BALANCES`.
        class_weights: Class index -> factor on the loss, on top of the balance.
        ranges: Augmentation; `augment.NONE` for none.

    Returns:
        Elements float32 (B, H, W, 1) raw grey, int64 (B,), float32 (B,).
    """
    if balance not in BALANCES:
        raise ValueError(f"balance must be one of {BALANCES}, received {balance!r}")
    labels = samples.labels
    length = steps_per_epoch(samples, batch_size) * batch_size
    factors = tf.constant(
        [(class_weights or {}).get(k, 1.0) for k in range(len(samples.classes))]
    )

    def order(epoch):
        return epoch_order(
            labels, seed=seed, epoch=int(epoch), length=length, balance=balance
        )

    def one_epoch(epoch):
        indices = tf.numpy_function(order, [epoch], tf.int64)
        positions = tf.data.Dataset.from_tensor_slices(tf.range(length))
        drawn = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(indices, (length,)))
        return tf.data.Dataset.zip(positions, drawn).map(
            lambda position, index: (epoch, position, index)
        )

    def one_image(epoch, position, index):
        label = tf.gather(tf.constant(labels), index)
        sample_seed = _sample_seed(seed, epoch, position)
        return store.tensor(index), label, augment.draw(sample_seed, ranges)

    def finish(batch, batch_labels, parameters):
        if ranges != augment.NONE:
            batch = augment.apply(batch, parameters)
        weights = tf.gather(factors, batch_labels)
        if balance == "batch-weights":
            weights *= batch_weights(batch_labels, len(samples.classes))
        return batch, batch_labels, weights

    epochs = tf.data.Dataset.range(start_epoch, np.iinfo(np.int32).max)
    return (
        epochs.flat_map(one_epoch)
        .map(one_image, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def make_evaluation_dataset(
    samples: Samples, store: ImageStore, *, batch_size: int
) -> tf.data.Dataset:
    """Every image once, in the order of the table, the last batch as short as it is.

    Returns:
        Elements float32 (B, H, W, 1), raw grey levels.
    """
    return (
        tf.data.Dataset.range(len(samples))
        .map(store.tensor, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def _sample_seed(seed: int, epoch: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """(run seed, epoch, position) -> the two numbers of a stateless seed."""
    key = tf.constant([seed % 2**31, seed // 2**31], tf.int32)
    return tf.random.fold_in(tf.random.fold_in(key, epoch), position)


def _repeated(rng: np.random.Generator, pool: np.ndarray, length: int) -> np.ndarray:
    """`length` draws from `pool`: whole permutations one after another."""
    rounds = math.ceil(length / len(pool))
    return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:length]
