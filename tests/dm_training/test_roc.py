import numpy as np
import pytest
from scipy import special
from simulated_scores import brute_force_auc, women_and_scores

from dm_training import metrics


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
def test_auc_is_the_share_of_pairs_in_the_right_order(levels):
    rng = np.random.default_rng(1)
    y_true, y_score = rng.integers(0, 2, 60), rng.integers(0, levels, 60).astype(float)
    assert metrics.auc(y_true, y_score) == pytest.approx(
        brute_force_auc(y_true, y_score), abs=1e-12
    )


def test_auc_of_a_literal_example():
    # pairs: .8>.3, .8>.5, .4>.3, .4<.5: 3 of 4
    assert metrics.auc([0, 0, 1, 1], [0.3, 0.5, 0.8, 0.4]) == 0.75


def test_auc_survives_a_monotone_map_and_turns_over_with_the_sign():
    y_true, score, _ = women_and_scores(0.8, 40, 0, np.random.default_rng(2))
    value = metrics.auc(y_true, score)
    assert metrics.auc(y_true, np.exp(3 * score)) == pytest.approx(value, abs=1e-12)
    assert metrics.auc(y_true, -score) == pytest.approx(1 - value, abs=1e-12)


def test_equal_scores_give_one_half():
    assert metrics.auc([0, 1, 1], [0.4, 0.4, 0.4]) == 0.5


def test_delong_of_a_worked_example():
    # positives .9 .6 .4, negatives .7 .3 .1. Of each positive the share of negatives
    # below: 1, 2/3, 2/3; of each negative the share of positives above: 1/3, 1, 1.
    # AUC 7/9; variances with n - 1: 1/27 and 4/27; (1/27) / 3 + (4/27) / 3 = 5/81
    value, low, high = metrics.auc_delong(
        [1, 1, 1, 0, 0, 0], [0.9, 0.6, 0.4, 0.7, 0.3, 0.1]
    )
    half = 1.959964 * np.sqrt(5 / 81) / (7 / 9 * 2 / 9)
    assert value == pytest.approx(7 / 9)
    assert low == pytest.approx(special.expit(np.log(3.5) - half), abs=1e-6)
    assert high == pytest.approx(special.expit(np.log(3.5) + half), abs=1e-6)


def test_delong_variance_agrees_with_brute_force_over_pairs():
    rng = np.random.default_rng(3)
    y_true, score = np.arange(50) % 3 == 0, rng.integers(0, 12, 50).astype(float)
    pos, neg = score[y_true], score[~y_true]
    won = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
    variance = won.mean(1).var(ddof=1) / len(pos) + won.mean(0).var(ddof=1) / len(neg)
    value, low, high = metrics.auc_delong(y_true, score)
    half = (special.logit(high) - special.logit(low)) / 2
    se = half * value * (1 - value) / 1.959964
    assert se == pytest.approx(np.sqrt(variance), rel=1e-5)


def test_perfect_scores_have_the_stated_fallback():
    value, low, high = metrics.auc_delong([0] * 30 + [1] * 20, np.arange(50))
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 20))  # 20: the smaller class
    value, low, high = metrics.auc_delong([1] * 20 + [0] * 30, np.arange(50))
    assert (value, low) == (0.0, 0.0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_the_fallback_of_the_bootstrap_counts_women():
    women = np.repeat(np.arange(10), 5)
    value, low, high = metrics.auc_bootstrap([0] * 25 + [1] * 25, np.arange(50), women)
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 5))


def test_one_positive_is_enough_for_an_interval():
    value, low, high = metrics.auc_delong([0, 0, 0, 1], [1, 2, 4, 3])
    assert low < value < high
    assert 0 <= low and high <= 1


def test_bootstrap_is_wider_where_images_of_a_woman_are_alike():
    y_true, score, women = women_and_scores(0.8, 60, 0.95, np.random.default_rng(5))
    _, low, high = metrics.auc_bootstrap(y_true, score, women, n=500)
    _, low_images, high_images = metrics.auc_bootstrap(
        y_true, score, np.arange(120), n=500
    )
    assert high - low > 1.2 * (high_images - low_images)


def test_bootstrap_repeats_with_its_seed():
    y_true, score, women = women_and_scores(0.8, 30, 0.5, np.random.default_rng(6))
    first = metrics.auc_bootstrap(y_true, score, women, n=200, seed=3)
    assert metrics.auc_bootstrap(y_true, score, women, n=200, seed=3) == first
    assert metrics.auc_bootstrap(y_true, score, women, n=200, seed=4) != first


