from functools import cache

import keras
import pytest

from dm_models.backbones import (
    BackboneError,
    backbone_layers,
    backbone_names,
    backbone_of,
    build_backbone,
    get_backbone,
)
from dm_models.patch_classifier import build_patch_classifier

# Without a top; YaroslavNet's 5,904,357 include a head of 5 x 513.
NETS = {
    "squeezenet": 722_496, "vgg16": 14_714_688, "vgg19": 20_024_384,
    "resnet50": 23_587_712, "inception_v3": 21_802_784, "xception": 20_861_480,
    "yaroslav": 5_904_357 - 5 * 513,
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_a_backbone_has_its_published_size_and_map(name):
    net, model = get_backbone(name), whole_backbone(name)
    assert model.count_params() == NETS[name]
    for height, width in ((224, 192), (net.least_size(), 301)):
        shape = (1, height, width, model.input_shape[-1])
        assert model.compute_output_shape(shape)[1:3] == (
            net.map_size(height), net.map_size(width)
        )  # fmt: skip


@cache
def whole_backbone(name):
    """A backbone on images of any size, to look at."""
    channels = get_backbone(name).contract().channels
    return keras.Model(*_built(name, None, None, channels=channels))


def _built(name, height, width, channels=3):
    inputs = keras.Input((height, width, channels))
    return inputs, build_backbone(name, inputs)


@pytest.mark.parametrize("name", NETS)
def test_every_layer_with_weights_belongs_to_a_stage_and_no_model_is_nested(name):
    net, model = get_backbone(name), whole_backbone(name)
    assert backbone_of(model) is net
    assert net.fine_tune_from in net.stages
    met = [net.stage_of(layer.name) for layer in backbone_layers(model)]
    assert None not in met
    order = [net.stages.index(stage) for stage in met]
    assert order == sorted(order)
    assert sorted(set(order)) == list(range(len(net.stages)))
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]


def test_squeezenet_maps_follow_its_unpadded_layers():
    # 288 -> 143 -> 71 -> 35 -> 17
    assert get_backbone("squeezenet").map_size(288) == 17
    inputs, features = _built("squeezenet", 288, 64)
    assert features.shape[1:] == (17, 3, 512)


def test_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(BackboneError, match="'alexnet'; known: .*squeezenet"):
        get_backbone("alexnet")
    assert set(NETS) == set(backbone_names())


def test_layers_have_the_same_names_however_many_nets_were_built_before():
    names = []
    for _ in range(2):
        model = build_patch_classifier("xception")
        names.append([layer.name for layer in model.layers])
    assert names[0] == names[1]
    assert "block13_shortcut_bn" in names[0] and "xception_add12" in names[0]
    assert not [name for name in names[0] if name.startswith(("conv2d", "add"))]


def test_each_net_has_its_own_preparation():
    contract = {name: get_backbone(name).contract() for name in NETS}
    assert contract["xception"].divisor == contract["inception_v3"].divisor == 127.5
    assert contract["xception"].offset == contract["inception_v3"].offset == -1
    assert contract["yaroslav"].channels == 1
    paper = ("vgg16", "vgg19", "resnet50", "yaroslav")
    assert [name for name in NETS if contract[name].uses_mean] == [
        name for name in NETS if name in paper
    ]
