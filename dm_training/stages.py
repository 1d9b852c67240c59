"""Training a model through its stages, so that a kill costs an epoch at most.

A stage fixes which layers learn and at what rate (Shen et al. 3.1.2, 3.1.4). After each
epoch the validation set is scored in one pass, the model with the best score is kept
as `best.keras`, and the whole state goes into ONE file, `last.keras`
(`training_state`), from which a resume goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from dm_models import checkpointing, freezing, weights
from dm_models.inputs import InputContract
from dm_training import devices, estimate
from dm_training.distribution import ALONE, Distribution
from dm_training.recipes import Stage
from dm_training.runs import Run
from dm_training.training_state import State, load_state, save_state, write_history


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite; the message names stage, epoch and step."""


@dataclass(frozen=True)
class Plan:
    """What `train` is to do.

    Attributes:
        stages: In order; a stage of zero epochs is left out.
        steps_per_epoch: Optimizer steps an epoch.
        stream: start_epoch -> endless training data set from that epoch on.
        score: model -> dict of validation scores, all prefixed `val_`.
        watch: The score that decides on the best model; larger is better.
        lr_patience: Epochs without improvement before the rate is cut to a tenth;
            None never cuts.
        es_patience: Epochs without improvement that end a stage; None never does.
        optimizer: "adam", "sgd", "rmsprop" or "nadam".
        jit_compile: XLA; on a CPU it only costs time. JAX compiles in any case.
        seed: Dropout's masks follow from it and the epoch.
        frozen_norm: What batch norm does in frozen layers, see `freezing`.
        gradient_checkpointing: Compute activations again, see `checkpointing`.
        batch_size: Images a step, of all processes together.
        distribution: The devices and hosts that train together.
        steps_per_execution: Steps that one call runs; 0 chooses: 1 on a processor,
            and on a GPU or TPU as many as take a fifth of a second, once measured.
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
    batch_size: int = 0
    distribution: Distribution = ALONE
    steps_per_execution: int = 1


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
        OutOfMemory: A step did not fit; the message says what would.
        WorkerLost: Another process of the training is gone.
    """
    state = State()
    last = run.path("last.keras")
    resumed = resume and last.is_file()
    if resumed:
        with plan.distribution.scope():
            model, state = load_state(last)
        run.say(f"resumed after epoch {state.epoch} from {last.name}")
        if plan.distribution.is_chief:  # a kill may have come just before this was
            write_history(state, run.path("history.csv"))
    plan.distribution.agree({"the epoch in last.keras": state.epoch})
    if plan.gradient_checkpointing:
        kept = checkpointing.checkpoint(model)
        run.say(f"gradient checkpoints after {', '.join(kept)}")
    for number, stage in enumerate(plan.stages):
        if stage.epochs and not _is_over(number, stage, state):
            _enter_stage(model, number, plan, run, state, resumed=resumed)
            _run_stage(model, contract, stage, plan, run, state)
    return model, state


def _is_over(number: int, stage: Stage, state: State) -> bool:
    if number != state.stage:
        return number < state.stage
    return state.stage_over or state.stage_epoch >= stage.epochs


def _enter_stage(model, number: int, plan: Plan, run: Run, state: State, *, resumed):
    stage = plan.stages[number]
    inside = resumed and number == state.stage and state.stage_epoch > 0
    if not inside:
        state.stage, state.stage_epoch, state.stage_over = number, 0, False
        state.since_best = state.since_rate = 0
        prepare(model, stage, plan, state)
    elif plan.frozen_norm == "updating" and stage.train_from != freezing.ALL:
        # A model file holds which layers train, not which of their arrays do.
        prepare(model, stage, plan, state)
        run.say("batch norm of frozen layers updates: the optimizer starts afresh")


def prepare(model: keras.Model, stage: Stage, plan: Plan, state: State) -> None:
    """Set what learns in a stage, its weight decay and dropout, and compile afresh."""
    freezing.set_trainable_from(model, stage.train_from, frozen_norm=plan.frozen_norm)
    freezing.set_weight_decay(model, stage.weight_decay)
    if stage.dropout is not None:
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = stage.dropout
    with plan.distribution.scope():
        optimizer = keras.optimizers.get(plan.optimizer)
        optimizer.learning_rate = stage.learning_rate
        model.compile(
            optimizer=optimizer,
            loss="sparse_categorical_crossentropy",
            # JAX without its compiler runs a step one operation at a time.
            jit_compile=plan.jit_compile or keras.backend.backend() == "jax",
            steps_per_execution=_steps_per_execution(plan, state),
        )
        model.optimizer.build(model.trainable_variables)


def _steps_per_execution(plan: Plan, state: State) -> int:
    wanted = plan.steps_per_execution
    if plan.distribution.strategy:
        return 1
    if wanted == 0:
        seconds = state.step_seconds if devices.platform() != "cpu" else None
        wanted = min(32, int(0.2 / seconds)) if seconds else 1
    fitting = (n for n in range(1, wanted + 1) if plan.steps_per_epoch % n == 0)
    return max(fitting, default=1)


