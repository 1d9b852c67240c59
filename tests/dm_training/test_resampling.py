import time

import numpy as np
import pandas as pd
import pytest
from scipy import special
from simulated_scores import brute_force_auc, women_and_scores

from dm_training import metrics, resampling


def test_bootstrap_draws_agree_with_repeating_the_images():
    rng = np.random.default_rng(4)
    y_true, score = np.arange(12) % 2 == 0, rng.integers(0, 5, 12).astype(float)
    weights = rng.integers(0, 3, (6, 12)).astype(float)
    found = resampling.weighted_auc(y_true, score, weights)
    for drawn, value in zip(weights.astype(int), found, strict=True):
        again = np.repeat(y_true, drawn), np.repeat(score, drawn)
        assert value == pytest.approx(brute_force_auc(*again), abs=1e-12)


def test_bootstrapped_sensitivity_agrees_with_the_curve_of_the_drawn_images():
    rng = np.random.default_rng(13)
    y_true, score = np.arange(40) % 2 == 0, rng.integers(0, 15, 40).astype(float)
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    found = resampling.weighted_sensitivity(y_true, score, weights, 0.8)
    for drawn, value in zip(weights.astype(int), found, strict=True):
        again = np.repeat(y_true, drawn), np.repeat(score, drawn)
        assert value == pytest.approx(metrics.sensitivity_at(*again, 0.8)[0])


def test_bootstrapped_specificity_agrees_with_the_curve_of_the_drawn_images():
    rng = np.random.default_rng(14)
    y_true, score = np.arange(40) % 2 == 0, rng.integers(0, 15, 40).astype(float)
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    found = resampling.weighted_specificity(y_true, score, weights, 0.8)
    for drawn, value in zip(weights.astype(int), found, strict=True):
        again = np.repeat(y_true, drawn), np.repeat(score, drawn)
        assert value == pytest.approx(metrics.specificity_at(*again, 0.8)[0])


@pytest.mark.parametrize("levels", [6, 1000], ids=["many ties", "few ties"])
@pytest.mark.parametrize("width", [0.1, 0.35])
def test_bootstrapped_partial_auc_agrees_with_that_of_the_drawn_images(levels, width):
    rng = np.random.default_rng(15)
    y_true, score = np.arange(40) % 2 == 0, rng.integers(0, levels, 40).astype(float)
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    found = resampling.weighted_partial_auc(y_true, score, weights, width)
    for drawn, mean in zip(weights.astype(int), found, strict=True):
        again = np.repeat(y_true, drawn), np.repeat(score, drawn)
        whole = metrics.partial_auc(*again, min_specificity=1 - width)
        chance = width**2 / 2
        standard = (1 + (mean * width - chance) / (width - chance)) / 2
        assert standard == pytest.approx(whole)


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_a_bootstrap_draws_at_least_once(n):
    message = f"n, the number of draws, must be at least 1, received {n}"
    with pytest.raises(metrics.MetricError, match=message):
        metrics.auc_bootstrap([0, 1, 0, 1], [1, 2, 3, 4], range(4), n=n)


def test_a_draw_of_one_class_is_not_a_number():
    y_true, score = np.array([True, True, False]), np.array([1.0, 2.0, 3.0])
    weights = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    for measure, *share in (
        (resampling.weighted_auc,),
        (resampling.weighted_partial_auc, 0.2),
        (resampling.weighted_specificity, 0.9),
    ):
        found = measure(y_true, score, weights, *share)
        assert np.isnan(found[0]) and np.isfinite(found[1])


@pytest.fixture(scope="module")
def ten_thousand():
    y_true, score, women = women_and_scores(0.8, 5000, 0.5, np.random.default_rng(7))
    return y_true, score, women


def test_2000_draws_of_2000_images_take_less_than_10_seconds():
    y_true, score, women = women_and_scores(0.8, 1000, 0.5, np.random.default_rng(7))
    start = time.process_time()
    metrics.auc_bootstrap(y_true, score, women, n=2000)
    assert time.process_time() - start < 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measure", "options"),
    [
        (metrics.auc_bootstrap, {}),
        (metrics.sensitivity_bootstrap, {"specificity": 0.9}),
        (metrics.specificity_bootstrap, {"sensitivity": 0.9}),
        (metrics.partial_auc_bootstrap, {"min_specificity": 0.8}),
        (metrics.brier_bootstrap, {}),
        (metrics.calibration_error_bootstrap, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_2000_draws_of_10000_scores_take_less_than_10_seconds(
    measure, options, ten_thousand
):
    y_true, score, women = ten_thousand
    start = time.process_time()
    measure(y_true, special.expit(score), women, n=2000, **options)
    assert time.process_time() - start < 10


def test_all_metrics_of_10000_scores_take_less_than_a_second(ten_thousand):
    y_true, score, women = ten_thousand
    p = special.expit(score)
    rows = pd.DataFrame({
        "image_id": range(10_000), "patient_id": women, "split": "val",
        "y_true": y_true, "y_score": p,
    })  # fmt: skip
    metrics.partial_auc(y_true, p, min_specificity=0.8)  # imports are not counted
    start = time.process_time()
    metrics.auc_delong(y_true, p)
    metrics.delong_paired(y_true, p, -p)
    metrics.roc_points(y_true, p)
    metrics.sensitivity_at(y_true, p, 0.9)
    metrics.specificity_at(y_true, p, 0.9)
    metrics.partial_auc(y_true, p, min_specificity=0.8)
    metrics.brier(y_true, p)
    metrics.calibration_error(y_true, p)
    metrics.reliability(y_true, p)
    metrics.recalibration(y_true, p)
    metrics.fit_temperature(rows)
    metrics.aggregate(rows, "patient")
    assert time.process_time() - start < 1
