"""The figures: ROC, training curves, confusion matrix, heat maps, intervals.

Every figure is legible without colour (line styles and markers differ, numbers stand
in the cells) and in colour for the colour-blind (`plot_style`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from dm_training import metrics
from dm_training.plot_style import COLOURS, DPI, LINES, MARKERS
from dm_training.plot_style import STYLE as _STYLE
from dm_training.plot_style import save as _save

_LEGEND_INSIDE = 6  # curves; the names of more would cover them


def plot_roc(
    models: Mapping[str, tuple], path: str | os.PathLike, *, title: str = "",
    figures: Mapping[str, dict] | None = None,
) -> Path:  # fmt: skip
    """ROC curves of one or more models in one square.

    The legend of more than six stands below the square, in small type.

    Args:
        models: Name -> (y_true, y_score).
        path: The PNG to write.
        figures: Name -> the AUC as a figure; its interval then stands in the legend.
            Without it the AUC alone does.

    Raises:
        MetricError: A model has one class only or NaN.
    """
    labels = {
        name: f"{name}\n{_auc_text((figures or {}).get(name), *scores)}"
        for name, scores in models.items()
    }
    with rc_context(_STYLE):
        canvas = Figure(figsize=(5.2, 5.2), layout="constrained")
        axes = canvas.add_subplot()
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.9, label="chance")
        for count, (name, scores) in enumerate(models.items()):
            points = metrics.roc_points(*scores)
            turn = count + count // len(LINES)  # no pair of colour and line soon again
            axes.plot(1 - points["specificity"], points["sensitivity"],
                      color=COLOURS[count % len(COLOURS)],
                      linestyle=LINES[turn % len(LINES)],
                      label=labels[name])  # fmt: skip
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal", title=title,
                 xlabel="1 − specificity", ylabel="sensitivity")  # fmt: skip
        if len(models) > _LEGEND_INSIDE:
            _legend_below(canvas, axes)
        else:
            axes.legend(loc="lower right")
        return _save(canvas, path)


def plot_history(history: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Loss and, below it, every other measure on validation, over the epochs.

    Args:
        history: One row an epoch: `loss`, `val_loss`, and others such as `val_auc`,
            with `auc` of training where there is one. Rows count as epochs 1, 2, ...
            in their order; a line is drawn where `stage` changes.
        path: The PNG to write.

    Raises:
        MetricError: The table has no row or no loss.
    """
    if not len(history) or "loss" not in history:
        raise metrics.MetricError("a history needs a column loss and at least one row")
    watched = [name[4:] for name in history if name.startswith("val_")]
    pairs = [name for name in watched if name != "loss"]
    with rc_context(_STYLE):
        canvas = Figure(figsize=(6.4, 2.4 * (1 + len(pairs))), layout="constrained")
        panels = canvas.subplots(1 + len(pairs), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, ["loss", *pairs], strict=True):
            _draw_pair(axes, history, name)
        _draw_stages(panels, history)
        # Also where a stage's name stands: one epoch alone leaves it no room.
        panels[-1].set(xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        return _save(canvas, path)


def plot_confusion(
    matrix, class_names: Sequence[str], path: str | os.PathLike, *, title: str = ""
) -> Path:
    """A confusion matrix: counts, and the share of each true class, in the cells.

    Args:
        matrix: (K, K) counts, rows the true class, columns the predicted one.
        class_names: K names.
        path: The PNG to write.

    Raises:
        MetricError: The matrix is not (K, K).
    """
    matrix = np.asarray(matrix)
    k = len(class_names)
    if matrix.shape != (k, k):
        raise metrics.MetricError(f"matrix must be ({k}, {k}), received {matrix.shape}")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [name.replace("_", " ") for name in class_names]
    with rc_context(_STYLE | {"axes.grid": False}):
        side = 1.9 + 0.85 * k
        canvas = Figure(figsize=(side, side), layout="constrained")
        axes = canvas.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, col in np.ndindex(k, k):
            axes.text(col, row, f"{matrix[row, col]:,}\n{shares[row, col]:.0%}",
                      ha="center", va="center",
                      color="white" if shares[row, col] > 0.55 else "#222222",
                      fontweight="bold" if row == col else "normal")  # fmt: skip
        axes.set_xticks(range(k), names, rotation=35, ha="right",
                        rotation_mode="anchor")  # fmt: skip
        axes.set_yticks(range(k), names)
        axes.set(xlabel="predicted", ylabel="true", title=title)
        axes.spines[:].set_visible(False)
        return _save(canvas, path)


def overlay_heatmap(
    image, heat, path: str | os.PathLike, *, boxes: Sequence[tuple] = (),
    title: str = "", label: str = "probability", column: int = 560,
) -> Path:  # fmt: skip
    """A mammogram, and the same with a heat map over it, side by side.

    The map is transparent where it is 0 and at most 70 % opaque, so that the tissue
    stays visible, and its scale is always 0 to 1, so that two pictures compare.

    Args:
        image: uint16 (H, W).
        heat: (H, W) in [0, 1], as `image_maps.place_map` brings it to the image's grid;
            of any other size it is taken as tiles over the whole image and enlarged
            bilinearly.
        path: The PNG to write.
        boxes: (row0, col0, row1, col1) of lesions in image pixels, half open.
        label: What the heat is.
        column: Width of each of the two pictures in pixels.

    Raises:
        MetricError: The heat leaves [0, 1] or holds a NaN.
    """
    image, heat = np.asarray(image), np.asarray(heat, dtype=np.float64)
    if heat.ndim != 2 or not ((heat >= 0) & (heat <= 1)).all():
        raise metrics.MetricError(
            f"heat must be (h, w) in [0, 1], received {heat.shape}, "
            f"{heat.min():.3g} to {heat.max():.3g}"
        )
    height, width = image.shape
    tall = column / DPI * height / width
    with rc_context(_STYLE | {"axes.grid": False}):
        canvas = Figure(figsize=(2 * column / DPI + 0.9, tall + 0.5),
                        layout="constrained")  # fmt: skip
        left, right = canvas.subplots(1, 2)
        for axes in (left, right):
            axes.imshow(image, cmap="gray", vmin=0, vmax=_bright(image))
            axes.set_axis_off()
        right.imshow(_coloured(heat, height, width))
        _draw_boxes(right, boxes)
        left.set_title(title, fontsize=9)
        _heat_bar(canvas, right, label)
        return _save(canvas, path)


def plot_line_with_intervals(
    lines: Mapping[str, Sequence[tuple]], path: str | os.PathLike, *, xlabel: str,
    ylabel: str = "AUC", title: str = "", reference: float | None = None,
) -> Path:  # fmt: skip
    """Figures over something (difficulty, women to train), each with its interval.

    Args:
        lines: Name -> (x, value, low, high) in order.
        path: The PNG to write.
        reference: A value to mark by a grey line, such as chance.
    """
    with rc_context(_STYLE):
        canvas = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = canvas.add_subplot()
        if reference is not None:
            axes.axhline(reference, color="#999999", linewidth=0.9)
        styles = zip(cycle(COLOURS), cycle(LINES), cycle(MARKERS))  # noqa: B905
        for (name, points), (colour, line, marker) in zip(
            lines.items(), styles, strict=False
        ):
            x, value, low, high = np.asarray(points, dtype=float).T
            axes.errorbar(x, value, yerr=(value - low, high - value), color=colour,
                          linestyle=line, marker=marker, markersize=5, capsize=3,
                          elinewidth=1.1, label=name)  # fmt: skip
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        axes.legend(loc="best")
        return _save(canvas, path)


def _auc_text(figure: dict | None, y_true, y_score) -> str:
    if figure is None:
        return f"AUC {metrics.auc(y_true, y_score):.2f}"
    return f"AUC {figure['value']:.2f} ({figure['low']:.2f}–{figure['high']:.2f})"


def _legend_below(canvas: Figure, axes) -> None:
    """A legend of many curves on one line each; the figure grows by its height."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [label.replace("\n", ", ") for label in labels]
    columns = 2 if max(map(len, labels)) <= 42 else 1
    width, height = canvas.get_size_inches()
    rows = -(-len(labels) // columns)
    canvas.set_size_inches(width, height + 0.135 * rows + 0.1)
    canvas.legend(handles, labels, loc="outside lower center", ncols=columns,
                  fontsize=6.5, labelspacing=0.4, handlelength=4)  # fmt: skip


def _draw_pair(axes, history: pd.DataFrame, name: str) -> None:
    epochs = np.arange(1, len(history) + 1)
    alone = "o" if len(history) == 1 else None
    if name in history:
        axes.plot(epochs, history[name], color=COLOURS[0], marker=alone,
                  label="training")  # fmt: skip
    if f"val_{name}" in history:
        axes.plot(epochs, history[f"val_{name}"], color=COLOURS[1], linestyle="--",
                  marker="s", markersize=3.5, label="validation")  # fmt: skip
    axes.set_ylabel(name.upper() if name == "auc" else name)
    axes.legend(loc="best")


def _draw_stages(panels, history: pd.DataFrame) -> None:
    if "stage" not in history:
        return
    stages = history["stage"].to_numpy()
    starts = [0, *(np.flatnonzero(stages[1:] != stages[:-1]) + 1)]
    for start in starts:
        if start:
            for axes in panels:
                axes.axvline(start + 0.5, color="#777777", linewidth=0.9, linestyle=":")
        panels[0].annotate(f"stage {stages[start]}", (start + 0.55, 1.0),
                           xycoords=("data", "axes fraction"), xytext=(2, 3),
                           textcoords="offset points", fontsize=8,
                           color="#444444")  # fmt: skip


def _bright(image: np.ndarray) -> float:
    """The grey level shown as white: film labels must not darken the breast."""
    return max(float(np.percentile(image, 99.8)), 1.0)


def _coloured(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """RGBA of the enlarged heat; opacity grows with the heat itself."""
    large = heat if heat.shape == (height, width) else _enlarged(heat, height, width)
    rgba = colormaps["magma"](large)
    rgba[..., 3] = 0.7 * np.clip(large, 0, 1)
    return rgba


def _enlarged(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Tiles over an image of that size, interpolated between their middles."""
    rows = np.clip((np.arange(height) + 0.5) * heat.shape[0] / height - 0.5, 0, None)
    cols = np.clip((np.arange(width) + 0.5) * heat.shape[1] / width - 0.5, 0, None)
    along = np.stack([np.interp(cols, np.arange(heat.shape[1]), r) for r in heat])
    return np.stack([np.interp(rows, np.arange(heat.shape[0]), c) for c in along.T]).T


def _draw_boxes(axes, boxes: Sequence[tuple]) -> None:
    for row0, col0, row1, col1 in boxes:
        for colour, line, width in (("black", "-", 2.4), ("white", "--", 1.2)):
            axes.add_patch(
                Rectangle((col0 - 0.5, row0 - 0.5), col1 - col0, row1 - row0,
                          fill=False, edgecolor=colour, linestyle=line,
                          linewidth=width)
            )  # fmt: skip


def _heat_bar(canvas, axes, label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shown = ScalarMappable(Normalize(0, 1), "magma")
    bar = canvas.colorbar(shown, ax=axes, fraction=0.05, pad=0.02, label=label)
    bar.outline.set_visible(False)
