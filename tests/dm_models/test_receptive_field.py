import keras
import numpy as np
import pytest

from dm_models.backbones import get_backbone
from dm_models.heatmap import build_heatmap
from dm_models.patch_classifier import build_patch_classifier
from dm_models.receptive_field import (
    cell_centres,
    last_map,
    least_size,
    receptive_field,
)
from dm_models.whole_image import build_whole_image


def test_two_convolutions_and_a_pooling_add_up():
    inputs = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(1, 3)(inputs)  # 3, step 1
    x = keras.layers.MaxPooling2D(2)(x)  # 3 + 1 = 4, step 2
    x = keras.layers.Conv2D(1, 3, dilation_rate=2)(x)  # 4 + 4 * 2 = 12
    assert receptive_field(keras.Model(inputs, x)) == (12, 2)


def test_where_ways_meet_the_widest_counts():
    inputs = keras.Input((32, 32, 1))
    ways = [keras.layers.Conv2D(1, k, padding="same")(inputs) for k in (1, 5)]
    assert receptive_field(keras.Model(inputs, keras.layers.Add()(ways))) == (5, 1)


@pytest.mark.parametrize(
    ("net", "field"), [("vgg16", 212), ("resnet50", 483), ("yaroslav", 316)]
)
def test_known_fields(net, field):
    """VGG16's 212 and ResNet50's 483 are the literature's (Araujo et al.)."""
    model = build_patch_classifier(net)
    assert receptive_field(model)[0] == field


def test_a_pixel_outside_the_field_changes_nothing_and_one_inside_does(grey_images):
    inputs = keras.Input((65, 65, 1))
    x = keras.layers.Conv2D(2, 3, padding="same")(inputs)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Conv2D(1, 5, padding="same")(x)
    model = keras.Model(inputs, x)
    field, step = receptive_field(model)  # 3, 4, 4 + 4 * 2 = 12
    assert (field, step) == (12, 2)
    image = grey_images(1, 65, 65) / 65535
    cell = 16  # its pixels: 2 * 16 - 5 = 27 up to 27 + 12 - 1 = 38
    before = np.asarray(model(image))[0, cell, cell, 0]
    for row, changes in ((26, False), (27, True), (38, True), (39, False)):
        other = image.copy()
        other[0, row] += 10.0
        assert (np.asarray(model(other))[0, cell, cell, 0] != before) == changes


def test_a_layer_without_a_map_is_refused():
    model = build_patch_classifier("squeezenet")
    assert last_map(model).name == "fire9_concat"
    with pytest.raises(ValueError, match="'patch_pool' gives no map"):
        receptive_field(model, model.get_layer("patch_pool"))


def net_of(*layers, channels=1):
    """A net of layers one after another, on images of any size."""
    inputs = keras.Input((None, None, channels))
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def conv(kernel, **options):
    return keras.layers.Conv2D(1, kernel, use_bias=False, **options)


def made_positive(model):
    """Kernels of one sign, so that no way cancels another and ReLU lets all through.

    What reaches a cell from an image that is dark but for some rows is then above 0
    where one of them is in its field, and 0 elsewhere.
    """
    for layer in model.layers:
        for weight in layer.weights:
            if weight.ndim == 4:
                columns, channels = weight.shape[1], weight.shape[2]
                depthwise = "depthwise" in weight.path
                weight.assign(
                    np.full(weight.shape, 1 / columns / (1 if depthwise else channels))
                )
            elif weight.path.endswith("bias"):
                weight.assign(np.zeros(weight.shape))
    return model


def seen(model, size, axis, cell):
    """First and last row (column) that a cell sees, by halving the image on and on."""

    def reaches(lit: slice) -> bool:
        image = np.zeros((1, *size, 1), np.float32)
        image[(slice(None), *[slice(None)] * axis, lit)] = 1.0
        heat = np.asarray(model(image, training=False))[0].sum(axis=-1)
        return heat.sum(axis=1 - axis)[cell] > 0

    def least(works) -> int:
        low, high = 0, size[axis]
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if works(middle) else (middle + 1, high)
        return low

    first = least(lambda row: reaches(slice(0, row + 1)))
    return first, size[axis] - 1 - least(
        lambda n: reaches(slice(size[axis] - 1 - n, None))
    )


@pytest.mark.parametrize(
    ("rows", "first"),
    [(32, 1.0), (33, 0.0)],  # "same" on 32 pads below only, on 33 on both sides
    ids=["even", "odd"],
)
def test_where_cells_look_depends_on_the_size_where_padding_does(rows, first):
    model = net_of(conv(3, strides=2, padding="same"))
    assert cell_centres(model, None, (rows, 33)) == ((first, 2.0), (0.0, 2.0))


def test_centres_of_paddings_croppings_and_poolings_add_up():
    model = net_of(
        keras.layers.ZeroPadding2D(((3, 2), (0, 1))),  # rows from -3, columns from 0
        conv(7, strides=2),  # rows -3 to 3: at 0; columns 0 to 6: at 3
        keras.layers.Cropping2D(((1, 0), (2, 0))),  # rows at 2, columns at 3 + 4
        keras.layers.AveragePooling2D(4, strides=1),  # + 1.5 steps: 5 and 10
    )
    assert cell_centres(model, None, (64, 64)) == ((5.0, 2.0), (10.0, 2.0))


