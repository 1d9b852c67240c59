import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dm_training import forest_plot, metrics, plots_results

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.fixture
def canvases(monkeypatch):
    """The figures as they were saved, for a look at what is drawn in them."""
    seen, save = [], plots_results.save

    def keep(canvas, path):
        seen.append(canvas)
        return save(canvas, path)

    monkeypatch.setattr(plots_results, "save", keep)
    monkeypatch.setattr(forest_plot, "save", keep)
    return seen


def texts(canvas):
    return [text.get_text() for axes in canvas.axes for text in axes.texts]


def legend(drawn):
    """The names in the legend of axes, or of a whole figure."""
    found = drawn.legends[0] if hasattr(drawn, "legends") else drawn.get_legend()
    return [text.get_text() for text in found.get_texts()]


def is_drawn(path):
    with Image.open(path) as image:
        assert 700 <= image.width <= 960  # a report's column
        pixels = np.asarray(image.convert("L"))
    assert (pixels < 128).any()
    return pixels.shape


def figure(value, low=None, high=None, n=100, positives=40):
    return metrics.figure(
        value, value - 0.1 if low is None else low,
        value + 0.05 if high is None else high, n=n, positives=positives,
        level="image", split="test",
    )  # fmt: skip


def bins(scores=(0.1, 0.5, 0.9), shares=(0.0, 0.4, 1.0), counts=(20, 10, 5)):
    return pd.DataFrame({
        "n": counts, "mean_score": scores, "share": shares,
        "low": np.subtract(shares, 0.05).clip(0, 1),
        "high": np.add(shares, 0.1).clip(0, 1),
    })  # fmt: skip


def test_reliability_shows_each_bin_with_its_interval(tmp_path, canvases):
    curves = {"before": bins(), "after": bins(scores=(0.2, 0.5, 0.8))}
    is_drawn(plots_results.plot_reliability(curves, tmp_path / "r.png"))
    axes, below = canvases[0].axes
    assert legend(axes) == ["share = score", "before", "after"]
    (line, _, (bars,)) = axes.containers[0]
    assert line.get_xydata().tolist() == [[0.1, 0.0], [0.5, 0.4], [0.9, 1.0]]
    ends = bars.get_segments()[1][:, 1].tolist()
    assert ends == pytest.approx([0.35, 0.5])
    assert [bar.get_height() for bar in below.patches] == [20, 10, 5] * 2


def test_an_empty_bin_is_left_out_and_scores_make_a_histogram(tmp_path, canvases):
    curve = bins(shares=(0.0, np.nan, 1.0), counts=(20, 0, 5))
    scores = {"before": [0.11, 0.12, 0.97]}
    plots_results.plot_reliability({"before": curve}, tmp_path / "r.png", scores=scores)
    axes, below = canvases[0].axes
    assert len(axes.containers[0][0].get_xdata()) == 2
    assert below.patches[0].get_xy()[:, 1].max() == 2  # 0.11 and 0.12 in one bin


def test_a_reliability_curve_without_a_column_is_refused(tmp_path):
    with pytest.raises(metrics.MetricError, match="curve 'a': no column share, low"):
        plots_results.plot_reliability(
            {"a": bins().drop(columns=["share", "low"])}, tmp_path / "r.png"
        )
    with pytest.raises(metrics.MetricError, match="at least one curve"):
        plots_results.plot_reliability({}, tmp_path / "r.png")
    assert not list(tmp_path.iterdir())


