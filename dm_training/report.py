"""One HTML file with results: figures with intervals, pictures, notes.

The file holds its pictures and its style within it and loads nothing from anywhere, so
that it opens from disk, can be sent by mail and printed; a script is in it only where
it has a gallery, and it can be read without. A figure is never shown without its
interval, count, level and split. What a report says is data (`report_parts`); how it
looks is decided in `report_page`, and the same facts come as Markdown and JSON too.

Example:
    python -m dm_training.report --out report.html --title Quickstart \
        --summary summary.json --section "ROC=plots/roc.png:Film test images"
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dm_training.report_json import render_json
from dm_training.report_markdown import render_markdown
from dm_training.report_page import render_page
from dm_training.report_parts import (
    Gallery,
    GalleryItem,
    Headline,
    Picture,
    ReportError,
    Section,
    Table,
    figure_table,
    format_figure,
    format_interval,
    is_difference,
    is_figure,
)

__all__ = [
    "Gallery", "GalleryItem", "Headline", "Picture", "ReportError", "Section", "Table",
    "figure_table", "format_figure", "format_interval", "is_difference", "is_figure",
    "summary_sections", "write_all", "write_report",
]  # fmt: skip

_FILES = "report_files"
_OWN = re.compile(r"part-\d+-\d+\.(png|jpg|svg)")
_TOKENS = {"auc": "AUC", "roc": "ROC", "imagenet": "ImageNet", "inbreast": "INbreast",
           "h5": ".h5", "n": "n"}  # fmt: skip


def summary_sections(summary: Mapping) -> list[Section]:
    """The sections of a summary.json: results, further facts, seconds a stage."""
    flat = _flattened({k: v for k, v in summary.items() if k != "seconds"})
    figures = {_words(k): v for k, v in flat.items() if is_figure(v)}
    others = [[_words(k), v] for k, v in flat.items() if not is_figure(v)]
    sections = []
    if figures:
        differences = {k: v for k, v in figures.items() if is_difference(v)}
        plain = {k: v for k, v in figures.items() if k not in differences}
        parts = ((plain, ""), (differences, "Differences on the same images"))
        shown = [figure_table(part, caption) for part, caption in parts if part]
        sections.append(Section("Results", tables=shown))
    if others:
        sections.append(Section("Run", tables=[Table(["", ""], others)]))
    seconds = summary.get("seconds")
    if isinstance(seconds, Mapping):
        rows = [[_words(name), f"{float(s):,.1f}"] for name, s in seconds.items()]
        sections.append(Section("Time", tables=[Table(["stage", "seconds"], rows)]))
    return sections


def write_report(
    out: str | os.PathLike, title: str, sections: Sequence[Section], *,
    lead: str = "", footer: str = "",
) -> Path:  # fmt: skip
    """Write a report, aside and then renamed.

    Args:
        out: The HTML file.
        title: Its heading.
        sections: In order.
        lead: A sentence or two under the heading.
        footer: At the end, such as versions.

    Returns:
        The path written.

    Raises:
        ReportError: A picture is missing or of another kind; nothing is written then.
    """
    page = render_page(title, sections, lead=lead, footer=footer)
    _replace({Path(out): page.encode("utf-8")})
    return Path(out)


def write_all(
    folder: str | os.PathLike, title: str, sections: Sequence[Section], *,
    lead: str = "", footer: str = "",
) -> list[Path]:  # fmt: skip
    """Write a report thrice: report.html, report.md with its pictures, report.json.

    All are made before the first is written, and written aside before the first is
    renamed.

    Args:
        folder: Made where it is missing. The pictures of the Markdown lie in its
            `report_files`; those of an earlier report there are removed.
        title: As `write_report`, as are sections, lead and footer.

    Returns:
        The paths of the HTML, the Markdown and the JSON.

    Raises:
        ReportError: As `write_report`; also a row that does not fit its table.
    """
    folder = Path(folder)
    parts = {"lead": lead, "footer": footer}
    text, pictures = render_markdown(title, sections, files=_FILES, **parts)
    pages = {
        "report.html": render_page(title, sections, **parts),
        "report.md": text,
        "report.json": render_json(title, sections, **parts),
    }
    files = {folder / _FILES / name: data for name, data in pictures.items()}
    files |= {folder / name: page.encode("utf-8") for name, page in pages.items()}
    _replace(files)
    for path in (folder / _FILES).glob("part-*-*.*"):
        if path not in files and _OWN.fullmatch(path.name):
            path.unlink()
    return [folder / name for name in pages]


def _replace(files: Mapping[Path, bytes]) -> None:
    """Write files aside, all of them, and then rename them."""
    asides = {path: path.with_name(path.name + ".part") for path in files}
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        asides[path].write_bytes(data)
    for path, aside in asides.items():
        os.replace(aside, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = _parser().parse_args(argv)
    try:
        if Path(args.out).exists() and not args.overwrite:
            raise ReportError(f"{args.out}: exists already; --overwrite replaces it")
        sections = summary_sections(_read_json(args.summary)) if args.summary else []
        sections += [_picture_section(text) for text in args.section]
        write_report(args.out, args.title, sections, lead=args.lead)
    except (ReportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {args.out}: {len(sections)} section(s)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True, help="the HTML file to write")
    parser.add_argument("--title", required=True)
    parser.add_argument("--lead", default="", help="a sentence under the title")
    parser.add_argument("--summary", help="a summary.json of figures")
    parser.add_argument("--section", action="append", default=[],
                        metavar="TITLE=PNG:CAPTION",
                        help="a picture under a heading; may be repeated")  # fmt: skip
    parser.add_argument("--overwrite", action=argparse.BooleanOptionalAction,
                        default=False)  # fmt: skip
    return parser


def _read_json(path: str) -> dict:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}: no JSON: {error}") from error
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ReportError(f"{path}: must hold a JSON object, received {kind}")
    return found


def _picture_section(text: str) -> Section:
    title, equals, rest = text.partition("=")
    path, _, caption = rest.partition(":")
    if not equals or not path:
        raise ReportError(f"--section must be TITLE=PNG:CAPTION, received {text!r}")
    return Section(title, pictures=[Picture(path, caption or title, wide=True)])


def _flattened(thing: Mapping, name: str = "") -> dict:
    found = {}
    for key, value in thing.items():
        full = f"{name}, {key}" if name else str(key)
        if isinstance(value, Mapping) and not is_figure(value):
            found |= _flattened(value, full)
        else:
            found[full] = value
    return found


def _words(key: str) -> str:
    words = " ".join(_TOKENS.get(word, word) for word in key.split("_"))
    return words[:1].upper() + words[1:] if words[:2] != "IN" else words


if __name__ == "__main__":
    sys.exit(main())
