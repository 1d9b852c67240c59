import keras
import pytest

from dm_models.blocks import fc_layers, resnet_block, vgg_block


def test_a_resnet_block_has_the_parameters_of_its_convolutions():
    inputs = keras.Input((9, 7, 10))
    outputs = resnet_block(inputs, (2, 3, 4), repetitions=2, name="b", weight_decay=0.1)
    model = keras.Model(inputs, outputs)
    # Unit 1: 1x1 10->2: 22; 3x3 2->3: 57; 1x1 3->4: 16; shortcut 10->4: 44; batch norms
    # 4 x (2 + 3 + 4 + 4) = 52. Unit 2: 1x1 4->2: 10; 57; 16; 4 x (2 + 3 + 4) = 36.
    assert model.count_params() == (22 + 57 + 16 + 44 + 52) + (10 + 57 + 16 + 36)
    assert outputs.shape == (None, 5, 4, 4)


def test_a_vgg_block_has_the_parameters_of_its_convolutions():
    inputs = keras.Input((9, 7, 10))
    outputs = vgg_block(inputs, 4, repetitions=2, name="b", weight_decay=0.1)
    # 3x3 10->4: 364; 3x3 4->4: 148; batch norms 2 x 16.
    assert keras.Model(inputs, outputs).count_params() == 364 + 148 + 32
    assert outputs.shape == (None, 4, 3, 4)


def test_only_the_first_unit_halves_and_projects():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(
        inputs, resnet_block(inputs, (2, 2, 4), repetitions=3, name="b", weight_decay=0)
    )
    convolutions = {
        layer.name: layer.strides
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    halving = [name for name, strides in convolutions.items() if strides == (2, 2)]
    assert sorted(halving) == ["b_unit1_conv1", "b_unit1_shortcut_conv"]
    assert len(convolutions) == 3 * 3 + 1


@pytest.mark.parametrize("kind", ["resnet", "vgg"])
def test_convolutions_are_as_the_paper_says(kind):
    inputs = keras.Input((8, 8, 4))
    if kind == "resnet":
        x = resnet_block(inputs, (2, 2, 2), repetitions=1, name="b", weight_decay=0.25)
    else:
        x = vgg_block(inputs, 2, repetitions=1, name="b", weight_decay=0.25)
    convolutions = [
        layer
        for layer in keras.Model(inputs, x).layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    for layer in convolutions:
        assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal)
        assert layer.kernel_regularizer.l2 == 0.25
        assert layer.padding == "same"
        assert layer.use_bias


def test_fc_layers_have_batch_norm_and_relu():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, fc_layers(inputs, (4, 2), name="top", weight_decay=0.1))
    # Dense 6->4: 28, batch norm 16; Dense 4->2: 10, batch norm 8.
    assert model.count_params() == 28 + 16 + 10 + 8
    assert isinstance(model.layers[-1], keras.layers.ReLU)
