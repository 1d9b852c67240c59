"""What holds for every net with one top, and for every top with one net."""

from functools import cache

import keras
import numpy as np
import pytest

from dm_models.backbones import backbone_names, get_backbone
from dm_models.export import export_saved_model, scores_of_saved_model
from dm_models.heatmap import build_heatmap
from dm_models.patch_classifier import PATCH_CLASSES, build_patch_classifier
from dm_models.published import IMAGE_ROWS
from dm_models.tops import parse_top, top_map_size
from dm_models.whole_image import build_whole_image, minimum_size

# One of each kind, small: what is tested is how it is built, not how wide it is.
TOPS = ("4-4-8x2", "4-4-8x1+4-4-4x1", "8x1+4x1", "hm+4-4-8x1", "hm-pool2-fc8-4")
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
PAPER = sorted({row.name.split("-", 2)[2] for row in IMAGE_ROWS})


@cache
def patch_side(net):
    """The smallest patch that gives a map of 2 x 2, or of 3 x 3 for Xception."""
    map_size = get_backbone(net).map_size
    return next(side for side in range(1, 200) if map_size(side) >= 2)


def patch_map(net):
    return get_backbone(net).map_size(patch_side(net))


def made(net):
    side = patch_side(net)
    contract = get_backbone(net).contract(
        height=side, width=side, class_names=PATCH_CLASSES
    )
    return build_patch_classifier(net, contract=contract), contract


def image_side(net, top):
    """The smallest image that leaves the last batch norm more than one cell.

    On one cell a batch of two has hardly any variance, and many such batch norms one
    after another make the gradient infinite.
    """
    parsed, map_size = parse_top(top), get_backbone(net).map_size
    least = 1 if parsed.fc else 2
    return next(
        side
        for side in range(minimum_size(net, top, patch_map=patch_map(net)), 4000)
        if top_map_size(parsed, map_size(side), heatmap_pool=patch_map(net)) >= least
    )


def assert_same_patch_weights(patch_model, model):
    for layer in patch_model.layers:
        if layer.weights and layer.name != "patch_prediction":
            for old, new in zip(
                layer.get_weights(),
                model.get_layer(layer.name).get_weights(),
                strict=True,
            ):
                np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("net", backbone_names())
def test_on_a_patch_the_heatmap_is_the_patch_nets_answer(net, grey_images):
    """And the conversion keeps every weight of the patch net bit for bit."""
    patch_model, contract = made(net)
    images = grey_images(2, patch_side(net), patch_side(net))
    expected = np.asarray(patch_model(images))
    found = np.asarray(build_heatmap(patch_model, pool=patch_map(net))(images))
    assert found.shape == (2, 1, 1, 5)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-4, atol=1e-6)
    whole = build_whole_image(patch_model, contract, "8x1+4x1")
    assert_same_patch_weights(patch_model, whole)
    side = image_side(net, "hm-pool2-fc8-4")
    copied = build_whole_image(
        patch_model, contract, "hm-pool2-fc8-4", height=side, width=side
    )
    assert_same_patch_weights(patch_model, copied)


def assert_trains_in(policy, net, top, grey_images, **compiled):
    keras.mixed_precision.set_dtype_policy(policy)
    patch_model, contract = made(net)
    side = image_side(net, top)
    model = build_whole_image(patch_model, contract, top, height=side, width=side)
    images = grey_images(2, side, side)
    optimizer = keras.optimizers.SGD(1e-4)
    compiled = {"jit_compile": False, **compiled}
    model.compile(optimizer, "sparse_categorical_crossentropy", **compiled)
    before = model.get_weights()
    assert {
        layer.compute_dtype for layer in model.layers if layer.name.startswith("top_")
    } == {policy.removeprefix("mixed_")}
    loss = model.train_on_batch(images, np.array([0, 1]))
    if policy == "float32":  # a step in float16 may be left out: its loss is scaled
        pairs = zip(before, model.get_weights(), strict=True)
        assert not all(np.array_equal(one, other) for one, other in pairs)
    scores = np.asarray(model(images))
    assert np.isfinite(loss) and np.isfinite(scores).all()
    assert scores.dtype == np.float32 and scores.shape == (2, 2)


@pytest.mark.parametrize("top", TOPS)
def test_every_kind_of_top_trains(top, grey_images):
    assert_trains_in("float32", "squeezenet", top, grey_images)


@pytest.mark.parametrize("policy", POLICIES[1:])
@pytest.mark.parametrize("top", TOPS[2:3])
def test_a_top_trains_in_mixed_precision(top, policy, grey_images):
    assert_trains_in(policy, "squeezenet", top, grey_images)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES[1:])
@pytest.mark.parametrize("top", TOPS)
def test_every_kind_of_top_trains_in_mixed_precision(top, policy, grey_images):
    assert_trains_in(policy, "squeezenet", top, grey_images)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("net", backbone_names())
def test_every_net_trains_in_every_precision(net, policy, grey_images):
    assert_trains_in(policy, net, "8x1+4x1", grey_images)


@pytest.mark.slow
@pytest.mark.parametrize("net", backbone_names())
@pytest.mark.parametrize("top", PAPER)
def test_every_top_of_the_paper_trains_on_every_net(top, net, grey_images):
    assert_trains_in("float32", net, top, grey_images)


@pytest.mark.slow
@pytest.mark.parametrize("name", [row.name for row in IMAGE_ROWS])
def test_every_row_of_the_paper_is_exported_with_its_scores(
    name, tmp_path, grey_images
):
    net, _, top = name.split("-", 2)
    patch_model, contract = made(net)
    side = image_side(net, top)
    model = build_whole_image(patch_model, contract, top, height=side, width=side)
    images = grey_images(2, side, side)
    contract = contract.replace(class_names=("neg", "pos"))
    out = export_saved_model(model, tmp_path / "saved", contract=contract)
    found = scores_of_saved_model(out, images)
    np.testing.assert_allclose(found, model(images), rtol=1e-4, atol=1e-6)


def test_xla_compiles_a_step_where_asked(grey_images):
    assert_trains_in("float32", "squeezenet", "8x1+4x1", grey_images, jit_compile=True)


@pytest.mark.slow
@pytest.mark.parametrize("net", backbone_names())
def test_xla_compiles_a_step_of_every_net(net, grey_images):
    assert_trains_in("float32", net, "8x1+4x1", grey_images, jit_compile=True)
