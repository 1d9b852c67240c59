"""Training a model through its stages, so that a kill costs an epoch at most.

A stage fixes which layers learn and at what rate (Shen et al. 3.1.2, 3.1.4). After each
epoch the validation set is scored in one pass, the model with the best score is kept
as `best.keras`, and the whole state (weights, optimizer, counters, history) goes into
ONE file, `last.keras`, written aside and renamed: there is no moment at which a kill
leaves a state that contradicts itself.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from dm_models import checkpointing, freezing, weights
from dm_models.inputs import InputContract
from dm_training.recipes import Stage
from dm_training.runs import Run

_STATE = "training_state.json"


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite; the message names stage, epoch and step."""


@dataclass
class State:
    """Where a training stands after an epoch.

    Attributes:
        epoch: Epochs done, over all stages.
        stage: Index of the stage that the last epoch belonged to.
        stage_epoch: Epochs done in that stage.
        best: The best value of the watched score so far, None before the first epoch.
        since_best: Epochs without a better score.
        since_rate: Epochs since the score or the learning rate last changed.
        history: One dict an epoch.
    """

    epoch: int = 0
    stage: int = 0
    stage_epoch: int = 0
    stage_over: bool = False
    best: float | None = None
    best_epoch: int = 0
    since_best: int = 0
    since_rate: int = 0
    steps: int = 0
    history: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What `train` is to do.

    Attributes:
        stages: In order; a stage of zero epochs is left out.
        steps_per_epoch: Optimizer steps an epoch.
        stream: start_epoch -> endless training data set from that epoch on.
        score: model -> dict of validation scores, all prefixed `val_`.
        watch: The score that decides on the best model; larger is better.
        new_layers: Prefixes of the layers that "top" trains.
        lr_patience: Epochs without improvement before the rate is cut to a tenth;
            None never cuts.
        es_patience: Epochs without improvement that end a stage; None never does.
        optimizer: "adam", "sgd", "rmsprop" or "nadam".
        jit_compile: XLA; on a CPU it only costs time. JAX compiles in any case.
        seed: Dropout's masks follow from it and the epoch.
        frozen_norm: What batch norm does in frozen layers, see `freezing`.
        gradient_checkpointing: Compute activations again, see `checkpointing`.
    """

    stages: tuple[Stage, ...]
    steps_per_epoch: int
    stream: Callable[[int], object]
    score: Callable[[keras.Model], dict[str, float]]
    watch: str
    lr_patience: int | None = None
    es_patience: int | None = None
    optimizer: str = "adam"
    jit_compile: bool = False
    seed: int = 0
    frozen_norm: str = "inference"
    gradient_checkpointing: bool = False


def train(model: keras.Model, contract: InputContract, plan: Plan, run: Run, *,
          resume: bool = False) -> tuple[keras.Model, State]:  # fmt: skip
    """Train through all stages.

    Args:
        model: Outputs class probabilities; its weights are changed.
        contract: Stored with each model saved.
        plan: See `Plan`.
        run: Where `last.keras`, `best.keras`, `history.csv` and TensorBoard logs go.
        resume: Go on from `last.keras` if there is one.

    Returns:
        The model as it stands after the last epoch, and the final state.

    Raises:
        NonFiniteLoss: Naming stage, epoch and step.
    """
    state = State()
    last = run.path("last.keras")
    resumed = resume and last.is_file()
    if resumed:
        model, state = _load(last)
        run.say(f"resumed after epoch {state.epoch} from {last.name}")
    if plan.gradient_checkpointing:
        kept = checkpointing.checkpoint(model)
        run.say(f"gradient checkpoints after {', '.join(kept)}")
    for number, stage in enumerate(plan.stages):
        over = number < state.stage or (number == state.stage and state.stage_over)
        if (
            stage.epochs == 0
            or over
            or (number == state.stage and state.stage_epoch >= stage.epochs)
        ):
            continue
        inside = resumed and number == state.stage and state.stage_epoch > 0
        if not inside:
            state.stage, state.stage_epoch, state.stage_over = number, 0, False
            state.since_best = state.since_rate = 0
            _prepare(model, stage, plan)
        elif plan.frozen_norm == "updating" and stage.train_from != freezing.ALL:
            # A model file holds which layers train, not which of their arrays do.
            _prepare(model, stage, plan)
            run.say("batch norm of frozen layers updates: the optimizer starts afresh")
        _run_stage(model, contract, stage, plan, run, state)
    return model, state


def _prepare(model: keras.Model, stage: Stage, plan: Plan) -> None:
    freezing.set_trainable_from(model, stage.train_from, frozen_norm=plan.frozen_norm)
    freezing.set_weight_decay(model, stage.weight_decay)
    if stage.dropout is not None:
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = stage.dropout
    optimizer = keras.optimizers.get(plan.optimizer)
    optimizer.learning_rate = stage.learning_rate
    model.compile(
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        # JAX without its compiler runs a step one operation at a time.
        jit_compile=plan.jit_compile or keras.backend.backend() == "jax",
    )


def _run_stage(model, contract, stage: Stage, plan: Plan, run: Run, state: State):
    keeper = _Keeper(contract, stage, plan, run, state)
    board = keras.callbacks.TensorBoard(run.path("tensorboard"), write_graph=False)
    first = state.epoch
    run.say(
        f"stage {stage.name}: {stage.epochs} epochs from {stage.train_from!r}, learning"
        f" rate {stage.learning_rate:g}, weight decay {stage.weight_decay:g},"
        f" {sum(int(np.prod(w.shape)) for w in model.trainable_weights):,} of"
        f" {model.count_params():,} parameters trained"
    )
    model.fit(
        plan.stream(first),
        steps_per_epoch=plan.steps_per_epoch,
        initial_epoch=first,
        epochs=first + stage.epochs - state.stage_epoch,
        callbacks=[keeper, board],
        shuffle=False,
        verbose=1 if os.isatty(1) else 0,
    )
    state.stage_over = True


class _Keeper(keras.callbacks.Callback):
    """Scores, keeps the best, saves the state, cuts the rate, ends the stage."""

    def __init__(self, contract, stage, plan, run, state):
        super().__init__()
        self.contract, self.stage, self.plan = contract, stage, plan
        self.run, self.state = run, state
        self.started = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        seed_dropout(self.model, self.plan.seed, epoch)

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        if not np.isfinite(loss):
            raise NonFiniteLoss(
                f"loss is {loss} in stage {self.stage.name}, epoch "
                f"{self.state.epoch + 1}, step {batch + 1}: lower the learning rate "
                "or look at the images (dm-audit); last.keras holds the epoch before"
            )

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.plan.score(self.model))
        state, value = self.state, logs[self.plan.watch]
        state.epoch, state.stage_epoch = epoch + 1, state.stage_epoch + 1
        state.steps += self.plan.steps_per_epoch
        better = state.best is None or value > state.best
        if better:
            state.best, state.best_epoch = float(value), state.epoch
        state.since_best = 0 if better else state.since_best + 1
        state.since_rate = 0 if better else state.since_rate + 1
        rate = float(self.model.optimizer.learning_rate)
        now = time.monotonic()
        row = {"epoch": state.epoch, "stage": self.stage.name, "learning_rate": rate}
        row.update({name: float(v) for name, v in logs.items()})
        row.update(best=state.best, steps=state.steps, seconds=now - self.started)
        self.started = now
        state.history.append(row)
        self._say(row, better)
        self._patience(rate)
        if better:
            weights.save_model(self.model, self.run.path("best.keras"), self.contract)
        _save(self.model, self.run.path("last.keras"), self.contract, state)
        write_history(state, self.run.path("history.csv"))

    def _say(self, row: dict, better: bool) -> None:
        numbers = ", ".join(
            f"{k} {v:.4f}" for k, v in row.items() if "loss" in k or k[:4] == "val_"
        )
        stage = f"{self.stage.name} {self.state.stage_epoch}/{self.stage.epochs}"
        best = " (best)" if better else ""
        self.run.say(f"epoch {row['epoch']} [{stage}] {numbers}{best}")

    def _patience(self, rate: float) -> None:
        plan, state = self.plan, self.state
        if plan.lr_patience is not None and state.since_rate >= plan.lr_patience:
            self.model.optimizer.learning_rate = rate / 10.0
            state.since_rate = 0
            self.run.say(f"learning rate cut to {rate / 10.0:g}")
        ended = plan.es_patience is not None and state.since_best >= plan.es_patience
        state.stage_over = ended or state.stage_epoch >= self.stage.epochs
        if ended:
            self.model.stop_training = True
            self.run.say(f"no better {plan.watch} for {state.since_best} epochs")


def seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Set every random layer's state from (seed, epoch, its number in the model).

    A model file does not hold these states, so that a resumed training would draw
    other masks than one that ran through.
    """
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    for number, state in enumerate(states):
        key = np.random.SeedSequence([seed, epoch, number]).generate_state(2)
        state.assign(key.astype(state.dtype))


def write_history(state: State, path: Path) -> None:
    """Write the history so far as CSV, aside and renamed."""
    aside = path.with_name(path.name + ".part")
    pd.DataFrame(state.history).to_csv(aside, index=False)
    os.replace(aside, path)


def _save(model, path: Path, contract: InputContract, state: State) -> None:
    aside = path.with_name("last.part.keras")
    weights.save_model(model, aside, contract)
    with zipfile.ZipFile(aside, "a") as archive:
        archive.writestr(_STATE, json.dumps(asdict(state)))
    os.replace(aside, path)


def _load(path: Path) -> tuple[keras.Model, State]:
    model, _ = weights.load_model(path, compile=True)
    with zipfile.ZipFile(path) as archive:
        state = State(**json.loads(archive.read(_STATE)))
    return model, state
