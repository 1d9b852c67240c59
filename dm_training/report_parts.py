"""What a report says, apart from how it looks: sections, tables, pictures, figures.

Figures are written in one way everywhere, on the terminal as in HTML, and never
without their interval.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        rows: Cells: text, numbers, None (a dash), or a figure (a dict with value, low
            and high), shown with its interval.
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
    """Images to look through: click to enlarge, overlay on and off, sort."""

    items: Sequence[GalleryItem]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: paragraphs, tables, pictures, galleries."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    galleries: Sequence[Gallery] = ()


@dataclass(frozen=True)
class Bar:
    """A figure drawn as a dot with its interval on a fixed scale."""

    figure: Mapping


def format_interval(figure: Mapping) -> str:
    """`0.91 (0.86–0.95)`; a difference has a sign and `to`: `+0.16 (+0.08 to +0.24)`.

    A figure counts as a difference where it has a `p` or a negative end.
    """
    value, low, high = (float(figure[name]) for name in _FIGURE)
    if not all(map(math.isfinite, (value, low, high))):
        return "not measured"
    if is_difference(figure):
        return f"{_signed(value)} ({_signed(low)} to {_signed(high)})"
    return f"{value:.2f} ({low:.2f}–{high:.2f})"


def format_figure(figure: Mapping, name: str = "AUC") -> str:
    """A figure in one line that can stand alone.

    Returns:
        `AUC 0.91 (0.86–0.95), n = 150, 75 positive, image level, test split`; what the
        figure does not hold is left out.
    """
    parts = [f"{name} {format_interval(figure)}".strip()]
    if figure.get("n") is not None:
        parts.append(f"n = {figure['n']}")
    if figure.get("positives") is not None:
        parts.append(f"{figure['positives']} positive")
    parts += [f"{figure[key]} {key}" for key in ("level", "split") if figure.get(key)]
    if figure.get("p") is not None:
        parts.append(_p_text(figure["p"]))
    return ", ".join(parts)


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
        [name, format_interval(figure) + p_suffix(figure), Bar(figure)]
        + [figure.get(key) for key in ("n", "positives", "level", "split")]
        for name, figure in figures.items()
    ]
    return Table(columns, rows, caption)


def p_suffix(figure: Mapping) -> str:
    """`, p = 0.012` where the figure has a p, else nothing."""
    return f", {_p_text(figure['p'])}" if figure.get("p") is not None else ""


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
