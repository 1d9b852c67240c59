"""The figures of a study: calibration, operating point, learning curve, losses.

About 900 pixels wide, for a report's column, in the style of `plot_style`: what differs
in colour differs in line or marker too. Counts stand beside what is drawn from few.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dm_training.forest_plot import plot_forest
from dm_training.plot_style import COLOURS, LINES, MARKERS, STYLE, save
from dm_training.prediction_rows import MetricError, check_scores

__all__ = [
    "plot_forest", "plot_learning_curve", "plot_losses", "plot_operating_point",
    "plot_reliability",
]  # fmt: skip
_WIDE = 6.2  # inches: 930 pixels
_GREY, _PALE, _DARK = "#777777", "#bbbbbb", "#222222"
_DOTTED = (0, (1, 2))


def plot_reliability(
    curves: Mapping[str, pd.DataFrame], path: str | os.PathLike, *,
    scores: Mapping[str, Sequence[float]] | None = None, title: str = "",
) -> Path:  # fmt: skip
    """Share of positives over the mean score of each bin, and below it the scores.

    Args:
        curves: Name (before, after a temperature) -> one row a bin: n, mean_score,
            share, low, high; an empty bin (n 0) is left out.
        path: The PNG to write.
        scores: Name -> all scores, for the histogram; without it the bins' own counts
            are drawn at their mean score.

    Raises:
        MetricError: There is no curve, or a column is missing.
    """
    columns = ("n", "mean_score", "share", "low", "high")
    for name, curve in curves.items():
        missing = [column for column in columns if column not in curve]
        if missing:
            raise MetricError(f"curve {name!r}: no column {', '.join(missing)}")
    if not curves:
        raise MetricError("a reliability plot needs at least one curve")
    with rc_context(STYLE):
        canvas = Figure(figsize=(5.2, 6.4), layout="constrained")
        axes, below = canvas.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.9, linestyle=(0, (2, 2)),
                  label="share = score")  # fmt: skip
        for at, ((name, curve), (colour, line, marker)) in enumerate(_styled(curves)):
            curve = curve[curve["n"] > 0]
            _draw_intervals(axes, curve, colour, line, marker, name)
            given = scores[name] if scores else None
            _draw_scores(below, curve, given, colour, at, len(curves))
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=title,
                 ylabel="share of positives")  # fmt: skip
        axes.legend(loc="upper left")
        below.set(xlabel="score", ylabel="images" if scores else "images a bin")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        return save(canvas, path)


def plot_learning_curve(
    curve: pd.DataFrame, path: str | os.PathLike, *,
    published: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    title: str = "",
) -> Path:  # fmt: skip
    """Test AUC over the women trained on: a point a draw, a line through the means.

    Args:
        curve: Rows with women, auc and, of several models, `model`. Rows of 0 women
            are the model as it is: a dotted line over the whole width.
        path: The PNG to write.
        published: Model -> (women, AUC) from a paper, drawn hollow.

    Raises:
        MetricError: No row has women.
    """
    if not (curve["women"] > 0).any():
        raise MetricError("a learning curve needs a row with women, received none")
    named = curve.assign(model="fine-tuned") if "model" not in curve else curve
    models = dict(tuple(named.groupby("model", sort=False)))
    with rc_context(STYLE):
        canvas = Figure(figsize=(_WIDE, 4.6), layout="constrained")
        axes = canvas.add_subplot()
        published = published or {}
        names = dict.fromkeys([*models, *published])
        styles = {name: style for (name, _), style in _styled(names)}
        for name, rows in models.items():
            _draw_curve(axes, name, rows, *styles[name])
        _draw_published(axes, published, styles)
        if (curve["women"] == 0).any():
            axes.plot([], color=_GREY, linewidth=1.2, linestyle=_DOTTED,
                      label="before fine-tuning")  # fmt: skip
        axes.set(xlabel="women trained on", ylabel="AUC, test images", title=title)
        sizes = sorted(set(curve["women"]) - {0})
        if len(sizes) <= 10:
            axes.set_xticks(sizes)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        canvas.legend(loc="outside lower left", ncols=2)
        return save(canvas, path)


def plot_operating_point(
    y_true, scores, threshold: float, path: str | os.PathLike, *, title: str = "",
    figures: Mapping[str, Mapping] | None = None, unit: str = "images",
) -> Path:  # fmt: skip
    """Both classes' scores with the threshold, and the calls that it makes.

    Args:
        y_true: (N,) 0 or 1.
        scores: (N,) on the threshold's own scale: calibrated where it is.
        threshold: Called positive where a score reaches it.
        path: The PNG to write.
        figures: "sensitivity" and "specificity" as figures, for their intervals.
        unit: What is counted: images, breasts, women.

    Raises:
        MetricError: As `check_scores`; or a figure is not of these scores.
    """
    truth, scores = check_scores(y_true, scores)
    rates = _rates(truth, scores >= threshold, figures or {})
    with rc_context(STYLE):
        canvas = Figure(figsize=(_WIDE, 3.5), layout="constrained")
        left, right = canvas.subplots(1, 2, width_ratios=(1.75, 1))
        _draw_classes(left, truth, scores, threshold, unit)
        left.set_title(title)
        _draw_calls(right, truth, scores >= threshold)
        right.set_xlabel(rates, fontsize=9)
        canvas.legend(loc="outside lower left", ncols=3, handlelength=2)
        return save(canvas, path)


def plot_losses(
    histories: Mapping[str, pd.DataFrame], path: str | os.PathLike
) -> Path:
    """Training and validation loss of two or more trainings, on the same axes.

    Args:
        histories: Name -> one row an epoch with `loss` and `val_loss`; a dotted line
            is drawn where `stage` changes.
        path: The PNG to write.

    Raises:
        MetricError: No history, or one without a row or a column.

    Source: Shen et al. Figure 2: a Resnet and a VGG whole-image classifier.
    """
    for name, history in histories.items():
        if not len(history) or not {"loss", "val_loss"} <= set(history):
            raise MetricError(f"history {name!r} needs loss, val_loss and a row")
    if not histories:
        raise MetricError("a plot of losses needs at least one history")
    columns = len(histories) if len(histories) < 4 else 2
    lines = -(-len(histories) // columns)
    longest = max(map(len, histories.values()))
    with rc_context(STYLE):
        canvas = Figure(figsize=(_WIDE, 0.4 + 2.6 * lines), layout="constrained")
        panels = canvas.subplots(lines, columns, sharex=True, sharey=True,
                                 squeeze=False)  # fmt: skip
        for axes, (name, history) in zip(panels.flat, histories.items(), strict=False):
            _draw_losses(axes, history)
            axes.set(title=name, xlim=(0.5, longest + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for axes in panels.flat[len(histories) :]:
            axes.set_axis_off()
            panels[-2, -1].tick_params(labelbottom=True)
        panels.flat[0].legend(loc="best")
        canvas.supxlabel("epoch", fontsize=9)
        canvas.supylabel("loss", fontsize=9)
        return save(canvas, path)


def _styled(named: Mapping):
    """Each name with a colour, a line and a marker of its own."""
    styles = zip(cycle(COLOURS), cycle(LINES), cycle(MARKERS))  # noqa: B905 endless
    return zip(named.items(), styles, strict=False)


def _draw_intervals(axes, curve: pd.DataFrame, colour, line, marker, name) -> None:
    share = curve["share"]
    reach = np.clip([share - curve["low"], curve["high"] - share], 0, None)
    axes.errorbar(curve["mean_score"], share, yerr=reach, color=colour, linestyle=line,
                  marker=marker, markersize=5, capsize=3, elinewidth=1.1,
                  label=name)  # fmt: skip


def _draw_scores(axes, curve, scores, colour, at: int, of: int) -> None:
    """Outlined steps of scores, or bars of the bins' counts beside each other."""
    if scores is not None:
        axes.hist(scores, bins=np.linspace(0, 1, 21), histtype="step", color=colour,
                  linestyle=LINES[at % len(LINES)], linewidth=1.4)  # fmt: skip
        return
    width = 0.018
    shift = (at - (of - 1) / 2) * width
    axes.bar(curve["mean_score"] + shift, curve["n"], width, color=colour,
             hatch="" if at == 0 else "////", edgecolor="white",
             linewidth=0.4)  # fmt: skip


