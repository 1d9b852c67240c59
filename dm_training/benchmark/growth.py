"""What more images and more processes cost: time and peak memory.

The training stream goes once through 1, 4 and 16 times as many images, with the pixel
cache, which each run makes anew. Time an image and peak memory should stay the same;
libraries' start is in the memory and not in the time.
Conversion runs in 1, 2 and 4 processes.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from dm_training.benchmark import synthetic
from dm_training.benchmark.conversion_speed import convert_command
from dm_training.benchmark.memory import Watched, run_watched
from dm_training.benchmark.timing import figure, ratio

_TIMES, _JOBS = (1, 4, 16), (1, 2, 4)
_CEILING = 1.1
_MIB = 2**20


def run(folder: Path, *, quick: bool, cores: int) -> dict:
    """Measure.

    Args:
        folder: Empty; for images, caches and conversions.
        quick: Few and small images.
        cores: Not used: the numbers of processes are fixed.

    Returns:
        The part of the results.
    """
    height, width, base = (96, 64, 8) if quick else (576, 448, 100)
    stream, skipped = _stream(folder, (height, width), base, quick=quick)
    source, count = ((300, 200), 4) if quick else ((4000, 3000), 200)
    return {
        "setting": f"stream: {base} images of {height} x {width} and multiples; "
                   f"conversion: {count} images of {source[0]} x {source[1]}",
        "skipped": skipped,
        "figures": stream | _conversion(folder, source, count, quick=quick),
    }  # fmt: skip


def _stream(
    folder: Path, size: tuple[int, int], base: int, *, quick: bool
) -> tuple[dict, dict]:
    figures, seconds, peaks = {}, {}, {}
    all_times = _TIMES[::2] if quick else _TIMES
    for times in all_times:
        images, cache = folder / f"images_{times}", folder / f"cache_{times}"
        synthetic.write_class_folders(images, base * times, *size, distinct=32)
        try:
            watched = _pass(images, cache, size)
        except RuntimeError as err:
            if "no pixel cache" not in str(err):
                raise
            return {}, {"stream": "stream: this version has no pixel cache"}
        told = json.loads(watched.output.splitlines()[-1])
        seconds[times] = told["fill"] + told["read"]
        peaks[times] = watched.peak_bytes / _MIB
        name = f"stream, {times} x the images"
        figures[f"{name}: time an image"] = figure([1000 * seconds[times]], "ms")
        figures[f"{name}: peak memory"] = figure([peaks[times]], "MiB")
        shutil.rmtree(images)
        shutil.rmtree(cache)
    for what, found in (("peak memory", peaks), ("time an image", seconds)):
        for times in all_times[1:]:
            figures[f"stream, {times} x / 1 x the images: {what}"] = ratio(
                [found[times]], [found[1]], "1 x the images",
                target=_CEILING if times == _TIMES[-1] else None, at_most=True,
            )  # fmt: skip
    return figures, {}


def _pass(images: Path, cache: Path, size: tuple[int, int]) -> Watched:
    return run_watched([
        sys.executable, "-m", "dm_training.benchmark.our_stream", images, "--size",
        *size, "--cache", cache,
    ])  # fmt: skip


def _conversion(
    folder: Path, source: tuple[int, int], count: int, *, quick: bool
) -> dict:
    dicoms = synthetic.write_dicoms(folder / "dicoms", 4, *source)
    place = synthetic.write_generic_source(folder / "source", dicoms, count)
    working = (96, 64) if quick else (1152, 896)
    figures, taken = {}, {}
    all_jobs = _JOBS[:2] if quick else _JOBS
    for jobs in all_jobs:
        out = folder / "converted"
        taken[jobs] = run_watched(convert_command(place, out, working, jobs))
        shutil.rmtree(out)
        name = f"conversion, {jobs} processes" if jobs > 1 else "conversion, 1 process"
        figures[f"{name}: time"] = figure([taken[jobs].seconds], "s")
        figures[f"{name}: peak memory"] = figure([taken[jobs].peak_bytes / _MIB], "MiB")
    for jobs in all_jobs[1:]:
        figures[f"conversion, {jobs} / 1 processes: speed"] = ratio(
            [taken[1].seconds], [taken[jobs].seconds], "1 process"
        )
        figures[f"conversion, {jobs} / 1 processes: peak memory"] = ratio(
            [taken[jobs].peak_bytes], [taken[1].peak_bytes], "1 process"
        )
    return figures
