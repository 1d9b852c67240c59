"""A report as JSON: the same facts as the page, for programs.

Figures stay what they are (value, low, high, n, positives, level, split); a drawn bar
is no fact of its own, and what is not a finite number is null. No image is held.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np

from dm_training.report_parts import (
    Bar,
    Gallery,
    Headline,
    Section,
    Table,
    check_table,
    is_number,
)

FORMAT = 1


def render_json(
    title: str, sections: Sequence[Section], *, lead: str = "", footer: str = ""
) -> str:
    """The report as JSON text; arguments as `report.write_report`.

    Returns:
        An object of format, title, lead, sections and footer.

    Raises:
        ReportError: A row of a table does not fit its header.
    """
    found = {
        "format": FORMAT, "title": title, "lead": lead,
        "sections": [_section(section) for section in sections], "footer": footer,
    }  # fmt: skip
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _section(section: Section) -> dict:
    return {
        "title": section.title,
        "paragraphs": list(section.paragraphs),
        "notices": list(section.notices),
        "headlines": [_headline(headline) for headline in section.headlines],
        "tables": [_table(table) for table in section.tables],
        "pictures": [{"caption": p.caption, "alt": p.alt} for p in section.pictures],
        "galleries": [_gallery(gallery) for gallery in section.galleries],
    }


def _headline(headline: Headline) -> dict:
    return {"caption": headline.caption, "figures": _plain(headline.figures)}


def _table(table: Table) -> dict:
    check_table(table)
    kept = [k for k in range(len(table.columns)) if not _only_drawn(table, k)]
    return {
        "caption": table.caption,
        "columns": [table.columns[k] for k in kept],
        "rows": [[_cell(row[k], row) for k in kept] for row in table.rows],
    }


def _only_drawn(table: Table, column: int) -> bool:
    """Whether a column holds nothing but bars of figures that stand in their rows."""
    cells = [row[column] for row in table.rows]
    drawn = [isinstance(cell, Bar) for cell in cells]
    kept = (_cell(cell, row) for cell, row in zip(cells, table.rows, strict=True))
    return any(drawn) and all(cell is None for cell in kept)


def _cell(cell, row: Sequence):
    if isinstance(cell, Bar):
        return None if cell.figure in row else _plain(cell.figure)
    return _plain(cell)


def _gallery(gallery: Gallery) -> dict:
    items = [
        {
            "name": item.name, "kind": item.kind, "alt": item.alt,
            "overlays": list(item.overlays), "facts": _plain(item.facts),
        }
        for item in gallery.items
    ]  # fmt: skip
    return {"caption": gallery.caption, "items": items}


def _plain(thing):
    """What JSON can hold: numbers of NumPy as Python's, NaN and infinity as null."""
    if isinstance(thing, Mapping):
        return {str(key): _plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(part) for part in thing]
    if thing is None or isinstance(thing, (bool, str)):
        return thing
    if isinstance(thing, np.bool_):
        return bool(thing)
    if isinstance(thing, numbers.Integral):
        return int(thing)
    if is_number(thing):
        return float(thing) if math.isfinite(thing) else None
    return str(thing)
