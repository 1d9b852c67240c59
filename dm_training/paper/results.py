"""Reads what the stages of a reproduction left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import tables as data_tables
from dm_training import metrics
from dm_training.curve_runs import CurveRun, planned_runs
from dm_training.intervals import deviation, logit_interval
from dm_training.paper import rehearsal
from dm_training.paper.schedule import DONE, Outcome
from dm_training.paper.stages import Settings
from dm_training.resampling import group_codes, weighted_auc, woman_weights
from dm_training.runs import read_json


@dataclass(frozen=True)
class Results:
    """A reproduction's folder, read.

    Attributes:
        out: The folder.
        settings: What was asked for.
        outcomes: Stage name -> what became of it.
    """

    out: Path
    settings: Settings
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    @cached_property
    def rehearsed(self) -> dict[str, dict]:
        """Row -> what one step of its real network gave; empty at the paper's scale."""
        path = self.out / "rehearsal" / rehearsal.FILE
        return read_json(path)["rows"] if path.is_file() else {}

    def metrics_of(self, stage: str) -> dict | None:
        """The metrics.json of a stage such as "whole.ROW"; None where it is undone."""
        path = self.out / stage.replace(".", "/", 1) / "metrics.json"
        outcome = self.outcomes.get(stage)
        if not path.is_file() or (outcome and outcome.status != DONE):
            return None
        return read_json(path)

    def predictions(self, path: str, split: str) -> pd.DataFrame | None:
        """The labelled rows of one split of a table; None where there is none."""
        if not (self.out / path).is_file():
            return None
        frame = data_tables.read_predictions(self.out / path)
        return frame[(frame["split"] == split) & frame["y_true"].notna()]

    def curve_runs(self, row: str, women: int | None = None) -> list[CurveRun]:
        """The learning curve's trainings of a row that are done.

        Args:
            row: A whole-image recipe.
            women: Of so many training women; None for all sizes.
        """
        folder = self.out / "curve" / row
        if not (folder / "plan.json").is_file():
            return []
        return [run for run in planned_runs(folder)
                if run.done() and run.women == (women or run.women)]  # fmt: skip

    def training_women(self) -> int:
        """Women whom the whole digital training set has."""
        facts = read_json(self.out / "splits/digital/splits.json")
        return facts["counts"]["train"]["women"]

    def transfer_runs(self, row: str) -> list[tuple[int, pd.DataFrame]]:
        """(training women, test predictions) of every fine-tuning of a row.

        0 women is the film model as it is.
        """
        found = [(run.women, read_test(run.out / "predictions_test.csv"))
                 for run in self.curve_runs(row)]  # fmt: skip
        whole = self.predictions(f"tuned/{row}/predictions_test.csv", "test")
        if whole is not None:
            found.append((self.training_women(), whole))
        return found

    def status(self, row: str, stage: str) -> str:
        """Of a table's row, in words."""
        if not self.settings.scale.is_trained(row):
            return "not trained"
        outcome = self.outcomes.get(stage)
        if outcome is None:
            return "not asked for"
        if outcome.status == DONE:
            return "trained"
        return f"{outcome.status}: {outcome.why}"

    def built(self, row: str) -> str | None:
        """What one step of a row's real network gave, in words; None if none was."""
        one = self.rehearsed.get(row)
        if one is None:
            return None
        sound = "" if one["finite"] and one["moved"] else ", BROKEN"
        return f"{one['weights']:,} weights, loss {one['loss']:.2f}{sound}"


def read_test(path: Path) -> pd.DataFrame:
    """The labelled rows of a run's table of test predictions."""
    frame = data_tables.read_predictions(path)
    return frame[frame["y_true"].notna()]


def mean_auc_figure(
    frames: Sequence[pd.DataFrame], *, n: int = 2000, seed: int = 0
) -> dict:
    """The mean of several trainings' AUCs on the same test images, as a figure.

    Args:
        frames: Prediction tables of the same images, in any order.
        n: Bootstrap draws of women; each draw is the same for all tables.
        seed: Of the draws.

    Returns:
        A figure; its interval is that of the test women, the trainings as they are.

    Raises:
        MetricError: Other images or truths, or one class only.
    """
    first, *others = frames
    if not others:
        return metrics.auc_figure(first, n=n, seed=seed)
    truth, score = metrics.check_scores(first["y_true"], first["y_score"])
    joined = [metrics.join_predictions(first, frame)["y_score_b"] for frame in others]
    scores = [score, *(column.to_numpy(float) for column in joined)]
    codes = group_codes(first["patient_id"], len(truth))
    draws = np.concatenate([
        np.mean([weighted_auc(truth, one, weights) for one in scores], axis=0)
        for weights in woman_weights(codes, n, seed)
    ])  # fmt: skip
    value = float(np.mean([metrics.auc(truth, one) for one in scores]))
    smaller = min(len(np.unique(codes[truth])), len(np.unique(codes[~truth])))
    low, high = logit_interval(value, deviation(draws, smaller), smaller)
    return metrics.figure(value, low, high, n=len(truth), positives=int(truth.sum()),
                          level="image", split="test")  # fmt: skip
