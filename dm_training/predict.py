"""Scores for images: from tables, folders or single files, single or with four flips.

    python -m dm_training.predict MODEL.keras images.csv --split test --out p.csv
    python -m dm_training.predict MODEL.keras scan.dcm folder/ --out p.csv --tta

The model's own input contract decides size and grey scale, so that the same file gets
the same score whatever it was stored as.

Source:
    Augmented prediction: Shen et al. 3.1.4.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dm_preprocess import tables
from dm_training.scoring import check_whole_image, predict_samples, samples_of_paths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-predict", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("model", help="a whole-image model of this project")
    parser.add_argument("paths", nargs="+", help="images.csv, a folder, or image files")
    parser.add_argument("--out", default="predictions.csv", help="table to write")
    parser.add_argument("--split", default="test", choices=(*tables.SPLITS, "all"))
    parser.add_argument("--tta", action=argparse.BooleanOptionalAction, default=False,
                        help="mean over four flips")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--overwrite", action=argparse.BooleanOptionalAction, default=False
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 (some files failed) or 2."""
    arguments = _parser().parse_args(argv)
    out = Path(arguments.out)
    wrong = _wrong(arguments, out)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    from dm_models.weights import ModelFileError
    from dm_training.samples import SamplesError

    try:
        return _predict(arguments, out)
    except (SamplesError, tables.TableError, ModelFileError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except OSError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1


def _wrong(arguments, out: Path) -> str:
    """What is wrong with the command line, before an image is read."""
    if out.exists() and not out.is_file():
        return f"--out {out}: is no regular file"
    if out.exists() and not arguments.overwrite:
        return f"{out}: exists already (--overwrite)"
    if arguments.batch_size < 1:
        return f"--batch-size must be at least 1, received {arguments.batch_size}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        return f"--out {out}: {err}"
    return ""


def _predict(arguments, out: Path) -> int:
    from dm_models import weights
    from dm_training.reading import readable

    model, contract = weights.load_model(arguments.model)
    check_whole_image(contract, arguments.model)
    samples = samples_of_paths(arguments.paths, arguments.split)
    store, samples, failed = readable(samples, contract)
    for image_id, reason in failed:
        print(f"failed: {image_id}: {reason}", file=sys.stderr)
    if not len(samples):
        return 1
    frame = predict_samples(
        model, contract, samples, flips=4 if arguments.tta else 1,
        batch_size=arguments.batch_size, name=Path(arguments.model).stem, store=store,
    )  # fmt: skip
    tables.write_table(frame, out, "predictions")
    print(f"{len(frame)} images scored, {len(failed)} failed -> {out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
