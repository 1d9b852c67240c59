import time

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from dm_training import metrics, resampling


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


def table(**columns):
    base = {
        "image_id": ["a", "b", "c", "d"], "patient_id": ["p", "p", "q", "q"],
        "laterality": ["L", "R", "L", "L"], "y_true": [0, 1, 0, 0],
        "y_score": [0.1, 0.9, 0.2, 0.6], "split": "test",
    }  # fmt: skip
    return pd.DataFrame(base | columns)


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


def test_bootstrap_draws_agree_with_repeating_the_images():
    rng = np.random.default_rng(4)
    y_true, score = np.arange(12) % 2 == 0, rng.integers(0, 5, 12).astype(float)
    weights = rng.integers(0, 3, (6, 12)).astype(float)
    found = resampling.weighted_auc(y_true, score, weights)
    for drawn, value in zip(weights.astype(int), found, strict=True):
        again = np.repeat(y_true, drawn), np.repeat(score, drawn)
        assert value == pytest.approx(brute_force_auc(*again), abs=1e-12)


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


def test_2000_draws_of_2000_images_take_less_than_10_seconds():
    y_true, score, women = women_and_scores(0.8, 1000, 0.5, np.random.default_rng(7))
    start = time.process_time()
    metrics.auc_bootstrap(y_true, score, women, n=2000)
    assert time.process_time() - start < 10


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


def test_bootstrapped_sensitivity_agrees_with_the_curve_of_the_drawn_images():
    rng = np.random.default_rng(13)
    y_true, score = np.arange(40) % 2 == 0, rng.integers(0, 15, 40).astype(float)
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    found = resampling.weighted_sensitivity(y_true, score, weights, 0.8)
    for drawn, value in zip(weights.astype(int), found, strict=True):
        again = np.repeat(y_true, drawn), np.repeat(score, drawn)
        assert value == pytest.approx(metrics.sensitivity_at(*again, 0.8)[0])


def test_accuracy_has_wilsons_interval():
    # 8 of 10, z = 1.96: (0.8 + z²/20 ± z sqrt(0.16/10 + z²/400)) / (1 + z²/10)
    assert metrics.accuracy_wilson(8, 10) == pytest.approx(
        (0.8, 0.49016, 0.94331), abs=1e-5
    )
    with pytest.raises(metrics.MetricError, match="received 0 of 0"):
        metrics.accuracy_wilson(0, 0)


def test_one_vs_rest_says_nothing_of_a_class_without_members():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    found = metrics.one_vs_rest_auc([0, 1, 0], probabilities, ("a", "b", "c"))
    assert found["a"][0] == 1 and found["b"][0] == 1 and found["c"] is None
    with pytest.raises(metrics.MetricError, match=r"must be \(2, 3\)"):
        metrics.one_vs_rest_auc([0, 1], probabilities, ("a", "b", "c"))


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


def test_aggregate_makes_breasts_and_women_of_images():
    breasts = metrics.aggregate(table(), "breast")
    assert breasts["y_true"].tolist() == [0, 1, 0]  # p L, p R, q L
    assert breasts["y_score"].tolist() == [0.1, 0.9, 0.4]  # (.2 + .6) / 2
    assert breasts["images"].tolist() == [1, 1, 2]
    women = metrics.aggregate(table(), "patient", how="max")
    assert women["y_true"].tolist() == [1, 0]
    assert women["y_score"].tolist() == [0.9, 0.6]
    assert metrics.aggregate(table(), "image").equals(table())


@pytest.mark.parametrize(
    ("change", "level", "message"),
    [
        ({}, "lesion", "must be one of image, breast, patient"),
        ({"image_id": ["a", "b", "a", "d"]}, "image", "'a' stands twice"),
        ({"y_score": [0.1, np.nan, 0, 1]}, "image", "y_score: 1 NaN"),
        ({"laterality": ["L", "", "L", "L"]}, "breast", "laterality is missing or"),
    ],
    ids=["level", "twice", "NaN", "no side"],
)
def test_aggregate_refuses(change, level, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.aggregate(table(**change), level)


def test_figure_of_a_table_resamples_its_women():
    y_true, score, women = women_and_scores(0.85, 40, 0.5, np.random.default_rng(14))
    ids = [f"i{k}" for k in range(80)]
    frame = pd.DataFrame(
        {"image_id": ids, "patient_id": women.astype(str), "y_true": y_true,
         "y_score": score}
    )  # fmt: skip
    found = metrics.auc_figure(frame, n=200)
    expected = metrics.auc_bootstrap(y_true, score, women, n=200)
    assert (found["value"], found["low"], found["high"]) == pytest.approx(expected)
    assert (found["n"], found["positives"]) == (80, 40)
    assert (found["level"], found["split"]) == ("image", "test")
    without = metrics.auc_figure(frame.drop(columns="patient_id"))
    assert without["low"] == pytest.approx(metrics.auc_delong(y_true, score)[1])
    assert metrics.auc_figure(frame, "patient", n=200)["n"] == 40


def test_a_figure_never_holds_rows_of_another_split():
    with pytest.raises(metrics.MetricError, match="'test' holds rows of split val"):
        metrics.auc_figure(table(split=["test", "val", "test", "test"]))


def test_some_rows_without_a_woman_are_refused():
    with pytest.raises(metrics.MetricError, match="empty in 1 of 4 rows"):
        metrics.auc_figure(table(patient_id=["p", "", "q", "q"]))


def test_tables_join_by_id_in_any_order():
    other = table(y_score=[1.0, 2.0, 3.0, 4.0]).iloc[::-1]
    joined = metrics.join_predictions(table(), other)
    assert joined["y_score_b"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": ["a", "b", "c", "e"]}, "2 image_id.s. stand in one only.* d, e"),
        ({"y_true": [0, 1, 1, 0]}, "y_true differs .* 1 image.s., such as c"),
    ],
    ids=["other images", "other truth"],
)
def test_tables_that_do_not_join_are_refused(change, message):
    with pytest.raises(metrics.MetricError, match=message):
        metrics.join_predictions(table(), table(**change))
