"""Measure this project's speed on this machine, against other ways of doing the same.

    python -m dm_training.benchmark --out benchmark.json

Every comparison is a ratio within one run, since a machine's speed drifts: candidates
take turns. Parts: input (augmented batches), training, inference, conversion, growth
(memory and time with more images and processes) and prediction (`dm-predict`). All data
is synthetic, in a temporary folder. Writes the figures as JSON and a chart beside it,
and prints a table. What is not installed is left out, and said.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

FORMAT = 1
PARTS = {
    "input": "input_speed", "training": "training_speed",
    "inference": "inference_speed", "conversion": "conversion_speed",
    "growth": "growth", "prediction": "prediction_speed",
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 all well, 1 a part failed, 2 it cannot start."""
    parsed = _parser().parse_args(argv)
    if parsed.inside:
        return _run_inside(parsed)
    wrong = _wrong(parsed)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    chosen = [name for name in PARTS if name in (parsed.only or PARTS)]
    measure = partial(measure_part, quick=parsed.quick, folder=parsed.folder)
    # Quick runs only show that all works: two parts at a time.
    with ThreadPoolExecutor(2 if parsed.quick else 1) as pool:
        measured = dict(zip(chosen, pool.map(measure, chosen), strict=True))
    parts = {name: part for name, part in measured.items() if part is not None}
    return _finish(parsed, parts, [name for name in chosen if name not in parts])


def measure_part(name: str, *, quick: bool, folder: Path | None = None) -> dict | None:
    """Run one part in a process of its own.

    Args:
        name: A key of `PARTS`.
        quick: Tiny and short.
        folder: Where the temporary folder is made; None for the system's place.

    Returns:
        Its results with the seconds it took; None where it failed, and has said why.
    """
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="dm-benchmark-", dir=folder) as place:
        result = Path(place) / "result.json"
        command = [sys.executable, "-m", "dm_training.benchmark", "--inside", name,
                   "--out", str(result), *(["--quick"] if quick else [])]  # fmt: skip
        began = time.perf_counter()
        done = subprocess.run(command, stdout=sys.stderr)
        if done.returncode or not result.is_file():
            print(f"error: part {name} failed", file=sys.stderr)
            return None
        part = json.loads(result.read_text(encoding="utf-8"))
    return part | {"seconds": round(time.perf_counter() - began, 1)}


def _run_inside(parsed: argparse.Namespace) -> int:
    """The child's side of `measure_part`."""
    from dm_training.benchmark.candidates import die_with_parent
    from dm_training.benchmark.machine import cores

    die_with_parent()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    module = importlib.import_module(f"dm_training.benchmark.{PARTS[parsed.inside]}")
    folder = parsed.out.parent / "data"
    folder.mkdir()
    part = module.run(folder, quick=parsed.quick, cores=cores())
    _write_json(parsed.out, part)
    return 0


def _finish(parsed: argparse.Namespace, parts: dict, failed: list[str]) -> int:
    from dm_training.benchmark import chart, machine, report

    record = {"format": FORMAT, "quick": parsed.quick, "machine": machine.describe(),
              "parts": parts, "failed": failed}  # fmt: skip
    _write_json(parsed.out, record)
    picture = chart.draw(record, parsed.out.with_suffix(".png"))
    print(report.table(record))
    did = f"{len(parts)} parts measured, {len(failed)} failed"
    print(f"{did} -> {parsed.out}, {picture}")
    return 1 if failed else 0


def _write_json(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)


def _wrong(parsed: argparse.Namespace) -> str:
    """What is wrong with the command line, before anything is measured."""
    if parsed.out.suffix != ".json":
        return f"--out must end in .json, received {parsed.out}"
    for path in (parsed.out, parsed.out.with_suffix(".png")):
        if path.exists() and not parsed.overwrite:
            return f"{path}: exists already (--overwrite)"
    if parsed.folder is not None and not parsed.folder.is_dir():
        return f"--folder {parsed.folder}: no such folder"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark", description=__doc__.split("\n\n")[0],
        epilog="Example: bash bin/benchmark.sh --out benchmark.json --only input",
    )  # fmt: skip
    add = parser.add_argument
    add("--out", type=Path, default=Path("benchmark.json"), metavar="FILE.json",
        help="figures to write, a chart beside it (default: %(default)s)")  # fmt: skip
    add("--only", nargs="+", choices=PARTS, metavar="PART",
        help=f"parts to measure: {', '.join(PARTS)} (default: all)")  # fmt: skip
    add("--quick", action=argparse.BooleanOptionalAction, default=False,
        help="tiny images, under a minute: to see that it works")  # fmt: skip
    add("--folder", type=Path, help="where temporary data goes (up to 2 GB)")
    add("--overwrite", action=argparse.BooleanOptionalAction, default=False,
        help="replace FILE.json and its chart")  # fmt: skip
    add("--inside", choices=PARTS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
