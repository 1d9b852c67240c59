"""Figures and ratios: medians within rounds, never a ratio of medians."""

import pytest

from dm_training.benchmark import timing


def test_a_figure_is_the_median_with_its_spread():
    found = timing.figure([5.0, 1.0, 3.0], "images/s")
    assert found == {
        "value": 3.0, "low": 1.0, "high": 5.0, "unit": "images/s", "against": "",
    }  # fmt: skip


def test_a_ratio_is_taken_within_each_round():
    # A machine that slows down tenfold in the second round: twice as fast each time.
    found = timing.ratio([20.0, 2.0, 30.0], [10.0, 1.0, 10.0], "other")
    assert (found["value"], found["low"], found["high"]) == (2.0, 2.0, 3.0)
    assert (found["unit"], found["against"]) == ("x", "other")
    assert "target" not in found


@pytest.mark.parametrize(
    ("value", "at_most", "reached"),
    [(2.0, False, True), (1.9, False, False), (2.0, True, True), (2.1, True, False)],
    ids=["at the floor", "below it", "at the ceiling", "above it"],
)
def test_a_target_is_a_floor_or_a_ceiling(value, at_most, reached):
    found = timing.ratio([value], [1.0], "other", target=2.0, at_most=at_most)
    assert found["reached"] is reached
    assert (found["target"], found["at_most"]) == (2.0, at_most)


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="as many rounds as ours, 2, received 1"):
        timing.ratio([1.0, 2.0], [1.0], "other")


def test_no_round_is_refused():
    with pytest.raises(ValueError, match="a number a round, received none"):
        timing.figure([], "s")


def test_candidates_take_turns():
    order = []

    def turn(name):
        order.append(name)
        return float(len(order))

    found = timing.take_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, 3)
    assert order == ["a", "b"] * 3
    assert found == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}


def test_a_rate_counts_the_items_of_each_step():
    steps = []
    rate = timing.rate_of(lambda: steps.append(1) or 7, 0.05)
    assert rate == pytest.approx(7 * len(steps) / 0.05, rel=0.5)


def test_a_slice_of_no_length_still_does_one_step():
    assert timing.rate_of(lambda: 1, 0.0) > 0
