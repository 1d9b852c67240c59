"""The paper's figures again: losses of two tops, ROC curves, and Table 4 as curves."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dm_models.published import FOUR_BEST
from dm_training import metrics, plots
from dm_training.paper import rows
from dm_training.paper.results import Results
from dm_training.paper.tables import PaperTable
from dm_training.plot_style import COLOURS, LINES, STYLE, save
from dm_training.report_parts import Picture

ENSEMBLE = "mean of the four"


def all_figures(
    results: Results, parts: Collection[str], tables: Collection[PaperTable]
) -> dict[str, list[Picture]]:
    """Draw what some parts show.

    Args:
        results: The folder read; pictures go into its `figures/`.
        parts: Keys of `rows.PARTS`.
        tables: Those of the parts, for the figures in them.

    Returns:
        Part -> pictures; a part of which nothing has been trained has none.
    """
    drawn: dict[str, list[Picture]] = {}
    if "figure2" in parts:
        drawn["figure2"] = _losses(results)
    if {"figure3", "ensemble"} & set(parts):
        drawn["figure3"] = _rocs(results)
    transfer = next((t for t in tables if t.part == "table4"), None)
    if transfer:
        drawn["table4"] = _transfer(results, transfer)
    return {part: pictures for part, pictures in drawn.items() if pictures}


def plot_losses(histories: Mapping[str, pd.DataFrame], path: str | os.PathLike) -> Path:
    """Training and validation loss of several trainings, a panel each, one scale.

    Args:
        histories: Name -> a run's history: `loss` and `val_loss`, one row an epoch.
        path: The PNG to write.
    """
    with rc_context(STYLE):
        count = len(histories)
        canvas = Figure(figsize=(3.4 * min(count, 2) + 0.4, 2.9 * ((count + 1) // 2)),
                        layout="constrained")  # fmt: skip
        panels = canvas.subplots((count + 1) // 2, min(count, 2), sharey=True,
                                 squeeze=False).ravel()  # fmt: skip
        for axes, (name, history) in zip(panels, histories.items(), strict=False):
            epochs = range(1, len(history) + 1)
            for column, label, k in (("loss", "training", 0),
                                     ("val_loss", "validation", 1)):  # fmt: skip
                axes.plot(epochs, history[column], color=COLOURS[k], label=label,
                          linestyle=LINES[k])  # fmt: skip
            axes.set_title(name, fontsize=9)
            axes.set(xlabel="epoch", ylabel="loss", yscale="log")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="best")
        for axes in panels[count:]:
            axes.set_visible(False)
        return save(canvas, path)


def loss_rows(results: Results) -> tuple[str, ...]:
    """Whose losses are shown: Figure 2's rows, or the four best where it has none."""
    scale = results.settings.scale
    if all(scale.is_trained(row) for row in rows.FIGURE_2):
        return rows.FIGURE_2
    return tuple(FOUR_BEST.values())


def _losses(results: Results) -> list[Picture]:
    names = loss_rows(results)
    paths = {name: results.out / "whole" / name / "history.csv" for name in names}
    histories = {n: pd.read_csv(p) for n, p in paths.items() if p.is_file()}
    if not histories:
        return []
    path = plot_losses(histories, results.out / "figures" / "figure2_losses.png")
    stands = "" if names == rows.FIGURE_2 else (
        "In place of Figure 2, whose rows are not trained here: "
    )  # fmt: skip
    caption = f"{stands}losses of {', '.join(histories)}"
    return [Picture(path, caption[:1].upper() + caption[1:], wide=True)]


def _rocs(results: Results) -> list[Picture]:
    pictures = []
    names = zip(("film", "digital"), ("whole", "tuned"), "ab", strict=True)
    for (data, kind, letter), title in zip(
        names, results.settings.scale.data, strict=True
    ):
        frames = {
            model: results.predictions(
                f"{kind}/{row}/predictions_test_augmented.csv", "test"
            )
            for model, row in FOUR_BEST.items()
        }
        frames[ENSEMBLE] = results.predictions(f"ensemble/{data}.csv", "test")
        frames = {name: frame for name, frame in frames.items() if frame is not None}
        if not frames:
            continue
        path = results.out / "figures" / f"figure3{letter}_{data}.png"
        plots.plot_roc(
            {n: (f["y_true"].to_numpy(), f["y_score"].to_numpy())
             for n, f in frames.items()}, path, title=f"{title}, test, four flips",
            figures={n: metrics.auc_figure(f, seed=results.settings.seed)
                     for n, f in frames.items()},
        )  # fmt: skip
        pictures.append(Picture(path, f"Figure 3{letter}: {title}"))
    return pictures


def _transfer(results: Results, table: PaperTable) -> list[Picture]:
    lines: dict[str, list[tuple]] = {}
    for row in table.rows:
        ours = row.get("ours")
        if ours:
            lines.setdefault(row["model"], []).append(
                (row["images"], ours["value"], ours["low"], ours["high"])
            )
    if not lines:
        return []
    path = results.out / "figures" / "table4_curve.png"
    plots.plot_line_with_intervals(
        lines, path, xlabel="training images", ylabel="test AUC",
        title=results.settings.scale.data[1],
    )  # fmt: skip
    return [Picture(path, "Table 4 as curves", wide=True)]
