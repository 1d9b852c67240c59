import numpy as np
import pytest
import tensorflow as tf

from dm_training import augment


def parameters(**changed):
    values = {
        "rotation": 0.0, "shear": 0.0, "zoom_rows": 1.0, "zoom_cols": 1.0,
        "shift": 0.0, "flip_rows": 1.0, "flip_cols": 1.0, **changed,
    }  # fmt: skip
    return {name: np.array([value], np.float32) for name, value in values.items()}


def by_tensorflow(images, drawn):
    maps = augment.transforms(drawn, *images.shape[1:3])
    return np.asarray(augment.apply(images, maps, drawn["shift"]))


def by_opencv(images, drawn):
    maps = augment.transforms(drawn, *images.shape[1:3])
    out = np.empty(images.shape, np.float32)
    for at, image in enumerate(images[..., 0]):
        scratch = np.empty_like(image, np.uint16)
        augment.warp(image.astype(np.uint16), maps[at], drawn["shift"][at],
                     out[at, ..., 0], scratch)  # fmt: skip
    return out


both_routes = pytest.mark.parametrize("apply", [by_tensorflow, by_opencv])


def point(row, col, shape=(9, 7)):
    image = np.zeros((1, *shape, 1), np.float32)
    image[0, row, col, 0] = 1000.0
    return image


def bright(images):
    return [tuple(at) for at in np.argwhere(np.asarray(images)[0, ..., 0] > 500)]


@both_routes
def test_no_parameters_change_nothing(apply):
    image = np.random.default_rng(0).integers(0, 65536, (1, 9, 7, 1))
    image = image.astype(np.float32)
    np.testing.assert_allclose(apply(image, parameters()), image, rtol=1e-6)


@both_routes
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"flip_rows": -1.0}, (6, 1)),  # row 8 - 2
        ({"flip_cols": -1.0}, (2, 5)),  # column 6 - 1
        ({"rotation": np.pi}, (6, 5)),
        ({"flip_rows": -1.0, "flip_cols": -1.0}, (6, 5)),
    ],
    ids=["up-down", "left-right", "half turn", "both flips"],
)
def test_geometry_moves_a_point_where_arithmetic_says(apply, changed, expected):
    assert bright(apply(point(2, 1), parameters(**changed))) == [expected]


@both_routes
def test_quarter_turn_moves_the_right_edge_to_the_top_or_bottom(apply):
    moved = bright(apply(point(4, 7, (9, 9)), parameters(rotation=np.pi / 2)))
    assert moved in ([(1, 4)], [(7, 4)])


@both_routes
def test_zoom_by_two_takes_the_half_nearer_the_centre(apply):
    # output row r reads input row 4 + 2 (r - 4): input row 2 shows at output row 3
    moved = apply(point(2, 3), parameters(zoom_rows=2.0))
    assert bright(moved) == [(3, 3)]


@both_routes
def test_shift_is_clipped_to_the_images_own_range(apply):
    shifted = apply(point(2, 1), parameters(shift=5000.0))
    assert shifted.max() == 1000.0
    assert shifted.min() == 1000.0  # 0 + 5000 is clipped to 1000 as well


def test_the_map_is_the_product_of_its_parts():
    drawn = parameters(rotation=0.3, shear=0.2, zoom_rows=1.1, zoom_cols=0.9,
                       flip_cols=-1.0)  # fmt: skip
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    shear = np.array([[1.0, -np.sin(0.2)], [0.0, np.cos(0.2)]])
    rows_cols = turn @ shear @ np.diag([1.1, -0.9])
    centre = np.array([4.0, 3.0])  # of 9 x 7
    offset = centre - rows_cols @ centre
    found = augment.transforms(drawn, 9, 7)[0]
    np.testing.assert_allclose(found[[4, 3]], rows_cols[0], atol=1e-6)  # to rows
    np.testing.assert_allclose(found[[1, 0]], rows_cols[1], atol=1e-6)  # to columns
    np.testing.assert_allclose(found[[5, 2]], offset, atol=1e-5)


def test_draws_fill_their_ranges_and_do_not_hang_together():
    drawn = augment.draw([3], 5000)
    ends = {"rotation": np.deg2rad(25), "shear": 0.2, "shift": 20 * 65535 / 255}
    for name, end in ends.items():
        assert drawn[name].min() == pytest.approx(-end, rel=0.01)
        assert drawn[name].max() == pytest.approx(end, rel=0.01)
    for name in ("zoom_rows", "zoom_cols"):
        assert drawn[name].min() == pytest.approx(0.8, abs=0.002)
        assert drawn[name].max() == pytest.approx(1.2, abs=0.002)
    assert abs(drawn["flip_rows"].mean()) < 0.06 > abs(drawn["flip_cols"].mean())
    together = np.corrcoef(np.stack(list(drawn.values())))
    assert np.abs(together - np.eye(7)).max() < 0.06


def test_flips_turn_the_sides_they_name():
    image = np.random.default_rng(1).uniform(0, 1, (2, 5, 4, 1))
    for number, axes in enumerate([(), (2,), (1,), (1, 2)]):
        np.testing.assert_array_equal(augment.flip(image, number), np.flip(image, axes))


def test_flip_twice_is_the_image_itself():
    image = np.random.default_rng(1).uniform(0, 1, (2, 5, 4, 1))
    for number in range(4):
        twice = augment.flip(augment.flip(image, number), number)
        np.testing.assert_array_equal(twice, image)


def test_draws_lie_in_the_papers_ranges_and_depend_on_the_seed_alone():
    values = augment.draw([7, 2], 300)
    assert np.abs(values["rotation"]).max() <= np.deg2rad(25.0)
    assert np.abs(values["rotation"]).max() > np.deg2rad(20.0)
    assert 0.8 <= values["zoom_rows"].min() and values["zoom_cols"].max() <= 1.2
    assert np.abs(values["shift"]).max() <= 20.0 * 257.0
    assert set(values["flip_rows"]) == {-1.0, 1.0}
    fewer, other = augment.draw([7, 2], 20), augment.draw([7, 3], 20)
    for name, drawn in values.items():
        assert drawn.dtype == np.float32
        np.testing.assert_array_equal(fewer[name], drawn[:20])
    assert not np.array_equal(other["rotation"], fewer["rotation"])


def test_no_augmentation_draws_the_identity():
    drawn = augment.draw([3, 4], 1, augment.NONE)
    assert {k: float(v[0]) for k, v in drawn.items()} == {
        k: float(v[0]) for k, v in parameters().items()
    }


def test_apply_is_the_same_eagerly_and_inside_a_dataset():
    images = np.random.default_rng(2).uniform(0, 65535, (3, 16, 12, 1))
    drawn = augment.draw([1, 0], 3)
    batch = images.astype("float32"), augment.transforms(drawn, 16, 12), drawn["shift"]
    data = tf.data.Dataset.from_tensors(batch).map(augment.apply)
    np.testing.assert_allclose(next(iter(data)), augment.apply(*batch), rtol=1e-6)


def test_both_routes_agree_to_the_rounding_of_the_resampling():
    images = np.random.default_rng(2).integers(0, 65536, (20, 48, 40, 1))
    images, drawn = images.astype(np.float32), augment.draw([5], 20)
    apart = by_tensorflow(images, drawn) - by_opencv(images, drawn)
    assert 0.0 < np.abs(apart).max() < 1.0  # of 65535
