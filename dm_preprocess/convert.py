"""Convert a data set as distributed to 16-bit PNGs, masks and two tables.

    python -m dm_preprocess.convert mini-mias SRC OUT

writes OUT/images.csv, lesions.csv, images/, masks/, report.md, oddities.csv, index.json
and, where a file could not be read, failed.csv (exit status 1; the rest is converted).
What is done is not done again; a folder made with other settings is refused unless
`--overwrite` is given. `--index-only` reads the tables alone and needs no image.
`--jobs` and `--dask` say who does the work (see `parallel`) and change no pixel.

Source: Shen et al. 2019, 3.1.1 (16-bit PNG, 1152 x 896).
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import shutil
import sys
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from dm_preprocess.parallel import (
    ClusterError,
    Mapped,
    Workers,
    WorkersLost,
    add_worker_arguments,
    cost_line,
    map_in_order,
    open_workers,
)

READERS = {
    "cbis-ddsm": "cbis_ddsm",
    "inbreast": "inbreast",
    "mini-mias": "mini_mias",
    "generic": "generic",
}
_INDEX_FILES = frozenset({"index.json", "oddities.csv", "report.md", "failed.csv"})
_TABLES = ("images.csv", "lesions.csv", *sorted(_INDEX_FILES), "convert.json")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 all well, 1 some files failed, 2 it cannot start."""
    args = _parser().parse_args(argv)
    from dm_preprocess.sources import SourceError
    from dm_preprocess.tables import TableError

    try:
        source = read_index(
            args.source, args.src.absolute(), index_only=args.index_only,
            table=args.table,
        )  # fmt: skip
        if args.index_only:
            prepare_folder(args)
            return index_only(args, source)
        with open_workers(args.jobs, args.dask) as workers:
            workers.check(args.src, _nearest_folder(args.out))
            prepare_folder(args)
            return convert(args, source, workers)
    except (SourceError, TableError, ClusterError, FileExistsError,
            NotADirectoryError) as err:  # fmt: skip
        print(f"error: {err}", file=sys.stderr)
        return 2
    except (OSError, WorkersLost) as err:
        print(f"error: {err}; stopped: run again to continue", file=sys.stderr)
        return 1


def read_index(source: str, src: Path, *, index_only: bool = False, table: str = ""):
    """Let a data set's reader read its tables.

    Args:
        source: A name in `READERS`.
        src: The data set's folder.
        index_only: The reader need not look for images.
        table: The images' table by name (generic only).

    Returns:
        The reader's `SourceIndex`.

    Raises:
        SourceError: The source cannot be read, or takes no `--table`.
    """
    from dm_preprocess.sources import SourceError

    if not src.is_dir():
        raise SourceError(f"{src}: no such folder")
    module = importlib.import_module(f"dm_preprocess.{READERS[source]}")
    taken = inspect.signature(module.index).parameters
    if table and "table" not in taken:
        raise SourceError(f"--table: {source} has its own tables, received {table!r}")
    options = {"index_only": index_only} | ({"table": table} if table else {})
    found = module.index(src, **{k: v for k, v in options.items() if k in taken})
    twice = [k for k, n in Counter(i.image_id for i in found.images).items() if n > 1]
    if twice:
        raise SourceError(f"{src}: image_id must be unique, twice: {', '.join(twice)}")
    return found


def prepare_folder(args: argparse.Namespace) -> None:
    """Make OUT, or see that it may be continued.

    Raises:
        FileExistsError: OUT holds something else, or other settings, and there is no
            `--overwrite`; or SRC lies in OUT.
    """
    out, src = args.out.resolve(), args.src.resolve()
    if out == src or out in src.parents:
        raise FileExistsError(f"{args.out}: OUT must not be SRC or hold it")
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{args.out}: OUT must be a folder, it is a file")
    record = args.out / "convert.json"
    here = {path.name for path in args.out.iterdir()} if args.out.is_dir() else set()
    if record.is_file() and (
        args.index_only or _recorded(record) != _configuration(args)
    ):
        _refuse(args, "holds a conversion with other settings" if not args.index_only
                else "holds a conversion already, and its index.json")  # fmt: skip
        if not args.index_only:
            _clear(args.out)
    elif not record.is_file() and here - _INDEX_FILES:
        _refuse(args, f"exists and holds {', '.join(sorted(here - _INDEX_FILES)[:3])}")
    args.out.mkdir(parents=True, exist_ok=True)


def convert(args: argparse.Namespace, source, workers: Workers) -> int:
    """Convert every image of an index and write the tables; 1 if any failed."""
    from dm_preprocess.convert_image import preparation_columns, write_text

    chosen = source.images[: args.limit] if args.limit else source.images
    (args.out / "images").mkdir(exist_ok=True)
    (args.out / "masks").mkdir(exist_ok=True)
    record = json.dumps(_configuration(args), indent=2) + "\n"
    write_text(args.out / "convert.json", record)
    mapped = _run(chosen, args, workers)
    results = mapped.results
    failed = [(name, "", reason) for name, reason in source.failed]
    failed += [result.failed for result in results if result.failed]
    oddities = [(o.kind, o.where, o.detail) for o in source.oddities]
    oddities += [oddity for result in results for oddity in result.oddities]
    cost = mapped.cost([not (result.reused or result.failed) for result in results])
    counts = _write_tables(args.out, results, preparation_columns(_settings(args)))
    counts |= {"images failed": len(failed)}
    counts |= {name.replace("_", " "): value for name, value in cost.items()}
    _report(args, source, counts, oddities, failed)
    print(
        f"converted {counts['images converted']} images ({counts['of them before']} of "
        f"them before) with {counts['findings']} findings, {len(failed)} failed, "
        f"{len(oddities)} odd things: {args.out / 'images.csv'}, "
        f"{args.out / 'report.md'}" + (f", {args.out / 'failed.csv'}" if failed else "")
        + f"; {cost_line(cost)}"
    )  # fmt: skip
    return 1 if failed else 0


