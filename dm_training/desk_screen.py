"""What a run of `dm-predict` says: lines to standard output, all else to the other."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dm_training import desk_notes
from dm_training.desk_paths import Item
from dm_training.desk_progress import Progress
from dm_training.desk_rows import header_line, image_line, unit_dicts, unit_lines
from dm_training.predictor import FAILED, REFUSED, SCORED, Prediction

_WIDEST_ID = 60
_LONGEST_COMMAND = 160


class Screen:
    """Shows predictions as they come: a table, JSON, or how far the run is.

    The last not where lines of images go to a terminal already.
    """

    def __init__(self, arguments: argparse.Namespace, items: Sequence[Item], told):
        self.json, self.table = arguments.json, _prints_table(arguments)
        self.limit, self.told = arguments.limit_warnings, told
        self.width = min(max(len(item.image_id) for item in items), _WIDEST_ID)
        lines = (self.json or self.table) and sys.stdout.isatty()
        self.progress = Progress(len(items), shown=not lines)

    def __enter__(self) -> Screen:
        if self.told.earlier:
            print(f"{self.told.earlier} image(s) are done already", file=sys.stderr)
        if self.table:
            print(header_line(self.width))
        return self

    def __exit__(self, *error) -> None:
        self.progress.close()

    def show(self, prediction: Prediction) -> None:
        """Show one prediction."""
        if self.json:
            found = {"level": "image", **prediction.as_dict()}
            print(json.dumps(found), flush=True)
        elif self.table:
            print(image_line(prediction, self.width), flush=True)
        self._warn(prediction)
        self.progress.update()

    def _warn(self, prediction: Prediction) -> None:
        """Name what has no score always, what is unusual once a kind."""
        note = "; ".join(prediction.notes)
        line = f"{prediction.status}: {prediction.image_id}: {note}"
        if prediction.status == SCORED:
            line = f"note: {prediction.image_id}: {note}"
            new = desk_notes.take(self.told.noted, prediction)
            if not new or len(self.told.noted) > self.limit:
                return
        if not self.table:
            self.progress.write(line)


def show_units(arguments: argparse.Namespace, units: dict) -> None:
    """Show breasts and women, where predictions were shown."""
    for level, frame in units.items():
        if arguments.json:
            for found in unit_dicts(level, frame):
                print(json.dumps(found, default=int))
        elif _prints_table(arguments):
            print("\n".join(unit_lines(level, frame)))


def summary(
    arguments: argparse.Namespace, predictor, told, units: dict, written: list[Path]
) -> list[str]:
    """The last lines: what was left open, then what became of all images."""
    lines = desk_notes.lines(told.noted, arguments.limit_warnings)
    if told.unwritten:
        lines.append(f"{told.unwritten} image(s) without the pictures asked for")
    lines += _of_unlike(arguments, predictor, told)
    lines += _of_decision(predictor, ["image", *units])
    if not units and arguments.level != "image":
        lines.append("no patient ids: no scores of breasts or women")
    elif arguments.level not in (None, "image", *units):
        lines.append(f"no ids for level {arguments.level}: no such table")
    counts = told.counts
    said = (
        f"{counts[SCORED]} scored, {counts[REFUSED]} refused, {counts[FAILED]} failed"
    )
    if told.earlier:
        said += f" ({told.earlier} of them by an earlier run)"
    where = f" -> {', '.join(map(str, reversed(written)))}" if written else ""
    return [*lines, said + where]


def _of_unlike(arguments: argparse.Namespace, predictor, told) -> list[str]:
    """How many scores rest on images of another kind, and what tells why."""
    if not told.unlike:
        return []
    paths = arguments.given[len(predictor.scorer.contracts) :]
    command = shlex.join(["dm-check", arguments.given[0], *paths])
    if len(command) > _LONGEST_COMMAND:
        command = "dm-check MODEL PATH"
    return [
        f"{told.unlike} of {told.counts[SCORED]} scored images are unlike the training "
        f"images, and their scores may mean little: `{command}`"
    ]


def _of_decision(predictor, levels: list[str]) -> list[str]:
    """What threshold there is, and for what it holds."""
    decision = predictor.decision
    if decision is None:
        return [
            f"no operating point is stored for {predictor.flips} flip(s): "
            "probabilities are not calibrated and nothing is decided; "
            f"{_cure(predictor)}"
        ]
    others = [level for level in levels if level != decision.level]
    said = f"positive from probability {decision.threshold:.4g} on"
    if not others:
        return [said]
    return [
        f"{said}: the operating point holds at level {decision.level} alone, no "
        f"decision at level {', '.join(others)}"
    ]


def _cure(predictor) -> str:
    """Where an operating point may come from."""
    if len(predictor.scorer.contracts) > 1:
        return "an ensemble has none of its own (--decision FILE)"
    table = "predictions_val_augmented.csv" if predictor.flips == 4 else (
        "predictions_val.csv")  # fmt: skip
    return f"`dm-decide MODEL {table}` stores one"


def _prints_table(arguments: argparse.Namespace) -> bool:
    return arguments.out is None and not arguments.json
