import numpy as np
import pandas as pd
import pytest
from scipy import special
from simulated_scores import women_and_scores
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from dm_models.decision import scaled_scores
from dm_training import calibration, metrics


def val_rows(y_true, p, split="val"):
    return pd.DataFrame({"split": split, "y_true": y_true, "y_score": p})


def noisy(n=400, seed=0):
    """Truths drawn from the very probabilities given: calibrated."""
    rng = np.random.default_rng(seed)
    p = special.expit(rng.uniform(-3, 3, n))
    return (rng.random(n) < p).astype(int), p


def test_brier_of_a_literal_example():
    # (0.1² + 0.2² + 0.4²) / 3 = 0.21 / 3
    assert metrics.brier([1, 0, 1], [0.9, 0.2, 0.6]) == pytest.approx(0.07)


def test_brier_agrees_with_sklearn():
    y, p = noisy()
    assert metrics.brier(y, p) == pytest.approx(brier_score_loss(y, p))


def test_one_class_has_a_brier_score_and_a_calibration_error():
    assert metrics.brier([1, 1], [0.9, 0.7]) == pytest.approx((0.01 + 0.09) / 2)
    assert metrics.calibration_error([1, 1], [0.8, 0.8]) == pytest.approx(0.2)


def confidence_error(y_true, p, bins=10):
    """The usual error of many classes: confidence of the likelier class, accuracy."""
    sure, right = np.maximum(p, 1 - p), (p >= 0.5) == y_true
    cell = np.minimum((sure * bins).astype(int), bins - 1)
    return sum(
        abs(sure[cell == k].mean() - right[cell == k].mean()) * (cell == k).mean()
        for k in np.unique(cell)
    )


def test_calibration_error_is_right_below_one_half():
    # 10 images at 0.1, one of them positive: as it should be. Read as confidence 0.1
    # of an accuracy of 0.9, this would be an error of 0.8.
    assert metrics.calibration_error([1] + [0] * 9, [0.1] * 10) == pytest.approx(0)


def test_a_confidence_based_error_misses_what_ours_sees():
    # at 0.4 a fifth is positive, at 0.6 two fifths: both 0.2 too high. Confidence is
    # 0.6 throughout, accuracy 0.8 and 0.4, 0.6 on the whole: an "error" of 0.
    y, p = np.repeat([0, 1, 0, 1], [8, 2, 6, 4]), np.repeat([0.4, 0.6], 10)
    assert confidence_error(y, p) == pytest.approx(0)
    for strategy in ("uniform", "quantile"):
        found = metrics.calibration_error(y, p, strategy=strategy)
        assert found == pytest.approx(0.2)


def test_calibration_error_of_equal_counts_agrees_with_brute_force():
    y, p = noisy(207)
    order = np.argsort(p)
    edges = [int(np.ceil(207 * k / 10)) for k in range(11)]
    expected = sum(
        abs(p[i].mean() - y[i].mean()) * len(i) / 207
        for i in (order[a:b] for a, b in zip(edges, edges[1:], strict=False))
    )
    assert metrics.calibration_error(y, p) == pytest.approx(expected)


def test_calibration_error_of_equal_widths_agrees_with_brute_force():
    y, p = noisy(207)
    y, p = np.append(y, [1, 0]), np.append(p, [1.0, 0.0])
    expected = 0
    for k in range(8):
        top = p <= 1 if k == 7 else p < (k + 1) / 8
        inside = (p >= k / 8) & top
        expected += abs(p[inside].sum() - y[inside].sum()) / 209
    found = metrics.calibration_error(y, p, bins=8, strategy="uniform")
    assert found == pytest.approx(expected)


def test_an_edge_belongs_to_the_bin_above_it():
    # 0.3 and 0.7 are no exact binary numbers: 0.29 and 0.3 must not share a bin
    table = metrics.reliability([0, 1, 0, 1], [0.29, 0.3, 0.69, 0.7],
                                strategy="uniform")  # fmt: skip
    assert table["mean_score"].tolist() == [0.29, 0.3, 0.69, 0.7]


def test_equal_scores_stay_in_one_bin():
    y, p = [0, 1, 0, 0, 1], [0.4] * 5
    assert metrics.calibration_error(y, p) == pytest.approx(0)
    assert len(metrics.reliability(y, p)) == 1


