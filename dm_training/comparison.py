"""Two models on the same images: is one better, and how sure is that?"""

from __future__ import annotations

import numpy as np
from scipy import stats

from dm_training.intervals import Z
from dm_training.prediction_rows import check_scores
from dm_training.resampling import group_codes, weighted_auc, woman_weights
from dm_training.roc import auc, delong_covariance


def delong_paired(y_true, a, b) -> tuple[float, float, float, float]:
    """Difference AUC(a) - AUC(b) on the same independent images, DeLong's test.

    Returns:
        (value, low, high, p), two-sided. A model against itself: (0, 0, 0, 1). Where
        the variance is 0 and the difference is not (a perfect model against a constant
        one), p is the sign test's over the smaller class, 2 ** (1 - k).

    Raises:
        MetricError: As `auc`.
    """
    y_true, a = check_scores(y_true, a)
    y_true, b = check_scores(y_true, b)
    value = auc(y_true, a) - auc(y_true, b)
    cov = delong_covariance(y_true, np.stack([a, b]))
    se = float(np.sqrt(max(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1], 0.0)))
    if not se > 1e-12:  # also where a class of one leaves it undefined
        smaller = min(y_true.sum(), (~y_true).sum())
        p = 1.0 if abs(value) < 1e-12 else min(1.0, 2.0 ** (1 - int(smaller)))
        return value, value, value, p
    p = float(2 * stats.norm.sf(abs(value) / se))
    return value, value - Z * se, value + Z * se, p


def paired_auc_difference(
    y_true, a, b, groups, *, n: int = 2000, seed: int = 0
) -> tuple[float, float, float, float]:
    """Difference AUC(a) - AUC(b) on the same images, bootstrap of women.

    Both models are scored on the same drawn women, so what is hard for both cancels.

    Returns:
        (value, low, high, p): percentiles of the draws, and twice the smaller share
        of draws on either side of 0, never below 2 / (draws + 1). A model against
        itself: (0, 0, 0, 1).

    Raises:
        MetricError: As `auc_bootstrap`.
    """
    y_true, a = check_scores(y_true, a)
    y_true, b = check_scores(y_true, b)
    codes = group_codes(groups, len(y_true))
    draws = np.concatenate([
        weighted_auc(y_true, a, w) - weighted_auc(y_true, b, w)
        for w in woman_weights(codes, n, seed)
    ])  # fmt: skip
    draws = draws[np.isfinite(draws)]
    low, high = np.percentile(draws, [2.5, 97.5])
    sides = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (sides + 1) / (len(draws) + 1))
    return auc(y_true, a) - auc(y_true, b), float(low), float(high), float(p)
