"""Trains a saved model on its process's rows of each batch; test_jax runs it.

    python share_of_batches.py START.keras RUN_FOLDER
"""

import sys
from pathlib import Path

import numpy as np

BATCH, STEPS, SIDE = 8, 4, 8


def batches(rank, count):
    """From an epoch to its batches' rows rank * B / count to (rank + 1) * B / count."""
    import tensorflow as tf

    rng = np.random.default_rng(9)
    labels = rng.integers(0, 2, BATCH * STEPS)
    images = rng.uniform(0, 20000, (len(labels), SIDE, SIDE, 1))
    images += 40000.0 * labels.reshape(-1, 1, 1, 1)
    weights = rng.uniform(0.5, 1.5, len(labels))
    own = np.arange(len(labels)) % BATCH * count // BATCH == rank
    rows = images[own].astype("f4"), labels[own], weights[own].astype("f4")
    data = tf.data.Dataset.from_tensor_slices(rows).batch(BATCH // count)
    return lambda start_epoch: data.repeat()


def main(start, out):
    """Two epochs of everything, then the weights as `weights.npz` in the folder."""
    from dm_training import jax_distribution

    devices = jax_distribution.set_up()
    from dm_models.weights import load_model
    from dm_training import stages
    from dm_training.recipes import Stage
    from dm_training.runs import Run
    from dm_training.scoring import predict_probabilities

    rank, count = jax_distribution.process()
    print(f"devices {devices}, process {rank} of {count}")
    model, contract = load_model(start)
    stream = batches(rank, count)
    images = next(iter(batches(0, 1)(0)))[0].numpy()

    def score(scored):
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices(images).batch(3)  # 3, 3 and 2
        positive = predict_probabilities(scored, lambda: data)[:, 1]
        return {"val_auc": float(positive.sum())}

    plan = stages.Plan(
        (Stage("all", "all", 0.1, 2),), STEPS, stream, score, "val_auc",
        optimizer="sgd",
    )  # fmt: skip
    run = Run(Path(out), {"devices": devices})
    model, state = stages.train(model, contract, plan, run)
    losses = [row["loss"] for row in state.history]
    scores = [row["val_auc"] for row in state.history]
    np.savez(run.path("weights.npz"), losses, scores, *model.get_weights())


if __name__ == "__main__":
    main(*sys.argv[1:])
