"""Draws of women with replacement, and AUCs of many draws at once.

A draw is a vector of weights: how often each image's woman was drawn. On scores sorted
once, the AUC of every draw is a cumulative sum, so no draw sorts or copies scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral

import numpy as np
import pandas as pd

from dm_training.prediction_rows import MetricError

_CHUNK_CELLS = 1_000_000  # 8 MB a table: what the processor's cache likes


def group_codes(groups, count: int) -> np.ndarray:
    """Number the women of (N,) images: int (N,), from 0.

    Raises:
        MetricError: Not one woman an image, or fewer than two women.
    """
    groups = pd.Series(np.asarray(groups))
    if len(groups) != count or groups.isna().any():
        raise MetricError(f"groups must name a woman for each of {count} images")
    codes = pd.factorize(groups)[0]
    if codes.max() < 1:
        raise MetricError("fewer than 2 women: nothing to resample")
    return codes


def smaller_class(codes: np.ndarray, y_true: np.ndarray) -> int:
    """How many women the class of fewer women has; one may count in both.

    Args:
        codes: (N,) women, as `group_codes` numbers them.
        y_true: bool (N,).
    """
    return min(len(np.unique(codes[members])) for members in (y_true, ~y_true))


def woman_weights(codes: np.ndarray, n: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn: (draws, N) in chunks of bounded memory."""
    rng = np.random.default_rng(seed)
    women = int(codes.max()) + 1
    step = max(1, _CHUNK_CELLS // max(len(codes), women))
    for start in range(0, n, step):
        draws = min(step, n - start)
        counts = rng.multinomial(women, np.full(women, 1 / women), size=draws)
        yield counts[:, codes].astype(np.float64)


def bootstrap(
    measure: Callable[[np.ndarray], np.ndarray], codes, n: int, seed: int
) -> np.ndarray:
    """`measure` of every draw: weights (draws, N) -> (draws, ...), all draws, (n, ...).

    Args:
        measure: Takes the weights of some draws.
        codes: (N,) women, as `group_codes` numbers them.
        n: Draws, at least 1.
        seed: Of NumPy's generator.

    Raises:
        MetricError: `n` is less than 1 or no whole number.
    """
    if not isinstance(n, Integral) or n < 1:
        raise MetricError(f"n, the number of draws, must be at least 1, received {n!r}")
    chunks = [measure(weights) for weights in woman_weights(codes, n, seed)]
    return np.concatenate(chunks)


def weighted_auc(y_true, y_score, weights) -> np.ndarray:
    """AUC of each draw: weights (draws, N) -> (draws,), NaN where a class is empty."""
    pos, neg = _class_weights(y_true, y_score, weights)
    below = np.cumsum(neg, axis=1) - neg / 2
    pairs = pos.sum(axis=1) * neg.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0: a draw of one class, NaN
        return (pos * below).sum(axis=1) / pairs


def weighted_sensitivity(y_true, y_score, weights, specificity) -> np.ndarray:
    """Sensitivity of each draw at a specificity; arguments as `weighted_auc`."""
    pos, neg = _class_weights(y_true, y_score, weights)
    below = np.cumsum(neg, axis=1) - neg  # negatives under each distinct score
    enough = below >= (specificity - 1e-12) * neg.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (pos * enough).sum(axis=1) / pos.sum(axis=1)


def weighted_specificity(y_true, y_score, weights, sensitivity) -> np.ndarray:
    """Specificity of each draw at a sensitivity; arguments as `weighted_auc`."""
    # Classes and order both turned over, what was specificity is sensitivity.
    return weighted_sensitivity(~y_true, -y_score, weights, sensitivity)


def weighted_partial_auc(y_true, y_score, weights, max_fpr: float) -> np.ndarray:
    """Area under each draw's curve left of a false positive rate, as a share of it.

    The curve is straight between its points, so that a tie counts one half. The result
    is the mean sensitivity where the specificity is at least 1 - max_fpr: 0 to 1.
    """
    pos, neg = _class_weights(y_true, y_score, weights)
    with np.errstate(invalid="ignore"):  # a draw of one class: NaN
        rise = pos[:, ::-1] / pos.sum(axis=1, keepdims=True)
        run = neg[:, ::-1] / neg.sum(axis=1, keepdims=True)
    start = np.cumsum(run, axis=1) - run
    inside = np.clip(max_fpr - start, 0, run)  # the part of each step left of the rate
    with np.errstate(invalid="ignore"):
        slope = np.divide(rise, run, out=np.zeros_like(rise), where=run > 0)
    height = np.cumsum(rise, axis=1) - rise + slope * inside / 2
    return (inside * height).sum(axis=1) / max_fpr


def _class_weights(y_true, y_score, weights) -> tuple[np.ndarray, np.ndarray]:
    """Drawn weight of positives and negatives at each distinct score, ascending."""
    order = np.argsort(y_score, kind="stable")
    starts = np.flatnonzero(np.diff(y_score[order], prepend=-np.inf))
    weights, truth = weights[:, order], y_true[order]
    pos = np.add.reduceat(weights * truth, starts, axis=1)
    neg = np.add.reduceat(weights * ~truth, starts, axis=1)
    return pos, neg
