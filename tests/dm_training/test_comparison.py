import itertools

import numpy as np
import pytest
from scipy import special, stats
from simulated_scores import women_and_scores

from dm_training import metrics
from dm_training.resampling import bootstrap, weighted_auc
from dm_training.roc import delong_covariance


def test_a_model_does_not_differ_from_itself():
    y_true, score, women = women_and_scores(0.8, 30, 0.5, np.random.default_rng(8))
    assert metrics.delong_paired(y_true, score, score) == (0, 0, 0, 1)
    found = metrics.paired_auc_difference(y_true, score, score, women, n=200)
    assert found == (0, 0, 0, 1)


def test_paired_difference_turns_over_when_models_change_places():
    rng = np.random.default_rng(9)
    y_true, a, women = women_and_scores(0.9, 60, 0.3, rng)
    b = rng.normal(size=120)
    value, low, high, p = metrics.paired_auc_difference(y_true, a, b, women, n=400)
    turned = metrics.paired_auc_difference(y_true, b, a, women, n=400)
    assert value == pytest.approx(metrics.auc(y_true, a) - metrics.auc(y_true, b))
    assert turned == pytest.approx((-value, -high, -low, p))
    assert low > 0 and p == pytest.approx(2 / 401)


def test_delong_paired_agrees_with_the_variance_of_the_differences():
    rng = np.random.default_rng(10)
    y_true, a, _ = women_and_scores(0.85, 30, 0, rng)
    b = a + rng.normal(size=60)
    value, low, high, p = metrics.delong_paired(y_true, a, b)
    y = y_true == 1
    won = [(s[y][:, None] > s[~y]).astype(float) for s in (a, b)]
    apart = won[0] - won[1]
    variance = sum(apart.mean(k).var(ddof=1) / apart.shape[1 - k] for k in (0, 1))
    assert high - value == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)
    assert p == pytest.approx(2 * stats.norm.sf(abs(value) / np.sqrt(variance)))


def test_delong_paired_of_a_perfect_and_a_constant_model_uses_the_sign_test():
    value, low, high, p = metrics.delong_paired([0] * 5 + [1] * 4, range(9), [1] * 9)
    assert (value, p) == (0.5, 2.0**-3)  # 4 positives
    # the perfect one is at least .025 ** (1/4), the constant one 2 of 4
    half = stats.beta.ppf([0.025, 0.975], [2, 3], [3, 2])
    assert low == pytest.approx(0.025**0.25 - half[1])
    assert high == pytest.approx(1 - half[0])


def both_tests(y_true, a, b):
    """Each image of a woman of its own, or taken as independent."""
    women = range(len(y_true))
    return [
        metrics.paired_auc_difference(y_true, a, b, women, n=200),
        metrics.delong_paired(y_true, a, b),
    ]


def test_two_perfect_models_are_not_certain_to_be_alike():
    y_true, a, b = [0, 0, 0, 1, 1], [0, 1, 2, 3, 4], [2, 1, 0, 4, 3]
    for found in both_tests(y_true, a, b):
        # either may have an AUC down to .025 ** (1/2), as 2 positives show
        assert found == pytest.approx((0, 0.025**0.5 - 1, 1 - 0.025**0.5, 1))


def test_one_positive_woman_shows_no_difference():
    y_true, a = np.arange(120) == 119, np.arange(120.0)
    b = a.copy()
    b[119] = 84.5  # above 85 of 119: AUC 0.714, the other's is 1
    for value, low, high, p in both_tests(y_true, a, b):
        assert value == pytest.approx(34 / 119) and p == 1
        assert low < -0.5 and high > 0.9


def test_a_model_does_not_differ_from_its_own_recalibration():
    y_true, score, _ = women_and_scores(0.8, 10, 0.5, np.random.default_rng(8))
    assert both_tests(y_true, score, special.expit(2 * score)) == [(0, 0, 0, 1)] * 2
    # six images ordered alike can be chance
    *_, (_, low, high, p) = both_tests([0, 1, 0, 1, 0, 1], range(6), range(0, 12, 2))
    assert low < -0.5 and high > 0.5 and p == 1


def alike_models(positives, rng):
    """Two models with an AUC of 0.8, half of whose noise is common; 120 women."""
    y_true = np.arange(120) < positives
    common, a, b = rng.normal(size=(3, 120)) / np.sqrt(2)
    shift = np.sqrt(2) * stats.norm.ppf(0.8) * y_true
    return y_true, common + a + shift, common + b + shift


def test_paired_interval_is_students_of_the_women_of_the_smaller_class():
    y_true, a, b = alike_models(4, np.random.default_rng(21))
    women = np.arange(120)
    value, low, high, p = metrics.paired_auc_difference(y_true, a, b, women, n=300)
    draws = bootstrap(
        lambda w: weighted_auc(y_true, a, w) - weighted_auc(y_true, b, w),
        women, 300, 0,
    )  # fmt: skip
    se = np.nanstd(draws, ddof=1) * np.sqrt(4 / 3)
    assert (low, high) == pytest.approx((value - 3.182446 * se, value + 3.182446 * se))
    assert p == pytest.approx(2 * stats.t.sf(abs(value) / se, 3))


