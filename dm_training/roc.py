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

from dm_training.intervals import deviation, logit_interval, share_interval
from dm_training.prediction_rows import MetricError, check_scores
from dm_training.resampling import (
    bootstrap,
    group_codes,
    smaller_class,
    weighted_auc,
    weighted_partial_auc,
    weighted_sensitivity,
    weighted_specificity,
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
    draws = bootstrap(lambda w: weighted_auc(y_true, y_score, w), codes, n, seed)
    value = auc(y_true, y_score)
    smaller = smaller_class(codes, y_true)
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
        (sensitivity, threshold); score >= threshold is positive. All scores equal:
        (0, inf), for none may be called.

    Raises:
        MetricError: As `auc`; also for a specificity outside (0, 1).
    """
    _check_share("specificity", specificity)
    points = roc_points(y_true, y_score)
    allowed = points[points["specificity"] >= specificity - 1e-12]
    best = allowed.loc[allowed["sensitivity"].idxmax()]
    return float(best["sensitivity"]), float(best["threshold"])


def sensitivity_bootstrap(
    y_true, y_score, groups, specificity: float, *, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """`sensitivity_at` with a 95 % interval from a bootstrap of women.

    Every draw finds its own threshold, so that choosing it is part of the interval,
    which is `share_interval` over the positive images and women. Simulated as
    `auc_bootstrap`, at specificities of 0.8 and 0.9, it covers 94-98 %.

    Returns:
        (value, low, high).

    Raises:
        MetricError: As `sensitivity_at` and `auc_bootstrap`.
    """
    value, _ = sensitivity_at(y_true, y_score, specificity)
    y_true, y_score = check_scores(y_true, y_score)
    codes = group_codes(groups, len(y_true))
    draws = bootstrap(
        lambda w: weighted_sensitivity(y_true, y_score, w, specificity), codes, n, seed
    )
    counts = {"women": _women(codes, y_true), "images": int(y_true.sum())}
    return value, *share_interval(value, draws, **counts)


def specificity_at(y_true, y_score, sensitivity: float) -> tuple[float, float]:
    """The best specificity whose sensitivity is at least the one asked for.

    Returns:
        (specificity, threshold): of several thresholds with that specificity the
        lowest, which has the best sensitivity. All scores equal: (0, that score), for
        all must be called.

    Raises:
        MetricError: As `auc`; also for a sensitivity outside (0, 1).
    """
    _check_share("sensitivity", sensitivity)
    points = roc_points(y_true, y_score)
    allowed = points[points["sensitivity"] >= sensitivity - 1e-12]
    best = allowed[allowed["specificity"] == allowed["specificity"].max()].iloc[-1]
    return float(best["specificity"]), float(best["threshold"])


def specificity_bootstrap(
    y_true, y_score, groups, sensitivity: float, *, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """`specificity_at` with a 95 % interval; all else as `sensitivity_bootstrap`."""
    value, _ = specificity_at(y_true, y_score, sensitivity)
    y_true, y_score = check_scores(y_true, y_score)
    codes = group_codes(groups, len(y_true))
    draws = bootstrap(
        lambda w: weighted_specificity(y_true, y_score, w, sensitivity), codes, n, seed
    )
    counts = {"women": _women(codes, ~y_true), "images": int((~y_true).sum())}
    return value, *share_interval(value, draws, **counts)


def partial_auc(
    y_true, y_score, *, min_specificity: float | None = None,
    min_sensitivity: float | None = None,
) -> float:  # fmt: skip
    """The area under a part of the ROC curve, standardised: 0.5 by chance, 1 at best.

    Args:
        min_specificity: Only the curve where the specificity is at least this; or
        min_sensitivity: only where the sensitivity is at least this. One of the two.

    Returns:
        (1 + (area - chance) / (width - chance)) / 2, with width 1 - min and chance the
        area under the diagonal, width ** 2 / 2. It can lie a little below 0.5. All
        scores equal give 0.5.

    Raises:
        MetricError: As `auc`; both or neither bound, or one outside (0, 1).

    Source: McClish 1989; towards high sensitivity: Jiang, Metz and Nishikawa 1996.
    """
    from sklearn.metrics import roc_auc_score

    y_true, y_score = check_scores(y_true, y_score)
    truth, score, width = _left_end(y_true, y_score, min_specificity, min_sensitivity)
    return float(roc_auc_score(truth, score, max_fpr=width))


def partial_auc_bootstrap(
    y_true, y_score, groups, *, min_specificity: float | None = None,
    min_sensitivity: float | None = None, n: int = 2000, seed: int = 0,
) -> tuple[float, float, float]:  # fmt: skip
    """`partial_auc` with a 95 % interval from a bootstrap of women.

    The interval is symmetric on the logit scale of the mean sensitivity (specificity)
    over the part, and Student's for the women of the smaller class, for few of them lie
    in the part. Simulated as `auc_bootstrap` it covers 94-97 % from a specificity
    of 0.8 up, and 92-95 % from 0.9.

    Returns:
        (value, low, high). Fallback as `auc_bootstrap`.

    Raises:
        MetricError: As `partial_auc` and `auc_bootstrap`.
    """
    y_true, y_score = check_scores(y_true, y_score)
    truth, score, width = _left_end(y_true, y_score, min_specificity, min_sensitivity)
    codes = group_codes(groups, len(truth))
    draws = bootstrap(
        lambda w: weighted_partial_auc(truth, score, w, width), codes, n, seed
    )
    mean = float(weighted_partial_auc(truth, score, np.ones((1, len(truth))), width)[0])
    smaller = smaller_class(codes, truth)
    z = float(stats.t.ppf(0.975, max(1, smaller - 1)))
    ends = logit_interval(mean, deviation(draws, smaller), smaller, z=z)
    # McClish's standardisation of mean * width, with width cancelled.
    return tuple((1 + (2 * m - width) / (2 - width)) / 2 for m in (mean, *ends))


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


def _women(codes, members) -> int:
    return len(np.unique(codes[members]))


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise MetricError(f"{name} must lie in (0, 1), received {value!r}")


def _left_end(y_true, y_score, min_specificity, min_sensitivity):
    """What makes the part asked for the left end of a curve: truth, score, width.

    With classes and order turned over, the ROC curve is seen from its other side: its
    left end is where the sensitivity was high.
    """
    if (min_specificity is None) == (min_sensitivity is None):
        raise MetricError("give one of min_specificity and min_sensitivity")
    if min_specificity is not None:
        _check_share("min_specificity", min_specificity)
        return y_true, y_score, 1 - min_specificity
    _check_share("min_sensitivity", min_sensitivity)
    return ~y_true, -y_score, 1 - min_sensitivity
