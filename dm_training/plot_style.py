"""How every figure looks: colours, lines, markers, type, and the writing of the PNG.

Colours are Okabe and Ito's, for the colour-blind; line styles and markers differ as
well, so that a print in grey is legible. Drawn on Agg without pyplot, so that no
window, no display and no global state is needed.
"""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 150
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE = {
    "figure.dpi": DPI, "font.family": "DejaVu Sans", "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222", "xtick.color": "#444444", "ytick.color": "#444444",
    "axes.grid": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8.5,
    "legend.handlelength": 2.8,
    "lines.linewidth": 1.7,
}  # fmt: skip


def save(canvas: Figure, path: str | os.PathLike) -> Path:
    """Write a figure as a PNG aside and rename it; parents are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    FigureCanvasAgg(canvas).print_png(aside, pil_kwargs={"optimize": True},
                                      metadata={"Software": None})  # fmt: skip
    os.replace(aside, path)
    return path
