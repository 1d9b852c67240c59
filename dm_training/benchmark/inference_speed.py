"""Whole images a second through one network: ours against other programs.

The network is exported once, by Keras; every program must give our outputs to 1e-3.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from dm_training.benchmark import networks, synthetic
from dm_training.benchmark.candidates import Candidate, measure, started
from dm_training.benchmark.timing import figure, ratio

_TOLERANCE = 1e-3
_ENGINES = "dm_training.benchmark.engines"
OURS = "ours (TensorFlow)"
ENGINES = {
    OURS: "ours", "ONNX Runtime": "onnx_runtime", "OpenVINO": "openvino",
    "Keras on PyTorch": "torch",
}  # fmt: skip
_FILES = {"ONNX Runtime": "onnx", "OpenVINO": "openvino"}
_RECIPES = (networks.RECIPE, "resnet50-s10-256x1+128x1")


def run(folder: Path, *, quick: bool, cores: int) -> dict:
    """Measure.

    Args:
        folder: Empty; for the models' files.
        quick: A small network on small images.
        cores: Not used: each program takes all.

    Returns:
        The part of the results.
    """
    height, width = (128, 96) if quick else (1152, 896)
    figures, skipped, facts = {}, {}, {}
    for recipe in _RECIPES[:1] if quick else _RECIPES:
        place = folder / recipe
        place.mkdir(parents=True)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            # Its own process, which ends: an export takes gigabytes and keeps them.
            job = pool.submit(_write_files, place, recipe, height, width)
            files, unwritten = job.result()
        found, missing, used = _measure(files, unwritten, quick=quick)
        figures |= {f"{recipe}: {name}": value for name, value in found.items()}
        skipped |= missing
        facts[recipe] = used
    return {
        "setting": f"{height} x {width}, one image at a time, float32",
        "candidates": facts, "skipped": skipped, "figures": figures,
    }  # fmt: skip


def _write_files(place: Path, recipe: str, height: int, width: int):
    """The network in every form, and why a form could not be written."""
    image = synthetic.breast_image(height, width, 0)
    images = image.astype(np.float32)[None, ..., None]
    model, _ = networks.build(height, width, recipe)
    networks.soften(model, images)
    files = {
        "keras": place / "model.keras", "onnx": place / "model.onnx",
        "openvino": place / "model.xml", "images": place / "images.npy",
    }  # fmt: skip
    np.save(files["images"], images)
    model.save(files["keras"])
    unwritten = {}
    for name, form in _FILES.items():
        try:
            with contextlib.redirect_stdout(None):
                model.export(str(files[form]), format=form, verbose=False)
        except ImportError as err:
            unwritten[name] = f"{name}: {err}"
    return {name: str(path) for name, path in files.items()}, unwritten


def _measure(files: dict, unwritten: dict, *, quick: bool):
    made = {
        name: Candidate(name, f"{_ENGINES}:{function}", files,
                        {"KERAS_BACKEND": "torch"} if function == "torch" else {})
        for name, function in ENGINES.items() if name not in unwritten
    }  # fmt: skip
    with started(made) as missing:
        there = {name: c for name, c in made.items() if name not in missing}
        differences = _differences(there)
        warm, rounds = (0.2, 3) if quick else (3.0, 5)
        seconds = dict.fromkeys(there, warm)
        rates = measure(there, seconds=seconds, rounds=rounds, warm=warm)
        used = {
            name: {"used": c.facts["used"], "differs_by": differences[name]}
            for name, c in there.items()
        }
    figures = {name: figure(rate, "images/s") for name, rate in rates.items()}
    for name in rates:
        if name != OURS:
            figures[f"{OURS} / {name}"] = ratio(rates[OURS], rates[name], name)
    return figures, unwritten | missing, used


def _differences(there: dict[str, Candidate]) -> dict[str, float]:
    """How far each candidate's outputs are from ours, at the most.

    Raises:
        ValueError: Further than allowed: it is not the same network.
    """
    ours = np.asarray(there[OURS].facts["outputs"])
    found = {}
    for name, candidate in there.items():
        found[name] = float(np.abs(candidate.facts["outputs"] - ours).max())
        if not found[name] <= _TOLERANCE:
            raise ValueError(
                f"{name}: outputs must equal ours to {_TOLERANCE}, they differ by "
                f"{found[name]}"
            )
    return found
