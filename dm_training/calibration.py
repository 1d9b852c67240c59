"""Whether a score means what it says: of all images at 0.3, three in ten are cancers.

An AUC sees only the order of scores; a reader sees their values. All here speaks of
the probability of the POSITIVE class. The calibration error of the literature on many
classes compares confidence with accuracy; of two classes it is wrong below 0.5, where
most mammograms lie.

The temperature is fitted on validation rows only, and no flag changes that. It is
applied by `dm_models.decision`, which travels with the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special

from dm_models.decision import scaled_scores
from dm_training.intervals import accuracy_wilson, deviation, log_interval
from dm_training.prediction_rows import (
    MetricError,
    check_rows,
    check_scores,
    require_split,
)
from dm_training.resampling import bootstrap, group_codes

STRATEGIES = ("quantile", "uniform")
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Recalibration:
    """The logistic line from a score's logit to the truth's, logit P = a + b logit p.

    Attributes:
        intercept: a; 0 is right.
        slope: b; 1 is right, below 1 the scores are too extreme.
        in_the_large: a with b held at 1: above 0 the scores are too low on the whole.
    """

    intercept: float
    slope: float
    in_the_large: float


def brier(y_true, p) -> float:
    """The mean squared distance of probability from truth; 0 is best.

    Args:
        y_true: (N,) 0 or 1; one class only is no error here.
        p: (N,) in [0, 1], the probability of the positive class. All at the share of
            positives s give s (1 - s).

    Raises:
        MetricError: No rows, lengths that differ, NaN, other labels, or a p outside
            [0, 1].
    """
    y_true, p = _check_probabilities(y_true, p)
    return float(((p - y_true) ** 2).mean())


def brier_bootstrap(
    y_true, p, groups, *, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """`brier` with a 95 % interval from a bootstrap of women: (value, low, high).

    The interval is symmetric on the log scale, from the draws' deviation; simulated as
    `auc_bootstrap`, it covers 93-95 %.

    Raises:
        MetricError: As `brier`; also where a group is missing or fewer than 2 women.
    """
    y_true, p = _check_probabilities(y_true, p)
    codes = group_codes(groups, len(p))
    apart = (p - y_true) ** 2
    draws = bootstrap(lambda w: (w @ apart) / w.sum(axis=1), codes, n, seed)
    value, women = float(apart.mean()), int(codes.max()) + 1
    low, high = log_interval(value, deviation(draws, women))
    return value, low, min(high, 1.0)


def calibration_error(
    y_true, p, *, bins: int = 10, strategy: str = "quantile"
) -> float:
    """The expected calibration error: mean gap of mean probability and positive share.

    Args:
        y_true: (N,) 0 or 1; one class only is no error here.
        p: (N,) in [0, 1], the probability of the positive class.
        bins: How many; a bin without images counts nothing.
        strategy: "quantile": bins of equal count, as far as ties allow, for equal
            scores stay together. "uniform": bins of equal width, [k / bins,
            (k + 1) / bins), 1 in the last.

    Returns:
        In [0, 1]; all scores equal: their distance from the share of positives.

    Raises:
        MetricError: As `brier`; also for an unknown strategy or no bins.

    Source: Naeini, Cooper and Hauskrecht 2015, on the positive class.
    """
    y_true, p = _check_probabilities(y_true, p)
    _check_bins(bins, strategy)
    all_once = np.ones((1, len(p)))
    return float(np.abs(_gaps(y_true, p, all_once, bins, strategy)).sum())


def calibration_error_bootstrap(
    y_true, p, groups, *, bins: int = 10, strategy: str = "quantile", n: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:  # fmt: skip
    """`calibration_error` with an interval from a bootstrap of women.

    The error is biased upwards (perfectly calibrated scores of 100 images show about
    0.1), and its draws still more, so their percentiles alone would never hold 0. The
    upper end is their 97.5th percentile; the lower end is 2 * value less that (the
    basic bootstrap's), and 0 where the value is no larger than 97.5 % of what the
    draws' noise about the observed gaps shows by itself. Simulated as `auc_bootstrap`,
    with perfect scores and with logits two and four times too large, it covers
    95-99 %.

    Returns:
        (value, low, high).

    Raises:
        MetricError: As `calibration_error` and `brier_bootstrap`.
    """
    value = calibration_error(y_true, p, bins=bins, strategy=strategy)
    y_true, p = _check_probabilities(y_true, p)
    codes = group_codes(groups, len(p))
    drawn = bootstrap(lambda w: _gaps(y_true, p, w, bins, strategy), codes, n, seed)
    seen = _gaps(y_true, p, np.ones((1, len(p))), bins, strategy)
    high = float(np.percentile(np.abs(drawn).sum(axis=1), 97.5))
    noise = float(np.percentile(np.abs(drawn - seen).sum(axis=1), 97.5))
    low = 0.0 if value <= noise else min(value, max(0.0, 2 * value - high))
    return value, low, max(value, high)


def reliability(
    y_true, p, *, bins: int = 10, strategy: str = "quantile"
) -> pd.DataFrame:
    """The bins of `calibration_error` as a table, from low scores to high.

    Returns:
        A row for each bin that holds images: n, mean_score, share (of positives), low
        and high (Wilson's 95 %, which takes the images as independent).

    Raises:
        MetricError: As `calibration_error`.
    """
    y_true, p = _check_probabilities(y_true, p)
    _check_bins(bins, strategy)
    found = pd.DataFrame({"bin": _bins(p, bins, strategy), "y": y_true, "p": p})
    rows = []
    for _, group in found.groupby("bin"):
        share = accuracy_wilson(int(group["y"].sum()), len(group))
        rows.append((len(group), group["p"].mean(), *share))
    return pd.DataFrame(rows, columns=["n", "mean_score", "share", "low", "high"])


def recalibration(y_true, p) -> Recalibration:
    """Calibration intercept and slope: a logistic line through the scores' logits.

    Args:
        y_true: (N,) 0 or 1.
        p: (N,) in [0, 1]; 0 and 1 are taken as 1e-7 from them.

    Raises:
        MetricError: As `brier`; one class only, or no score of one class lies beyond
            one of the other: then the slope has no finite value. All scores equal.

    Source: Cox 1958; Van Calster et al. 2016.
    """
    y_true, p = _check_probabilities(y_true, p)
    check_scores(y_true, p)
    logits = _logits(p)
    spread = logits.std()
    if not spread > 1e-12:
        raise MetricError("all scores are equal: there is no calibration slope")
    if _separated(y_true, logits):
        raise MetricError(
            "the scores separate the classes: the calibration slope has no finite value"
        )
    scaled = (logits - logits.mean()) / spread  # well-conditioned whatever the scores
    a, b = _logistic_line(y_true, scaled)
    slope = b / spread
    return Recalibration(
        intercept=float(a - slope * logits.mean()), slope=float(slope),
        in_the_large=_shift(y_true, logits),
    )  # fmt: skip


def fit_temperature(rows: pd.DataFrame) -> float:
    """The temperature that makes validation scores most likely.

    Args:
        rows: Columns split, y_true and y_score; every row must be of split "val".

    Returns:
        T in [0.05, 20]: above 1 the scores were too sure. Where every positive scores
        above 0.5 and every negative below, the likelihood grows without end as T
        falls: the lower bound. Where scores are worse than none, the upper bound. All
        scores 0.5: 1, for no temperature changes them.

    Raises:
        MetricError: A row of another split (those met are named), no rows, one class
            only, NaN, an image twice, or a score outside [0, 1].

    Source: Guo, Pleiss, Sun and Weinberger 2017.
    """
    require_split(rows, "val", "a temperature")
    check_rows(rows)
    y_true, p = _check_probabilities(rows["y_true"], rows["y_score"])
    check_scores(y_true, p)
    signed = np.where(y_true, -1.0, 1.0) * _logits(p)
    if not signed.any():
        return 1.0

    def unlikelihood(t: float) -> float:
        return float(np.logaddexp(0, signed / t).mean())

    inner = optimize.minimize_scalar(
        lambda log_t: unlikelihood(np.exp(log_t)), bounds=np.log(TEMPERATURES),
        method="bounded", options={"xatol": 1e-7},
    )  # fmt: skip
    # The search comes near the ends and never tries them.
    return min((*TEMPERATURES, float(np.exp(inner.x))), key=unlikelihood)


def _check_probabilities(y_true, p) -> tuple[np.ndarray, np.ndarray]:
    y_true, p = check_scores(y_true, p, one_class=True)
    if p.min() < 0 or p.max() > 1:
        raise MetricError(
            "calibration needs probabilities in [0, 1], received scores from "
            f"{p.min():g} to {p.max():g}"
        )
    return y_true, p


def _check_bins(bins: int, strategy: str) -> None:
    if bins < 1 or strategy not in STRATEGIES:
        raise MetricError(
            f"need at least 1 bin and a strategy of {', '.join(STRATEGIES)}; "
            f"received {bins!r}, {strategy!r}"
        )


def _bins(p, bins: int, strategy: str) -> np.ndarray:
    """The bin of each probability, int (N,)."""
    if strategy == "uniform":
        return np.digitize(p, np.arange(1, bins) / bins)
    below = np.searchsorted(np.sort(p), p)
    return below * bins // len(p)


def _gaps(y_true, p, weights, bins: int, strategy: str) -> np.ndarray:
    """Each bin's mean probability less its share, times its share of the images.

    Bins are those of the images themselves: weights (draws, N) -> (draws, bins).
    """
    inside = _bins(p, bins, strategy)[:, None] == np.arange(bins)
    return weights @ (inside * (p - y_true)[:, None]) / weights.sum(1, keepdims=True)


def _logits(p) -> np.ndarray:
    """Logits of probabilities, their ends treated as where a temperature is applied."""
    return 2 * special.logit(scaled_scores(p, 2.0))


def _separated(y_true, logits) -> bool:
    pos, neg = logits[y_true], logits[~y_true]
    return bool(neg.max() <= pos.min() or pos.max() <= neg.min())


def _logistic_line(y_true, x) -> np.ndarray:
    """The likeliest (intercept, slope) of P(y) = expit(a + b x)."""
    design = np.stack([np.ones_like(x), x], axis=1)

    def loss_and_slope(line):
        z = design @ line
        loss = (np.logaddexp(0, z) - y_true * z).mean()
        return loss, design.T @ (special.expit(z) - y_true) / len(x)

    options = {"gtol": 1e-9, "maxiter": 1000}
    found = optimize.minimize(
        loss_and_slope, np.zeros(2), jac=True, method="BFGS", options=options
    )
    return found.x


def _shift(y_true, logits) -> float:
    """The constant to add to all logits for the mean probability to be the share."""

    def excess(shift: float) -> float:
        return float(special.expit(logits + shift).mean() - y_true.mean())

    # Beyond these ends all probabilities lie below, or above, the share of positives.
    share = special.logit(y_true.mean())
    return float(
        optimize.brentq(excess, share - logits.max() - 1, share - logits.min() + 1)
    )
