"""The flags that both training commands share, in the field's own spelling.

Users of the authors' program know these names (`--img-size`, `--featurewise-mean`,
`--nb-epoch`, ...). They keep their meaning; where one no longer makes sense, giving it
says what does the job now, rather than being passed over.
"""

from __future__ import annotations

import argparse
from argparse import BooleanOptionalAction
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dm_training import devices
from dm_training.recipes import Stage
from dm_training.runs import read_json

FULL_SCALE = 255.0 / 65535.0


class UsageError(ValueError):
    """The command line asks for something that cannot be; the message says what can."""


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Add the flags of both training commands."""
    for name in ("train", "val", "test"):
        parser.add_argument(name, metavar=name.upper(), help=(
            "a table (its rows of this split, where it names splits) or a folder with "
            "one folder a class"))  # fmt: skip
    _add_data(parser)
    _add_schedule(parser)
    _add_run(parser)
    _add_computing(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    flag = group.add_argument
    flag("--img-size", type=int, nargs=2, metavar=("H", "W"), help="rows and columns")
    flag(
        "--img-scale",
        action=BooleanOptionalAction,
        default=False,
        help="gone: stretching each image is a conversion (dm-convert --grey)",
    )
    flag(
        "--rescale-factor",
        type=float,
        default=None,
        metavar="F",
        help="16-bit level x F = network scale (default: 255/65535 = 0.003891)",
    )
    flag(
        "--featurewise-center",
        action=BooleanOptionalAction,
        default=True,
        help="subtract one scalar mean",
    )
    flag(
        "--featurewise-mean",
        default=None,
        metavar="M",
        help="that mean on the 0-255 scale, or the splits.json that holds it "
        "(default: the model's own, or measured on the training images)",
    )
    flag(
        "--equalize-hist",
        action=BooleanOptionalAction,
        default=False,
        help="gone: no result of the paper uses it",
    )
    flag("--augmentation", action=BooleanOptionalAction, default=True)
    flag("--class-list", nargs="+", metavar="NAME", help="class names in order")
    flag(
        "--load-train-ram",
        action=BooleanOptionalAction,
        default=None,
        help="hold decoded training pixels in memory (default: below 2 GiB)",
    )
    flag("--load-val-ram", action=BooleanOptionalAction, default=None)
    flag(
        "--pixel-cache",
        metavar="DIR",
        help="where decoded pixels are kept that memory does not hold (default: "
        ".pixels beside TRAIN; none: decode the files in every epoch)",
    )
    flag(
        "--auto-batch-balance",
        action=BooleanOptionalAction,
        default=True,
        help="patches: loss weights within a batch; images: each class sampled alike",
    )
    flag("--pos-cls-weight", type=float, default=1.0)
    flag("--neg-cls-weight", type=float, default=1.0)


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument_group("schedule").add_argument
    flag("--batch-size", type=int, help="images at a time in scoring")
    flag(
        "--train-bs-multiplier",
        type=float,
        default=1.0,
        metavar="X",
        help="training's batch is the batch size times this",
    )
    flag("--nb-epoch", type=int, metavar="N", help="stage 1 ends after epoch N")
    flag(
        "--all-layer-epochs",
        type=int,
        metavar="N",
        help="the last stage ends after epoch N, counted from the start",
    )
    flag("--optimizer", default="adam", choices=("adam", "sgd", "rmsprop", "nadam"))
    flag("--init-learningrate", type=float, metavar="R", help="stage 1's")
    flag(
        "--all-layer-multiplier",
        type=float,
        metavar="X",
        help="last stage's rate is the first one's times this",
    )
    flag("--weight-decay", type=float, help="L2 on the new layers, stage 1")
    flag("--weight-decay2", type=float, help="the same in the last stage")
    flag("--hidden-dropout", type=float, help="before the last layer")
    flag(
        "--frozen-batch-norm",
        default="inference",
        choices=("inference", "updating"),
        help="in frozen layers: keep to the statistics learned before, or use and "
        "update the batch's, as the authors' program did",
    )
    flag("--hidden-dropout2", type=float, help="the same in the last stage")
    flag(
        "--lr-patience",
        type=int,
        metavar="E",
        help="cut the rate to a tenth after E epochs without improvement",
    )
    flag(
        "--es-patience",
        type=int,
        metavar="E",
        help="end a stage after E epochs without improvement",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument_group("run").add_argument
    flag("--out", required=False, help="run folder (default: runs/NAME)")
    flag("--overwrite", action=BooleanOptionalAction, default=False)
    flag(
        "--resume",
        action=BooleanOptionalAction,
        default=False,
        help="go on in --out where a killed training stood",
    )
    flag(
        "--best-model",
        metavar="FILE",
        help="also save the best model here (.keras or .h5; NOSAVE for none)",
    )
    flag("--final-model", metavar="FILE", help="also save the last model here")
    flag("--seed", type=int, help="default: RANDOM_SEED, or 12345")


def _add_computing(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument_group("computing").add_argument
    flag(
        "--precision",
        default="auto",
        choices=("auto", "float32", "mixed_float16", "mixed_bfloat16"),
    )
    flag(
        "--gradient-checkpointing",
        action=BooleanOptionalAction,
        default=False,
        help="compute activations again instead of keeping them: less memory for a "
        "step a quarter longer",
    )
    flag(
        "--distribute",
        default="auto",
        choices=("auto", "none", "devices", "hosts"),
        help="train on all GPUs of this machine, or on the hosts of TF_CONFIG "
        "(default: what is there)",
    )
    flag(
        "--jit-compile",
        action=BooleanOptionalAction,
        default=False,
        help="compile by XLA (slower on a processor: bin/benchmark.sh measures it)",
    )
    flag(
        "--steps-per-execution",
        type=int,
        default=0,
        metavar="N",
        help="steps that one call runs (default: 1 on a processor, on a GPU by time)",
    )
    flag(
        "--use-pretrained",
        action=BooleanOptionalAction,
        default=True,
        help="start a new backbone from ImageNet weights",
    )
    flag(
        "--weights",
        default="imagenet",
        metavar="FILE",
        help="ImageNet weights without top; 'imagenet': packaged or Keras's download",
    )


class _ListRecipes(argparse.Action):
    """Prints the recipes and ends the program, as --help does."""

    def __call__(self, parser, namespace, values, option_string=None):
        from dm_training.recipes import list_recipes

        print(list_recipes())
        parser.exit()


def add_list_recipes(flag: Callable) -> None:
    """Add `--list-recipes` by a parser's `add_argument`."""
    flag(
        "--list-recipes", action=_ListRecipes, nargs=0, default=argparse.SUPPRESS,
        help="print every recipe with its schedule and published figure",
    )  # fmt: skip


