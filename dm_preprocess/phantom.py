"""Make synthetic mammograms in the trees of CBIS-DDSM (film) and INbreast (digital).

    python -m dm_preprocess.phantom --out runs/phantom --patients 160 --seed 1

Writes DIR/cbis-ddsm, DIR/inbreast and DIR/truth.csv, which says what was drawn where.
An image depends on seed, domain, woman and view alone: more women, more processes or
the other collection change nothing of it. From Python, `draw_case` and `render_case`
give the pictures without any file.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from pathlib import Path

from dm_preprocess.phantom_image import (
    DIFFICULTY,
    PhantomCase,
    PhantomImage,
    draw_case,
    render,
    render_case,
)

__all__ = (
    "DIFFICULTY", "PhantomCase", "PhantomImage", "draw_case", "generate", "main",
    "render", "render_case",
)  # fmt: skip
SIZE = (768, 576)
SMALLEST = 144
"""Rows and columns below which lesions of a few pixels show nothing."""
TRUTH_COLUMNS = (
    "tree", "patient_id", "laterality", "view", "abnormality", "malignant", "row",
    "col", "radius",
)  # fmt: skip


def generate(
    out: Path,
    *,
    patients: int,
    digital_patients: int,
    seed: int,
    size: tuple[int, int] = SIZE,
    difficulty: float = DIFFICULTY,
    jobs: int = -1,
    overwrite: bool = False,
) -> int:
    """Write both trees into a new folder.

    Args:
        out: Written aside and renamed, so that it is whole or not there.
        patients: Women on film, two images each.
        digital_patients: Women with a label on the digital detector, two images each.
        seed: Of everything.
        size: (height, width) of the full images in pixels.
        difficulty: 0 (textbook lesions) to 1 (nearly alike).
        jobs: Processes; -1 for all cores. Changes nothing but the time.
        overwrite: Replace an existing folder once the new one is whole.

    Returns:
        The number of mammograms written.

    Raises:
        FileExistsError: `out` exists and is not to be replaced.
    """
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out}: exists already; overwrite replaces it")
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        truth = _write_film(aside / "cbis-ddsm", patients, seed, size, difficulty, jobs)
        images = 2 * patients
        if digital_patients:
            more, women = _write_digital(
                aside / "inbreast", digital_patients, seed, size, difficulty, jobs
            )
            truth, images = truth + more, images + 2 * women
        _write_truth(aside / "truth.csv", truth)
        if out.exists():
            shutil.rmtree(out)
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return images


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 all well, 1 could not write, 2 a wrong command line."""
    args = _parser().parse_args(argv)
    digital = args.digital_patients
    if digital is None:
        digital = args.patients // 2
    problem = _problem(args, digital)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    try:
        images = generate(
            args.out,
            patients=args.patients,
            digital_patients=digital,
            seed=args.seed,
            size=tuple(args.size),
            difficulty=args.difficulty,
            jobs=args.jobs,
            overwrite=args.overwrite,
        )
    except OSError as err:
        print(f"error: {args.out}: nothing was written: {err}", file=sys.stderr)
        return 1
    print(f"{images} synthetic mammograms written to {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-phantom", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    add("--patients", type=int, required=True, metavar="N", help="women on film")
    add("--seed", type=int, default=1, metavar="S", help="default 1")
    add("--digital-patients", type=int, metavar="M",
        help="women on the digital detector (default: half of N)")  # fmt: skip
    add("--size", type=int, nargs=2, default=SIZE, metavar=("H", "W"),
        help="pixels of a full image (default 768 576)")  # fmt: skip
    add("--difficulty", type=float, default=DIFFICULTY, metavar="D",
        help="0 textbook lesions, 1 benign and malignant nearly alike "
        f"(default {DIFFICULTY})")  # fmt: skip
    add("--jobs", type=int, default=-1, metavar="J", help="processes (default: all)")
    add("--overwrite", action=argparse.BooleanOptionalAction, default=False,
        help="replace an existing folder")  # fmt: skip
    return parser


def _problem(args: argparse.Namespace, digital: int) -> str:
    """What is wrong with the command line, or an empty text."""
    if args.patients < 2:
        return f"--patients: must be at least 2, received {args.patients}"
    if digital < 0:
        return f"--digital-patients: must not be negative, received {digital}"
    if args.seed < 0:
        return f"--seed: must not be negative, received {args.seed}"
    if min(args.size) < SMALLEST:
        return f"--size: must be at least {SMALLEST}, received {args.size}"
    if not 0 <= args.difficulty <= 1:
        return f"--difficulty: must lie in [0, 1], received {args.difficulty}"
    if args.jobs == 0:
        return "--jobs: must not be 0; -1 means all cores"
    if args.out.exists() and not args.overwrite:
        return f"{args.out}: exists already; --overwrite replaces it"
    return ""


def _write_film(root: Path, patients, seed, size, difficulty, jobs) -> list[dict]:
    from dm_preprocess.phantom_trees import (
        assign_splits,
        write_film_woman,
        write_tables,
    )

    women = assign_splits([draw_case(seed, index) for index in range(patients)])
    root.mkdir(parents=True)
    done = _in_parallel(
        write_film_woman, root, women, size, difficulty, jobs, "film women"
    )
    write_tables(root, [row for rows, _ in done for row in rows])
    return [row for _, truth in done for row in truth]


def _write_digital(root: Path, asked, seed, size, difficulty, jobs):
    from dm_preprocess.phantom_inbreast import (
        count_extras,
        grade_women,
        write_digital_woman,
        write_table,
    )

    count = asked + count_extras(asked)
    cases = [draw_case(seed, index, domain="digital") for index in range(count)]
    women = grade_women(cases, asked)
    root.mkdir(parents=True)
    done = _in_parallel(
        write_digital_woman, root, women, size, difficulty, jobs, "digital women"
    )
    write_table(root, [row for rows, _ in done for row in rows])
    return [row for _, truth in done for row in truth], count


def _in_parallel(function, root, women, size, difficulty, jobs, what) -> list:
    from joblib import Parallel, delayed
    from tqdm import tqdm

    tasks = (
        delayed(function)(root, woman, size=size, difficulty=difficulty)
        for woman in women
    )
    results = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    return list(tqdm(results, total=len(women), desc=what, unit="woman", disable=None))


def _write_truth(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, TRUTH_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