def test_a_forest_has_headings_counts_and_a_mark_where_positives_are_few(
    tmp_path, canvases
):
    rows = [
        ("Density", None, ""),
        ("a", figure(0.8, n=50, positives=10), ""),
        ("d", figure(0.7, n=20, positives=9), ""),
        ("e", None, "no positives"),
    ]
    path = plots_results.plot_forest(rows, tmp_path / "f.png", reference=figure(0.85))
    is_drawn(path)
    names, axes, numbers = canvases[0].axes
    assert [t.get_text() for t in names.texts] == ["all", "Density", "a", "d", "e"]
    bold = [t.get_text() for t in names.texts if t.get_fontweight() == "bold"]
    assert bold == ["all", "Density"]
    shown = [t.get_text() for t in numbers.texts]
    assert shown.count("!") == 1 and "no positives" in shown
    assert "0.70 (0.60–0.75)" in shown and "20" in shown and "9" in shown
    assert "fewer than 10 positives" in canvases[0].get_supxlabel()
    assert canvases[0].get_supxlabel().count("\n") == 0
    # The reference line, then low to high and the value of all, of a and of d.
    dotted = [line.get_linestyle() for line in axes.lines[1::2]]
    assert dotted == ["-", "-", ":"]
    assert axes.lines[0].get_xdata() == [0.85, 0.85]


def test_few_negatives_and_notes_are_marked_too(tmp_path, canvases):
    rows = [("a", figure(0.8, n=50, positives=41), "only 9 negatives"),
            ("b", figure(0.8), "two women only"), ("c", figure(0.8), "")]  # fmt: skip
    plots_results.plot_forest(rows, tmp_path / "f.png")
    assert texts(canvases[0]).count("!") == 2
    first, second = canvases[0].get_supxlabel().split("\n")
    assert first.startswith("! fewer than 10 positives or negatives")
    assert second == "! b: two women only"


def test_a_forest_without_few_positives_has_no_footnote(tmp_path, canvases):
    rows = [("a", figure(0.8), ""), ("b", figure(0.8, positives=None), "")]
    plots_results.plot_forest(rows, tmp_path / "f.png")
    assert canvases[0].get_supxlabel() == ""
    assert "–" in texts(canvases[0])  # nobody counted its positives


def test_a_forest_grows_with_its_rows(tmp_path):
    few, many = ([(f"group {k}", figure(0.8), "") for k in range(n)] for n in (2, 20))
    heights = [
        is_drawn(plots_results.plot_forest(rows, tmp_path / "f.png"))[0]
        for rows in (few, many)
    ]
    assert heights[1] - heights[0] == pytest.approx(18 * 0.26 * 150, abs=3)


def test_a_forest_of_headings_alone_is_refused(tmp_path):
    with pytest.raises(metrics.MetricError, match="at least one figure"):
        plots_results.plot_forest([("Density", None, "")], tmp_path / "f.png")


def curve(**columns):
    base = {"women": [20, 20, 40, 40], "auc": [0.8, 0.9, 0.9, 0.94]}
    return pd.DataFrame(base | columns)


def points_of(axes):
    return [line.get_xydata().tolist() for line in axes.lines]


def test_a_learning_curve_shows_every_draw_and_their_mean(tmp_path, canvases):
    is_drawn(plots_results.plot_learning_curve(curve(), tmp_path / "l.png"))
    draws, mean = points_of(canvases[0].axes[0])
    assert draws == [[20, 0.8], [20, 0.9], [40, 0.9], [40, 0.94]]
    assert mean == [pytest.approx([20, 0.85]), pytest.approx([40, 0.92])]
    assert legend(canvases[0]) == ["fine-tuned: 2 draws and their mean"]


def test_the_model_as_it_is_stands_as_a_line_and_the_paper_beside(tmp_path, canvases):
    own = curve(model="net").iloc[::2]
    before = pd.DataFrame({"women": [0], "auc": [0.6], "model": ["net"]})
    plots_results.plot_learning_curve(
        pd.concat([before, own]), tmp_path / "l.png", title="INbreast",
        published={"other": [(20, 0.92)], "net": [(20, 0.89), (40, 0.93)]},
    )  # fmt: skip
    axes = canvases[0].axes[0]
    assert axes.lines[0].get_ydata() == [0.6, 0.6]
    assert legend(canvases[0]) == [
        "net", "other, published", "net, published", "before fine-tuning"
    ]  # fmt: skip
    lines = {line.get_label(): line for line in axes.lines}
    own, paper = lines["net"], lines["net, published"]
    assert own.get_color() == paper.get_color()
    assert paper.get_markerfacecolor() == "white"
    assert axes.get_xticks().tolist() == [20, 40]