def check_gone(arguments: argparse.Namespace) -> None:
    """Say what does the job of a flag whose own job is gone.

    Raises:
        UsageError: `--img-scale` or `--equalize-hist` was given.
    """
    if arguments.img_scale:
        raise UsageError(
            "--img-scale: images are no longer stretched while training, because a "
            "score would then depend on a reader's settings; convert them with "
            "dm-convert ... --grey auto-level"
        )
    if arguments.equalize_hist:
        raise UsageError(
            "--equalize-hist: no longer done while training; no result of the paper "
            "uses it; equalise the PNGs before, if you must"
        )


def stages_of(
    stages: tuple[Stage, ...], arguments: argparse.Namespace, ends: list[int | None]
) -> tuple[Stage, ...]:
    """A recipe's stages with what the command line says instead.

    Args:
        stages: The recipe's.
        arguments: Parsed flags.
        ends: Per stage, the epoch after which it ends, counted from the start (the
            authors' meaning); None keeps the recipe's length.

    Raises:
        UsageError: A stage would end before the one before it.
    """
    first, last = stages[0], stages[-1]
    rate = arguments.init_learningrate or first.learning_rate
    done, out = 0, []
    for stage, end in zip(stages, ends, strict=True):
        epochs = stage.epochs if end is None else end - done
        if epochs < 0:
            raise UsageError(
                f"stage {stage.name} would end after epoch {end}, but the stages before"
                f" it take {done}: epoch flags count from the start of the training"
            )
        done += epochs
        factor = stage.learning_rate / first.learning_rate
        if stage is last and arguments.all_layer_multiplier is not None:
            factor = arguments.all_layer_multiplier
        if stage is not first and getattr(arguments, "top_layer_multiplier", None):
            factor = factor if stage is last else arguments.top_layer_multiplier
        decay, dropout = arguments.weight_decay, arguments.hidden_dropout
        if stage is last:
            decay, dropout = arguments.weight_decay2, arguments.hidden_dropout2
        out.append(replace(
            stage, epochs=epochs, learning_rate=rate * factor, dropout=dropout,
            weight_decay=stage.weight_decay if decay is None else decay))  # fmt: skip
    return tuple(out)


def training_batch(arguments: argparse.Namespace, default: int) -> tuple[int, int]:
    """(batch in training, batch in scoring).

    Raises:
        UsageError: The training batch would be below one image.
    """
    base = arguments.batch_size or default
    batch = int(base * arguments.train_bs_multiplier)
    if batch < 1:
        raise UsageError(
            f"--batch-size {base} x --train-bs-multiplier "
            f"{arguments.train_bs_multiplier} is less than one image"
        )
    return batch, base


def featurewise_mean(arguments: argparse.Namespace) -> float | None:
    """The mean that the flags name; None where it is to be measured or kept.

    Raises:
        UsageError: Neither a number nor a splits.json with a `grey_mean`.
    """
    if not arguments.featurewise_center:
        return 0.0
    text = arguments.featurewise_mean
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        path = Path(text)
    if not path.is_file():
        raise UsageError(f"--featurewise-mean {text}: neither a number nor a file")
    found = read_json(path)
    if "grey_mean" not in found:
        raise UsageError(f"--featurewise-mean {text}: holds no grey_mean")
    value = found["grey_mean"]
    return float(value["value"] if isinstance(value, dict) else value)


def set_precision(name: str) -> str:
    """Set Keras's policy; "auto" is what the device computes fastest in.

    Half precision on a GPU: mixed_float16; on a TPU: mixed_bfloat16; else float32.

    Returns:
        The policy set.
    """
    import keras

    if name == "auto":
        fast = {"gpu": "mixed_float16", "tpu": "mixed_bfloat16"}
        name = fast.get(devices.platform(), "float32")
    keras.mixed_precision.set_dtype_policy(name)
    return name
