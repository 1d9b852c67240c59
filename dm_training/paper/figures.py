"""The paper's figures again: losses of two tops, ROC curves, and Table 4 as curves."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from dm_models.published import FOUR_BEST, TRANSFER_ROWS
from dm_training import metrics, plots
from dm_training.paper import rows
from dm_training.paper.comparisons import MEAN
from dm_training.paper.results import Results
from dm_training.plots_results import plot_learning_curve, plot_losses
from dm_training.report_parts import Picture


def all_figures(results: Results, parts: Collection[str]) -> dict[str, list[Picture]]:
    """Draw what some parts show.

    Args:
        results: The folder read; pictures go into its `figures/`.
        parts: Keys of `rows.PARTS`.

    Returns:
        Part -> pictures; a part of which nothing has been trained has none.
    """
    drawn: dict[str, list[Picture]] = {}
    if "figure2" in parts:
        drawn["figure2"] = _losses(results)
    if {"figure3", "ensemble"} & set(parts):
        drawn["figure3"] = _rocs(results)
    if "table4" in parts:
        drawn["table4"] = _transfer(results)
    return {part: pictures for part, pictures in drawn.items() if pictures}


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
        frames[MEAN] = results.predictions(f"ensemble/{data}.csv", "test")
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


def _transfer(results: Results) -> list[Picture]:
    points = [
        {"model": model, "women": women, "auc": metrics.auc(f["y_true"], f["y_score"])}
        for model, row in FOUR_BEST.items()
        for women, f in results.transfer_runs(row)
    ]
    if not points:
        return []
    published = None
    if not results.settings.scale.stand_ins:
        published = {
            model: [(row.patients, row.aucs[k]) for row in TRANSFER_ROWS]
            for k, model in enumerate(FOUR_BEST)
        }
    path = results.out / "figures" / "table4_curve.png"
    plot_learning_curve(pd.DataFrame(points), path, published=published,
                        title=results.settings.scale.data[1])  # fmt: skip
    return [Picture(path, "Table 4 as curves: a point a training", wide=True)]
