"""The tables of a report as HTML: numbers right, intervals drawn to one scale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from dm_training.report_bars import common_span, draw_bar, draw_scale
from dm_training.report_parts import (
    Bar,
    Table,
    check_table,
    format_cell,
    is_figure,
    is_number,
)

_SHORT = 24  # characters of a text that is not broken
_NUMBER = re.compile(r"[-+−]?\d[\d,]*(\.\d+)?( ?%)?")


def render_table(table: Table) -> str:
    """A table in a region that scrolls sideways where it is too wide.

    Raises:
        ReportError: A row does not fit the header.
    """
    check_table(table)
    columns = [
        _Column(name, [row[k] for row in table.rows])
        for k, name in enumerate(table.columns)
    ]
    head = "".join(f'<th scope="col"{column.head()}</th>' for column in columns)
    head = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    body = "".join(_row(columns, k) for k in range(len(table.rows)))
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    label = escape(table.caption or "table")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
        f"{caption}{head}<tbody>{body}</tbody></table></div>"
    )


def _row(columns: Sequence[_Column], number: int) -> str:
    cells = [column.cell(number) for column in columns]
    first = [f'<th scope="row"{cell}</th>' for cell in cells[:1]]
    rest = [f"<td{cell}</td>" for cell in cells[1:]]
    return f"<tr>{''.join(first + rest)}</tr>"


class _Column:
    """A column's name and cells; numbers alone go to the right, their header too."""

    def __init__(self, name: str, cells: Sequence):
        self.name, self.cells = name, cells
        held = [cell for cell in cells if cell is not None]
        self.right = bool(held) and all(map(_reads_as_number, held))
        self.span = common_span([c.figure for c in cells if isinstance(c, Bar)])

    def head(self) -> str:
        """From the end of `<th` on."""
        unbroken = any(map(is_figure, self.cells)) or not self.name
        return f"{self._class(unbroken)}>{escape(self.name) or draw_scale(self.span)}"

    def cell(self, number: int) -> str:
        """From the end of `<td` on."""
        cell = self.cells[number]
        if isinstance(cell, Bar):
            return f">{draw_bar(cell.figure, self.span)}"
        text = format_cell(cell)
        unbroken = is_figure(cell) or len(text) <= _SHORT
        return f"{self._class(unbroken)}>{escape(text)}"

    def _class(self, unbroken: bool) -> str:
        if self.right:
            return ' class="number"'
        return ' class="unbroken"' if unbroken else ""


def _reads_as_number(cell) -> bool:
    return is_number(cell) or bool(_NUMBER.fullmatch(format_cell(cell)))
