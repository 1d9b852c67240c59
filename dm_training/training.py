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

from dm_models import weights
from dm_models.inputs import InputContract
from dm_training import arguments as flags
from dm_training import augment, datasets, outcomes, stages
from dm_training.distribution import Distribution, WorkerLost, choose
from dm_training.estimate import OutOfMemory
from dm_training.recipes import Stage
from dm_training.runs import Run, environment_seed, read_json, write_json
from dm_training.samples import ROLES, Samples, check_patients, read_samples

# Decoded pixels up to this many bytes are held in memory unless the flags say.
_SMALL_BYTES = 2 * 2**30


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
    distribution: Distribution


def run_command(command: Callable, parsed: argparse.Namespace) -> int:
    """Run a training command; what a user can mend becomes a line, not a trace.

    Returns:
        Exit status: what the command returns; 1 for a training that failed; 2 for
        flags, tables, model files or folders that cannot be used.
    """
    try:
        return command(parsed)
    except (stages.NonFiniteLoss, OutOfMemory, WorkerLost, OSError) as err:
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

    distribution = choose(parsed.distribute)
    train_batch, score_batch = flags.training_batch(parsed, default_batch)
    distribution.check_batch(train_batch)
    if parsed.jit_compile and distribution.strategy:
        raise flags.UsageError("--jit-compile: not with --distribute; give one of them")
    seed = environment_seed() if parsed.seed is None else parsed.seed
    precision = flags.set_precision(parsed.precision)
    keras.utils.set_random_seed(seed % 2**32)
    height, width = parsed.img_size or default_size
    samples = _read_roles(parsed, tuple(parsed.class_list or default_classes))
    patients = check_patients(samples)
    distribution.agree(_common(parsed, samples, seed))
    config = {
        "kind": kind, "seed": seed, "precision": precision, "patients": patients,
        "image_size": [height, width], "train_batch": train_batch,
        "processes": distribution.processes, "replicas": distribution.replicas,
        "counts": {r: s.counts() for r, s in samples.items()}, "flags": vars(parsed),
    }  # fmt: skip
    with distribution.chief_first("an open run folder"):
        run = Run(parsed.out or f"runs/{kind}", config, overwrite=parsed.overwrite,
                  resume=parsed.resume, rank=distribution.rank)  # fmt: skip
    run.say(f"patients in one split only: {patients}")
    for role in ROLES:
        run.say(f"{role}: {len(samples[role])} images, {samples[role].counts()}")
    run.say(f"seed {seed}, precision {precision}, batch {train_batch}")
    with distribution.chief_first("decoded pixels"):
        stores = {r: _store(parsed, run, r, samples[r], height, width) for r in ROLES}
    return Session(parsed, run, seed, precision, height, width, train_batch,
                   score_batch, samples, stores, distribution)  # fmt: skip


def _read_roles(parsed, classes: tuple[str, ...]) -> dict[str, Samples]:
    sources = {"train": parsed.train, "val": parsed.val, "test": parsed.test}
    return {r: read_samples(sources[r], r, classes=classes) for r in ROLES}


def _common(parsed, samples: dict[str, Samples], seed: int) -> dict:
    """What all processes of a training must have alike; paths may differ."""
    own = {"train", "val", "test", "pixel_cache"}
    tables = [s.frame.drop(columns="path").to_csv() for s in samples.values()]
    chosen = {k: v for k, v in vars(parsed).items() if k not in own}
    return {"the tables": tables, "the flags": chosen, "the seed": seed}


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
        share=session.distribution.share,
    )  # fmt: skip
    plan = stages.Plan(
        stages=planned,
        steps_per_epoch=datasets.steps_per_epoch(train, session.train_batch),
        stream=lambda epoch: stream(start_epoch=epoch),
        score=partial(outcomes.validation_scores, session.samples["val"],
                      session.stores["val"], session.score_batch,
                      distribution=session.distribution),
        watch=watch, lr_patience=parsed.lr_patience, es_patience=parsed.es_patience,
        optimizer=parsed.optimizer, jit_compile=parsed.jit_compile, seed=session.seed,
        frozen_norm=parsed.frozen_batch_norm,
        gradient_checkpointing=parsed.gradient_checkpointing,
        batch_size=session.train_batch, distribution=session.distribution,
        steps_per_execution=parsed.steps_per_execution,
    )  # fmt: skip
    model, state = stages.train(model, contract, plan, run, resume=parsed.resume)
    if not session.distribution.is_chief:
        run.say("done; the first process scores the best model")
        return 0
    with session.distribution.apart():
        if session.distribution.replicas > 1:
            model, _ = weights.load_model(run.path("last.keras"))
        outcomes.write_reports(session, model, contract, state)
    return 0


def _store(parsed, run: Run, role: str, samples: Samples, height: int, width: int):
    """A role's pixels: in memory where they are few, else decoded once onto disk."""
    said = parsed.load_train_ram if role == "train" else parsed.load_val_ram
    size = len(samples) * height * width * 2
    open_store = partial(datasets.ImageStore, samples, height=height, width=width)
    if said or (said is None and size < _SMALL_BYTES):
        return open_store(in_memory=True)
    folder = parsed.pixel_cache or Path(parsed.train).absolute().parent / ".pixels"
    if folder == "none":
        return open_store()
    try:
        store = open_store(cache=folder)
    except OSError as err:
        run.say(f"{role}: no pixel cache, files are decoded in every epoch: {err}")
        return open_store()
    run.say(f"{role}: {size / 2**20:,.0f} MiB of decoded pixels in {folder}, "
            f"{store.decoded} images decoded now")  # fmt: skip
    return store


def _is_ours(err: Exception) -> bool:
    return type(err).__module__.split(".")[0] in (
        "dm_models", "dm_preprocess", "dm_training"
    )  # fmt: skip