def _draw_curve(axes, name: str, rows: pd.DataFrame, colour, line, marker) -> None:
    before, drawn = rows["auc"][rows["women"] == 0], rows[rows["women"] > 0]
    if len(before):
        axes.axhline(before.iloc[0], color=colour, linewidth=1.2, linestyle=_DOTTED)
        # The marker tells without colour whose line it is.
        axes.plot(0.99, before.iloc[0], color=colour, marker=marker,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.plot(drawn["women"], drawn["auc"], color=colour, marker=marker, markersize=5,
              linestyle="", markeredgecolor="white", markeredgewidth=0.7,
              zorder=3)  # fmt: skip
    mean = drawn.groupby("women")["auc"].mean()
    most = int(drawn.groupby("women").size().max())
    label = f"{name}: {most} draws and their mean" if most > 1 else name
    axes.plot(mean.index, mean, color=colour, linestyle=line, marker=marker,
              markersize=7, label=label)  # fmt: skip


def _draw_published(axes, published: Mapping, styles: Mapping) -> None:
    for name, points in published.items():
        colour, line, marker = styles[name]
        axes.plot(*np.transpose(points), color=colour, linestyle=line, linewidth=0.9,
                  marker=marker, markerfacecolor="white", markersize=6,
                  label=f"{name}, published")  # fmt: skip


def _draw_classes(axes, truth, scores, threshold: float, unit: str) -> None:
    ends = min(0.0, scores.min()), max(1.0, scores.max())
    bins = np.linspace(*ends, 26)
    shared = {"bins": bins, "histtype": "stepfilled", "linewidth": 1.4}
    axes.hist(scores[~truth], facecolor=_PALE, edgecolor=_GREY, alpha=0.7,
              label=f"negative ({(~truth).sum()})", **shared)  # fmt: skip
    axes.hist(scores[truth], facecolor="none", edgecolor=COLOURS[1], hatch="////",
              label=f"positive ({truth.sum()})", **shared)  # fmt: skip
    axes.axvline(threshold, color=_DARK, linestyle="--", linewidth=1.3,
                 label=f"threshold {threshold:.3g}")  # fmt: skip
    axes.set(xlabel="score, calibrated as the threshold is", ylabel=unit, xlim=ends)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_calls(axes, truth, called) -> None:
    counts = np.array([[(t & c).sum() for c in (~called, called)]
                       for t in (~truth, truth)])  # fmt: skip
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    words = (("cleared", "false alarm"), ("missed", "found"))
    for row, col in np.ndindex(2, 2):
        axes.text(col, row, f"{counts[row, col]:,}\n{words[row][col]}", ha="center",
                  va="center", fontweight="bold" if row == col else "normal",
                  color="white" if shares[row, col] > 0.55 else _DARK)  # fmt: skip
    axes.set_xticks((0, 1), ("negative", "positive"))
    axes.set_yticks((0, 1), ("negative", "positive"), rotation=90, va="center")
    axes.xaxis.tick_top()
    axes.set(title="called", ylabel="truth")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _rates(truth, called, figures: Mapping) -> str:
    lines = []
    for name, right, of in (
        ("sensitivity", (truth & called).sum(), truth.sum()),
        ("specificity", (~truth & ~called).sum(), (~truth).sum()),
    ):
        span, figure = "", figures.get(name)
        if figure is not None:
            if abs(figure["value"] - right / of) > 1e-6:
                raise MetricError(
                    f"the {name} given is {figure['value']:.4f}, these scores give "
                    f"{right} of {of}"
                )
            span = f" ({figure['low']:.2f}–{figure['high']:.2f})"
        lines.append(f"{name} {right / of:.2f}{span}\n{right} of {of}")
    return "\n".join(lines)


def _draw_losses(axes, history: pd.DataFrame) -> None:
    epochs = np.arange(1, len(history) + 1)
    alone = len(history) == 1
    axes.plot(epochs, history["loss"], color=COLOURS[0], label="training",
              marker="o" if alone else None)  # fmt: skip
    axes.plot(epochs, history["val_loss"], color=COLOURS[1], linestyle="--",
              marker="s" if alone else None, label="validation")  # fmt: skip
    if "stage" in history:  # another rate, other layers, another weight decay
        stages = history["stage"].to_numpy()
        for last in np.flatnonzero(stages[1:] != stages[:-1]) + 1:
            axes.axvline(last + 0.5, color=_GREY, linewidth=0.9, linestyle=":")
