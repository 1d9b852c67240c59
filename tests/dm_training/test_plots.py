import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dm_training import metrics, plots

TRUTH = np.array([0, 0, 1, 1, 0, 1])
SCORE = np.array([0.1, 0.4, 0.35, 0.8, 0.5, 0.9])
IMAGE = np.linspace(0, 60000, 96 * 64).reshape(96, 64).astype(np.uint16)


def history(**columns):
    base = {"loss": [1.0, 0.8, 0.6], "val_loss": [1.1, 0.9, 0.8]}
    return pd.DataFrame(base | columns)


def drawn(path):
    """The picture as an array; what is drawn is darker or brighter than its paper."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_roc_of_two_models_is_a_png_of_150_dots_an_inch(tmp_path):
    path = plots.plot_roc(
        {"one": (TRUTH, SCORE), "two": (TRUTH, -SCORE)}, tmp_path / "plots" / "r.png"
    )
    with Image.open(path) as image:
        assert image.size == (780, 780)  # 5.2 inches
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert [p.name for p in path.parent.iterdir()] == ["r.png"]


def test_each_model_of_a_roc_has_a_line_of_its_own(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "_save", lambda canvas, path: seen.append(canvas))
    figure = metrics.figure(0.8, 0.6, 0.9, n=6, positives=3, level="image", split="val")
    models = {str(k): (TRUTH, SCORE) for k in range(4)}
    plots.plot_roc(models, tmp_path / "r.png", figures={"2": figure})
    lines = seen[0].axes[0].lines[1:]  # the first is chance
    assert len({(line.get_linestyle(), line._dash_pattern[1] and
                 tuple(line._dash_pattern[1])) for line in lines}) == 4  # fmt: skip
    labels = [line.get_label() for line in lines]
    assert labels[2] == "2\nAUC 0.80 (0.60–0.90)"
    assert labels[0] == "0\nAUC 0.78"  # 7 of 9 pairs


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("count", "pad"), [(6, ""), (7, ""), (30, ""), (30, "x" * 40)])
def test_the_legend_of_many_models_leaves_the_square_its_room(
    tmp_path, monkeypatch, count, pad
):
    seen, save = [], plots._save
    monkeypatch.setattr(plots, "_save", lambda c, path: seen.append(c) or save(c, path))
    figure = metrics.figure(0.8, 0.6, 0.9, n=6, positives=3, level="image", split="val")
    names = [f"model {k} {pad}" for k in range(count)]
    plots.plot_roc(dict.fromkeys(names, (TRUTH, SCORE)), tmp_path / "r.png",
                   figures=dict.fromkeys(names, figure))  # fmt: skip
    canvas, axes = seen[0], seen[0].axes[0]
    legends = canvas.legends or [axes.get_legend()]
    assert len(legends[0].get_texts()) == count + 1  # and chance
    square, legend = axes.get_window_extent(), legends[0].get_window_extent()
    assert square.width / canvas.dpi > 4
    assert 0 <= legend.x0 and legend.x1 <= canvas.bbox.width and legend.y0 >= 0
    if count > 6:
        assert legend.y1 < axes.xaxis.label.get_window_extent().y0
    styles = {(line.get_color(), str(line._unscaled_dash_pattern))
              for line in axes.lines[1:]}  # fmt: skip
    assert len(styles) == count


def test_roc_of_one_class_is_refused(tmp_path):
    with pytest.raises(metrics.MetricError, match="one class only"):
        plots.plot_roc({"one": ([1, 1], [0.1, 0.2])}, tmp_path / "r.png")
    assert not list(tmp_path.iterdir())


def test_history_marks_where_a_stage_begins(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "_save", lambda canvas, path: seen.append(canvas))
    frame = history(stage=[1, 1, 2], auc=[0.5, 0.6, 0.7], val_auc=[0.5, 0.6, 0.6])
    plots.plot_history(frame, tmp_path / "h.png")
    loss, auc = seen[0].axes
    assert (loss.get_ylabel(), auc.get_ylabel()) == ("loss", "AUC")
    assert loss.lines[-1].get_xdata() == [2.5, 2.5]  # between epochs 2 and 3
    assert [text.get_text() for text in loss.texts] == ["stage 1", "stage 2"]


@pytest.mark.parametrize("rows", [1, 3])
def test_history_of_any_length_is_drawn(tmp_path, rows):
    path = plots.plot_history(history().head(rows), tmp_path / "h.png")
    assert (drawn(path) < 128).any()


@pytest.mark.filterwarnings("error")
def test_one_epoch_alone_leaves_room_for_its_stage(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "_save", lambda canvas, path: seen.append(canvas))
    plots.plot_history(history(stage="all").head(1), tmp_path / "h.png")
    axes = seen[0].axes[0]
    seen[0].draw_without_rendering()  # the layout warns where there is no room
    assert axes.get_xlim() == (0.5, 1.5)
    assert axes.get_xlim()[0] <= axes.texts[0].xy[0] <= axes.get_xlim()[1]


def test_history_without_loss_is_refused(tmp_path):
    with pytest.raises(metrics.MetricError, match="column loss"):
        plots.plot_history(pd.DataFrame({"auc": [0.5]}), tmp_path / "h.png")


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class(
    tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(plots, "_save", lambda canvas, path: seen.append(canvas))
    plots.plot_confusion([[3, 1], [0, 0]], ["mass_mal", "mass_ben"], tmp_path / "c.png")
    axes = seen[0].axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["3\n75%", "1\n25%", "0\n0%", "0\n0%"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["mass mal", "mass ben"]


def test_confusion_matrix_must_fit_its_names(tmp_path):
    with pytest.raises(metrics.MetricError, match=r"must be \(3, 3\)"):
        plots.plot_confusion([[3, 1], [0, 0]], "abc", tmp_path / "c.png")


def test_heat_colours_the_place_where_it_is_and_no_other():
    heat = np.zeros((6, 4))
    heat[1, 3] = 1  # rows 16 to 31, columns 48 to 63 of 96 x 64
    rgba = plots._coloured(heat, 96, 64)
    assert np.unravel_index(rgba[..., 3].argmax(), (96, 64))[0] in range(16, 32)
    assert rgba[20:28, 56:, 3].min() > 0.5
    assert not rgba[48:, :, 3].any() and not rgba[:, :32, 3].any()


def test_overlay_shows_the_heat_in_colour(tmp_path):
    grey = drawn(plots.overlay_heatmap(IMAGE, np.zeros((6, 4)), tmp_path / "0.png"))
    heat = np.full((6, 4), 0.6)
    hot = drawn(
        plots.overlay_heatmap(IMAGE, heat, tmp_path / "1.png", boxes=[(8, 8, 40, 40)])
    )
    assert grey.shape == hot.shape
    right = [x[100:700, 600:1000].astype(int) for x in (grey, hot)]
    colour = [np.ptp(x, axis=2).mean() for x in right]
    assert colour[1] > 10 * max(colour[0], 1)


@pytest.mark.parametrize("worst", [np.nan, 1.2, -0.1])
def test_heat_outside_0_to_1_is_refused(tmp_path, worst):
    with pytest.raises(metrics.MetricError, match=r"in \[0, 1\]"):
        plots.overlay_heatmap(IMAGE, np.full((2, 2), worst), tmp_path / "o.png")


def test_intervals_are_drawn_over_a_line(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "_save", lambda canvas, path: seen.append(canvas))
    points = [(20, 0.7, 0.6, 0.75), (40, 0.8, 0.72, 0.9)]
    plots.plot_line_with_intervals({"net": points}, tmp_path / "l.png", xlabel="women")
    _, _, (bars,) = seen[0].axes[0].containers[0]
    assert bars.get_segments()[1][:, 1].tolist() == pytest.approx([0.72, 0.9])
