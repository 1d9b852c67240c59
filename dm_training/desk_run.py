"""One run of `dm-predict`, from its command line to its tables."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dm_training.desk_notes import SAME_PIXELS, Noted
from dm_training.desk_paths import Item, list_items, passed_over
from dm_training.patient_keys import PatientKey
from dm_training.predictor import (
    FAILED,
    REFUSED,
    SCORED,
    Prediction,
    Predictor,
    Result,
)


class DeskError(ValueError):
    """The command line cannot be followed; the message says why."""


@dataclass
class Told:
    """What a run has seen so far.

    Attributes:
        counts: Images by status.
        unlike: Images with a score that are unlike the training images.
        unwritten: Images whose pictures could not be written.
        earlier: Images taken over from a run that was broken off.
        noted: Kind of note -> images that have it.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((SCORED, REFUSED, FAILED), 0)
    )
    unlike: int = 0
    unwritten: int = 0
    earlier: int = 0
    noted: dict[str, Noted] = field(default_factory=dict)


def run(arguments: argparse.Namespace) -> int:
    """Score what the command line names.

    Returns:
        The exit status: 1 where an image has no score or no picture, else 0.

    Raises:
        DeskError, SamplesError, TableError, ModelFileError, KeyFileError, JournalError:
            The command line is wrong.
    """
    models, paths = _models_and_paths(arguments.given)
    _check(arguments)
    passed = Counter()
    found = list_items(paths, arguments.split, passed=passed)
    items = _without_pictures(arguments, found)
    if passed:
        print(passed_over(passed), file=sys.stderr)
    key = PatientKey(arguments.patient_key)
    key.check()
    return score_items(arguments, _predictor(arguments, models, key), items)


def score_items(
    arguments: argparse.Namespace, predictor: Predictor, items: list[Item]
) -> int:
    """All of a run but its start.

    Args:
        arguments: The command line.
        predictor: Its models, loaded; `patient_key` is a `PatientKey`.
        items: What to score.

    Returns:
        The exit status.

    Raises:
        JournalError: An earlier run's lines cannot be gone on with.
    """
    with _journal(arguments, predictor) as journal, _terminated_as_interrupted():
        told, rows = Told(), []
        try:
            for item, prediction in _predictions(
                arguments, predictor, items, journal, told
            ):
                rows.append((item, prediction))
        except KeyboardInterrupt:
            print(_interrupted(len(rows), len(items), journal), file=sys.stderr)
            return 1
        return _finish(arguments, predictor, rows, told, journal)


def _models_and_paths(given: list[str]) -> tuple[list[str], list[str]]:
    from dm_training.scorers import is_model

    count = 0
    while count < len(given) and is_model(given[count]):
        count += 1
    if count == 0:
        raise DeskError(
            f"{given[0]}: no model: a .keras or .h5 file, a run folder or a SavedModel "
            "comes first"
        )
    if count == len(given):
        raise DeskError("nothing to score: after the models come files or folders")
    return given[:count], given[count:]


def _without_pictures(arguments: argparse.Namespace, items: list[Item]) -> list[Item]:
    """Leave out what an earlier run has drawn below the folder that is scored."""
    from dm_training import desk_outputs, dicom_out
    from dm_training.samples import SamplesError

    drawn = [
        (str(folder.absolute()) + os.sep, endings)
        for folder, endings in (
            (arguments.overlay, desk_outputs.ENDING),
            (arguments.dicom_out, dicom_out.ENDINGS),
        )
        if folder is not None
    ]
    left = [
        item
        for item in items
        if not any(item.path.startswith(f) and item.path.endswith(e) for f, e in drawn)
    ]
    if not left:
        raise SamplesError("no image found but the overlays of an earlier run")
    return left


