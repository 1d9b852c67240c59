"""A training loop and a scoring pass that run on all replicas of a distribution.

Source:
    The loss of a replica is divided by the global batch, so that the sum over replicas
    is that of one process; see `distribution`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf

from dm_training.distribution import Distribution, lost_workers


def fit(
    distribution: Distribution, model: keras.Model, dataset, *, steps: int,
    epochs: Iterable[int], callbacks: Sequence[keras.callbacks.Callback],
    batch_size: int,
) -> None:  # fmt: skip
    """Train as `Model.fit` does, on all replicas.

    Args:
        distribution: With a strategy, in whose scope the model was made and compiled.
        model: Gives class probabilities; compiled, its loss is the cross entropy.
        dataset: This process's endless share of (images, labels, weights) batches.
        steps: Steps an epoch.
        epochs: Their numbers, from 0.
        callbacks: Keras's; `loss` is in the logs of steps and epochs.
        batch_size: Of all processes together.

    Raises:
        WorkerLost: A process is gone.
    """
    strategy = distribution.strategy
    step = _train_step(strategy, model, batch_size)
    batches = iter(_distributed(distribution, dataset, batch_size))
    listed = keras.callbacks.CallbackList(list(callbacks), model=model)
    model.stop_training = False
    listed.on_train_begin()
    with lost_workers():
        for epoch in epochs:
            listed.on_epoch_begin(epoch)
            total = 0.0
            for number in range(steps):
                total += float(step(batches))
                listed.on_train_batch_end(number, {"loss": total / (number + 1)})
            _average_statistics(strategy, model)
            listed.on_epoch_end(epoch, {"loss": total / steps})
            if model.stop_training:
                break
    listed.on_train_end()


def _train_step(strategy, model: keras.Model, batch_size: int) -> Callable:
    optimizer, variables = model.optimizer, model.trainable_variables
    replicas = strategy.num_replicas_in_sync
    loss_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def on_replica(images, labels, weights):
        with tf.GradientTape() as tape:
            given = model(images, training=True)
            each = keras.losses.sparse_categorical_crossentropy(labels, given)
            loss = tf.reduce_sum(each * weights) / batch_size
            if model.losses:
                loss += tf.add_n(model.losses) / replicas
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        if loss_scaled:
            # All replicas must see the same gradients, or one would skip a step that
            # the others take; the optimizer adds them up once more.
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce("SUM", gradients)
            gradients = [gradient / replicas for gradient in gradients]
        optimizer.apply(gradients, variables)
        return loss

    @tf.function
    def step(batches):
        losses = strategy.run(on_replica, args=next(batches))
        return strategy.reduce("SUM", losses, axis=None)

    return step


def _distributed(distribution: Distribution, dataset, batch_size: int):
    """The dataset cut into batches of one replica, for the strategy to hand out."""
    small = dataset.rebatch(batch_size // distribution.replicas, drop_remainder=True)
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return distribution.strategy.distribute_datasets_from_function(
        lambda context: small.apply(endless)
    )


def _average_statistics(strategy, model: keras.Model) -> None:
    """Batch norm's moving statistics, each replica's own so far: their mean for all."""
    norms = (n for n in model.layers if isinstance(n, keras.layers.BatchNormalization))
    moving = [v for norm in norms for v in norm.non_trainable_variables
              if "moving" in v.path]  # fmt: skip
    if not moving:
        return

    @tf.function
    def average():
        context = tf.distribute.get_replica_context()
        means = context.all_reduce("MEAN", [tf.identity(v.value) for v in moving])
        for variable, mean in zip(moving, means, strict=True):
            variable.value.assign(mean)

    strategy.run(average)


def predict(
    distribution: Distribution, model: keras.Model, store, *, count: int,
    batch_size: int,
) -> np.ndarray:  # fmt: skip
    """Class probabilities of a store's images, computed by all replicas together.

    Args:
        distribution: With a strategy.
        model: Made in its scope.
        store: An `ImageStore` of one size.
        count: How many images it has.
        batch_size: Images of one replica at a time.

    Returns:
        float32 (count, classes), the same in every process.
    """
    strategy, rounds = distribution.strategy, []
    scores = _scores(strategy, model)
    width = batch_size * distribution.replicas
    for start in range(0, count, width):
        rows = np.minimum(np.arange(start, start + width), count - 1)

        def batch(context, rows=rows):
            at = context.replica_id_in_sync_group * batch_size
            return tf.constant(store.batch(rows[at : at + batch_size]))

        images = strategy.experimental_distribute_values_from_function(batch)
        rounds.append(np.asarray(scores(images)))
    return np.concatenate(rounds)[:count]


@lru_cache(maxsize=1)  # a stage's epochs share one trace
def _scores(strategy, model: keras.Model) -> Callable:
    def on_replica(images):
        return model(images, training=False)

    @tf.function(jit_compile=False)
    def scores(images):
        return strategy.gather(strategy.run(on_replica, args=(images,)), axis=0)

    return scores
