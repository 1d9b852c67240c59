"""Two models on the same images: is one better, and how sure is that?

Three questions, three answers: on one test set, DeLong's test or the bootstrap of
women; over the folds of a cross-validation, the t-test of Huynh et al.; and for several
questions at once, adjusted p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dm_training.intervals import Z
from dm_training.prediction_rows import MetricError, check_scores
from dm_training.resampling import bootstrap, group_codes, weighted_auc
from dm_training.roc import auc, delong_covariance


@dataclass(frozen=True)
class FoldTest:
    """A difference over the folds of a cross-validation, tested in two ways.

    Attributes:
        difference: Mean over all folds.
        folds: K, of one cross-validation.
        repeats: R, how often it was repeated with other folds.
        low, high, p: Paired t-test that takes the R * K differences as independent.
        corrected_low, corrected_high, corrected_p: With Nadeau and Bengio's variance,
            for training sets overlap.
    """

    difference: float
    folds: int
    repeats: int
    low: float
    high: float
    p: float
    corrected_low: float
    corrected_high: float
    corrected_p: float


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
    draws = bootstrap(
        lambda w: weighted_auc(y_true, a, w) - weighted_auc(y_true, b, w),
        codes, n, seed,
    )  # fmt: skip
    draws = draws[np.isfinite(draws)]
    low, high = np.percentile(draws, [2.5, 97.5])
    sides = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (sides + 1) / (len(draws) + 1))
    return auc(y_true, a) - auc(y_true, b), float(low), float(high), float(p)


def adjust_p(p_values: Sequence[float], method: str = "holm") -> list[float]:
    """Adjust p for as many questions as are asked together; order is kept.

    Args:
        p_values: (M,) in [0, 1].
        method: "bonferroni" (M * p, as Huynh et al.) or "holm", which is never larger
            and keeps the same promise.

    Returns:
        M values, at most 1; none asked, none returned.

    Raises:
        MetricError: Another method, or a p outside [0, 1] or NaN.

    Source: Holm 1979.
    """
    if method not in ("holm", "bonferroni"):
        raise MetricError(f"method must be holm or bonferroni, received {method!r}")
    p = np.asarray(p_values, float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise MetricError(f"p must be (M,) in [0, 1], received {p.tolist()}")
    if method == "bonferroni":
        return np.minimum(1, len(p) * p).tolist()
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, stepped)
    return adjusted.tolist()


def cv_t_test(a, b=None, *, test_share: float | None = None) -> FoldTest:
    """Test whether two models differ over the folds of a cross-validation.

    Huynh et al. compare fold AUCs by the paired t-test of Hothorn et al., which takes
    folds as independent draws. They share training images, so its p is too small;
    Nadeau and Bengio's variance, s2 * (1 / (R K) + n_test / n_train), mends that, and
    matters most for repeated cross-validation. Simulated with two models alike on 100
    cases, five folds found a difference at p < 0.05 in 10 % (corrected: 4 %), five
    folds four times over in 38 % (6 %). Both tests stand in the result.

    Args:
        a: AUC of one model in each fold, (K,) or for R repeats (R, K); or, without
            `b`, the differences.
        b: The other model's, on the same folds.
        test_share: Share of the lesions (or women) that a fold tests; None is 1 / K.

    Returns:
        Intervals of 95 % with R * K - 1 degrees of freedom. All differences equal:
        the interval is that value; p is 1 at 0 and else the sign test's, 2 ** (1 - n).

    Raises:
        MetricError: Fewer than 2 folds, shapes that differ, NaN, or a share outside
            (0, 1).

    Source: Hothorn, Leisch, Zeileis and Hornik 2005; Nadeau and Bengio 2003; for
        repeats: Bouckaert and Frank 2004.
    """
    differences = _differences(a, b)
    repeats, folds = differences.shape
    share = 1 / folds if test_share is None else test_share
    if not 0 < share < 1:
        raise MetricError(f"test_share must lie in (0, 1), received {share!r}")
    mean, count = float(differences.mean()), differences.size
    spread = float(differences.std(ddof=1))
    plain = _t_test(mean, spread * np.sqrt(1 / count), count)
    corrected = _t_test(mean, spread * np.sqrt(1 / count + share / (1 - share)), count)
    return FoldTest(mean, folds, repeats, *plain, *corrected)


def _differences(a, b) -> np.ndarray:
    a = np.asarray(a, float)
    b = np.zeros_like(a) if b is None else np.asarray(b, float)
    if a.shape != b.shape or a.ndim not in (1, 2) or a.shape[-1] < 2 or not a.size:
        raise MetricError(
            "fold AUCs must be (K,) or (R, K) alike with K >= 2, received "
            f"{a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise MetricError("fold AUCs hold NaN: a fold of one class has no AUC")
    return np.atleast_2d(a - b)


def _t_test(mean: float, se: float, count: int) -> tuple[float, float, float]:
    if not se > 1e-12:
        return mean, mean, 1.0 if abs(mean) < 1e-12 else 2.0 ** (1 - count)
    half = float(stats.t.ppf(0.975, count - 1)) * se
    p = 2 * stats.t.sf(abs(mean) / se, count - 1)
    return mean - half, mean + half, float(p)
