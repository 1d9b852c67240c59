"""Figures of subgroups under each other: a forest plot.

The reader sees at once which interval misses the figure of all, and where few of a
class stand behind one: such a row is dotted, hollow and has a mark.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from dm_training.plot_style import COLOURS, STYLE, save
from dm_training.prediction_rows import MetricError

FEW = 10  # positives, or negatives
_WIDE = 6.2  # inches: 930 pixels
_GREY, _DARK = "#777777", "#222222"
_N, _POSITIVES, _MARK = 0.78, 0.95, 0.965  # where the columns of numbers end


def plot_forest(
    rows: Sequence[tuple[str, Mapping | None, str]], path: str | os.PathLike, *,
    reference: Mapping | None = None, measure: str = "AUC", title: str = "",
) -> Path:  # fmt: skip
    """Figures of subgroups under each other, with their intervals and counts.

    Args:
        rows: (label, figure, note) from top to bottom. A row with neither figure nor
            note is the heading of those below it; one with a note alone says why there
            is no figure. A note beside a figure stands at the foot, and its row has
            the mark that few of a class have.
        path: The PNG to write.
        reference: The figure of all; a row on top, and a line through all rows.
        measure: What the figures are.

    Raises:
        MetricError: No row has a figure.
    """
    shown = [("all", reference, "")] * (reference is not None) + list(rows)
    figures = [figure for _, figure, _ in shown if figure is not None]
    if not figures:
        raise MetricError("a forest plot needs at least one figure, received none")
    foot = _footnotes(shown)
    with rc_context(STYLE | {"axes.grid": False, "axes.spines.left": False}):
        height = 0.9 + 0.26 * len(shown) + 0.17 * len(foot) + 0.2 * bool(title)
        canvas = Figure(figsize=(_WIDE, height), layout="constrained")
        names, axes, numbers = canvas.subplots(1, 3, width_ratios=(2.0, 3.2, 2.8))
        if reference is not None:
            axes.axvline(reference["value"], color=_GREY, linewidth=0.9,
                         linestyle=(0, (4, 3)), zorder=0)  # fmt: skip
        for at, row in enumerate(shown):
            _draw_row(names, axes, numbers, at, row, is_all=row[1] is reference)
        axes.set(xlim=_forest_limits(figures), xlabel=measure)
        axes.grid(True, axis="x")
        for part in (names, axes, numbers):
            part.set_ylim(len(shown) - 0.4, -1.5)
            part.set_yticks([])
        for part in (names, numbers):
            part.set_axis_off()
            part.set_xlim(0, 1)
        _forest_header(numbers, measure)
        if foot:
            canvas.supxlabel("\n".join(foot), fontsize=8, x=0.01, ha="left",
                             color=_DARK)  # fmt: skip
        if title:
            canvas.suptitle(title, fontsize=10, fontweight="bold", x=0.01, ha="left")
        return save(canvas, path)


def _is_few(figure: Mapping) -> bool:
    positives = figure.get("positives")
    return positives is not None and min(positives, figure["n"] - positives) < FEW


def _footnotes(rows: Sequence[tuple]) -> list[str]:
    drawn = [row for row in rows if row[1] is not None]
    notes = [f"! {label}: {note}" for label, figure, note in drawn
             if note and not _is_few(figure)]  # fmt: skip
    if any(_is_few(figure) for _, figure, _ in drawn):
        notes.insert(0, f"! fewer than {FEW} positives or negatives: the interval "
                        "itself is uncertain")  # fmt: skip
    return notes


def _draw_row(names, axes, numbers, at: int, row, *, is_all: bool) -> None:
    label, figure, note = row
    if figure is None and not note:
        names.text(0, at, label, fontweight="bold", va="center")
        return
    weight = "bold" if is_all else "normal"
    names.text(0 if is_all else 0.06, at, label, va="center", fontweight=weight)
    if figure is None:
        numbers.text(0, at, note, va="center", color=_GREY, fontstyle="italic")
        return
    colour = _DARK if is_all else COLOURS[0]
    few = _is_few(figure) or bool(note)
    axes.plot([figure["low"], figure["high"]], [at, at], color=colour, linewidth=1.6,
              linestyle=":" if few else "-", solid_capstyle="butt")  # fmt: skip
    axes.plot(figure["value"], at, marker="D" if is_all else "s", markersize=5.5,
              color=colour, markerfacecolor="white" if few else colour)  # fmt: skip
    value = f"{figure['value']:.2f} ({figure['low']:.2f}–{figure['high']:.2f})"
    numbers.text(0, at, value, va="center", fontweight=weight)
    positives = "–" if figure.get("positives") is None else figure["positives"]
    numbers.text(_N, at, f"{figure['n']}", va="center", ha="right")
    numbers.text(_POSITIVES, at, f"{positives}", va="center", ha="right")
    if few:
        numbers.text(_MARK, at, "!", va="center", fontweight="bold")


def _forest_header(numbers, measure: str) -> None:
    for x, text, side in ((0, f"{measure} (95 %)", "left"), (_N, "n", "right"),
                          (_POSITIVES, "pos.", "right")):  # fmt: skip
        numbers.text(x, -1, text, ha=side, va="center", color=_GREY, fontsize=8.5)


def _forest_limits(figures: Sequence[Mapping]) -> tuple[float, float]:
    low = min(figure["low"] for figure in figures)
    high = max(figure["high"] for figure in figures)
    room = 0.04 * max(high - low, 0.05)
    return low - room, high + room