def test_roc_points_start_with_none_called_and_end_with_all():
    points = metrics.roc_points([0, 0, 1, 1], [0.3, 0.5, 0.8, 0.4])
    assert points["threshold"].tolist() == [np.inf, 0.8, 0.5, 0.4, 0.3]
    assert points["sensitivity"].tolist() == [0, 0.5, 0.5, 1, 1]
    assert points["specificity"].tolist() == [1, 1, 0.5, 0.5, 0]


def test_sensitivity_at_a_specificity_is_the_best_that_is_allowed():
    truth = [0] * 5 + [1] * 4
    score = [0.1, 0.2, 0.3, 0.4, 0.7, 0.35, 0.5, 0.6, 0.9]
    # specificity 4/5 at threshold 0.5: of 4 positives .5 .6 .9 are called
    assert metrics.sensitivity_at(truth, score, 0.8) == (0.75, 0.5)
    assert metrics.sensitivity_at(truth, score, 0.9) == (0.25, 0.9)


def test_sensitivity_has_an_interval_that_holds_it():
    y_true, score, women = women_and_scores(0.9, 60, 0.3, np.random.default_rng(12))
    value, low, high = metrics.sensitivity_bootstrap(y_true, score, women, 0.8, n=300)
    assert value == metrics.sensitivity_at(y_true, score, 0.8)[0]
    assert 0 <= low < value < high <= 1


def test_a_full_sensitivity_of_few_women_is_no_certainty():
    truth, women = np.repeat([0, 1], 20), np.repeat(np.arange(20), 2)
    found = metrics.sensitivity_bootstrap(truth, truth * 9.0, women, 0.8, n=200)
    assert found == pytest.approx((1.0, 0.025 ** (1 / 10), 1.0))  # 10 positive women


@pytest.mark.parametrize(
    ("y_true", "y_score", "message"),
    [
        ([1, 1], [0.1, 0.2], "one class only \\(2 positives of 2\\)"),
        ([0, 1], [0.1, np.nan], "1 of 2 are NaN"),
        ([0, 2], [0.1, 0.2], "0 and 1 only, received 2"),
        ([0, np.nan], [0.1, 0.2], "0 and 1 only, received nan"),
        ([0, 1, 1], [0.1, 0.2], "received \\(3,\\) and \\(2,\\)"),
        ([], [], "one class only"),
    ],
    ids=["one class", "NaN score", "label 2", "NaN truth", "lengths", "empty"],
)
def test_bad_scores_are_refused(y_true, y_score, message):
    for measure in (metrics.auc, metrics.auc_delong, metrics.roc_points):
        with pytest.raises(metrics.MetricError, match=message):
            measure(y_true, y_score)


def test_groups_must_fit():
    with pytest.raises(metrics.MetricError, match="each of 2 images"):
        metrics.auc_bootstrap([0, 1], [0.1, 0.2], ["p"])
    with pytest.raises(metrics.MetricError, match="fewer than 2 women"):
        metrics.auc_bootstrap([0, 1], [0.1, 0.2], ["p", "p"])


def test_specificity_at_a_sensitivity_is_the_best_that_is_allowed():
    truth = [0] * 5 + [1] * 4
    score = [0.1, 0.2, 0.3, 0.4, 0.7, 0.35, 0.5, 0.6, 0.9]
    # 3 of 4 positives are called from 0.5 on; negatives below it: .1 .2 .3 .4, 4 of 5
    assert metrics.specificity_at(truth, score, 0.75) == (0.8, 0.5)
    # all 4 from 0.35 on; negatives below it: .1 .2 .3, 3 of 5
    assert metrics.specificity_at(truth, score, 0.9) == (0.6, 0.35)


def test_of_equal_specificities_the_threshold_with_the_best_sensitivity_is_taken():
    # from 0.8 on half of the positives, from 0.6 on all: specificity 1 at both
    assert metrics.specificity_at([0, 1, 1], [0.1, 0.6, 0.8], 0.5) == (1.0, 0.6)


@pytest.mark.parametrize("seed", range(5))
def test_sensitivity_and_specificity_agree_with_trying_every_threshold(seed):
    rng = np.random.default_rng(seed)
    y, s = rng.integers(0, 2, 40), rng.integers(0, 12, 40) / 12
    y[:2] = 0, 1
    points = [
        ((s[y == 1] >= t).mean(), (s[y == 0] < t).mean()) for t in [*np.unique(s), 9]
    ]
    best = max(se for se, sp in points if sp >= 0.8)
    assert metrics.sensitivity_at(y, s, 0.8)[0] == pytest.approx(best)
    best = max(sp for se, sp in points if se >= 0.8)
    assert metrics.specificity_at(y, s, 0.8)[0] == pytest.approx(best)