def test_reliability_counts_shares_with_wilsons_interval():
    table = metrics.reliability([0, 0, 1, 1, 1, 1], np.arange(6) / 10, bins=2)
    assert list(table.columns) == ["n", "mean_score", "share", "low", "high"]
    assert table["n"].tolist() == [3, 3]
    assert table["mean_score"].tolist() == pytest.approx([0.1, 0.4])
    assert table["share"].tolist() == pytest.approx([1 / 3, 1])
    wilson = metrics.accuracy_wilson(1, 3)
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx(wilson[1:])


def test_reliability_adds_up_to_the_calibration_error():
    y, p = noisy()
    for strategy in ("uniform", "quantile"):
        table = metrics.reliability(y, p, strategy=strategy)
        gaps = (table["mean_score"] - table["share"]).abs() * table["n"] / 400
        found = metrics.calibration_error(y, p, strategy=strategy)
        assert table["n"].sum() == 400 and gaps.sum() == pytest.approx(found)


def test_gaps_of_a_draw_agree_with_repeating_its_images():
    y, p = noisy(60)
    weights = np.random.default_rng(1).integers(0, 3, (4, 60)).astype(float)
    found = calibration._gaps(y, p, weights, 5, "uniform")
    for drawn, gaps in zip(weights.astype(int), found, strict=True):
        again = np.repeat(y, drawn), np.repeat(p, drawn)
        error = metrics.calibration_error(*again, bins=5, strategy="uniform")
        assert np.abs(gaps).sum() == pytest.approx(error)


@pytest.mark.parametrize(
    "measure", [metrics.brier_bootstrap, metrics.calibration_error_bootstrap]
)
def test_intervals_hold_the_value_and_repeat_with_the_seed(measure):
    y, score, women = women_and_scores(0.85, 60, 0.5, np.random.default_rng(2))
    p = special.expit(4 * score)  # far too sure
    value, low, high = found = measure(y, p, women, n=300, seed=3)
    assert 0 < low < value < high < 1
    assert measure(y, p, women, n=300, seed=3) == found
    assert measure(y, p, women, n=300, seed=4) != found


def test_brier_interval_widens_where_images_of_a_woman_are_alike():
    y, score, women = women_and_scores(0.8, 60, 0.95, np.random.default_rng(4))
    p = special.expit(score)
    value, low, high = metrics.brier_bootstrap(y, p, women, n=500)
    _, low_images, high_images = metrics.brier_bootstrap(y, p, np.arange(120), n=500)
    assert high - low > 1.2 * (high_images - low_images)


def test_calibrated_scores_may_have_an_error_of_0():
    y, p = noisy(100, seed=5)
    value, low, high = metrics.calibration_error_bootstrap(y, p, np.arange(100), n=500)
    assert value > 0.03  # biased upwards, as the docstring says
    assert low == 0


def test_recalibration_agrees_with_an_unpenalised_regression():
    y, p = noisy(800, seed=6)
    p = special.expit(0.5 * special.logit(p) - 1)
    found = metrics.recalibration(y, p)
    logits = special.logit(p)[:, None]
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(logits, y)
    assert found.intercept == pytest.approx(fitted.intercept_[0], abs=1e-4)
    assert found.slope == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
    assert found.slope == pytest.approx(2, abs=0.3)
    shifted = special.expit(logits[:, 0] + found.in_the_large)
    assert shifted.mean() == pytest.approx(y.mean())


