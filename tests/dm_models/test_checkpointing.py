import keras
import numpy as np
import pytest

from dm_models import weights
from dm_models.backbones import get_backbone
from dm_models.checkpointing import checkpoint, cut_points
from dm_models.patch_classifier import build_patch_classifier
from dm_models.whole_image import build_whole_image


def whole_image(net, top="8x1", dropout=0.0):
    keras.utils.set_random_seed(3)
    contract = get_backbone(net).contract(height=64, width=64)
    patch_model = build_patch_classifier(net, contract=contract)
    return build_whole_image(patch_model, contract, top, dropout=dropout), contract


def trained(model, images):
    optimizer = keras.optimizers.SGD(1e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    losses = [model.train_on_batch(images, np.array([0, 1])) for _ in range(2)]
    return [float(loss) for loss in losses], model.get_weights()


@pytest.mark.parametrize(
    "net", ["squeezenet", pytest.param("yaroslav", marks=pytest.mark.slow)]
)
def test_a_checkpointed_training_ends_where_a_plain_one_does(net, grey_images):
    """Weights and batch norm's moving statistics, though these are computed twice."""
    images = grey_images(2, 256, 256)
    plain, _ = whole_image(net)
    losses, arrays = trained(plain, images)
    model, _ = whole_image(net)
    assert len(checkpoint(model)) >= 2
    again, found = trained(model, images)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    start = whole_image(net)[0].get_weights()
    assert not all(np.array_equal(a, b) for a, b in zip(start, found, strict=True))
    for one, other in zip(arrays, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_predictions_and_files_do_not_notice(tmp_path, grey_images):
    images = grey_images(1, 160, 160)
    model, contract = whole_image("squeezenet")
    before = np.asarray(model(images))
    checkpoint(model)
    np.testing.assert_array_equal(np.asarray(model(images)), before)
    weights.save_model(model, tmp_path / "m.keras", contract)
    again, _ = weights.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(np.asarray(again(images)), before)


def test_a_net_is_cut_only_where_it_narrows_and_before_anything_random():
    model, _ = whole_image("squeezenet", dropout=0.5)
    names = [layer.name for layer in cut_points(model)]
    assert "fire4_squeeze1x1" in names and "fire4_concat" in names
    assert not [name for name in names if "expand" in name or "dropout" in name]
    resnet, _ = whole_image("resnet50", "8-8-8x1")
    names = [layer.name for layer in cut_points(resnet)]
    blocks = [f"conv{s}_block{u}_out" for s, n in ((2, 3), (3, 4), (4, 6), (5, 3))
              for u in range(1, n + 1)]  # fmt: skip
    assert set(blocks) - {"conv5_block3_out"} <= set(names)


def test_the_number_of_segments_can_be_chosen():
    assert len(checkpoint(whole_image("squeezenet")[0], segments=2)) == 1
    assert len(checkpoint(whole_image("squeezenet")[0], segments=3)) <= 2


def test_the_early_layers_are_cut_finest_because_their_maps_are_largest():
    """Pieces of as many layers each would put most of the memory into one."""
    kept = checkpoint(whole_image("resnet50", "8-8-8x1")[0])
    assert kept[0] == "pool1_pool"
    early = [name for name in kept if name.startswith("conv2")]
    late = [name for name in kept if name.startswith("conv5")]
    assert len(early) == 3 and not late


def test_a_model_that_narrows_nowhere_is_refused():
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3)(inputs), name="tiny")
    with pytest.raises(ValueError, match="'tiny' narrows to one tensor nowhere"):
        checkpoint(model)
