"""Converted images a second on one core, and what a second process brings.

On one core a conversion is held against the least that any must do: decode the DICOM
file and encode the PNG. That least is given twice, by pydicom alone and by this
project's reader, which also checks the file, its padding and its polarity.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from dm_training.benchmark import synthetic
from dm_training.benchmark.timing import figure, rate_of, ratio, take_turns

_TARGET_ONE_CORE, _TARGET_TWO_JOBS = 0.9, 1.8
OURS = "convert_image"
PYDICOM = "pydicom decode and PNG"
READER = "read_dicom and PNG"


def run(folder: Path, *, quick: bool, cores: int) -> dict:
    """Measure.

    Args:
        folder: Empty; for DICOM files and what becomes of them.
        quick: Small files.
        cores: A second process is only tried where there is a second core.

    Returns:
        The part of the results.
    """
    source, working = ((300, 200), (96, 64)) if quick else ((4000, 3000), (1152, 896))
    dicoms = synthetic.write_dicoms(folder / "dicoms", 4, *source)
    rates = _one_core(folder, dicoms, working, quick=quick)
    figures = {name: figure(rate, "images/s") for name, rate in rates.items()}
    for other in (PYDICOM, READER):
        figures[f"{OURS} / {other}"] = ratio(
            rates[OURS], rates[other], f"{other}, one core", target=_TARGET_ONE_CORE
        )
    skipped = {}
    if cores < 2:
        skipped["2 jobs"] = "2 jobs: this machine has one core"
    else:
        figures |= _jobs(folder, dicoms, working, quick=quick)
    return {
        "setting": f"{source[0]} x {source[1]} at 16 bits, uncompressed, to "
                   f"{working[0]} x {working[1]}",
        "skipped": skipped, "figures": figures,
    }  # fmt: skip


def convert_command(
    source: Path, out: Path, size: tuple[int, int], jobs: int
) -> list[str]:
    """The command line of `dm-convert generic` by this interpreter."""
    return [
        sys.executable, "-m", "dm_preprocess.convert", "generic", str(source), str(out),
        "--size", *map(str, size), "--jobs", str(jobs),
    ]  # fmt: skip


def _one_core(folder: Path, dicoms: list[str], working, *, quick: bool) -> dict:
    import cv2

    cv2.setNumThreads(1)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        ways = _ways(folder, dicoms, working)
        for step in ways.values():
            step()  # imports and tables that are made once
        seconds, rounds = (0.1, 3) if quick else (2.0, 7)
        turns = {n: lambda s=step: rate_of(s, seconds) for n, step in ways.items()}
        return take_turns(turns, rounds)
    finally:
        os.sched_setaffinity(0, allowed)


def _ways(folder: Path, dicoms: list[str], working: tuple[int, int]) -> dict:
    """Name -> a step that does one image and returns 1."""
    import numpy as np
    import pydicom
    from pydicom.pixels import pixel_array

    from dm_preprocess import images
    from dm_preprocess.convert_image import Settings, convert_image
    from dm_preprocess.dicom import read_dicom
    from dm_preprocess.sources import SourceImage

    out, settings = folder / "converted", Settings(*working)
    working_image = images.fit(read_dicom(dicoms[0]).pixels, *working)[0]
    numbers, files = itertools.count(), itertools.cycle(dicoms)

    def convert() -> int:
        path = Path(next(files))
        name = f"image_{next(numbers)}"  # a new one each time: none is done already
        done = convert_image(
            SourceImage(name, "p", "L", "CC", 0, path, "generic"), out, settings
        )
        if done.failed:
            raise RuntimeError(f"conversion failed: {done.failed}")
        for written in (out / "images").glob(f"{name}.*"):
            written.unlink()
        return 1

    def write() -> int:
        images.write_png(folder / "alone.png", working_image)
        return 1

    def by_pydicom() -> int:
        np.asarray(pixel_array(pydicom.dcmread(next(files)), raw=True))
        return write()

    def by_reader() -> int:
        read_dicom(next(files))
        return write()

    return {OURS: convert, PYDICOM: by_pydicom, READER: by_reader}


def _jobs(folder: Path, dicoms: list[str], working, *, quick: bool) -> dict:
    """Images a second of the command once it runs: of many less those of few.

    Starting Python and the worker processes takes a second, whatever the number of
    images; on a whole data set nobody notices it.
    """
    few, many, rounds = (2, 6, 1) if quick else (100, 600, 3)
    sources = {
        count: synthetic.write_generic_source(folder / f"source{count}", dicoms, count)
        for count in (few, many)
    }

    def seconds(count: int, jobs: int) -> float:
        out = folder / "jobs"
        command = convert_command(sources[count], out, working, jobs)
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        elapsed = time.perf_counter() - began
        shutil.rmtree(out)
        return elapsed

    def rate(jobs: int) -> float:
        return (many - few) / max(1e-3, seconds(many, jobs) - seconds(few, jobs))

    names = {"dm-convert, 1 job": 1, "dm-convert, 2 jobs": 2}
    one, two = names
    rates = take_turns({n: lambda jobs=jobs: rate(jobs) for n, jobs in names.items()},
                       rounds)  # fmt: skip
    figures = {name: figure(found, "images/s") for name, found in rates.items()}
    return figures | {
        f"{two} / 1 job": ratio(rates[two], rates[one], one, target=_TARGET_TWO_JOBS)
    }
