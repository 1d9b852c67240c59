"""What a report says, apart from how it looks: sections, tables, pictures, figures.

Figures are written in one way everywhere, on the terminal as in HTML, and never
without their interval.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_FIGURE = ("value", "low", "high")


class ReportError(ValueError):
    """A report cannot be written from this; the message says why."""


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Attributes:
        source: A PNG, JPEG or SVG file, or its bytes.
        caption: Below it; also the text for those who cannot see it, unless `alt`.
        alt: What the picture shows, in words.
        wide: Over the whole width; others stand side by side where there is room.
    """

    source: str | os.PathLike | bytes
    caption: str = ""
    alt: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        columns: The header.
        rows: Cells: text, numbers, None (a dash), a figure (a dict with value, low
            and high), shown with its interval, or a `Bar`.
        caption: Above it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence]
    caption: str = ""


@dataclass(frozen=True)
class GalleryItem:
    """One image of a gallery, with an overlay that can be switched on and off.

    Attributes:
        name: Its image_id.
        kind: What it is an example of, such as "sure and right" or "missed".
        image: A PNG or JPEG, its bytes.
        overlays: Name -> a PNG of the same shape with transparency, its bytes, laid
            over the image; empty for none.
        facts: Name -> text or number, shown below; numbers can be sorted by.
        alt: What the image shows, in words.
    """

    name: str
    kind: str
    image: bytes
    overlays: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, str | float] = field(default_factory=dict)
    alt: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images to look through: click to enlarge, overlays on and off, sort, filter.

    Attributes:
        items: In the order first seen.
        caption: Above them.
        shown: The overlays that are on at first; None for the first of them alone.
    """

    items: Sequence[GalleryItem]
    caption: str = ""
    shown: Sequence[str] | None = None


@dataclass(frozen=True)
class Headline:
    """A few figures in large print, each with its interval, counts, level and split.

    Attributes:
        figures: Name -> figure; two to four read well.
        caption: Above them.
    """

    figures: Mapping[str, Mapping]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        title: The heading.
        paragraphs: Text.
        tables: Below the headlines.
        pictures: Plots and the like.
        galleries: Images to look through.
        headlines: The figures that matter most; above the tables.
        notices: Warnings, such as "fewer than 10 positives"; above the headlines.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    galleries: Sequence[Gallery] = ()
    headlines: Sequence[Headline] = ()
    notices: Sequence[str] = ()


@dataclass(frozen=True)
class Bar:
    """A figure drawn as a dot with its interval on a fixed scale."""

    figure: Mapping


def format_interval(figure: Mapping) -> str:
    """`0.91 (0.86–0.95)`; a difference has a sign and `to`: `+0.16 (+0.08 to +0.24)`.

    A figure counts as a difference where it has a `p` or a negative end.
    """
    value, interval = interval_parts(figure)
    return f"{value} ({interval})" if interval else value


def interval_parts(figure: Mapping) -> tuple[str, str]:
    """The value and its interval as text; ("not measured", "") where one is no number.

    Returns:
        Such as ("0.91", "0.86–0.95") or ("+0.16", "+0.08 to +0.24"); narrow
        intervals with up to four decimals, ("0.013", "0.010–0.016").
    """
    value, low, high = (float(figure[name]) for name in _FIGURE)
    if not all(map(math.isfinite, (value, low, high))):
        return "not measured", ""
    if is_difference(figure):
        return _signed(value), f"{_signed(low)} to {_signed(high)}"
    digits = _digits(high - low)
    return f"{value:.{digits}f}", f"{low:.{digits}f}–{high:.{digits}f}"


def _digits(width: float) -> int:
    """Two decimals, more where they would make an interval look like a point."""
    if not width > 0:
        return 2
    return min(max(2, -math.floor(math.log10(width))), 4)


def format_figure(figure: Mapping, name: str = "AUC") -> str:
    """A figure in one line that can stand alone.

    Returns:
        `AUC 0.91 (0.86–0.95), n = 150, 75 positive, image level, test split`; what the
        figure does not hold is left out.
    """
    facts = figure_facts(figure)
    return ", ".join([f"{name} {format_interval(figure)}".strip(), *facts])


def figure_facts(figure: Mapping) -> list[str]:
    """Count, positives, level, split and p of a figure as text, what it holds of them.

    Returns:
        Such as ["n = 150", "75 positive", "image level", "test split"].
    """
    facts = []
    if figure.get("n") is not None:
        facts.append(f"n = {figure['n']}")
    if figure.get("positives") is not None:
        facts.append(f"{figure['positives']} positive")
    facts += [f"{figure[key]} {key}" for key in ("level", "split") if figure.get(key)]
    if figure.get("p") is not None:
        facts.append(_p_text(figure["p"]))
    return facts


def format_cell(cell, digits: int = 4) -> str:
    """A cell of a table or a fact of an image as text; a dash for None and NaN.

    Args:
        cell: Text, a number, a figure, None.
        digits: How many of a number below 1000 that is not whole count.
    """
    if is_figure(cell):
        return format_interval(cell) + p_suffix(cell)
    if isinstance(cell, (bool, np.bool_)):
        return "yes" if cell else "no"
    if isinstance(cell, numbers.Integral):
        return f"{int(cell):,}"
    if is_number(cell):
        if not math.isfinite(cell):
            return "–"
        return format(float(cell), ",.0f" if abs(cell) >= 1000 else f".{digits}g")
    return "–" if cell is None else str(cell)


def is_number(thing) -> bool:
    """Whether something is a real number (NumPy's too), and not a truth value."""
    return isinstance(thing, numbers.Real) and not isinstance(thing, bool)


def is_figure(thing) -> bool:
    """Whether something is a measured figure: a mapping with value, low and high."""
    return isinstance(thing, Mapping) and all(name in thing for name in _FIGURE)


def is_difference(figure: Mapping) -> bool:
    """Whether a figure is a difference of two: it has a `p`, or a negative end."""
    return "p" in figure or min(float(figure[name]) for name in _FIGURE) < 0


def figure_table(figures: Mapping[str, Mapping], caption: str = "") -> Table:
    """A table of figures: name, value with interval, the interval drawn, the counts."""
    columns = ["", "value (95 % interval)", "", "n", "positive", "level", "split"]
    rows = [
        [name, figure, Bar(figure)]
        + [figure.get(key) for key in ("n", "positives", "level", "split")]
        for name, figure in figures.items()
    ]
    return Table(columns, rows, caption)


def check_table(table: Table) -> None:
    """Raise a ReportError where a row of a table does not fit its header."""
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ReportError(
                f"table {table.caption!r}: a row has {len(row)} cells, the header "
                f"{len(table.columns)}"
            )


def p_suffix(figure: Mapping) -> str:
    """`, p = 0.012` where the figure has a p, else nothing."""
    return f", {_p_text(figure['p'])}" if figure.get("p") is not None else ""


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
