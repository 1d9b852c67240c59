"""Where a training stands, in one file with the model, so that a kill splits nothing.

Weights, optimizer, counters and history go into `last.keras` together, written aside
and renamed: there is no moment at which a kill leaves a state that contradicts itself.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import pandas as pd

from dm_models import weights
from dm_models.inputs import InputContract

_STATE = "training_state.json"


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
        step_seconds: A step's time as last measured.
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
    step_seconds: float | None = None


def write_history(state: State, path: Path) -> None:
    """Write the history so far as CSV, aside and renamed."""
    aside = path.with_name(path.name + ".part")
    pd.DataFrame(state.history).to_csv(aside, index=False)
    os.replace(aside, path)


def save_state(
    model: keras.Model, path: Path, contract: InputContract, state: State
) -> None:
    """Write weights, optimizer and state into one file, aside and renamed."""
    aside = path.with_name("last.part.keras")
    weights.save_model(model, aside, contract)
    with zipfile.ZipFile(aside, "a") as archive:
        archive.writestr(_STATE, json.dumps(asdict(state)))
    os.replace(aside, path)


def load_state(path: Path) -> tuple[keras.Model, State]:
    """Read what `save_state` wrote: the compiled model and the state."""
    model, _ = weights.load_model(path, compile=True)
    with zipfile.ZipFile(path) as archive:
        state = State(**json.loads(archive.read(_STATE)))
    return model, state
