"""Augmented batches a second: ours against Keras 2's generator and against OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dm_training.benchmark import synthetic
from dm_training.benchmark.candidates import Candidate, measure, started
from dm_training.benchmark.timing import figure, ratio

_HERE = "dm_training.benchmark"
OLD = "Keras 2 generator, decoding"
FILES = "OpenCV workers, decoding"
MEMORY = "OpenCV workers, from memory"
OURS = {"memory": "ours, from memory", "cache": "ours, from the pixel cache"}
TARGETS = {OLD: 20.0, FILES: 3.0, MEMORY: 1.0}


def run(folder: Path, *, quick: bool, cores: int) -> dict:
    """Measure.

    Args:
        folder: Empty; for the images.
        quick: Small images and short slices.
        cores: Worker processes of the others.

    Returns:
        The part of the results.
    """
    height, width = (96, 64) if quick else (1152, 896)
    paths = synthetic.write_class_folders(folder / "images", 24, height, width)
    config = {
        "folder": str(folder / "images"), "paths": paths, "height": height,
        "width": width, "batch": 8, "workers": cores, "ranges": _ranges(),
        "cache": str(folder / "cache"),
    }  # fmt: skip
    everyone = (*OURS.values(), MEMORY, FILES, OLD)
    rates, facts, missing = _measure(config, quick, everyone)
    # What a batch costs by itself shows where it holds the paper's two images.
    pairs, _, _ = _measure(config | {"batch": 2}, quick, (OURS["memory"], MEMORY))
    figures = _figures(rates)
    ours, theirs = (pairs[name] for name in (OURS["memory"], MEMORY))
    figures[f"{OURS['memory']} / {MEMORY}, batches of 2"] = ratio(ours, theirs, MEMORY)
    return {
        "setting": f"{height} x {width}, batches of {config['batch']}, {cores} cores",
        "candidates": facts, "skipped": missing, "figures": figures,
    }  # fmt: skip


def _measure(config: dict, quick: bool, names: Sequence[str]) -> tuple:
    """Rates and facts of each candidate that is there, and why the others are not."""
    ways = _ways(config)
    made = {name: Candidate(name, *ways[name]) for name in names}
    with started(made) as missing:
        there = {name: c for name, c in made.items() if name not in missing}
        short, long = (0.2, 0.2) if quick else (2.0, 4.0)
        seconds = {name: long if name == OLD else short for name in there}
        rates = measure(there, seconds=seconds, rounds=3 if quick else 10, warm=short)
        facts = {name: candidate.facts for name, candidate in there.items()}
    return rates, facts, dict(missing)


def _ways(config: dict) -> dict[str, tuple[str, dict]]:
    ours = {
        name: (f"{_HERE}.our_stream:batches", config | {"variant": variant})
        for variant, name in OURS.items()
    }
    opencv = f"{_HERE}.opencv_workers:batches"
    return ours | {
        MEMORY: (opencv, config | {"hold": "memory"}),
        FILES: (opencv, config | {"hold": "files"}),
        OLD: (f"{_HERE}.old_generator:batches", config),
    }


def _figures(rates: dict[str, list[float]]) -> dict:
    figures = {name: figure(rate, "images/s") for name, rate in rates.items()}
    for ours in OURS.values():
        for theirs, target in TARGETS.items():
            if ours in rates and theirs in rates:
                figures[f"{ours} / {theirs}"] = ratio(
                    rates[ours], rates[theirs], theirs, target=target
                )
    return figures


def _ranges() -> dict:
    from dm_training import augment

    return asdict(augment.PAPER)
