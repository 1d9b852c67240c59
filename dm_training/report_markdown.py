"""A report as Markdown: the same sections, for a terminal, a wiki or a pull request.

Tables are GitHub's; pictures become files that lie beside. What comes from data can
start no markup: it is escaped by CommonMark's rules.

Source: CommonMark 0.31, 2.4 (backslash escapes); GitHub Flavored Markdown, 4.10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dm_training.report_images import SUFFIXES, read_picture
from dm_training.report_parts import (
    Bar,
    Gallery,
    Headline,
    Section,
    Table,
    check_table,
    format_cell,
    format_figure,
)

_MARKS = re.compile(r"([\\`*#\[\]<>|&~$]|(?<![^\W_])_|_(?![^\W_]))")
_START = re.compile(r"^(\d*)([-+=.)])")


def render_markdown(
    title: str, sections: Sequence[Section], *, lead: str = "", footer: str = "",
    files: str = "report_files",
) -> tuple[str, dict[str, bytes]]:  # fmt: skip
    """The report as Markdown; arguments as `report.write_report`.

    Args:
        files: The folder of the pictures, beside the text.

    Returns:
        The text, and name -> bytes of the pictures that must lie in that folder.

    Raises:
        ReportError: A picture is missing or of another kind; a row of a table does not
            fit its header.
    """
    pictures: dict[str, bytes] = {}
    parts = [f"# {_text(title)}", _paragraph(lead)]
    for number, section in enumerate(sections, 1):
        parts += _section(section, number, files, pictures)
    parts += ["---", _paragraph(footer)] if footer else []
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def _section(section: Section, number: int, files: str, pictures: dict) -> list[str]:
    parts = [f"## {_text(section.title)}"]
    parts += [_paragraph(text) for text in section.paragraphs]
    parts += [f"> **Caution:** {_text(text)}" for text in section.notices]
    for headline in section.headlines:
        parts += [_paragraph(headline.caption), _headline(headline)]
    for table in section.tables:
        parts += [_paragraph(table.caption), _table(table)]
    for place, picture in enumerate(section.pictures, 1):
        data, kind = read_picture(picture)
        name = f"part-{number}-{place}{SUFFIXES[kind]}"
        pictures[name] = data
        alt = _text(picture.alt or picture.caption)
        parts += [f"![{alt}]({files}/{name})", _paragraph(picture.caption)]
    for gallery in section.galleries:
        parts += [_paragraph(gallery.caption), _gallery(gallery)]
    return parts


def _headline(headline: Headline) -> str:
    return "\n".join(
        f"- **{_text(name)}**: {_text(format_figure(figure, name=''))}"
        for name, figure in headline.figures.items()
    )


def _table(table: Table) -> str:
    check_table(table)
    columns = range(len(table.columns))
    kept = [k for k in columns if not any(isinstance(r[k], Bar) for r in table.rows)]
    return _grid(
        [table.columns[k] for k in kept],
        [[format_cell(row[k]) for k in kept] for row in table.rows],
    )


def _gallery(gallery: Gallery) -> str:
    facts = list(dict.fromkeys(name for item in gallery.items for name in item.facts))
    return _grid(
        ["image", "kind", *facts],
        [
            [item.name, item.kind, *(format_cell(item.facts.get(f)) for f in facts)]
            for item in gallery.items
        ],
    )


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ([_text(cell) if k != 1 else cell for cell in line]
             for k, line in enumerate(lines))  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def _text(text) -> str:
    """One line in which no character is markup."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))


def _paragraph(text: str) -> str:
    """As `_text`, and its start is no heading, list or rule."""
    return _START.sub(r"\1\\\2", _text(text))
