import numpy as np
import pytest
from scipy import stats
from simulated_scores import women_and_scores

from dm_training import metrics


def test_a_model_does_not_differ_from_itself():
    y_true, score, women = women_and_scores(0.8, 30, 0.5, np.random.default_rng(8))
    assert metrics.delong_paired(y_true, score, score) == (0, 0, 0, 1)
    found = metrics.paired_auc_difference(y_true, score, score, women, n=200)
    assert found == (0, 0, 0, 1)


def test_paired_difference_turns_over_when_models_change_places():
    rng = np.random.default_rng(9)
    y_true, a, women = women_and_scores(0.9, 60, 0.3, rng)
    b = rng.normal(size=120)
    value, low, high, p = metrics.paired_auc_difference(y_true, a, b, women, n=400)
    turned = metrics.paired_auc_difference(y_true, b, a, women, n=400)
    assert value == pytest.approx(metrics.auc(y_true, a) - metrics.auc(y_true, b))
    assert turned == pytest.approx((-value, -high, -low, p))
    assert low > 0 and p == pytest.approx(2 / 401)


def test_delong_paired_agrees_with_the_variance_of_the_differences():
    rng = np.random.default_rng(10)
    y_true, a, _ = women_and_scores(0.85, 30, 0, rng)
    b = a + rng.normal(size=60)
    value, low, high, p = metrics.delong_paired(y_true, a, b)
    y = y_true == 1
    won = [(s[y][:, None] > s[~y]).astype(float) for s in (a, b)]
    apart = won[0] - won[1]
    variance = sum(apart.mean(k).var(ddof=1) / apart.shape[1 - k] for k in (0, 1))
    assert high - value == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)
    assert p == pytest.approx(2 * stats.norm.sf(abs(value) / np.sqrt(variance)))


def test_delong_paired_of_a_perfect_and_a_constant_model_uses_the_sign_test():
    value, low, high, p = metrics.delong_paired([0] * 5 + [1] * 4, range(9), [1] * 9)
    assert (value, p) == (0.5, 2.0**-3)  # 4 positives
