"""What a table of results is, and how it is written: terminal, Markdown, CSV, JSON.

A cell is text, a number, None, or a figure with its interval. The difference of our
figure and the paper's is a figure too: the paper prints no interval, so its value is
taken as exact and ours alone is uncertain.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dm_training import report_parts
from dm_training.report_parts import format_interval, is_figure
from dm_training.runs import write_json

FORMAT = 1
_ENDS = ("value", "low", "high")
_NOTHING = "–"


@dataclass(frozen=True)
class PaperTable:
    """One table of the reproduction.

    Attributes:
        part: Its name in files, such as "table2".
        title: Above it.
        columns: Key -> header, in order.
        rows: Key -> cell; a key that is missing is an empty cell. Keys without a
            column are written to JSON only.
        notes: Below it.
    """

    part: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping]
    notes: Sequence[str] = ()


def difference(ours: Mapping | None, paper: float | None) -> dict | None:
    """Ours less the paper's, as a figure; None where either is missing.

    Args:
        ours: A figure.
        paper: The printed value, taken as exact.

    Returns:
        Our figure moved by the paper's value, with `paper` beside it.

    Example:
        >>> ours = {"value": 0.75, "low": 0.5, "high": 1.0}
        >>> difference(ours, 0.5)["value"]
        0.25
    """
    if ours is None or paper is None:
        return None
    moved = {end: float(ours[end]) - paper for end in _ENDS}
    return {**ours, **moved, "paper": float(paper)}


def cell_text(cell) -> str:
    """A cell in words: `0.91 (0.86–0.95)`, `+0.02 (−0.03 to +0.06)`, `0.91`, `–`."""
    if cell is None or cell == "":
        return _NOTHING
    if is_figure(cell):
        return _signed(cell) if "paper" in cell else format_interval(cell)
    if isinstance(cell, float):
        return f"{cell:.2f}"
    return f"{cell:,}" if type(cell) is int else str(cell)


def _signed(figure: Mapping) -> str:
    value, low, high = (f"{figure[end]:+.2f}".replace("-", "−") for end in _ENDS)
    return f"{value} ({low} to {high})"


def as_text(table: PaperTable) -> str:
    """For the terminal: columns padded, the title above, the notes below."""
    grid = _grid(table)
    widths = [max(len(line[k]) for line in grid) for k in range(len(table.columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths,
             strict=True)).rstrip() for line in grid]  # fmt: skip
    rule = "-" * max(map(len, lines))
    return "\n".join([table.title, lines[0], rule, *lines[1:],
                      *(f"  {note}" for note in table.notes)])  # fmt: skip


def all_as_text(tables: Sequence[PaperTable]) -> str:
    """Several tables for the terminal; a note that they share stands once."""
    return "\n\n".join(as_text(table) for table in without_repeats(tables))


def without_repeats(tables: Sequence[PaperTable]) -> list[PaperTable]:
    """The tables, each with those notes alone that none before it has."""
    seen: set[str] = set()
    shown = []
    for table in tables:
        fresh = [note for note in table.notes if note not in seen]
        seen |= set(fresh)
        shown.append(replace(table, notes=fresh))
    return shown


def as_markdown(table: PaperTable) -> str:
    """A heading, a table and the notes."""
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in _grid(table)]
    lines = [head, ["---"] * len(head), *body]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"\n\n{note}" for note in table.notes)
    return f"## {table.title}\n\n{text}{notes}\n"


def as_csv(table: PaperTable) -> str:
    """One column a key; a figure takes three: KEY, KEY_low and KEY_high."""
    figures = {key for key in table.columns
               if any(is_figure(row.get(key)) for row in table.rows)}  # fmt: skip
    head = []
    for key in table.columns:
        head += [key, f"{key}_low", f"{key}_high"] if key in figures else [key]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, head, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        cells = {key: row.get(key) for key in table.columns}
        for key in figures & set(cells):
            cell = cells.pop(key) or dict.fromkeys(_ENDS)
            cells |= {key: cell["value"], f"{key}_low": cell["low"],
                      f"{key}_high": cell["high"]}  # fmt: skip
        writer.writerow(cells)
    return stream.getvalue()


def as_report_table(
    table: PaperTable, *, leave_out: Collection[str] = ()
) -> report_parts.Table:
    """For a report; figures stay figures, differences become words with a sign.

    Args:
        leave_out: Keys of columns that a page has no room for.
    """
    columns = {k: head for k, head in table.columns.items() if k not in leave_out}
    rows = [[_report_cell(row.get(key)) for key in columns] for row in table.rows]
    return report_parts.Table(list(columns.values()), rows, table.title)


def _report_cell(cell):
    plain = isinstance(cell, float) or (is_figure(cell) and "paper" in cell)
    return cell_text(cell) if plain else cell


def write_tables(tables: Sequence[PaperTable], folder: Path) -> None:
    """Write NAME.md, NAME.csv and NAME.json of each table."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        _write(folder / f"{table.part}.md", as_markdown(table))
        _write(folder / f"{table.part}.csv", as_csv(table))
        write_json(folder / f"{table.part}.json", {
            "format": FORMAT, "title": table.title, "rows": list(table.rows),
            "notes": list(table.notes),
        })  # fmt: skip


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _grid(table: PaperTable) -> list[list[str]]:
    head = list(table.columns.values())
    return [head, *([cell_text(row.get(key)) for key in table.columns]
                    for row in table.rows)]  # fmt: skip