def test_specificity_has_an_interval_that_holds_it():
    y_true, score, women = women_and_scores(0.9, 60, 0.3, np.random.default_rng(12))
    value, low, high = metrics.specificity_bootstrap(y_true, score, women, 0.8, n=300)
    assert value == metrics.specificity_at(y_true, score, 0.8)[0]
    assert 0 <= low < value < high <= 1
    # seen from the other side it is a sensitivity
    turned = metrics.sensitivity_bootstrap(1 - y_true, -score, women, 0.8, n=300)
    assert turned == pytest.approx((value, low, high))


def test_equal_scores_have_stated_points_on_the_curve():
    assert metrics.sensitivity_at([0, 1], [0.4, 0.4], 0.9) == (0.0, np.inf)
    assert metrics.specificity_at([0, 1], [0.4, 0.4], 0.9) == (0.0, 0.4)
    assert metrics.partial_auc([0, 1], [0.4, 0.4], min_specificity=0.9) == 0.5


def brute_force_partial_auc(y_true, score, width):
    """Mean sensitivity left of a false positive rate, by a fine grid of rates."""
    points = metrics.roc_points(y_true, score)
    fine = (np.arange(200_000) + 0.5) / 200_000 * width
    height = np.interp(fine, 1 - points["specificity"], points["sensitivity"])
    return height.mean()


@pytest.mark.parametrize("levels", [5, 1000], ids=["many ties", "few ties"])
@pytest.mark.parametrize("width", [0.1, 0.33, 0.9])
def test_partial_auc_agrees_with_the_area_by_a_fine_grid(levels, width):
    rng = np.random.default_rng(15)
    y = np.arange(80) % 2
    score = y * levels / 4 + rng.integers(0, levels, 80)
    area = brute_force_partial_auc(y, score, width) * width
    chance = width**2 / 2
    expected = (1 + (area - chance) / (width - chance)) / 2
    found = metrics.partial_auc(y, score, min_specificity=1 - width)
    assert found == pytest.approx(expected, abs=1e-4)


def test_partial_auc_of_a_literal_example():
    # 2 positives, 2 negatives, order + - + -: the curve rises to 1/2, runs to 1/2,
    # rises to 1. Left of a rate of 1/2 the area is 1/4; chance 1/8, best 1/2:
    # (1 + (1/4 - 1/8) / (1/2 - 1/8)) / 2 = 2/3
    y, score = [1, 0, 1, 0], [4, 3, 2, 1]
    assert metrics.partial_auc(y, score, min_specificity=0.5) == pytest.approx(2 / 3)
    # Above a sensitivity of 1/2 it runs at rates 1/2 to 1: area 1/4 of 1/2 as well
    assert metrics.partial_auc(y, score, min_sensitivity=0.5) == pytest.approx(2 / 3)


def test_partial_auc_is_half_by_chance_and_one_at_best():
    rng = np.random.default_rng(16)
    y, score = np.arange(40_000) % 2, rng.random(40_000)
    for side in ({"min_specificity": 0.8}, {"min_sensitivity": 0.8}):
        assert metrics.partial_auc(y, score, **side) == pytest.approx(0.5, abs=0.01)
        assert metrics.partial_auc(y, y + score, **side) == 1


def test_partial_auc_has_an_interval_that_holds_it():
    y_true, score, women = women_and_scores(0.9, 60, 0.3, np.random.default_rng(17))
    for side in ({"min_specificity": 0.8}, {"min_sensitivity": 0.8}):
        found = metrics.partial_auc_bootstrap(y_true, score, women, **side, n=300)
        assert found[0] == pytest.approx(metrics.partial_auc(y_true, score, **side))
        assert 0.45 < found[1] < found[0] < found[2] <= 1


@pytest.mark.parametrize(
    "sides",
    [{}, {"min_specificity": 0.9, "min_sensitivity": 0.9}],
    ids=["neither", "both"],
)
def test_partial_auc_wants_one_side(sides):
    with pytest.raises(metrics.MetricError, match="one of min_specificity and min_"):
        metrics.partial_auc([0, 1], [0.1, 0.2], **sides)


@pytest.mark.parametrize("share", [0, 1, 1.5, float("nan")])
def test_shares_lie_between_0_and_1(share):
    given = [0, 1], [0.1, 0.2]
    with pytest.raises(metrics.MetricError, match="specificity must lie in"):
        metrics.sensitivity_at(*given, share)
    with pytest.raises(metrics.MetricError, match="sensitivity must lie in"):
        metrics.specificity_at(*given, share)
    with pytest.raises(metrics.MetricError, match="min_sensitivity must lie in"):
        metrics.partial_auc(*given, min_sensitivity=share)