@pytest.mark.parametrize("positives", [1, 2, 3])
def test_few_positive_women_seldom_show_a_difference_that_is_none(positives):
    rng, women, found = np.random.default_rng(22), np.arange(120), 0
    for seed in range(60):
        data = alike_models(positives, rng)
        *_, p = metrics.paired_auc_difference(*data, women, n=100, seed=seed)
        found += p < 0.05
    assert found / 60 <= 0.07


def test_thirty_positive_women_show_a_large_difference():
    y_true, a, _ = alike_models(30, np.random.default_rng(23))
    other = np.random.default_rng(24).normal(size=120)
    value, low, high, p = metrics.paired_auc_difference(
        y_true, a, other, np.arange(120), n=200
    )
    assert 0 < low < value < high <= 1 and p < 0.05


# K-G score, albumin and total protein of 43 women with ovarian cancer, whether surgery
# helped: the worked example of DeLong et al. 1988, its data and results as printed in
# the SAS/STAT User's Guide, "Comparing Receiver Operating Characteristic Curves".
ALBUMIN = """
3.0 3.2 3.9 2.8 3.2 0.9 2.5 1.6 3.8 3.7 3.2 3.8 4.1 3.6 4.3 3.6 2.3 4.2 4.0
3.5 3.8 3.0 4.5 3.7 3.1 4.1 4.3 4.3 3.2 2.6 3.3 1.7 3.7 3.3 4.2 3.5 2.9 2.1
2.8 4.0 3.3 3.7 3.6
"""
PROTEIN = """
5.8 6.3 6.8 4.8 5.8 4.0 5.7 5.6 5.7 6.7 5.4 6.6 6.6 5.7 7.0 6.7 4.4 7.6 6.6
5.8 6.8 4.7 7.4 7.4 6.6 8.2 7.0 6.5 5.1 4.7 6.8 4.0 6.1 6.3 7.7 6.2 5.7 4.8
6.2 7.0 5.7 6.9 6.6
"""
KG = """
10 5 3 6 3 5 8 5 5 6 4 6 5 5 4 4 6 4 6 6 7 8 5 5 6 6 5 4 5 6 6 7 5 7 6 5 9 7 8
7 6 5 5
"""
HELPED = """
0 1 1 0 1 0 0 1 1 1 1 1 1 1 1 0 1 0 0 1 1 0 1 1 1 1 1 1 1 1 0 0 1 1 1 1 0 1 0
1 1 1 1
"""


def published():
    helped, *tests = (
        np.array(text.split(), float) for text in (HELPED, ALBUMIN, PROTEIN, KG)
    )
    albumin, protein, kg = tests
    return helped, {"albumin": albumin, "protein": protein, "kg": 10 - kg}


@pytest.mark.parametrize(
    ("name", "area", "error"),
    [
        ("albumin", 0.7366, 0.0927),
        ("kg", 0.7258, 0.1028),
        ("protein", 0.6478, 0.1000),
    ],
)
def test_delong_agrees_with_the_published_areas_and_errors(name, area, error):
    helped, tests = published()
    value, low, high = metrics.auc_delong(helped, tests[name])
    half = (special.logit(high) - special.logit(low)) / 2
    assert value == pytest.approx(area, abs=5e-5)
    assert half * value * (1 - value) / 1.959964 == pytest.approx(error, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("albumin", (0.0108, -0.1761, 0.1976, 0.9102)),
        ("protein", (-0.0780, -0.2830, 0.1271, 0.4561)),
    ],
)
def test_delong_paired_agrees_with_the_published_differences(name, expected):
    helped, tests = published()
    found = metrics.delong_paired(helped, tests[name], tests["kg"])
    assert found == pytest.approx(expected, abs=5e-5)


def test_delong_covariance_agrees_with_the_published_test_of_all_three():
    helped, tests = published()
    scores = np.stack([tests["albumin"], tests["kg"], tests["protein"]])
    contrast = np.array([[1, -1, 0], [0, -1, 1]])
    apart = contrast @ [metrics.auc(helped, score) for score in scores]
    spread = contrast @ delong_covariance(helped == 1, scores) @ contrast.T
    chi2 = apart @ np.linalg.solve(spread, apart)
    assert chi2 == pytest.approx(2.5340, abs=5e-5)  # 2 degrees of freedom, p 0.2817
    assert stats.chi2.sf(chi2, 2) == pytest.approx(0.2817, abs=5e-5)


