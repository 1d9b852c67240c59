import keras
import numpy as np
import pytest

from dm_models.backbones import get_backbone
from dm_models.heatmap import build_heatmap
from dm_models.patch_classifier import build_patch_classifier
from dm_models.receptive_field import cell_centres
from dm_models.whole_image import build_whole_image, image_contract
from dm_preprocess.tables import PATCH_CLASSES
from dm_training.image_maps import (
    GRAD_CAM,
    PATCH_MAP,
    ImageMap,
    MapError,
    cam_mapper,
    patch_mapper,
    place_map,
    resized_centres,
)


@pytest.fixture(scope="module")
def patch():
    keras.utils.set_random_seed(1)
    contract = get_backbone("squeezenet").contract(
        class_names=PATCH_CLASSES, height=64, width=64
    )
    return build_patch_classifier("squeezenet", contract=contract), contract


def image_of(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 65535, (height, width), dtype=np.uint16)


def test_a_map_is_interpolated_between_centres_and_held_beyond_them():
    heat = np.array([[0.0, 1.0], [2.0, 5.0]])
    placed = place_map(heat, ((1, 2), (0, 4)), 5, 6)
    # Columns 0 and 4 are centres, column 2 lies halfway, column 5 beyond; so do rows
    # 1 and 3, with row 2 between, 0 and 4 beyond.
    top, bottom = [0, 0.25, 0.5, 0.75, 1, 1], [2, 2.75, 3.5, 4.25, 5, 5]
    middle = [(a + b) / 2 for a, b in zip(top, bottom, strict=True)]
    np.testing.assert_allclose(placed, [top, top, middle, bottom, bottom])
    assert placed.dtype == np.float32


def test_centres_outside_the_image_count_too():
    placed = place_map(np.array([[0.0], [4.0]]), ((-2, 4), (0, 1)), 3, 1)
    assert placed[:, 0].tolist() == [2.0, 3.0, 4.0]  # rows -2 and 2 are the centres


def test_a_map_of_one_cell_is_that_everywhere():
    placed = place_map(np.array([[0.3]]), ((100.0, 32.0), (-7.0, 32.0)), 4, 3)
    np.testing.assert_array_equal(placed, np.full((4, 3), np.float32(0.3)))


def test_a_small_copy_of_a_placed_map_is_the_map_placed_small():
    heat = np.random.default_rng(1).random((5, 4))
    centres = ((3.5, 16.0), (-2.0, 16.0))
    large = place_map(heat, centres, 96, 72)
    small = place_map(heat, resized_centres(centres, (96, 72), (24, 18)), 24, 18)
    mean = large.reshape(24, 4, 18, 4).mean(axis=(1, 3))
    inner = np.s_[2:16, 1:11]  # beyond the outermost centres the map has a kink
    np.testing.assert_allclose(small[inner], mean[inner], atol=0.03)
    assert np.abs(small - mean).mean() < 0.01


def test_the_hottest_cell_is_named_by_the_pixel_it_looks_at():
    heat = np.zeros((3, 4), np.float32)
    heat[1, 3] = 0.2
    found = ImageMap(PATCH_MAP, heat, ((15.5, 16.0), (15.5, 16.0)))
    assert found.hottest(64, 80) == (32, 64)  # 31.5 and 63.5, rounded up
    assert found.hottest(64, 60) == (32, 59)  # within the image
    even = ImageMap(GRAD_CAM, np.zeros((3, 4), np.float32), found.centres)
    assert even.hottest(64, 80) is None


def test_grad_cam_is_shown_in_shares_of_its_maximum_and_a_probability_as_it_is():
    heat, centres = np.array([[0.0, 0.02]], np.float32), ((0, 1), (0, 1))
    assert ImageMap(GRAD_CAM, heat, centres).shown.tolist() == [[0, 1]]
    assert ImageMap(GRAD_CAM, 0 * heat, centres).shown.tolist() == [[0, 0]]
    np.testing.assert_array_equal(ImageMap(PATCH_MAP, heat, centres).shown, heat)