def test_a_learning_curve_without_training_is_refused(tmp_path):
    frame = pd.DataFrame({"women": [0], "auc": [0.6]})
    with pytest.raises(metrics.MetricError, match="a row with women"):
        plots_results.plot_learning_curve(frame, tmp_path / "l.png")


TRUTH = [0, 0, 0, 1, 1]
SCORES = [0.1, 0.3, 0.6, 0.5, 0.9]


def test_an_operating_point_counts_the_calls(tmp_path, canvases):
    path = plots_results.plot_operating_point(TRUTH, SCORES, 0.5, tmp_path / "o.png")
    is_drawn(path)
    left, right = canvases[0].axes
    # A score that reaches the threshold is called positive: 0.5, 0.6 and 0.9.
    assert [t.get_text() for t in right.texts] == [
        "2\ncleared", "1\nfalse alarm", "0\nmissed", "2\nfound"
    ]  # fmt: skip
    assert right.get_xlabel() == (
        "sensitivity 1.00\n2 of 2\nspecificity 0.67\n2 of 3"
    )
    assert left.lines[0].get_xdata() == [0.5, 0.5]
    entries = [text.get_text() for text in canvases[0].legends[0].get_texts()]
    assert entries == ["negative (3)", "positive (2)", "threshold 0.5"]


def test_rates_have_the_intervals_given_and_no_others(tmp_path, canvases):
    figures = {"specificity": figure(2 / 3, 0.2, 0.9)}
    plots_results.plot_operating_point(
        TRUTH, SCORES, 0.5, tmp_path / "o.png", figures=figures, unit="women"
    )
    left, right = canvases[0].axes
    assert "specificity 0.67 (0.20–0.90)" in right.get_xlabel()
    assert left.get_ylabel() == "women"
    with pytest.raises(metrics.MetricError, match="0.9000, these scores give 2 of 2"):
        plots_results.plot_operating_point(
            TRUTH, SCORES, 0.5, tmp_path / "o.png", figures={"sensitivity": figure(0.9)}
        )


def history(epochs, **columns):
    falling = np.linspace(1, 0.5, epochs)
    return pd.DataFrame({"loss": falling, "val_loss": falling + 0.1} | columns)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_losses_of_several_trainings_share_their_axes(tmp_path, canvases, count):
    histories = {f"net {k}": history(k + 1) for k in range(count)}
    is_drawn(plots_results.plot_losses(histories, tmp_path / "l.png"))
    panels = canvases[0].axes[:count]
    assert [axes.get_title(loc="left") for axes in panels] == list(histories)
    assert {axes.get_xlim() for axes in panels} == {(0.5, count + 0.5)}
    assert len({axes.get_ylim() for axes in panels}) == 1
    assert panels[0].lines[1].get_ydata()[0] == pytest.approx(1.1)


def test_a_loss_plot_marks_where_a_stage_begins(tmp_path, canvases):
    histories = {"net": history(3, stage=["top", "top", "all"])}
    plots_results.plot_losses(histories, tmp_path / "l.png")
    assert canvases[0].axes[0].lines[-1].get_xdata() == [2.5, 2.5]


@pytest.mark.parametrize(
    ("histories", "message"),
    [({}, "at least one history"), ({"a": history(0)}, "history 'a' needs"),
     ({"a": history(2).drop(columns="val_loss")}, "history 'a' needs")],
    ids=["none", "no row", "no column"],
)  # fmt: skip
def test_losses_that_are_not_there_are_refused(tmp_path, histories, message):
    with pytest.raises(metrics.MetricError, match=message):
        plots_results.plot_losses(histories, tmp_path / "l.png")
