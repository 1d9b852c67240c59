import numpy as np
import pytest
from simulated_scores import women_and_scores

from dm_training import metrics


def coverage(auc, women, alike, repeats, draws):
    rng, hits = np.random.default_rng(11), 0
    for seed in range(repeats):
        y_true, score, who = women_and_scores(auc, women, alike, rng)
        found = metrics.auc_bootstrap(y_true, score, who, n=draws, seed=seed)
        hits += found[1] <= auc <= found[2]
    return hits / repeats


def test_the_bootstrap_covers_about_95_percent():
    assert 0.90 <= coverage(0.9, 50, 0.5, repeats=150, draws=150) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("auc", [0.75, 0.95])
@pytest.mark.parametrize("women", [50, 200])
def test_the_bootstrap_covers_93_to_97_percent(auc, women):
    assert 0.93 <= coverage(auc, women, 0.5, repeats=1000, draws=300) <= 0.97