def test_on_one_patch_the_map_is_the_patch_nets_own_answer(patch):
    model, contract = patch
    image = image_of(64, 64)
    own = np.asarray(model(image[None, ..., None].astype("float32")))[0]
    found = patch_mapper(model, contract)(image)
    assert found.kind == PATCH_MAP and found.heat.shape == (1, 1)
    np.testing.assert_allclose(found.heat, own[1] + own[3], atol=1e-6)  # both malignant


def test_the_patch_heat_map_is_a_probability_about_the_middle_of_its_patches(patch):
    found = patch_mapper(*patch)(image_of(96, 112))
    assert found.heat.min() >= 0 and found.heat.max() <= 1
    # The net's own map is 5 x 6, cells at 15, 31, ...; the heat map averages 3 x 3.
    assert found.heat.shape == (3, 4) and found.centres == ((31.0, 16.0),) * 2


def test_an_image_smaller_than_a_patch_is_refused(patch):
    with pytest.raises(MapError, match="smaller than a patch: an image of 40 x 80"):
        patch_mapper(*patch)(image_of(40, 80))


def test_a_model_of_another_kind_is_refused(patch):
    model, contract = patch
    with pytest.raises(MapError, match="received classes neg, pos"):
        patch_mapper(model, image_contract(contract, height=96, width=80))
    with pytest.raises(MapError, match="two classes, neg and pos"):
        cam_mapper(model, contract)


def test_an_image_of_another_size_has_its_grad_cam_at_the_same_places(patch):
    model = build_whole_image(*patch, "8x1")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.abs(kernel) * [-1, 1], bias])
    contract = image_contract(patch[1], height=192, width=160)
    image = image_of(192, 160)
    found = cam_mapper(model, contract)(image)
    layer = model.get_layer("top_block2_pool")
    assert found.centres == cell_centres(model, layer, (192, 160))
    twice = cam_mapper(model, contract)(np.kron(image, np.ones((2, 3), np.uint16)))
    np.testing.assert_allclose(twice.heat, found.heat, rtol=1e-5)
    (row, down), (col, across) = found.centres
    # A pixel of the smaller image is 2 rows and 3 columns of the larger one.
    assert twice.centres == ((2 * row + 0.5, 2 * down), (3 * col + 1, 3 * across))


def disc_detector():
    """A patch classifier by hand: malignant where a patch holds a bright disc."""
    rows, cols = np.mgrid[-6:7, -6:7]
    inside = rows**2 + cols**2 <= 25
    kernel = inside / inside.sum() - ~inside / (~inside).sum()
    inputs = keras.Input((None, None, 1), name="grey")
    x = keras.layers.Conv2D(1, 13, strides=4, padding="same", activation="relu",
                            name="conv")(inputs)  # fmt: skip
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.GlobalAveragePooling2D(name="patch_pool")(x)
    x = keras.layers.Dense(5, activation="softmax", name="patch_prediction")(x)
    model = keras.Model(inputs, x)
    head = np.zeros((1, 5))
    head[0, 3] = 1e-3  # mass_mal grows with the disc's contrast
    arrays = (kernel[..., None, None], [0.0], head, np.zeros(5))
    model.set_weights([np.asarray(array) for array in arrays])
    return model


@pytest.mark.parametrize("place", [(60, 71), (97, 33), (41, 50)], ids=str)
def test_the_hottest_place_is_on_the_disc_that_a_net_was_made_for(place):
    image = np.full((128, 112), 8000, np.uint16)
    grid = np.mgrid[:128, :112]
    image[(grid[0] - place[0]) ** 2 + (grid[1] - place[1]) ** 2 <= 25] = 50000
    model = build_heatmap(disc_detector(), pool=3)
    heat = np.asarray(model(image[None, ..., None].astype(np.float32)))[0, ..., 3]
    centres = cell_centres(model, model.get_layer("heatmap"), image.shape)
    found = ImageMap(PATCH_MAP, heat, centres)
    # Averaging 3 x 3 makes a plateau of 3 x 3 cells: its middle is the disc's place.
    plateau = place_map(heat, centres, *image.shape) >= heat.max() * (1 - 1e-6)
    middle = np.argwhere(plateau).mean(axis=0)
    step = centres[0][1]
    assert np.abs(middle - place).max() <= step / 2
    assert np.abs(np.subtract(found.hottest(*image.shape), place)).max() <= 1.5 * step
