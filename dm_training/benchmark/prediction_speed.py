"""Images a second by `dm-predict`, from files to its table, against the bare network.

The bare network gets tensors that lie in memory; the command reads PNGs, prepares them,
notes every image in its journal and writes its tables. Both have the network loaded and
traced already. A second figure is the command's peak memory with ten times the files.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from dm_preprocess.images import write_png
from dm_training.benchmark import networks, synthetic
from dm_training.benchmark.memory import run_watched
from dm_training.benchmark.timing import figure, ratio, take_turns

BARE, OURS = "bare network", "dm-predict"
_RECIPES = {True: networks.RECIPE, False: "resnet50-s10-256x1+128x1"}
_TARGET, _CEILING, _BATCH = 0.9, 1.1, 4
_SMALL = (128, 96)


def run(folder: Path, *, quick: bool, cores: int) -> dict:
    """Measure.

    Args:
        folder: Empty; for images, the model and tables.
        quick: A small network, few and small images.
        cores: Not used: both take all.

    Returns:
        The part of the results.
    """
    (height, width), count = (_SMALL, 8) if quick else ((1152, 896), 12)
    os.environ["DM_PATIENT_KEY"] = str(folder / "patient.key")
    model = write_model(folder / "model.keras", height, width, _RECIPES[quick])
    scans = folder / "scans"
    for number in range(count):
        image = synthetic.breast_image(height, width, number)
        write_png(scans / f"{number}.png", image)
    steps = _steps(model, scans, folder)
    rates = take_turns(steps, 3 if quick else 5)
    figures = {name: figure(rate, "images/s") for name, rate in rates.items()}
    target = None if quick else _TARGET
    figures[f"{OURS} / {BARE}"] = ratio(rates[OURS], rates[BARE], BARE, target=target)
    return {
        "setting": f"{count} PNGs of {height} x {width}, {_RECIPES[quick]}, batches of "
                   f"{_BATCH}; memory: squeezenet, PNGs of 128 x 96",
        "skipped": {}, "figures": figures | _memory(folder, quick=quick),
    }  # fmt: skip


def write_model(path: Path, height: int, width: int, recipe: str) -> Path:
    """Save a whole-image model with random weights."""
    from dm_models.weights import save_model

    model, contract = networks.build(height, width, recipe)
    image = synthetic.breast_image(height, width, 0).astype(np.float32)
    networks.soften(model, image[None, ..., None])
    return save_model(model, path, contract)


def _steps(model: Path, scans: Path, folder: Path) -> dict:
    """What each candidate does in its turn: all images once; images a second."""
    from dm_training import desk_run, predict
    from dm_training.desk_paths import list_items
    from dm_training.patient_keys import PatientKey
    from dm_training.predictor import Predictor

    predictor = Predictor(model, batch_size=_BATCH, patient_key=PatientKey())
    items = list_items([str(scans)])
    opened = [result.opened.prepared[0] for result in predictor.results(items)]
    tensors = np.stack(opened).astype(np.float32)[..., None]
    given = [str(model), str(scans), "--overwrite", "--out", str(folder / "s.csv")]
    arguments = predict.parse([*given, "--batch-size", str(_BATCH)])

    def bare() -> None:
        for first in range(0, len(tensors), _BATCH):
            predictor.scorer.scores([tensors[first : first + _BATCH]], flips=1)

    def command() -> None:
        if desk_run.score_items(arguments, predictor, items):
            raise RuntimeError("dm-predict failed")

    return {
        name: _rate(step, len(items)) for name, step in ((BARE, bare), (OURS, command))
    }


def _rate(step, count: int):
    def measured() -> float:
        began = time.perf_counter()
        step()
        return count / (time.perf_counter() - began)

    return measured


def _memory(folder: Path, *, quick: bool) -> dict:
    """Peak memory of the command, all of it, with few files and with ten times more."""
    model = write_model(folder / "small.keras", *_SMALL, networks.RECIPE)
    base, peaks = 20 if quick else 200, {}
    for times in (1, 10):
        scans = folder / f"scans_{times}"
        write_copies(scans, base * times)
        command = [sys.executable, "-m", "dm_training.predict", model, scans,
                   "--out", folder / f"{times}.csv"]  # fmt: skip
        peaks[times] = [run_watched(command).peak_bytes / 2**20]
        shutil.rmtree(scans)
    figures = {
        f"{OURS}, {base * times} files: peak memory": figure(peak, "MiB")
        for times, peak in peaks.items()
    }
    name = f"{OURS}, 10 times the files / once: peak memory"
    once = f"{base} files"
    figures[name] = ratio(peaks[10], peaks[1], once, target=_CEILING, at_most=True)
    return figures


def write_copies(folder: Path, count: int, distinct: int = 16) -> None:
    """Write small PNGs, a few of which are told apart by their pixels."""
    folder.mkdir(parents=True)
    for number in range(distinct):
        image = synthetic.breast_image(*_SMALL, number)
        write_png(folder / f"{number:06d}.png", image)
    for number in range(distinct, count):
        source = folder / f"{number % distinct:06d}.png"
        shutil.copyfile(source, folder / f"{number:06d}.png")
