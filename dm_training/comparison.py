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

from dm_training.intervals import Z, deviation, logit_interval
from dm_training.prediction_rows import MetricError, check_scores
from dm_training.resampling import (
    bootstrap,
    group_codes,
    smaller_class,
    weighted_auc,
)
from dm_training.roc import auc, delong_covariance

# So many images ordered alike by two models are no coincidence.
_ENOUGH_ALIKE = 20


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

    It takes the classes as large. Simulated as `paired_auc_difference`, one image a
    woman, it found a difference between models alike in 17, 13, 7, 7 and 5 % with 2,
    3, 5, 10 and 30 positive images.

    Returns:
        (value, low, high, p), two-sided. A model against itself: (0, 0, 0, 1), and so
        against its own recalibration (20 images or more, all ordered alike).

        Without a variance (both models perfect, a perfect against a constant one, a
        class of one image) the interval is as wide as the two models' own let it be
        (Clopper and Pearson's, as `auc_delong`), and p is the sign test's over the
        smaller class, 2 ** (1 - k); 1 where the difference is 0.

    Raises:
        MetricError: As `auc`.
    """
    y_true, a = check_scores(y_true, a)
    y_true, b = check_scores(y_true, b)
    cov = delong_covariance(y_true, np.stack([a, b]))
    se = float(np.sqrt(max(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1], 0.0)))
    if not se > 1e-12:  # also where a class of one leaves it undefined
        smaller = int(min(y_true.sum(), (~y_true).sum()))
        return _without_variance(y_true, a, b, smaller)
    value = auc(y_true, a) - auc(y_true, b)
    p = float(2 * stats.norm.sf(abs(value) / se))
    return value, value - Z * se, value + Z * se, p


def paired_auc_difference(
    y_true, a, b, groups, *, n: int = 2000, seed: int = 0
) -> tuple[float, float, float, float]:
    """Difference AUC(a) - AUC(b) on the same images, bootstrap of women.

    Both models are scored on the same drawn women, so what is hard for both cancels.
    Interval and p are Student's, with k - 1 degrees of freedom for the k women of the
    smaller class and the draws' deviation times sqrt(k / (k - 1)).

    Simulated (two models alike, AUC 0.8 and 0.95; 120 women of one image, or at 0.8
    also 60 of two; 300 to 400 times; k = 2, 3, 5, 10, 30) it found a difference at
    p < 0.05 in at most 0, 0.3, 0.5, 2 and 6 %: with few women it is careful and finds
    little. The draws' own percentiles found one in up to 30, 17, 7, 9 and 6 %.

    Returns:
        (value, low, high, p); p never below 2 / (draws + 1), for so many draws show no
        more. A model against itself, and where k is 1 or no draw varies: as
        `delong_paired`, k counting women.

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
    smaller = smaller_class(codes, y_true)
    se = deviation(draws, smaller)
    if not se > 1e-12:
        return _without_variance(y_true, a, b, smaller)
    value = auc(y_true, a) - auc(y_true, b)
    low, high, p = _t_test(value, se, smaller)
    least = 2 / (int(np.isfinite(draws).sum()) + 1)
    return value, max(low, -1.0), min(high, 1.0), min(1.0, max(p, least))


def _without_variance(y_true, a, b, smaller: int) -> tuple[float, float, float, float]:
    """A difference whose error is unknown, or seems to be 0, is no certain one."""
    if _same_model(y_true, a, b):
        return 0.0, 0.0, 0.0, 1.0
    first, second = auc(y_true, a), auc(y_true, b)
    (a_low, a_high), (b_low, b_high) = (
        logit_interval(value, 0.0, smaller) for value in (first, second)
    )
    value = first - second
    p = 1.0 if abs(value) < 1e-12 else min(1.0, 2.0 ** (1 - smaller))
    return value, a_low - b_high, a_high - b_low, p


def _same_model(y_true, a, b) -> bool:
    if np.array_equal(a, b):
        return True
    alike = np.array_equal(stats.rankdata(a), stats.rankdata(b))
    return alike and len(y_true) >= _ENOUGH_ALIKE


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