def test_where_ways_meet_the_centre_is_that_of_all_they_see():
    inputs = keras.Input((None, None, 1))
    ways = [conv(k, strides=2, padding="same")(inputs) for k in (1, 3)]
    model = keras.Model(inputs, keras.layers.Add()(ways))
    # On 32 rows the 1 x 1 sees row 0, the 3 x 3 rows 0 to 2: together 0 to 2.
    assert cell_centres(model, None, (32, 32))[0] == (1.0, 2.0)


QUICK = ("squeezenet",)
OTHERS = ("vgg16", "vgg19", "resnet50", "inception_v3", "xception", "yaroslav")


@pytest.mark.parametrize("odd", [0, 1], ids=["even", "odd"])
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)]
)
def test_a_cell_of_every_net_looks_where_lit_pixels_reach_it(name, odd):
    net = get_backbone(name)
    plain = net.contract(channel_means=None, divisor=1.0, offset=0.0)
    whole = made_positive(build_patch_classifier(name, contract=plain))
    layer = last_map(whole)
    model = keras.Model(whole.input, layer.output)
    field, step = receptive_field(whole)
    length = field + 4 * step + odd
    narrow = net.least_size() + 5
    for axis, size in enumerate([(length, narrow), (narrow, length)]):
        first, by = cell_centres(whole, layer, size)[axis]
        cell = round((length / 2 - first) / by)
        low, high = seen(model, size, axis, cell)
        assert low > 0 and high < length - 1  # the image does not cut the field
        assert (low + high) / 2 == first + cell * by
        assert by == step


@pytest.mark.parametrize("size", [(160, 96), (161, 97)], ids=["even", "odd"])
def test_the_heatmap_looks_at_the_middle_of_the_cells_it_averages(size):
    plain = get_backbone("squeezenet").contract(channel_means=None)
    patch_model = made_positive(build_patch_classifier("squeezenet", contract=plain))
    features = cell_centres(patch_model, None, size)
    heat = build_heatmap(patch_model, pool=(3, 2))
    (row, by), (col, _) = cell_centres(heat, heat.get_layer("heatmap"), size)
    assert (row, col) == (features[0][0] + by, features[1][0] + by / 2)


def test_a_whole_image_top_is_followed_to_its_last_map(contract):
    small = contract.replace(channel_means=None)
    patch_model = build_patch_classifier("squeezenet", contract=small)
    whole = made_positive(build_whole_image(patch_model, small, "8x1"))
    layer = whole.get_layer("top_block2_pool")
    model = keras.Model(whole.input, layer.output)
    first, by = cell_centres(whole, layer, (720, 120))[0]
    low, high = seen(model, (720, 120), 0, 5)
    assert 0 < low and high < 719
    assert ((low + high) / 2, by) == (first + 5 * by, 64)


def test_centres_of_what_is_no_map_or_too_small_or_enlarged_are_refused():
    model = build_patch_classifier("squeezenet")
    with pytest.raises(ValueError, match="'patch_pool' gives no map"):
        cell_centres(model, model.get_layer("patch_pool"), (64, 64))
    with pytest.raises(ValueError, match="16 x 64 leaves nothing of 'fire9_concat'"):
        cell_centres(model, None, (16, 64))
    enlarged = net_of(conv(3, strides=2), keras.layers.UpSampling2D(name="up"))
    with pytest.raises(ValueError, match="layer 'up' enlarges maps"):
        cell_centres(enlarged, None, (64, 64))


def test_the_least_image_leaves_a_cell_of_every_map_and_one_pixel_less_does_not():
    inputs = keras.Input((None, None, 1))
    x = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(1, 3, strides=(2, 1))(inputs))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    # The pooling needs two cells: rows (5 - 3) // 2 + 1 = 2, columns 4 - 2 = 2.
    assert least_size(model) == (5, 4)
    assert np.isfinite(model(np.ones((1, 5, 4, 1)))).all()
    for rows, cols in ((4, 4), (5, 3)):
        with pytest.raises(ValueError, match="leaves nothing of"):
            cell_centres(model, last_map(model), (rows, cols))


@pytest.mark.parametrize(
    "net, least", [("squeezenet", 31), ("vgg16", 32), ("inception_v3", 75)]
)
def test_least_sizes_of_known_nets(net, least):
    contract = get_backbone(net).contract(height=224, width=224, class_names=("a", "b"))
    model = build_patch_classifier(net, contract=contract)
    assert least_size(model) == (least, least)
    fixed = keras.Model(*[keras.Input((9, 7, 1))] * 2)
    assert least_size(fixed) == (9, 7)


def test_no_least_size_is_told_of_a_net_that_enlarges():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, keras.layers.UpSampling2D()(inputs))
    with pytest.raises(ValueError, match="enlarges maps"):
        least_size(model)
