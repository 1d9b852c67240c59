"""Boxes: inside the image, around their region, background on the breast alone."""

import numpy as np
import pytest

from dm_preprocess import boxes

SEEDS = range(40)


def rectangle(shape, row0, col0, row1, col1):
    mask = np.zeros(shape, bool)
    mask[row0:row1, col0:col1] = True
    return mask


def random_region(seed, shape=(150, 120)):
    """A blob of any size and place, the image's edges and corners among them."""
    rng = np.random.default_rng(seed)
    row, col = rng.integers(0, shape[0]), rng.integers(0, shape[1])
    height, width = rng.integers(1, 70, 2)
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return ((rows - row) / height) ** 2 + ((cols - col) / width) ** 2 <= 1


def counts_by_slicing(mask, corners, size):
    return [int(mask[r : r + size, c : c + size].sum()) for r, c in corners]


def assert_inside(corners, shape, size):
    assert (corners >= 0).all()
    assert (corners + size <= np.array(shape)).all()


@pytest.mark.parametrize("seed", range(5))
def test_integral_counts_equal_sums_of_slices(seed):
    mask = random_region(seed)
    corners = np.random.default_rng(seed).integers(0, (151 - 30, 121 - 30), (50, 2))
    counts = boxes.box_counts(boxes.integral(mask), corners, 30)
    assert counts.tolist() == counts_by_slicing(mask, corners, 30)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [16, 48, 120])
def test_boxes_lie_inside_and_exceed_their_cut_off(seed, size):
    mask, rng = random_region(seed), np.random.default_rng(seed)
    drawn = boxes.sample_region_boxes(mask, 10, size, rng)
    assert drawn.corners.shape == (10, 2)
    assert_inside(drawn.corners, mask.shape, size)
    shared = np.array(counts_by_slicing(mask, drawn.corners, size))
    best = np.maximum(shared / mask.sum(), shared / size**2)
    assert (best > drawn.cut_off).all()
    centred = boxes.centre_box(mask, size)
    assert_inside(centred.corners, mask.shape, size)


def test_overlap_shares_are_of_the_region_and_of_the_patch():
    mask = rectangle((40, 40), 10, 10, 20, 20)
    # the 16 x 16 box at (12, 14) shares rows 12-19 and columns 14-19: 8 x 6 = 48
    region, patch = boxes.overlap_shares(mask, [(12, 14)], 16)
    assert region.tolist() == [48 / 100] and patch.tolist() == [48 / 256]


def test_a_small_region_is_nearly_whole_in_every_patch():
    mask = rectangle((200, 200), 90, 90, 100, 100)
    drawn = boxes.sample_region_boxes(mask, 200, 50, np.random.default_rng(0))
    region, patch = boxes.overlap_shares(mask, drawn.corners, 50)
    assert drawn.cut_off == 0.9
    assert (region > 0.9).all() and (patch < 0.05).all()  # 100 / 2500 = 0.04
    # the region may stand anywhere in the patch: 50 - 10 = 40 places an axis
    assert np.ptp(drawn.corners, axis=0).min() >= 35


def test_a_region_larger_than_the_patch_nearly_fills_it():
    mask = rectangle((200, 200), 20, 20, 180, 180)
    drawn = boxes.sample_region_boxes(mask, 200, 50, np.random.default_rng(0))
    region, patch = boxes.overlap_shares(mask, drawn.corners, 50)
    assert drawn.cut_off == 0.9
    assert (patch > 0.9).all() and (region < 0.1).all()  # 2500 / 25600


def test_the_cut_off_itself_is_not_enough():
    mask = rectangle((20, 20), 0, 0, 10, 10)
    # in a 20 x 9 image only 9 of 10 columns could be seen; here the box must stay
    # in rows 1-19 of a mask of rows 0-9: 9 of 10 rows = 0.9, which does not exceed it
    sums = boxes.integral(mask)
    assert boxes.box_counts(sums, np.array([[1, 0]]), 15).tolist() == [90]
    drawn = boxes.sample_region_boxes(mask, 500, 15, np.random.default_rng(1))
    assert (drawn.corners == 0).all()


def test_the_cut_off_is_relaxed_by_steps_where_nothing_meets_it():
    # two pixels-wide bars, 30 apart: a 20-pixel box holds one bar, half the region
    mask = rectangle((60, 60), 10, 10, 30, 12) | rectangle((60, 60), 10, 42, 30, 44)
    drawn = boxes.sample_region_boxes(mask, 5, 20, np.random.default_rng(0))
    assert drawn.cut_off == pytest.approx(0.45)  # 0.5 does not exceed 0.5
    region, _ = boxes.overlap_shares(mask, drawn.corners, 20)
    assert (region > 0.45).all()


