"""The ROC curve, what is read off it, and intervals for that.

The interval of images whose women are named comes from a bootstrap that resamples
WOMEN, for the images of one woman resemble each other (four images of 50 women are no
200 independent images). All work on ranks, so that 2,000 draws of 2,000 images take a
second. Shen et al. give no intervals for single models; DeLong's and the clustered
bootstrap are our addition.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from dm_training.intervals import deviation, logit_interval
from dm_training.prediction_rows import MetricError, check_scores
from dm_training.resampling import (
    group_codes,
    weighted_auc,
    weighted_sensitivity,
    woman_weights,
)


def auc(y_true, y_score) -> float:
    """The area under the ROC curve; a tie counts one half.

    Args:
        y_true: (N,) 0 or 1.
        y_score: (N,) finite; only the order matters.

    Returns:
        P(score of a positive > score of a negative) + P(equal) / 2. All scores equal
        give 0.5.

    Raises:
        MetricError: One class only, lengths that differ, NaN, or other labels.
    """
    y_true, y_score = check_scores(y_true, y_score)
    positives, negatives = _placements(y_true, y_score)
    return float(positives.mean()) if len(positives) else float(negatives.mean())


def auc_delong(y_true, y_score) -> tuple[float, float, float]:
    """AUC with DeLong's 95 % interval, taken on the logit scale.

    It takes the images as independent; `auc_bootstrap` does not. Where DeLong's
    variance is 0 or undefined (AUC of 0 or 1, all scores equal, a class of one), the
    stated fallback is Clopper and Pearson's interval for `AUC * k` successes of k, k
    the size of the smaller class: at AUC 1 its lower end is 0.025 ** (1 / k). That is
    wider than the truth, never narrower.

    Returns:
        (value, low, high).

    Raises:
        MetricError: As `auc`.

    Source: DeLong, DeLong and Clarke-Pearson 1988; logit scale: Pepe 2003, 5.2.
    """
    y_true, y_score = check_scores(y_true, y_score)
    value = auc(y_true, y_score)
    variance = delong_covariance(y_true, y_score[None])[0, 0]
    smaller = int(min(y_true.sum(), (~y_true).sum()))
    return value, *logit_interval(value, np.sqrt(variance), smaller)


def auc_bootstrap(
    y_true, y_score, groups, *, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """AUC with a 95 % interval from a bootstrap that resamples women.

    Each draw takes as many women as there are, with replacement, and all images of
    each. The draws' deviation, times sqrt(k / (k - 1)) for the k women of the smaller
    class, gives the interval on the logit scale. Simulated (two images a woman, 100
    and 400 images, AUC 0.75 and 0.95, both views alike by 0, 0.5 and 0.9) it covers
    94-96 %; the draws' own percentiles covered 89-95 %, plain DeLong 88-95 %.

    Args:
        groups: (N,) the woman of each image.
        n: Draws. A draw that happens to hold one class only is not counted.
        seed: Of NumPy's generator: the same seed, the same interval.

    Returns:
        (value, low, high). The fallback is `auc_delong`'s, k counting women.

    Raises:
        MetricError: As `auc`; also where a group is missing or fewer than 2 women.
    """
    y_true, y_score = check_scores(y_true, y_score)
    codes = group_codes(groups, len(y_true))
    draws = np.concatenate(
        [weighted_auc(y_true, y_score, w) for w in woman_weights(codes, n, seed)]
    )
    value = auc(y_true, y_score)
    smaller = min(len(np.unique(codes[y_true])), len(np.unique(codes[~y_true])))
    return value, *logit_interval(value, deviation(draws, smaller), smaller)


def roc_points(y_true, y_score) -> pd.DataFrame:
    """The ROC curve as numbers: threshold, specificity, sensitivity, every step.

    An image is called positive where its score >= threshold; the first row (threshold
    infinite) calls none.
    """
    from sklearn.metrics import roc_curve

    y_true, y_score = check_scores(y_true, y_score)
    fpr, tpr, thresholds = roc_curve(y_true, y_score, drop_intermediate=False)
    columns = {"threshold": thresholds, "specificity": 1 - fpr, "sensitivity": tpr}
    return pd.DataFrame(columns)


def sensitivity_at(y_true, y_score, specificity: float) -> tuple[float, float]:
    """The best sensitivity whose specificity is at least the one asked for.

    The threshold is read off these very scores: a description of the curve, not an
    operating point (that one is fitted on validation).

    Returns:
        (sensitivity, threshold); score >= threshold is positive.

    Raises:
        MetricError: As `auc`; also for a specificity outside (0, 1).
    """
    if not 0 < specificity < 1:
        raise MetricError(f"specificity must lie in (0, 1), received {specificity!r}")
    points = roc_points(y_true, y_score)
    allowed = points[points["specificity"] >= specificity - 1e-12]
    best = allowed.loc[allowed["sensitivity"].idxmax()]
    return float(best["sensitivity"]), float(best["threshold"])


def sensitivity_bootstrap(
    y_true, y_score, groups, specificity: float, *, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """`sensitivity_at` with percentiles of a bootstrap of women, (value, low, high).

    Every draw finds its own threshold, so that choosing it is part of the interval. At
    0 and 1 it is at least as wide as Clopper and Pearson's over the positive women.
    """
    value, _ = sensitivity_at(y_true, y_score, specificity)
    y_true, y_score = check_scores(y_true, y_score)
    codes = group_codes(groups, len(y_true))
    draws = np.concatenate([
        weighted_sensitivity(y_true, y_score, w, specificity)
        for w in woman_weights(codes, n, seed)
    ])  # fmt: skip
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    if value in (0.0, 1.0):  # draws of nothing but 1 are no certainty
        exact = logit_interval(value, 0.0, len(np.unique(codes[y_true])))
        low, high = min(low, exact[0]), max(high, exact[1])
    return value, min(value, float(low)), max(value, float(high))


def delong_covariance(y_true, scores) -> np.ndarray:
    """Covariance (K, K) of the AUCs of (K, N) scores; NaN where a class has one."""
    placed = [_placements(y_true, score) for score in scores]
    total = np.zeros((len(scores), len(scores)))
    for side in (0, 1):
        values = np.stack([pair[side] for pair in placed])
        centred = values - values.mean(axis=1, keepdims=True)
        count = values.shape[1]
        scale = count * (count - 1) if count > 1 else np.nan
        total += centred @ centred.T / scale
    return total


def _placements(y_true, y_score) -> tuple[np.ndarray, np.ndarray]:
    """Of each positive, the share of negatives below; of each negative, above."""
    pos, neg = y_score[y_true], y_score[~y_true]
    ranks = stats.rankdata(y_score)
    v10 = (ranks[y_true] - stats.rankdata(pos)) / len(neg)
    v01 = 1 - (ranks[~y_true] - stats.rankdata(neg)) / len(pos)
    return v10, v01
