"""What is wrong with a data set, said before an hour is spent on it.

Reads the tables, every image and every mask once, and says what would spoil a result:
a woman or an image on both sides of a split, inverted or clipped images, masks beside
the breast. The questions are in `audit_checks`, those about one image in
`audit_pixels`. Exit status 1 where there is an error.

    python -m dm_preprocess.audit split/images.csv data/lesions.csv --out runs/audit
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from dm_preprocess import tables
from dm_preprocess.audit_checks import (
    SEVERITIES,
    Finding,
    check_duplicates,
    check_facts,
    check_tables,
)
from dm_preprocess.audit_pixels import ImageFacts, MaskTask, image_facts

__all__ = ["Finding", "audit", "gather_facts", "main", "report_text"]
_SHOWN = 3


def audit(
    images_path: str | os.PathLike,
    lesions_path: str | os.PathLike | None = None,
    *,
    jobs: int = -1,
) -> list[Finding]:
    """Ask every question of one data set.

    Args:
        images_path: `images.csv`, with or without splits.
        lesions_path: `lesions.csv`; None asks nothing of lesions.
        jobs: Processes; -1 for all cores.

    Returns:
        Findings, the most severe first.

    Raises:
        TableError: A table breaks a rule of its own (see `tables`).
    """
    images = tables.read_images(images_path)
    lesions = tables.read_lesions(lesions_path) if lesions_path else None
    facts = gather_facts(images, images_path, lesions, lesions_path, jobs=jobs)
    found = check_tables(images, lesions)
    found += check_facts(images, facts) + check_duplicates(images, facts)
    return sorted(found, key=lambda one: SEVERITIES.index(one.severity))


def gather_facts(
    images: pd.DataFrame,
    images_path: str | os.PathLike,
    lesions: pd.DataFrame | None = None,
    lesions_path: str | os.PathLike | None = None,
    *,
    jobs: int = -1,
) -> list[ImageFacts]:
    """`image_facts` of every image over all cores, in the table's order."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    masks = _mask_tasks(lesions, lesions_path)
    work = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(image_facts)(
            row["image_id"],
            tables.resolve(row["path"], images_path),
            masks.get(row["image_id"], ()),
            content=_content(row),
            size=_whole_pair(row["height"], row["width"]),
        )
        for row in images.to_dict("records")
    )
    return list(tqdm(work, "audit", len(images), disable=None))


def report_text(findings: Sequence[Finding]) -> str:
    """The findings as lines, each with the first of what it met."""
    lines = []
    for one in findings:
        lines.append(f"{one.severity:8} {one.check:28} {one.message}")
        lines += [f"{'':10}{item}" for item in one.items[:_SHOWN]]
        if len(one.items) > _SHOWN:
            lines.append(f"{'':10}... and {len(one.items) - _SHOWN} more")
    counts = _counts(findings)
    lines.append(f"{counts['error']} error(s), {counts['warning']} warning(s)")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Audit a data set; see `--help`."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    target = options.out / "audit.json" if options.out else None
    if target and target.exists() and not options.overwrite:
        raise FileExistsError(f"{target} exists already; --overwrite replaces it")
    findings = audit(options.images, options.lesions, jobs=options.jobs)
    counts = _counts(findings)
    facts = {"format": 1, "errors": counts["error"], "warnings": counts["warning"]}
    facts["findings"] = [asdict(one) | {"count": len(one.items)} for one in findings]
    text = json.dumps(facts, indent=2)
    print(text if options.json else report_text(findings))
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(target.name + ".part")
        aside.write_text(text + "\n", encoding="utf-8")
        os.replace(aside, target)
        print(f"wrote the audit to {target}", file=sys.stderr if options.json else None)
    return 1 if counts["error"] else 0


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    severities = [one.severity for one in findings]
    return {name: severities.count(name) for name in SEVERITIES}


def _mask_tasks(lesions, lesions_path) -> dict[str, tuple[MaskTask, ...]]:
    """image_id -> its lesions' masks."""
    tasks: dict[str, tuple[MaskTask, ...]] = {}
    for row in () if lesions is None else lesions.to_dict("records"):
        cell = row["mask_path"]
        path = tables.resolve(cell, lesions_path) if cell else None
        box = tuple(row[name] for name in ("row0", "col0", "row1", "col1"))
        own = MaskTask(row["lesion_id"], path, box)
        tasks[row["image_id"]] = (*tasks.get(row["image_id"], ()), own)
    return tasks


def _content(row: dict) -> tuple[int, int] | None:
    """Rows and columns with picture, where padding follows them; None if not told."""
    ends = [
        row[f"source_{side}"] * row[f"{axis}_scale"] + row[f"{axis}_offset"]
        for axis, side in (("row", "height"), ("col", "width"))
    ]
    return _whole_pair(*(round(end) if pd.notna(end) else end for end in ends))


def _whole_pair(one: float, other: float) -> tuple[int, int] | None:
    return None if pd.isna(one) or pd.isna(other) else (int(one), int(other))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", type=Path, help="images.csv, with its splits or before them")
    add("lesions", type=Path, nargs="?", help="lesions.csv, to look at masks too")
    add("--out", type=Path, help="folder for audit.json (default: only print)")
    add("--json", action=argparse.BooleanOptionalAction, default=False,
        help="print JSON in place of the table")  # fmt: skip
    add("--jobs", type=int, default=-1, help="processes (default: all cores)")
    add("--overwrite", action=argparse.BooleanOptionalAction, default=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
