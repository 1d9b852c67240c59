import keras
import numpy as np
import pytest

from dm_models.patch_classifier import build_patch_classifier
from dm_models.receptive_field import last_map, receptive_field


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
