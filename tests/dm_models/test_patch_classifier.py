import keras
import numpy as np
import pytest

from dm_models.backbones import BackboneError, get_backbone
from dm_models.imagenet import load_imagenet
from dm_models.patch_classifier import PATCH_CLASSES, build_patch_classifier


def test_a_patch_classifier_gives_five_probabilities(patch_model, grey_images):
    found = np.asarray(patch_model(grey_images(2, 64, 64)))
    assert found.shape == (2, len(PATCH_CLASSES))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_one_model_takes_images_of_any_size(patch_model, grey_images):
    assert patch_model(grey_images(1, 64, 64)).shape == (1, 5)
    assert patch_model(grey_images(1, 150, 97)).shape == (1, 5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_finite_float32_outputs(policy, contract, grey_images):
    keras.mixed_precision.set_dtype_policy(policy)
    model = build_patch_classifier("squeezenet", contract=contract)
    load_imagenet(model, "squeezenet")
    found = model(grey_images(1, 64, 64))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert np.isfinite(np.asarray(found)).all()
    assert model.get_layer("conv1").compute_dtype == policy.removeprefix("mixed_")


def test_the_mean_of_the_contract_is_built_in(grey_images):
    contract = get_backbone("vgg16").contract(mean=52.18)
    model = build_patch_classifier("vgg16", contract=contract, num_classes=2)
    assert model.get_layer("grey_scale").offset == -52.18
    assert model.output_shape == (None, 2)


def test_resnet50_runs_on_a_small_patch(grey_images):
    model = build_patch_classifier("resnet50", height=64, width=64)
    assert model(grey_images(1, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"height": 30}, "height 30 leaves nothing of squeezenet.*least is 31"),
        ({"height": 64, "width": 8}, "width 8 leaves nothing"),
        ({"contract": get_backbone("vgg16").contract()}, "for 'vgg16', the net is"),
    ],
    ids=["height", "width", "contract"],
)
def test_what_does_not_fit_the_backbone_is_refused(arguments, said):
    with pytest.raises(BackboneError, match=said):
        build_patch_classifier("squeezenet", **arguments)


def test_the_least_size_really_is_the_least(patch_model, grey_images):
    least = get_backbone("squeezenet").least_size()
    assert np.isfinite(np.asarray(patch_model(grey_images(1, least, least)))).all()