def test_recalibration_undoes_what_was_done_to_the_logits():
    y, p = noisy(300, seed=7)
    before = metrics.recalibration(y, p)
    after = metrics.recalibration(y, special.expit(1.5 + 3 * special.logit(p)))
    assert after.slope == pytest.approx(before.slope / 3, rel=1e-5)
    expected = before.intercept - 1.5 * before.slope / 3
    assert after.intercept == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("y_true", "p", "message"),
    [
        ([0, 1], [0.5, 0.5], "all scores are equal"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "separate the classes"),
        ([0, 0, 1, 1], [0.1, 0.3, 0.3, 0.4], "separate the classes"),
        ([1, 1], [0.1, 0.3], "one class only"),
    ],
    ids=["equal", "separated", "separated but for a tie", "one class"],
)
def test_a_slope_that_does_not_exist_is_refused(y_true, p, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.recalibration(y_true, p)


@pytest.mark.parametrize(
    ("y_true", "p", "message"),
    [
        ([0, 1], [0.1, 1.2], "in \\[0, 1\\], received scores from 0.1 to 1.2"),
        ([0, 1], [0.1, np.nan], "1 of 2 are NaN"),
        ([0, 2], [0.1, 0.2], "0 and 1 only, received 2"),
        ([0], [0.1, 0.2], "received \\(1,\\) and \\(2,\\)"),
        ([], [], "no rows"),
    ],
    ids=["above one", "NaN", "label 2", "lengths", "empty"],
)
def test_bad_probabilities_are_refused(y_true, p, message):
    for measure in (metrics.brier, metrics.calibration_error, metrics.reliability):
        with pytest.raises(metrics.MetricError, match=message):
            measure(y_true, p)


@pytest.mark.parametrize("options", [{"bins": 0}, {"strategy": "equal"}])
def test_bins_must_be_possible(options):
    with pytest.raises(metrics.MetricError, match="a strategy of quantile, uniform"):
        metrics.calibration_error([0, 1], [0.1, 0.2], **options)


def test_temperature_is_the_likeliest_of_many():
    y, p = noisy(500, seed=8)
    p = special.expit(3 * special.logit(p))
    found = metrics.fit_temperature(val_rows(y, p))

    def unlikelihood(t):
        q = scaled_scores(p, t)
        return -np.log(np.where(y == 1, q, 1 - q)).mean()

    tried = np.exp(np.linspace(np.log(0.5), np.log(20), 4001))
    best = tried[np.argmin([unlikelihood(t) for t in tried])]
    assert found == pytest.approx(best, rel=2e-3)
    assert found == pytest.approx(3, rel=0.2)  # the truths were drawn at 1


def test_temperature_follows_the_logits():
    y, p = noisy(300, seed=9)
    once = metrics.fit_temperature(val_rows(y, p))
    hotter = special.expit(4 * special.logit(p))
    assert metrics.fit_temperature(val_rows(y, hotter)) == pytest.approx(
        4 * once, rel=1e-4
    )


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.2, 0.4, 0.6, 0.9], 0.05),
        ([0.9, 0.6, 0.4, 0.2], 20.0),
        ([0.5, 0.5, 0.5, 0.5], 1.0),
        ([0.0, 0.3, 0.8, 1.0], 0.05),
    ],
    ids=["all right", "all wrong", "all one half", "scores of 0 and 1"],
)
def test_temperature_at_its_edges_is_as_stated(p, expected):
    assert metrics.fit_temperature(val_rows([0, 0, 1, 1], p)) == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (val_rows([0, 1], [0.2, 0.8], "test"), "'val' only; received test \\(2\\)"),
        (val_rows([0, 1], [0.2, 0.8], ["val", "train"]), "val \\(1\\), train \\(1\\)"),
        (val_rows([0, 1], [0.2, 0.8], ""), "received empty \\(2\\)"),
        (val_rows([0, 1], [0.2, 0.8]).drop(columns="split"), "needs a column split"),
        (val_rows([], []), "received none"),
        (val_rows([1, 1], [0.2, 0.8]), "one class only"),
        (val_rows([0, 1], [-2.0, 3.0]), "received scores from -2 to 3"),
        (val_rows([0, 1], [0.2, np.nan]), "y_score: 1 NaN"),
        (val_rows([0, 1], [0.2, 0.3]).assign(image_id="a"), "'a' stands twice"),
    ],
    ids=["test", "mixed", "no split", "no column", "no rows", "one class", "logits",
         "NaN", "twice"],
)  # fmt: skip
def test_a_temperature_is_fitted_on_sound_validation_rows_only(rows, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.fit_temperature(rows)


def test_the_brier_scores_interval_ends_at_one():
    truth, p = np.array([0, 1, 0, 1]), np.array([0.1, 0.0, 0.9, 0.9])
    value, low, high = calibration.brier_bootstrap(truth, p, list("abcd"), n=500)
    assert value == pytest.approx((0.01 + 1 + 0.81 + 0.01) / 4)
    assert 0 < low < value and high == 1.0