def index_only(args: argparse.Namespace, source) -> int:
    """Write index.json, oddities.csv and report.md without a look at any image."""
    failed = [(name, "", reason) for name, reason in source.failed]
    oddities = [(o.kind, o.where, o.detail) for o in source.oddities]
    _report(args, source, source.facts, oddities, failed)
    print(
        f"indexed {len(source.images)} images, {len(oddities)} odd things: "
        f"{args.out / 'index.json'}, {args.out / 'report.md'}"
    )
    return 1 if failed else 0


def _run(images, args: argparse.Namespace, workers: Workers) -> Mapped:
    """Convert all; an image that killed every worker is one that failed.

    One that a worker did before it was killed is found done by the next worker, and yet
    was not done before this run.
    """
    from dm_preprocess.convert_image import Converted, convert_image

    def lost(image, reason: str) -> Converted:
        return Converted(None, failed=(image.image_id, str(image.source_path), reason))

    work = partial(convert_image, out=args.out.absolute(), settings=_settings(args))
    before = {path.stem for path in (args.out / "images").glob("*.json")}
    mapped = map_in_order(work, images, workers, what="converting", lost=lost)
    mapped.results = [
        replace(done, reused=done.reused and image.image_id in before)
        for image, done in zip(images, mapped.results, strict=True)
    ]
    return mapped


def _write_tables(out: Path, results: list, made: dict) -> dict:
    import pandas as pd

    from dm_preprocess.tables import write_table

    images = [result.image | made for result in results if result.image]
    lesions = [row for result in results for row in result.lesions]
    write_table(pd.DataFrame(lesions), out / "lesions.csv", "lesions")
    write_table(pd.DataFrame(images), out / "images.csv", "images")
    return {
        "images converted": len(images),
        "of them before": sum(result.reused for result in results),
        "patients": len({row["patient_id"] for row in images}),
        "positive": sum(row["label"] == 1 for row in images),
        "negative": sum(row["label"] == 0 for row in images),
        "without label": sum(row["label"] is None for row in images),
        "findings": len(lesions),
        "findings with a mask": sum(bool(row["mask_path"]) for row in lesions),
    }


def _report(args: argparse.Namespace, source, counts, oddities, failed) -> None:
    from dm_preprocess.convert_report import write_index, write_report

    write_index(args.out, args.source, source.facts, oddities, len(source.failed))
    settings = {} if args.index_only else asdict(_settings(args))
    write_report(
        args.out, args.source, counts=counts, settings=settings, oddities=oddities,
        failed=failed,
    )  # fmt: skip


def _settings(args: argparse.Namespace):
    from dm_preprocess.convert_image import Settings

    return Settings(
        *args.size, fit=args.fit, crop_breast=args.crop_breast, grey=args.grey,
        voi=args.voi,
    )  # fmt: skip


def _configuration(args: argparse.Namespace) -> dict:
    """What `convert.json` records; `--limit`, `--jobs`, `--dask` change no pixel."""
    from dm_preprocess.convert_image import FORMAT

    return {
        "format": FORMAT, "source": args.source, "src": str(args.src.resolve()),
        "table": args.table, **asdict(_settings(args)),
    }  # fmt: skip


def _recorded(path: Path) -> dict | None:
    """An earlier run's configuration; None where the file is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return None


def _nearest_folder(path: Path) -> Path:
    """A folder itself, or the nearest one above it that is there already."""
    return next(p for p in (path, *path.absolute().parents) if p.is_dir())


def _refuse(args: argparse.Namespace, what: str) -> None:
    if not args.overwrite:
        raise FileExistsError(f"{args.out}: {what}; choose another OUT or --overwrite")


def _clear(out: Path) -> None:
    """Remove an earlier conversion, and nothing that is not one of its files."""
    for name in ("images", "masks"):
        if (out / name).is_dir():
            shutil.rmtree(out / name)
    for name in _TABLES:
        (out / name).unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-convert",
        description="Convert a data set to 16-bit PNGs, masks and two tables.",
        epilog="Example: dm-convert generic my_images converted --size 1152 896",
    )
    add = parser.add_argument
    add("source", choices=READERS, help="the data set")
    add("src", type=Path, metavar="SRC", help="its folder as distributed")
    add("out", type=Path, metavar="OUT", help="folder to write")
    add("--size", type=_positive, nargs=2, default=(1152, 896), metavar=("H", "W"),
        help="working rows and columns (default: 1152 896)")  # fmt: skip
    add("--fit", choices=("squash", "pad"), default="squash",
        help="squash to the size (the paper), or keep the aspect and pad")  # fmt: skip
    add("--crop-breast", action=argparse.BooleanOptionalAction, default=False,
        help="cut to the breast before fitting")  # fmt: skip
    add("--grey", choices=("full-range", "auto-level"), default="full-range",
        help="full range of the stored bits, or each image's own")  # fmt: skip
    add("--voi", action=argparse.BooleanOptionalAction, default=False,
        help="apply a DICOM file's modality and VOI LUT or window")  # fmt: skip
    add("--table", default="", metavar="NAME.csv",
        help="generic: the images' table (default: images.csv)")  # fmt: skip
    add("--index-only", action=argparse.BooleanOptionalAction, default=False,
        help="read the tables alone and write index.json")  # fmt: skip
    add("--limit", type=_positive, metavar="N", help="only the first N images")
    add_worker_arguments(parser)
    add("--overwrite", action=argparse.BooleanOptionalAction, default=False,
        help="replace what is in OUT")  # fmt: skip
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, received {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