def test_holm_steps_down_and_never_turns_the_order_over():
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04 -> .06, never falling
    found = metrics.adjust_p([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_bonferroni_multiplies_and_stops_at_one():
    found = metrics.adjust_p([0.022, 0.4, 0.01], "bonferroni")
    assert found == pytest.approx([0.066, 1.0, 0.03])
    assert metrics.adjust_p([], "bonferroni") == metrics.adjust_p([]) == []


def test_holm_is_the_closed_test_of_bonferronis():
    # a hypothesis falls where Bonferroni rejects every set that holds it
    p = np.random.default_rng(18).random(5) / 8
    sets = [s for k in range(1, 6) for s in itertools.combinations(range(5), k)]
    closed = [
        min(1, max(len(s) * min(p[list(s)]) for s in sets if one in s))
        for one in range(5)
    ]
    assert metrics.adjust_p(p) == pytest.approx(closed)


@pytest.mark.parametrize(
    ("p", "method", "message"),
    [
        ([0.1, 1.2], "holm", "in \\[0, 1\\], received \\[0.1, 1.2\\]"),
        ([0.1, np.nan], "holm", "in \\[0, 1\\]"),
        ([0.1], "sidak", "holm or bonferroni, received 'sidak'"),
    ],
    ids=["above one", "NaN", "method"],
)
def test_p_that_cannot_be_adjusted_is_refused(p, method, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.adjust_p(p, method)


A_FOLDS = [0.86, 0.84, 0.88, 0.85, 0.87]
B_FOLDS = [0.81, 0.82, 0.80, 0.79, 0.83]


def test_folds_are_tested_as_by_a_paired_t_test():
    found = metrics.cv_t_test(A_FOLDS, B_FOLDS)
    expected = stats.ttest_rel(A_FOLDS, B_FOLDS)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.difference, found.folds, found.repeats) == (pytest.approx(0.05), 5, 1)


def test_corrected_variance_of_a_worked_example():
    # differences .05 .02 .08 .06 .04: mean .05, s2 = (0 9 9 1 1)e-4 / 4 = 5e-4;
    # 1/5 + 1/4 = 0.45; t = .05 / sqrt(2.25e-4) = 10/3, 4 degrees of freedom
    found = metrics.cv_t_test(A_FOLDS, B_FOLDS)
    assert found.corrected_p == pytest.approx(2 * stats.t.sf(10 / 3, 4))
    assert found.corrected_high - 0.05 == pytest.approx(2.776445 * 0.015, rel=1e-6)
    assert metrics.cv_t_test(np.subtract(A_FOLDS, B_FOLDS)) == found


def test_repeats_count_as_draws_and_the_correction_keeps_them_honest():
    differences = np.random.default_rng(19).normal(0.02, 0.05, (10, 5))
    found = metrics.cv_t_test(differences)
    assert (found.folds, found.repeats) == (5, 10)
    spread = differences.std(ddof=1) * np.sqrt(1 / 50 + 1 / 4)
    expected = 2 * stats.t.sf(abs(differences.mean()) / spread, 49)
    assert found.corrected_p == pytest.approx(expected)
    assert found.p == pytest.approx(stats.ttest_1samp(differences.ravel(), 0).pvalue)
    # 30 % tested: 0.3 / 0.7
    wider = metrics.cv_t_test(differences, test_share=0.3)
    half = stats.t.ppf(0.975, 49) * differences.std(ddof=1) * np.sqrt(0.02 + 3 / 7)
    assert wider.corrected_high - wider.difference == pytest.approx(half)


def test_equal_differences_have_the_stated_p():
    assert metrics.cv_t_test([0.5, 0.5, 0.5]).p == 2.0**-2
    same = metrics.cv_t_test(A_FOLDS, A_FOLDS)
    assert (same.difference, same.low, same.high, same.corrected_p) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("a", "b", "share", "message"),
    [
        ([0.8], [0.7], None, "K >= 2, received \\(1,\\)"),
        ([0.8, 0.9], [0.7], None, "received \\(2,\\) and \\(1,\\)"),
        ([0.8, np.nan], [0.7, 0.7], None, "a fold of one class has no AUC"),
        ([0.8, 0.9], None, 1.0, "test_share must lie in \\(0, 1\\), received 1.0"),
    ],
    ids=["one fold", "shapes", "NaN", "share"],
)
def test_folds_that_cannot_be_tested_are_refused(a, b, share, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.cv_t_test(a, b, test_share=share)


def fold_aucs(x, y, order):
    """5-fold AUCs of the direction between class means, fitted outside each fold."""
    found = []
    for tested in np.array_split(order, 5):
        rest = np.setdiff1d(order, tested)
        means = [x[rest][y[rest] == k].mean(axis=0) for k in (0, 1)]
        score, truth = x[tested] @ (means[1] - means[0]), y[tested] == 1
        found.append((score[truth][:, None] > score[~truth]).mean())
    return found


def test_the_corrected_test_finds_fewer_differences_where_there_are_none():
    # two sets of features, equally good: each p below 0.05 is an error
    rng, y = np.random.default_rng(20), np.arange(100) % 2
    tests = []
    for _ in range(100):
        a, b = rng.normal(size=(2, 100, 4)) + 0.4 * y[:, None]
        # both of a pair in one fold, so that each fold has both classes
        orders = [(2 * rng.permutation(50)[:, None] + [0, 1]).ravel() for _ in "1234"]
        folds = [[fold_aucs(x, y, order) for order in orders] for x in (a, b)]
        tests.append(metrics.cv_t_test(*folds))
    assert np.mean([test.p < 0.05 for test in tests]) > 0.25
    assert np.mean([test.corrected_p < 0.05 for test in tests]) < 0.1
