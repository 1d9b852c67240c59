"""One process of a distributed training, for the tests: a small net, two stages.

python distributed_worker.py KIND OUT TABLE [NORM] [--resume] [--die-at STEP]

KIND is none, devices (two logical CPU devices in this process) or hosts (TF_CONFIG).
"""

import argparse
import os
import sys

parser = argparse.ArgumentParser()
parser.add_argument("kind")
parser.add_argument("out")
parser.add_argument("table")
parser.add_argument("--norm", default="none", choices=("none", "frozen", "trained"))
parser.add_argument("--precision", default="float32")
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--die-at", type=int, default=-1)
parser.add_argument("--batch", type=int, default=4)
args = parser.parse_args()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

if args.kind == "devices":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )

from functools import partial  # noqa: E402

from dm_models.backbones import get_backbone  # noqa: E402
from dm_training import datasets, distribution, outcomes, stages  # noqa: E402
from dm_training.recipes import Stage  # noqa: E402
from dm_training.runs import Run  # noqa: E402
from dm_training.samples import read_samples  # noqa: E402


def build():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((48, 40, 1), name="grey")
    x = keras.layers.Rescaling(1 / 65535, dtype="float32")(inputs)
    x = keras.layers.Conv2D(6, 5, strides=3, name="conv1", activation="relu")(x)
    if args.norm != "none":
        x = keras.layers.BatchNormalization(name="norm1", momentum=0.5)(x)
    x = keras.layers.Conv2D(4, 3, name="image_top_conv", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(args.dropout)(x)
    outputs = keras.layers.Dense(
        2, activation="softmax", name="image_prediction", dtype="float32",
        kernel_regularizer=keras.regularizers.L2(0.0),
    )(x)  # fmt: skip
    return keras.Model(inputs, outputs)


class Dying(keras.callbacks.Callback):
    """Kills its process before a step; used in place of a worker's power cut."""

    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == args.die_at:
            os.kill(os.getpid(), 9)


def main():
    spread = distribution.choose(args.kind)
    keras.mixed_precision.set_dtype_policy(args.precision)
    spread.check_batch(args.batch)
    parts = {r: read_samples(args.table, r, classes=("neg", "pos"))
             for r in ("train", "val")}  # fmt: skip
    stores = {r: datasets.ImageStore(s, height=48, width=40, in_memory=True)
              for r, s in parts.items()}  # fmt: skip
    with spread.chief_first("folder"):
        run = Run(args.out, {}, resume=args.resume, rank=spread.rank)
    contract = get_backbone("squeezenet").contract(
        class_names=("neg", "pos"), height=48, width=40
    )
    two = (Stage("top", "top", 3e-3, 1, 0.01), Stage("all", "all", 3e-3, 2, 0.01))
    if args.norm == "frozen":
        two = two[:1]
    plan = stages.Plan(
        two, datasets.steps_per_epoch(parts["train"], args.batch),
        lambda epoch: datasets.make_training_dataset(
            parts["train"], stores["train"], batch_size=args.batch, seed=7,
            start_epoch=epoch, balance="batch-weights", share=spread.share,
            class_weights={1: 2.5}),
        partial(outcomes.validation_scores, parts["val"], stores["val"], 3,
                distribution=spread),
        "val_auc", batch_size=args.batch, distribution=spread,
    )  # fmt: skip
    if args.die_at >= 0:
        keeper = stages.Keeper
        dying = Dying()

        def on_train_batch_end(self, batch, logs=None):
            dying.on_train_batch_end(batch, logs)

        keeper.on_train_batch_end = on_train_batch_end
    with spread.scope():
        model = build()
    model, _ = stages.train(model, contract, plan, run, resume=args.resume)
    if spread.strategy:
        check_replicas_agree(spread.strategy, model)


def check_replicas_agree(strategy, model):
    """All variables but the dropout's masks are the same in every replica."""
    for variable in model.variables:
        if "seed_generator" in variable.path:
            continue
        each = strategy.run(lambda v=variable: tf.reshape(v.value, (1, -1)))
        rows = strategy.gather(each, axis=0).numpy()
        if abs(rows - rows[:1]).max() > 0:
            sys.exit(f"replicas differ in {variable.path}")


if __name__ == "__main__":
    try:
        main()
    except (distribution.DistributionError, distribution.WorkerLost) as err:
        print(f"{type(err).__name__}: {err}", file=sys.stderr)
        sys.exit(1)
