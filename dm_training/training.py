"""What both training commands do: open a run, make or load a model, train, report.

The commands differ in their network and schedule; data, checks, the run folder, the
scores at the end and the errors a user meets are the same and stand here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dm_models import weights
from dm_models.backbones import get_backbone, load_imagenet
from dm_models.inputs import InputContract, set_mean
from dm_models.patch_classifier import build_patch_classifier
from dm_models.whole_image import build_whole_image, image_contract
from dm_training import arguments as flags
from dm_training import augment, datasets, grey_stats, outcomes, stages
from dm_training.recipes import ImageRecipe, Stage
from dm_training.runs import Run, environment_seed, read_json, write_json
from dm_training.samples import ROLES, Samples, check_patients, read_samples

# Decoded pixels up to this many bytes are held in memory unless the flags say.
_SMALL_BYTES = 2 * 2**30
_STATISTICS_IMAGES = 200


@dataclass(frozen=True)
class Session:
    """A run with its data opened: what the steps of a training share."""

    parsed: argparse.Namespace
    run: Run
    seed: int
    precision: str
    height: int
    width: int
    train_batch: int
    score_batch: int
    samples: dict[str, Samples]
    stores: dict[str, datasets.ImageStore]


def run_command(command: Callable, parsed: argparse.Namespace) -> int:
    """Run a training command; what a user can mend becomes a line, not a trace.

    Returns:
        Exit status: what the command returns; 1 for a training that failed; 2 for
        flags, tables, model files or folders that cannot be used.
    """
    try:
        return command(parsed)
    except (stages.NonFiniteLoss, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    except ValueError as err:
        if not _is_ours(err):
            raise
        print(f"error: {err}", file=sys.stderr)
        return 2


def open_session(
    parsed: argparse.Namespace, kind: str, *, default_classes, default_size,
    default_batch: int,
) -> Session:  # fmt: skip
    """Read and check the data, then open the run folder.

    Raises:
        SamplesError, TableError: The data cannot be used.
        RunError: The run folder cannot.
    """
    import keras

    train_batch, score_batch = flags.training_batch(parsed, default_batch)
    seed = environment_seed() if parsed.seed is None else parsed.seed
    precision = flags.set_precision(parsed.precision)
    keras.utils.set_random_seed(seed % 2**32)
    height, width = parsed.img_size or default_size
    classes = tuple(parsed.class_list or default_classes)
    sources = {"train": parsed.train, "val": parsed.val, "test": parsed.test}
    samples = {r: read_samples(sources[r], r, classes=classes) for r in ROLES}
    patients = check_patients(samples)
    config = {
        "kind": kind, "seed": seed, "precision": precision, "patients": patients,
        "image_size": [height, width], "train_batch": train_batch,
        "counts": {r: s.counts() for r, s in samples.items()}, "flags": vars(parsed),
    }  # fmt: skip
    run = Run(parsed.out or f"runs/{kind}", config, overwrite=parsed.overwrite,
              resume=parsed.resume)  # fmt: skip
    run.say(f"patients in one split only: {patients}")
    for role in ROLES:
        run.say(f"{role}: {len(samples[role])} images, {samples[role].counts()}")
    run.say(f"seed {seed}, precision {precision}, batch {train_batch}")
    stores = {
        r: datasets.ImageStore(s, height=height, width=width,
                               in_memory=_in_memory(parsed, r, s, height * width))
        for r, s in samples.items()
    }  # fmt: skip
    return Session(parsed, run, seed, precision, height, width, train_batch,
                   score_batch, samples, stores)  # fmt: skip


def new_patch_model(session: Session, net: str, dropout: float):
    """A patch classifier on ImageNet or random weights, as the flags say.

    Returns:
        (model, contract).
    """
    contract = get_backbone(net).contract(
        class_names=session.samples["train"].classes,
        height=session.height, width=session.width,
    )  # fmt: skip
    contract = _with_mean(session, contract)
    given = session.parsed.hidden_dropout
    model = build_patch_classifier(
        net, contract=contract, num_classes=len(contract.class_names),
        dropout=dropout if given is None else given,
        weight_decay=session.parsed.weight_decay or 0.0,
    )  # fmt: skip
    _start_from(session, model, net)
    return model, contract


def new_image_model(session: Session, recipe: ImageRecipe):
    """A whole-image classifier on a trained patch net, or on ImageNet weights.

    Returns:
        (model, contract).

    Raises:
        UsageError: The patch model is of another net than the recipe.
    """
    parsed, run = session.parsed, session.run
    if parsed.patch_model_state:
        patch_model, contract = weights.load_model(parsed.patch_model_state)
        if contract.backbone != recipe.backbone:
            raise flags.UsageError(
                f"{parsed.patch_model_state} is a {contract.backbone}, the recipe "
                f"{recipe.name} wants a {recipe.backbone}"
            )
        run.say(f"patch net from {parsed.patch_model_state}")
        if parsed.featurewise_mean is not None or not parsed.featurewise_center:
            contract = _new_mean(session, patch_model, contract)
    else:
        patch_model, contract = new_patch_model(session, recipe.backbone, 0.0)
        contract = contract.replace(height=None, width=None)
    pool = parsed.avg_pool_size
    model = build_whole_image(
        patch_model, contract, recipe.top, dropout=recipe.dropout,
        num_classes=len(session.samples["train"].classes),
        height=session.height, width=session.width,
        patch_map=pool[0] if pool else None, hm_strides=parsed.hm_strides[0],
    )  # fmt: skip
    contract = image_contract(contract, height=session.height, width=session.width)
    contract = _with_statistics(session, contract)
    run.say(f"top {recipe.top} on {recipe.backbone}: {model.count_params():,} weights")
    return model, contract


def resumed_image_model(session: Session, path: str):
    """A whole-image model of this project, to be fine-tuned.

    Returns:
        (model, contract): the contract with the new mean where the flags give one.
    """
    model, contract = weights.load_model(path)
    classes = session.samples["train"].classes
    if tuple(contract.class_names) != classes:
        raise flags.UsageError(
            f"--resume-from {path}: its classes are {', '.join(contract.class_names)}, "
            f"the data's are {', '.join(classes)}"
        )
    given = session.parsed.featurewise_mean is not None
    if given or not session.parsed.featurewise_center:
        contract = _new_mean(session, model, contract)
    session.run.say(f"whole-image model from {path}")
    contract = contract.replace(height=session.height, width=session.width)
    return model, _with_statistics(session, contract)


def matched_stages(
    session: Session, planned: tuple[Stage, ...], runs: list[str]
) -> tuple[Stage, ...]:
    """Lengthen the last stage until the steps equal those of other runs together.

    Args:
        session: For the steps of an epoch here.
        planned: The schedule.
        runs: Run folders whose steps are added up; none leaves the schedule alone.
    """
    if not runs:
        return planned
    wanted = sum(read_json(Path(r) / "metrics.json")["steps"] for r in runs)
    steps = datasets.steps_per_epoch(session.samples["train"], session.train_batch)
    epochs = round(wanted / steps) - sum(s.epochs for s in planned[:-1])
    session.run.say(f"{wanted} steps as {', '.join(runs)}: {epochs} epochs at the end")
    return (*planned[:-1], replace(planned[-1], epochs=max(epochs, 0)))


def train_and_report(
    session: Session, model, contract: InputContract, planned: tuple[Stage, ...], *,
    watch: str, balance: str,
) -> int:  # fmt: skip
    """Train, score the best model on val and test, write the outcomes.

    Returns:
        Exit status 0.
    """
    parsed, run, train = session.parsed, session.run, session.samples["train"]
    write_json(run.path("stages.json"), [asdict(s) for s in planned])
    if not parsed.auto_batch_balance:
        balance = "none"
    ranges = augment.PAPER if parsed.augmentation else augment.NONE
    stream = partial(
        datasets.make_training_dataset, train, session.stores["train"],
        batch_size=session.train_batch, seed=session.seed, balance=balance,
        class_weights={0: parsed.neg_cls_weight, 1: parsed.pos_cls_weight}
        if watch == "val_auc" else None, ranges=ranges,
    )  # fmt: skip
    plan = stages.Plan(
        stages=planned,
        steps_per_epoch=datasets.steps_per_epoch(train, session.train_batch),
        stream=lambda epoch: stream(start_epoch=epoch),
        score=partial(outcomes.validation_scores, session.samples["val"],
                      session.stores["val"], session.score_batch),
        watch=watch, lr_patience=parsed.lr_patience, es_patience=parsed.es_patience,
        optimizer=parsed.optimizer, jit_compile=parsed.jit_compile, seed=session.seed,
    )  # fmt: skip
    model, state = stages.train(model, contract, plan, run, resume=parsed.resume)
    outcomes.write_reports(session, model, contract, state)
    return 0


def _in_memory(parsed, role: str, samples: Samples, pixels: int) -> bool:
    said = parsed.load_train_ram if role == "train" else parsed.load_val_ram
    return len(samples) * pixels * 2 < _SMALL_BYTES if said is None else said


def _start_from(session: Session, model, net: str) -> None:
    if not session.parsed.use_pretrained:
        session.run.say(f"{net} from random weights")
        return
    path = load_imagenet(model, net, source=session.parsed.weights)
    session.run.say(f"{net} from ImageNet weights, {Path(path).name}")


def _with_mean(session: Session, contract: InputContract) -> InputContract:
    """The contract of a new network, its mean given by a flag or measured."""
    if session.parsed.rescale_factor is not None:
        contract = contract.replace(scale=session.parsed.rescale_factor)
    mean, source = flags.featurewise_mean(session.parsed), "given"
    if not contract.uses_mean:
        session.run.say(f"{contract.backbone} centres on its own channel means")
        return contract
    if mean is None:
        store = session.stores["train"]
        levels = [store.read(i).mean(dtype=np.float64) for i in range(len(store.paths))]
        mean, source = float(np.mean(levels)) * flags.FULL_SCALE, "training images"
    session.run.say(f"mean grey level {mean:.2f} of 255 ({source})")
    return contract.replace(mean=mean, grey_stats={"mean": mean, "source": source})


def _with_statistics(session: Session, contract: InputContract) -> InputContract:
    """What the training images look like, for dm-check to compare others with."""
    store = session.stores["train"]
    step = max(1, len(store.paths) // _STATISTICS_IMAGES)
    measured = grey_stats.measure(
        store.read(i) for i in range(0, len(store.paths), step)
    )
    return contract.replace(
        fit=_fit_of(session.samples["train"]),
        grey_stats={**(contract.grey_stats or {}), **measured},
    )


def _fit_of(samples: Samples) -> str:
    """How the converter brought the images to size, as their table's scales tell."""
    if not {"row_scale", "col_scale"} <= set(samples.frame):
        return "squash"
    ratio = samples.frame["row_scale"] / samples.frame["col_scale"]
    offset = samples.frame[["row_offset", "col_offset"]].abs().to_numpy()
    kept = bool((ratio - 1.0).abs().lt(0.01).all() and np.nanmax(offset) > 0)
    return "pad" if kept else "squash"


def _new_mean(session: Session, model, contract: InputContract) -> InputContract:
    mean = flags.featurewise_mean(session.parsed)
    if not contract.uses_mean:
        session.run.say(
            f"--featurewise-mean {mean:.2f} is not used: {contract.backbone} centres "
            "on its own channel means"
        )
        return contract
    session.run.say(f"mean grey level {contract.mean:.2f} -> {mean:.2f} of 255")
    return set_mean(model, contract, mean)


def _is_ours(err: Exception) -> bool:
    return type(err).__module__.split(".")[0] in (
        "dm_models", "dm_preprocess", "dm_training"
    )  # fmt: skip
