"""The chart of a benchmark: every ratio as a bar, a panel a part.

A bar's length is the ratio over its target, so that one line stands for all targets
and bars beyond it have reached theirs; where less is better it is the target over the
ratio. Ratios with no target are held against 1 and drawn hollow. The axis is
logarithmic: twice as fast is as far from the line as half as fast.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dm_training.benchmark.report import shown, target_text

_DPI, _WIDTH = 150, 8.0
_REACHED, _MISSED, _PLAIN = "#009E73", "#D55E00", "#0072B2"
_ROW, _HEAD = 0.36, 0.75
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#555555",
    "axes.grid": True, "axes.grid.axis": "x", "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
}  # fmt: skip


def draw(record: dict, path: str | os.PathLike) -> Path:
    """Draw all ratios of a benchmark.

    Args:
        record: What `main` writes.
        path: The PNG to write.

    Returns:
        The path.
    """
    panels = {name: _ratios(part) for name, part in record["parts"].items()}
    panels = {name: rows for name, rows in panels.items() if rows}
    heights = [_HEAD + _ROW * len(rows) for rows in panels.values()] or [_HEAD]
    with rc_context(_STYLE):
        canvas = Figure(figsize=(_WIDTH, sum(heights) + 0.6), dpi=_DPI,
                        layout="constrained")  # fmt: skip
        canvas.suptitle(_title(record), fontsize=9, x=0.01, ha="left")
        if panels:
            axes = canvas.subplots(
                len(panels), 1, squeeze=False, height_ratios=heights
            )[:, 0]
            for panel, (name, rows) in zip(axes, panels.items(), strict=True):
                _draw_panel(panel, name, rows)
            axes[-1].set_xlabel(
                "ratio over its target, right of the line: reached "
                "(hollow: no target, the ratio itself)"
            )
        return _save(canvas, path)


def _ratios(part: dict) -> dict[str, dict]:
    return {name: f for name, f in part["figures"].items() if f["unit"] == "x"}


def _title(record: dict) -> str:
    machine = record["machine"]
    cards = f", {', '.join(machine['gpus'])}" if machine["gpus"] else ""
    quick = "   (quick run: not a measurement)" if record["quick"] else ""
    text = f"{machine['cpu']}, {machine['cores']} cores{cards}{quick}"
    return textwrap.fill(text, 110)


def _draw_panel(axes, name: str, rows: dict[str, dict]) -> None:
    for at, figure in enumerate(rows.values()):
        value, low, high = (_share(figure, key) for key in ("value", "low", "high"))
        colour = _colour(figure)
        axes.barh(at, value - 1.0, left=1.0, height=0.62, edgecolor=colour,
                  color=colour if "target" in figure else "white")  # fmt: skip
        axes.plot(sorted((low, high)), [at, at], color="#222222", linewidth=1.2)
        axes.annotate(
            _label(figure), (1.0, at), xycoords=("axes fraction", "data"),
            xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    axes.axvline(1.0, color="#222222", linewidth=1.4)
    axes.set_xscale("log")
    axes.set_xlim(*_limits(rows))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    labels = [textwrap.fill(row, 42) for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(name)


def _share(figure: dict, key: str) -> float:
    """A ratio over its target; above 1 is reached."""
    if "target" not in figure:
        return figure[key]
    if figure["at_most"]:
        return figure["target"] / figure[key]
    return figure[key] / figure["target"]


def _colour(figure: dict) -> str:
    if "target" not in figure:
        return _PLAIN
    return _REACHED if figure["reached"] else _MISSED


def _label(figure: dict) -> str:
    text = f"{shown(figure['value'])} x"
    if "target" not in figure:
        return text
    return f"{text}, {target_text(figure)}"


def _limits(rows: dict[str, dict]) -> tuple[float, float]:
    shares = [_share(f, key) for f in rows.values() for key in ("low", "high")]
    return min(0.7, *shares) / 1.15, max(1.5, *shares) * 1.15


def _save(canvas: Figure, path: str | os.PathLike) -> Path:
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    FigureCanvasAgg(canvas).print_png(aside, metadata={"Software": None})
    os.replace(aside, path)
    return path
