import time

import numpy as np
import pytest
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


def test_2000_draws_of_2000_images_take_less_than_10_seconds():
    y_true, score, women = women_and_scores(0.8, 1000, 0.5, np.random.default_rng(7))
    start = time.process_time()
    metrics.auc_bootstrap(y_true, score, women, n=2000)
    assert time.process_time() - start < 10
