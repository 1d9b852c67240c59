"""Why are my scores low? Holds images to those that a model was trained on.

    dm-check runs/whole/best.keras scans/            # a folder, any depth
    dm-check exported scan.dcm other.png             # files of any format
    dm-check runs/whole data/images.csv --json       # a run folder and a table
    dm-check MODELS/NAME scans/ --out checked.csv    # a line an image

Nearly always it is preparation: polarity, bit depth, border, size. Each image is
measured as the model would see it and compared with the ranges stored in the model's
input contract. Where grey levels are out of range, the usual mistakes are undone one
by one; the one that brings the image back into range is what is reported. Images that
are in range one by one may still be unlike the training images together, and that is
said of twenty or more.
Exit status: 0 all in range, 1 something is not or cannot be read, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dm_preprocess import tables
from dm_training import grey_stats
from dm_training.check_rules import (
    Checked,
    check_image,
    check_prepared,
    warnings_of,
)

if TYPE_CHECKING:
    from dm_models.inputs import InputContract
    from dm_training.desk_paths import Item

__all__ = [
    "Checked", "check_image", "check_prepared", "check_files", "main",
    "read_contract_with_stats", "warnings_of",
]  # fmt: skip


def check_files(
    items: Sequence[Item], contract: InputContract, *, jobs: int = -1
) -> tuple[list[Checked], list[tuple[str, str]]]:
    """Check files one by one; no more than a few are in memory at a time.

    Returns:
        (what could be read, [(image_id, reason), ...] of what could not).
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from dm_training.intake import read_intake

    parallel = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    work = parallel(delayed(_check_file)(read_intake, one, contract) for one in items)
    checked, failed = [], []
    quiet = len(items) < 20 or None  # None: where the output is no terminal
    for result in tqdm(work, total=len(items), desc="check", unit="image",
                       disable=quiet):  # fmt: skip
        (checked if isinstance(result, Checked) else failed).append(result)
    return checked, failed


def read_contract_with_stats(path: str | Path) -> InputContract:
    """The contract of a model in any form, which must carry statistics.

    Args:
        path: A model file, a run folder, a SavedModel or a folder of its versions.

    Raises:
        ModelFileError: No model of ours, or one without statistics.
    """
    from dm_models import weights
    from dm_models.inputs import ContractError

    try:
        contract = _contract_of(Path(path))
        stored = grey_stats.has_statistics(contract.grey_stats)
    except (ContractError, grey_stats.GreyStatsError) as err:
        raise weights.ModelFileError(f"{path}: {err}") from err
    if not stored:
        raise weights.ModelFileError(
            f"{path}: carries no grey statistics of its training images, so there is "
            "nothing to compare with; train or fine-tune it again with this version, "
            "which stores them"
        )
    return contract


def _contract_of(path: Path) -> InputContract:
    from dm_models import saved_model_layout as layout
    from dm_models import weights
    from dm_models.inputs import InputContract
    from dm_models.model_paths import best_of_run

    path = best_of_run(path)
    if not path.is_dir():
        return weights.read_contract(path)
    folder, _, _ = layout.find_saved_model(path)
    for place in (folder, folder / layout.EXTRA):
        if (place / weights.CONTRACT_MEMBER).is_file():
            text = (place / weights.CONTRACT_MEMBER).read_text(encoding="utf-8")
            return InputContract.from_json(text)
    raise weights.ModelFileError(
        f"{folder}: no {weights.CONTRACT_MEMBER} in it; `dm-export` writes one"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 or 2 as the module says."""
    arguments = _parser().parse_args(argv)
    from dm_models.weights import ModelFileError
    from dm_training.desk_paths import list_items, passed_over
    from dm_training.samples import SamplesError

    out = arguments.out
    if arguments.jobs == 0:
        return _refused("--jobs must not be 0 (-1: one thread a core)")
    if out and out.exists() and (not arguments.overwrite or not out.is_file()):
        return _refused(f"--out {out}: exists already (--overwrite replaces a file)")
    try:
        contract = read_contract_with_stats(arguments.model)
        passed = Counter()
        items = list_items(arguments.paths, arguments.split, passed=passed)
    except (ModelFileError, SamplesError, tables.TableError) as err:
        return _refused(str(err))
    if passed:
        print(passed_over(passed), file=sys.stderr)
    checked, failed = check_files(items, contract, jobs=arguments.jobs)
    for image_id, reason in failed:
        print(f"failed: {image_id}: {reason}", file=sys.stderr)
    try:
        _tell(arguments, checked, failed, contract)
    except OSError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 1 if failed or any(one.excesses for one in checked) else 0


def _tell(arguments, checked, failed, contract: InputContract) -> None:
    """Print what was found, as text or JSON, and write the table where one is due."""
    from dm_training import check_report

    stored = contract.grey_stats
    if arguments.out:
        check_report.write_csv(arguments.out, checked, failed)
    if arguments.json:
        facts = check_report.facts(checked, failed, stored)
        print(json.dumps({"model": str(arguments.model), **facts}, indent=2))
        return
    if checked:
        print("\n".join(check_report.lines(checked, stored)))
    unusual = sum(bool(one.excesses) for one in checked)
    wrote = f" -> {arguments.out}" if arguments.out else ""
    print(
        f"{_count(len(checked), 'image')} checked against "
        f"{_count(stored['images'], 'training image')} of {arguments.model}: {unusual} "
        f"out of range, {len(failed)} unreadable{wrote}"
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)


def _refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="a .keras or .h5 of this project, a run folder, or a SavedModel")
    add("paths", nargs="+", help="images.csv, folders, image files: any mixture")
    add("--split", default="all", choices=(*tables.SPLITS, "all"),
        help="rows of a table to check (default: all)")  # fmt: skip
    add("--json", action=argparse.BooleanOptionalAction, default=False,
        help="print everything, image by image, as one JSON object")  # fmt: skip
    add("--out", type=Path, metavar="CSV", help="write a line an image")
    add("--overwrite", action=argparse.BooleanOptionalAction, default=False,
        help="replace --out where it exists")  # fmt: skip
    add("--jobs", type=int, default=-1, help="threads (default: all)")
    return parser


def _check_file(read, item: Item, contract) -> Checked | tuple[str, str]:
    from dm_training.intake import reason_of

    try:
        intake = read(item.path, voi=contract.voi)
    except ValueError as err:
        return item.image_id, reason_of(err, item.path)
    except OSError as err:
        return item.image_id, err.strerror or type(err).__name__
    notes = (*intake.unsuitable, *intake.notes)
    checked = check_image(intake.grey, contract, item.image_id, notes)
    return dataclasses.replace(checked, unsuitable=bool(intake.unsuitable))


if __name__ == "__main__":
    sys.exit(main())
