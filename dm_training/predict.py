"""Scores for mammograms: DICOM, PNG, TIFF, PGM and JPEG files, folders and tables.

    dm-predict runs/whole/best.keras scans/ --out scores.csv
    dm-predict a.keras b.keras scan.dcm images.csv --split test --out p.csv --tta

One model or several, whose mean score counts, then what to score. Prints a table; with
--out it is written as CSV, one line an image, and beside it one of breasts and one of
women where the images' ids are known. A file that cannot be read costs its own line. A
run that was broken off goes on where it was when the same command is given again.

Patient ids of headers and file names become keyed hashes. The key is a file that you
keep: --patient-key, else $DM_PATIENT_KEY, else ~/.config/dm-mammography/patient.key;
it is made when first needed. Ids of a table stay as they are.

Exit status: 0 every image has a score; 1 some have none, failed or refused, or a
picture could not be written, and are named; 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dm_training.patient_keys import KeyFileError
from dm_training.predictor import UNSUITABLE, Prediction, Predictor

__all__ = ["Prediction", "Predictor", "main"]
SPLITS = ("train", "val", "test", "all")
LEVELS = ("image", "breast", "patient")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is as the module says."""
    arguments = parse(argv)
    from dm_models.layer_files import ModelFileError
    from dm_preprocess.tables import TableError
    from dm_training.desk_journal import JournalError
    from dm_training.desk_run import DeskError, run
    from dm_training.samples import SamplesError

    try:
        return run(arguments)
    except (DeskError, JournalError, KeyFileError, ModelFileError, SamplesError,
            TableError) as err:  # fmt: skip
        print(f"error: {err}", file=sys.stderr)
        return 2
    except OSError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line as `desk_run` takes it."""
    return _parser().parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-predict", description=__doc__,
        usage="dm-predict MODEL [MODEL ...] PATH [PATH ...] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("given", nargs="+", metavar="MODEL or PATH",
        help="models first: .keras, .h5, run folders, SavedModels; then files, folders "
        "(all below them), or tables (images.csv)")  # fmt: skip
    add("--out", type=Path, metavar="CSV", help="table to write (default: print one)")
    add("--json", action=switch, default=False,
        help="print one JSON object a line: images, then breasts, women")  # fmt: skip
    add("--tta", action=switch, default=False, help="mean over four flips")
    add("--level", choices=LEVELS,
        help="image; breast: breasts too; patient: women too (default: what the ids "
        "allow)")  # fmt: skip
    add("--split", default="test", choices=SPLITS,
        help="rows of a table to take (default: test)")  # fmt: skip
    add("--decision", type=Path, metavar="FILE",
        help="model or JSON with the threshold to use (default: the model's own; an "
        "ensemble has none)")  # fmt: skip
    add("--unsuitable", choices=UNSUITABLE, default=UNSUITABLE[0],
        help="images that no model should judge: no score, or a score and a note "
        "(default: refuse)")  # fmt: skip
    add("--overwrite", action=switch, default=False, help="begin anew")
    _add_patients(parser)
    _add_pictures(parser)
    _add_speed(parser)
    return parser


def _add_patients(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("patient ids").add_argument
    add("--patient-key", type=Path, metavar="FILE", help="see above")
    add("--keep-identifiers", action=argparse.BooleanOptionalAction, default=False,
        help="write the header's patient id as it is")  # fmt: skip


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("pictures").add_argument
    add("--overlay", type=Path, metavar="DIR", help="heat maps over the images, as PNG")
    add("--dicom-out", type=Path, metavar="DIR",
        help="for DICOM files the same as Secondary Capture, with a Structured Report"
        )  # fmt: skip


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how").add_argument
    add("--batch-size", type=int, default=8, help="images at a time (default: 8)")
    add("--jobs", type=int, help="threads that read files (default: one a core)")
    add("--limit-warnings", type=int, default=20, metavar="N",
        help="kinds of notes to tell of; the table holds all notes (default: 20)"
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