def _check(arguments: argparse.Namespace) -> None:
    """What is wrong with the command line, before an image is read."""
    for name in ("batch_size", "jobs"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            flag = name.replace("_", "-")
            raise DeskError(f"--{flag} must be at least 1, received {value}")
    if arguments.out is not None:
        _check_out(arguments.out, arguments.overwrite)
    for folder in (arguments.overlay, arguments.dicom_out):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise DeskError(f"{folder}: is no folder")


def _check_out(out: Path, overwrite: bool) -> None:
    from dm_training.desk_journal import journal_path
    from dm_training.desk_rows import unit_path

    if out.exists() and not out.is_file():
        raise DeskError(f"--out {out}: is no regular file")
    units = [unit_path(out, level) for level in ("breast", "patient")]
    # A run that was killed while it wrote its tables goes on: they are its own.
    for path in (out, *units) if not journal_path(out).exists() else (out,):
        if path.exists() and not overwrite:
            raise DeskError(f"{path}: exists already (--overwrite)")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DeskError(f"--out {out}: {err}") from err


def _predictor(arguments, models: list[str], key) -> Predictor:
    from dm_models.quiet_import import import_tensorflow

    import_tensorflow()
    try:
        return Predictor(
            *models, flips=4 if arguments.tta else 1, patient_key=key,
            keep_identifiers=arguments.keep_identifiers,
            unsuitable=arguments.unsuitable, decision=arguments.decision,
            batch_size=arguments.batch_size, jobs=arguments.jobs,
        )  # fmt: skip
    except ValueError as err:
        raise DeskError(str(err)) from err


@contextlib.contextmanager
def _journal(arguments, predictor: Predictor) -> Iterator:
    """What was scored before, where there is a table to write; else nothing."""
    from dm_training.desk_journal import Journal, journal_path

    if arguments.out is None:
        yield None
        return
    path, settings = journal_path(arguments.out), _settings(arguments, predictor)
    journal = Journal(path, settings, fresh=arguments.overwrite)
    try:
        yield journal
    finally:
        journal.close()


def _settings(arguments, predictor: Predictor) -> dict:
    """What a score, or what else is written of an image, depends on."""
    contracts = [json.loads(c.to_json()) for c in predictor.scorer.contracts]
    for contract in contracts:
        contract.pop("grey_stats")
    decision = predictor.decision
    return {
        "model": predictor.scorer.name, "weights": predictor.scorer.version,
        "flips": predictor.flips, "preparation": contracts,
        "decision": None if decision is None else json.loads(decision.to_json()),
        "unsuitable": arguments.unsuitable,
        "patient ids": "kept" if arguments.keep_identifiers else "hashed",
        "overlay": str(arguments.overlay), "dicom-out": str(arguments.dicom_out),
    }  # fmt: skip


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: what is scored is kept."""

    def stop(number, frame):
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _predictions(
    arguments, predictor, items: list[Item], journal, told: Told
) -> Iterator[tuple[Item, Prediction]]:
    """One after another in order, from the journal or from the model."""
    from dm_training.desk_journal import identity
    from dm_training.desk_screen import Screen

    names = [identity(item) for item in items] if journal else [""] * len(items)
    done = journal.done if journal else {}
    if journal and journal.key:
        journal.use_key(predictor.patient_key.fingerprint)
    todo = [item for item, name in zip(items, names, strict=True) if name not in done]
    told.earlier = len(items) - len(todo)
    # What a killed run wrote of its last image is not in its journal yet.
    overwrite = arguments.overwrite or bool(journal and journal.resumed)
    write, copies = _writer(arguments, predictor, told, overwrite=overwrite), {}
    results = predictor.results(todo)
    with contextlib.closing(results), Screen(arguments, items, told) as screen:
        for item, name in zip(items, names, strict=True):
            prediction = done.get(name)
            if prediction is None:
                result = _with_copy_noted(next(results), copies)
                prediction = write(result)
                digest = result.opened.digest
                _note(journal, name, prediction, predictor.patient_key, digest)
            else:
                copies.setdefault(journal.digests[name], prediction.image_id)
            told.counts[prediction.status] += 1
            told.unlike += prediction.status == SCORED and bool(prediction.causes)
            screen.show(prediction)
            yield item, prediction


def _writer(arguments, predictor: Predictor, told: Told, *, overwrite: bool):
    """What draws and writes a result's pictures and returns its prediction."""
    from dm_training.desk_outputs import Outputs

    outputs = Outputs(
        predictor.heat_of, predictor.scorer.contracts[0], overlays=arguments.overlay,
        dicom=arguments.dicom_out, overwrite=overwrite,
    )  # fmt: skip

    def write(result) -> Prediction:
        prediction, problem = outputs.write(result)
        told.unwritten += bool(problem)
        return prediction

    return write


def _with_copy_noted(result: Result, copies: dict[str, str]) -> Result:
    """Say where an image has the pixels of an earlier one: it counts twice.

    Args:
        result: An image.
        copies: Digest of the pixels -> the first image that has them.
    """
    digest, prediction = result.opened.digest, result.prediction
    first = copies.setdefault(digest, prediction.image_id) if digest else ""
    if first in ("", prediction.image_id):
        return result
    notes = (*prediction.notes, f"{SAME_PIXELS}{first}")
    return Result(result.opened, prediction.replace(notes=notes))


def _note(journal, name: str, prediction: Prediction, key, digest: str) -> None:
    if journal is None:
        return
    journal.use_key(key.fingerprint)
    journal.add(name, prediction, digest)


def _interrupted(scored: int, wanted: int, journal) -> str:
    said = f"interrupted: {scored} of {wanted} images are done"
    if journal is None:
        return f"{said}; with --out a run can go on where it was"
    return f"{said} and kept in {journal.path}; the same command goes on with the rest"


def _finish(arguments, predictor: Predictor, rows, told: Told, journal) -> int:
    from dm_training import desk_rows
    from dm_training.desk_screen import show_units, summary

    images = desk_rows.image_frame([desk_rows.image_row(*row) for row in rows])
    units = desk_rows.unit_frames(images, predictor.decision)
    wanted = ("image", "breast", "patient").index(arguments.level or "patient")
    units = {level: units[level] for level in ("breast", "patient")[:wanted]
             if level in units}  # fmt: skip
    show_units(arguments, units)
    written = []
    if arguments.out is not None:
        for level in ("breast", "patient"):
            path = desk_rows.unit_path(arguments.out, level)
            if level not in units:  # of a table that this one replaces
                path.unlink(missing_ok=True)
                continue
            desk_rows.write_rows(units[level], path)
            written.append(path)
        desk_rows.write_rows(images, arguments.out)
        written.append(arguments.out)
        journal.remove()
    missing = arguments.level not in (None, "image", *units)
    for line in summary(arguments, predictor, told, units, written):
        print(line, file=sys.stderr)
    lost = told.counts[REFUSED] + told.counts[FAILED] + told.unwritten
    return 1 if lost or missing else 0