def test_boxes_around_a_region_stay_on_the_breast_where_they_can():
    breast = rectangle((100, 100), 0, 0, 100, 50)
    inner, edge = (rectangle((100, 100), 45, c, 49, c + 4) for c in (38, 48))
    for mask, wanted in ((inner, 0.9), (edge, 0.9)):
        drawn = boxes.sample_region_boxes(
            mask, 50, 30, np.random.default_rng(0), breast=breast
        )
        assert drawn.cut_off == 0.9
        shares = np.array(counts_by_slicing(breast, drawn.corners, 30)) / 900
        # the edge's region ends 2 columns out in the air: 28 / 30 = 0.93 is possible
        assert (shares >= wanted).all()
    free = boxes.sample_region_boxes(inner, 50, 30, np.random.default_rng(0))
    assert min(counts_by_slicing(breast, free.corners, 30)) < 0.7 * 900


def test_a_centred_box_has_the_centroid_in_its_middle():
    mask = rectangle((100, 100), 40, 30, 50, 36)  # centroid of edges: 45, 33
    assert boxes.centre_box(mask, 20).corners.tolist() == [[35, 23]]


def test_a_centred_box_at_the_edge_is_moved_inside():
    mask = rectangle((100, 90), 0, 86, 4, 90)
    assert boxes.centre_box(mask, 20).corners.tolist() == [[0, 70]]


@pytest.mark.parametrize("seed", SEEDS)
def test_background_never_touches_any_region_and_lies_on_the_breast(seed):
    shape, rng = (150, 120), np.random.default_rng(seed)
    regions = np.zeros(shape, bool)
    for at in range(3):
        regions |= np.roll(random_region(100 * seed + at), 7 * at, axis=0)
    breast = np.zeros(shape, bool)
    breast[:, :90] = True
    drawn = boxes.sample_background_boxes(regions, breast, 12, 24, rng)
    assert_inside(drawn.corners, shape, 24)
    assert not any(counts_by_slicing(regions, drawn.corners, 24))
    on_breast = np.array(counts_by_slicing(breast, drawn.corners, 24)) / 24**2
    assert (on_breast >= drawn.cut_off - 1e-12).all()
    if len(drawn.corners) == 0:  # only where there is truly no room
        free = [
            (r, c) for r in range(127) for c in range(97)
            if not regions[r : r + 24, c : c + 24].any()
            and breast[r : r + 24, c : c + 24].mean() >= 0.1
        ]  # fmt: skip
        assert not free


def test_background_boxes_differ_where_there_is_room():
    regions, breast = np.zeros((40, 40), bool), np.ones((40, 40), bool)
    rng = np.random.default_rng(0)
    drawn = boxes.sample_background_boxes(regions, breast, 81, 32, rng)
    assert len({tuple(c) for c in drawn.corners}) == 81  # all (40 - 32 + 1)**2 places


def test_the_share_of_breast_is_relaxed_only_as_far_as_needed():
    breast = rectangle((60, 60), 0, 0, 60, 11)  # a 20-pixel box can have 11/20 = 0.55
    regions = np.zeros((60, 60), bool)
    drawn = boxes.sample_background_boxes(
        regions, breast, 4, 20, np.random.default_rng(0)
    )
    assert drawn.cut_off == pytest.approx(0.5)
    shares = np.array(counts_by_slicing(breast, drawn.corners, 20)) / 400
    assert (shares >= 0.5).all()


def test_no_background_where_the_regions_leave_no_room():
    regions, breast = rectangle((60, 60), 25, 0, 35, 60), np.ones((60, 60), bool)
    drawn = boxes.sample_background_boxes(
        regions, breast, 4, 30, np.random.default_rng(0)
    )
    assert len(drawn.corners) == 0


def test_same_generator_state_draws_the_same_boxes():
    mask = random_region(3)
    one, two, other = (
        boxes.sample_region_boxes(mask, 10, 32, np.random.default_rng(seed)).corners
        for seed in (5, 5, 6)
    )
    assert (one == two).all() and (one != other).any()


@pytest.mark.parametrize("draw", ["centre", "region", "background"])
def test_an_image_smaller_than_the_patch_is_refused(draw):
    mask, rng = np.ones((30, 50), bool), np.random.default_rng(0)
    calls = {
        "centre": lambda: boxes.centre_box(mask, 31),
        "region": lambda: boxes.sample_region_boxes(mask, 1, 31, rng),
        "background": lambda: boxes.sample_background_boxes(mask, mask, 1, 31, rng),
    }
    with pytest.raises(boxes.BoxError, match="31 x 31 must fit the image of 30 x 50"):
        calls[draw]()


def test_an_empty_mask_is_refused():
    mask = np.zeros((30, 50), bool)
    with pytest.raises(boxes.BoxError, match="mask is empty"):
        boxes.centre_box(mask, 10)
    with pytest.raises(boxes.BoxError, match="mask is empty"):
        boxes.sample_region_boxes(mask, 1, 10, np.random.default_rng(0))
