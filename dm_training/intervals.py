"""Intervals: on the logit scale, from a bootstrap's draws, of a share.

Plain intervals leave [0, 1] and cover too seldom near 1, and a bootstrap in which
nothing varies claims certainty. What is done instead is decided here, once.
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from dm_training.prediction_rows import MetricError

Z = float(stats.norm.ppf(0.975))


def accuracy_wilson(correct: int, n: int) -> tuple[float, float, float]:
    """A share of n with Wilson's 95 % interval, (value, low, high).

    Raises:
        MetricError: n is 0 or `correct` lies outside 0..n.
    """
    if n < 1 or not 0 <= correct <= n:
        raise MetricError(f"need 0 <= correct <= n, n >= 1; received {correct} of {n}")
    interval = stats.binomtest(int(correct), int(n)).proportion_ci(method="wilson")
    return correct / n, float(interval.low), float(interval.high)


def logit_interval(
    value: float, se: float, smaller: int, *, z: float = Z
) -> tuple[float, float]:
    """A 95 % interval, symmetric on the logit scale: (low, high).

    Args:
        value: In [0, 1].
        se: Its standard error; 0 or NaN where there is none.
        smaller: Members of the smaller class, for the fallback.
        z: How many errors wide each half is.

    Returns:
        Without a usable error, or at a value of 0 or 1, Clopper and Pearson's interval
        for `value * smaller` successes of `smaller`.
    """
    if not se > 1e-12 or not 0 < value < 1:
        low = stats.beta.ppf(0.025, value * smaller, smaller * (1 - value) + 1)
        high = stats.beta.ppf(0.975, value * smaller + 1, smaller * (1 - value))
        return float(np.nan_to_num(low)), float(np.nan_to_num(high, nan=1.0))
    half = z * se / (value * (1 - value))
    centre = special.logit(value)
    return float(special.expit(centre - half)), float(special.expit(centre + half))


def deviation(draws: np.ndarray, smaller: int) -> float:
    """The draws' deviation, without the bootstrap's shrinkage; 0 where undefined.

    Args:
        draws: (D,); NaN ones (a draw of one class) are not counted.
        smaller: Women of the smaller class, k: the deviation grows by
            sqrt(k / (k - 1)).
    """
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2 or smaller < 2:
        return 0.0
    return float(draws.std(ddof=1)) * float(np.sqrt(smaller / (smaller - 1)))


def share_interval(
    value: float, draws: np.ndarray, *, women: int, images: int
) -> tuple[float, float]:
    """Wilson's 95 % interval of a share whose images belong to women: (low, high).

    The images of a woman resemble each other, so they count as fewer: as many
    independent ones as would have the draws' variance, never more than there are.
    Where the share is 0 or 1 no draw varies; then Clopper and Pearson's interval over
    the women.

    Args:
        value: The share.
        draws: (D,) the share in each draw of women; NaN ones are not counted.
        women: Women of whose images it is a share.
        images: Those images.

    Source:
        Wilson's interval with an effective number: Dean and Pagano, J. Survey Stat.
        Methodol. 2015; Korn and Graubard 1998 for Clopper and Pearson's.
    """
    spread = deviation(draws, women)
    if value in (0.0, 1.0) or not spread > 1e-12:
        return logit_interval(value, 0.0, women)
    return _wilson(value, min(value * (1 - value) / spread**2, images))


def _wilson(value: float, n: float) -> tuple[float, float]:
    shrunk = 1 + Z**2 / n
    centre = (value + Z**2 / (2 * n)) / shrunk
    half = Z * float(np.sqrt(value * (1 - value) / n + (Z / (2 * n)) ** 2)) / shrunk
    return float(centre - half), float(centre + half)


def log_interval(value: float, se: float) -> tuple[float, float]:
    """A 95 % interval of a positive value, symmetric on the log scale: (low, high).

    A value of 0, or one without an error, has no width.
    """
    if not value > 0:
        return value, value
    factor = float(np.exp(Z * se / value))
    return value / factor, value * factor
