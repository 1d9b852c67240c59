import json

import numpy as np
import pytest

from dm_training import grey_stats
from dm_training.grey_stats import GreyStatsError, compare, image_statistics, measure


def film(seed=0, height=120, width=96, gain=1.0):
    """A bright half disc with noise at the left, dark air at the right."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    inside = (rows / height - 0.5) ** 2 + (cols / width) ** 2 < 0.2
    tissue = gain * (30000 + 6000 * rng.standard_normal((height, width)))
    return np.where(inside, tissue, 300).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def stored():
    return measure(film(seed) for seed in range(8))


def test_a_literal_image_has_the_statistics_worked_out_by_hand():
    # 8 of 10 pixels are 0, one 257 (level 1 of 255), one 65535 (level 255)
    image = np.array([[0, 0, 0, 0, 257], [0, 0, 0, 0, 65535]], np.uint16)
    row = image_statistics(image)
    assert [row[f"p{q:02d}"] for q in (1, 50, 75)] == [0, 0, 0]
    assert row["p95"] == pytest.approx(255)  # the 10th of 10: ceil(9.5)
    assert row["mean"] == pytest.approx(25.6)  # (1 + 255) / 10
    assert row["background_share"] == 0.9  # nine at most 2 of 255
    assert row["levels"] == 3
    assert (row["height"], row["width"], row["aspect"]) == (2, 5, 0.4)


def test_percentiles_agree_with_numpy():
    image = film()
    row = image_statistics(image)
    for q in grey_stats.PERCENTILES:
        expected = np.percentile(image / 257.0, q, method="inverted_cdf")
        assert row[f"p{q:02d}"] == pytest.approx(expected)


def test_stored_statistics_are_json_with_low_below_median_below_high(stored):
    assert json.loads(json.dumps(stored)) == stored
    assert (stored["format"], stored["images"]) == (1, 8)
    assert set(stored["statistics"]) == set(grey_stats.STATISTICS)
    for values in stored["statistics"].values():
        assert values["low"] <= values["median"] <= values["high"]
    assert stored["statistics"]["levels"]["low"] > 1000


def test_an_image_of_the_same_kind_is_in_range(stored):
    assert compare(image_statistics(film(99)), stored) == []


def test_an_inverted_image_has_bright_corners_and_says_by_how_much(stored):
    row = image_statistics(65535 - film(99))
    found = {excess.name: excess for excess in compare(row, stored)}
    corners = found["corner_minus_centre"]
    assert corners.high < 0 < corners.value
    assert corners.by == pytest.approx(corners.value - corners.high)
    assert found["background_share"].by == 0 - found["background_share"].low


@pytest.mark.parametrize(
    "image, names",
    [
        (film(99, gain=0.4), {"p99", "mean"}),
        (film(99, height=60, width=48), {"height", "width"}),
        (film(99, height=96, width=120), {"aspect", "height"}),
        ((film(99) // 257 * 257).astype(np.uint16), {"levels"}),
    ],
    ids=["dark", "small", "on its side", "8 bits"],
)
def test_each_fault_shows_in_its_own_statistics(image, names, stored):
    assert names <= {e.name for e in compare(image_statistics(image), stored)}


def test_a_larger_file_is_in_range_for_it_is_shrunk_as_in_training(stored):
    row = image_statistics(film(99), source_shape=(1200, 960))
    assert row["height"] == 1200
    assert compare(row, stored) == []


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4)), np.zeros((4, 4, 1), np.uint16), np.zeros((0, 4), np.uint16)],
    ids=["floats", "three axes", "empty"],
)
def test_what_is_no_grey_image_is_refused(image):
    with pytest.raises(GreyStatsError, match="must be uint16"):
        image_statistics(image)


def test_the_breasts_extent_and_a_stretched_range_are_measured():
    image = np.zeros((40, 40), np.uint16)
    image[10:30, :24] = 50000  # half of the rows, 24 of 40 columns
    row = image_statistics(image)
    assert row["breast_rows"] == pytest.approx(0.5, abs=0.05)
    assert row["breast_cols"] == pytest.approx(0.6, abs=0.05)
    assert row["stretched"] == 0
    image[12, 12] = 65535
    assert image_statistics(image)["stretched"] == 1


def test_a_model_of_an_earlier_version_is_compared_by_what_it_carries(stored):
    older = {n: v for n, v in stored["statistics"].items()
             if n not in grey_stats.LATER_STATISTICS}  # fmt: skip
    older = {**stored, "statistics": older}
    assert grey_stats.has_statistics(older)
    assert set(grey_stats.names_in(older)) == set(older["statistics"])
    found = {e.name for e in compare(image_statistics(65535 - film(99)), older)}
    assert "corner_minus_centre" in found and "breast_cols" not in found


@pytest.mark.parametrize("count", [20, 60, 200, 2000])
def test_what_is_allowed_holds_the_populations_own_ends_nearly_always(count):
    """Normal draws, no slack: the range's end lies beyond the true 99 % quantile."""
    rng = np.random.default_rng(count)
    statistic = grey_stats.Statistic("x", floor=0.0, share=0.0)
    held = 0
    for _ in range(300):
        trained = grey_stats.summary(rng.normal(0, 1, count).tolist())
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(grey_stats.STATISTICS, "mean", statistic)
            least, most = grey_stats.allowed("mean", trained, count)
        held += least <= -2.326 and most >= 2.326
    assert held >= 0.75 * 300


def test_a_range_of_few_images_is_the_wider_the_fewer_they_are():
    trained = {"low": 10.0, "median": 20.0, "high": 40.0}
    widths = [np.diff(grey_stats.allowed("mean", trained, n)) for n in (1000, 200, 20)]
    assert widths == sorted(widths)
    least, most = grey_stats.allowed("mean", trained, 200)
    assert most - 40 > 10 - least  # the longer tail is the less certain one
    one = {"low": 20.0, "median": 20.0, "high": 20.0}
    assert grey_stats.allowed("mean", one, 1) == (20 - 44, 20 + 44)  # 4 x (1 + 10)


def test_no_image_at_all_is_refused():
    with pytest.raises(GreyStatsError, match="at least one image"):
        measure([])


def test_a_contract_says_whether_it_carries_statistics(stored):
    assert grey_stats.has_statistics({"mean": 50.0, "source": "given", **stored})
    assert not grey_stats.has_statistics({"mean": 50.0, "source": "given"})
    assert not grey_stats.has_statistics(None)
    with pytest.raises(GreyStatsError, match="format 2 are not known"):
        grey_stats.has_statistics({**stored, "format": 2})
    with pytest.raises(GreyStatsError, match="lack p01"):
        grey_stats.has_statistics({"format": 1, "statistics": {}})


def test_a_constant_image_is_measured_too():
    row = image_statistics(np.full((20, 20), 65535, np.uint16))
    assert (row["breast_share"], row["corner_minus_centre"]) == (0, 0)
