"""Scores with a known truth behind them, for tests of metrics."""

import numpy as np
import pandas as pd
from scipy import stats


def women_and_scores(auc, women, alike, rng):
    """Two images a woman, both of her class; unit normal scores a distance apart."""
    distance = np.sqrt(2) * stats.norm.ppf(auc)
    y_true = np.repeat(np.arange(women) % 2, 2)
    hers = np.repeat(rng.normal(size=women), 2)
    own = rng.normal(size=2 * women)
    score = np.sqrt(alike) * hers + np.sqrt(1 - alike) * own + distance * y_true
    return y_true, score, np.repeat(np.arange(women), 2)


def brute_force_auc(y_true, y_score):
    pos, neg = y_score[y_true == 1], y_score[y_true == 0]
    pairs = [(p > n) + 0.5 * (p == n) for p in pos for n in neg]
    return np.mean(pairs)


def prediction_table(women=20, seed=0, split="test", **columns):
    """A CC and an MLO view of one breast of each woman; probabilities."""
    rng = np.random.default_rng(seed)
    y_true, score, who = women_and_scores(0.85, women, 0.5, rng)
    base = {
        "image_id": [f"i{k}" for k in range(2 * women)],
        "patient_id": [f"p{k}" for k in who], "laterality": "L",
        "view": ["CC", "MLO"] * women, "split": split, "y_true": y_true,
        "y_score": 1 / (1 + np.exp(-2 * score + 1.5)),
    }  # fmt: skip
    return pd.DataFrame(base | columns)