def _run_stage(model, contract, stage: Stage, plan: Plan, run: Run, state: State):
    first, end = state.epoch, state.epoch + stage.epochs - state.stage_epoch
    run.say(
        f"stage {stage.name}: {stage.epochs} epochs from {stage.train_from!r}, learning"
        f" rate {stage.learning_rate:g}, weight decay {stage.weight_decay:g},"
        f" {sum(int(np.prod(w.shape)) for w in model.trainable_weights):,} of"
        f" {model.count_params():,} parameters trained"
    )
    size = _step_size(model, contract, plan)
    if size:
        estimate.check(model, size, run.say)
    meter = estimate.StepMeter(plan.steps_per_epoch, end - first, run.say)
    callbacks = [Keeper(contract, stage, plan, run, state), meter]
    if plan.distribution.is_chief:
        callbacks.append(keras.callbacks.TensorBoard(
            run.path("tensorboard"), write_graph=False))  # fmt: skip
    try:
        _fit(model, plan, range(first, end), callbacks)
    except Exception as err:
        if not estimate.out_of_memory(err):
            raise
        ways = size and estimate.what_would_fit(model, size, estimate.device_bytes())
        raise estimate.OutOfMemory(
            f"memory is out in stage {stage.name}: a step of {size} did not fit; what "
            f"takes less: {ways}"
        ) from err
    state.stage_over, state.step_seconds = True, meter.seconds


def _step_size(model, contract, plan: Plan) -> estimate.StepSize | None:
    """What a step on one device is made of; None where sizes vary."""
    if not plan.batch_size or None in (contract.height, contract.width):
        return None
    kinds = [layer.compute_dtype for layer in model.layers]
    return estimate.StepSize(
        plan.batch_size // plan.distribution.replicas, contract.height, contract.width,
        half=sum(k.endswith("16") for k in kinds) > len(kinds) / 2,
        checkpointed=plan.gradient_checkpointing,
    )  # fmt: skip


def _fit(model, plan: Plan, epochs: range, callbacks) -> None:
    if plan.distribution.strategy:
        from dm_training.distributed_fit import fit

        fit(plan.distribution, model, plan.stream(epochs.start),
            steps=plan.steps_per_epoch, epochs=epochs, callbacks=callbacks,
            batch_size=plan.batch_size)  # fmt: skip
        return
    model.fit(
        plan.stream(epochs.start), steps_per_epoch=plan.steps_per_epoch,
        initial_epoch=epochs.start, epochs=epochs.stop, callbacks=callbacks,
        shuffle=False, verbose=1 if os.isatty(1) else 0,
    )  # fmt: skip


class Keeper(keras.callbacks.Callback):
    """Scores, keeps the best, saves the state, cuts the rate, ends the stage."""

    def __init__(self, contract, stage, plan, run, state):
        super().__init__()
        self.contract, self.stage, self.plan = contract, stage, plan
        self.run, self.state = run, state
        self.started = time.monotonic()
        self.loss_of = (0, 0.0)

    def on_epoch_begin(self, epoch, logs=None):
        seed_dropout(self.model, self.plan.seed, epoch, self.plan.distribution)

    def on_train_batch_end(self, batch, logs=None):
        # Looked at one step late, so that a GPU need not wait for it to be fetched.
        self._check_loss()
        self.loss_of = (batch, logs["loss"])

    def _check_loss(self) -> None:
        batch, loss = self.loss_of
        if not np.isfinite(float(loss)):
            raise NonFiniteLoss(
                f"loss is {float(loss)} in stage {self.stage.name}, epoch "
                f"{self.state.epoch + 1}, step {batch + 1}: lower the learning rate "
                "or look at the images (dm-audit); last.keras holds the epoch before"
            )

    def on_epoch_end(self, epoch, logs=None):
        self._check_loss()
        logs.update(self.plan.score(self.model))
        plan, state, value = self.plan, self.state, logs[self.plan.watch]
        state.epoch, state.stage_epoch = epoch + 1, state.stage_epoch + 1
        state.steps += plan.steps_per_epoch
        better = state.best is None or value > state.best
        if better:
            state.best, state.best_epoch = float(value), state.epoch
        state.since_best = 0 if better else state.since_best + 1
        state.since_rate = 0 if better else state.since_rate + 1
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        now = time.monotonic()
        row = {"epoch": state.epoch, "stage": self.stage.name, "learning_rate": rate}
        row.update({name: float(v) for name, v in logs.items()})
        row.update(best=state.best, steps=state.steps, seconds=now - self.started)
        self.started = now
        state.history.append(row)
        self._say(row, better)
        self._patience(rate)
        if plan.distribution.is_chief:
            with plan.distribution.apart():
                self._write(better)

    def _write(self, better: bool) -> None:
        if better:
            weights.save_model(self.model, self.run.path("best.keras"), self.contract)
        save_state(self.model, self.run.path("last.keras"), self.contract, self.state)
        write_history(self.state, self.run.path("history.csv"))

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


def seed_dropout(
    model: keras.Model, seed: int, epoch: int,
    distribution: Distribution = ALONE,
) -> None:  # fmt: skip
    """Set every random layer's state from (seed, epoch, its number in the model).

    A model file does not hold these states, so that a resumed training would draw
    other masks than one that ran through. Replicas draw masks of their own.
    """
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    copies = distribution.replicas if distribution.strategy else 1
    for number, state in enumerate(states):
        keys = [np.random.SeedSequence([seed, epoch, number, *[r] * bool(r)])
                for r in range(copies)]  # fmt: skip
        words = np.array([key.generate_state(2) for key in keys]).astype(state.dtype)
        if distribution.strategy:
            distribution.assign_each(state, words)
        else:
            state.assign(words[0])
