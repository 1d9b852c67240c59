import json

import keras
import numpy as np
import pytest

from dm_models.inputs import (
    IMAGENET_BGR_MEANS,
    ContractError,
    InputContract,
    grey_input,
    set_mean,
)


def prepared(contract, levels):
    model = keras.Model(*grey_input(contract))
    images = np.array(levels, np.float32).reshape(1, 1, -1, 1)
    return np.asarray(model(images))[0, 0]


def test_the_papers_scale_is_0_to_255_minus_one_mean():
    found = prepared(InputContract("resnet50", mean=52.0), [0, 257, 65535])
    # 257 is 8-bit level 1; 65535 is 255.
    np.testing.assert_allclose(
        found, [[-52.0] * 3, [-51.0] * 3, [203.0] * 3], rtol=1e-6
    )


def test_bgr_means_are_taken_off_each_channel():
    contract = InputContract("squeezenet", channel_means=IMAGENET_BGR_MEANS)
    found = prepared(contract, [65535])
    np.testing.assert_allclose(
        found, [[255 - 103.939, 255 - 116.779, 255 - 123.68]], rtol=1e-6
    )


def test_divisor_and_offset_give_minus_one_to_one():
    contract = InputContract("xception", divisor=127.5, offset=-1.0)
    found = prepared(contract, [0, 65535])
    np.testing.assert_allclose(found, [[-1.0] * 3, [1.0] * 3], rtol=1e-6)


def test_one_channel_nets_get_one_channel():
    assert prepared(InputContract("yaroslav", channels=1), [5]).shape == (1, 1)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_grey_levels_stay_float32_under_mixed_precision(policy):
    keras.mixed_precision.set_dtype_policy(policy)
    found = prepared(InputContract("resnet50"), [65535, 65534])
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found[0, 0] != found[1, 0]


def test_json_gives_the_contract_back():
    contract = InputContract(
        "squeezenet",
        channel_means=IMAGENET_BGR_MEANS,
        class_names=("neg", "pos"),
        height=1152,
        grey_stats={"mean": 52.18, "split": "train"},
        crop_breast=True,
        grey="auto-level",
        voi=True,
    )
    assert InputContract.from_json(contract.to_json()) == contract


def test_an_older_contract_has_the_defaults_and_a_new_one_says_its_format():
    old = InputContract.from_json('{"format": 1, "backbone": "vgg16", "fit": "pad"}')
    assert old == InputContract("vgg16", fit="pad")
    assert (old.crop_breast, old.grey, old.voi) == (False, "full-range", False)
    assert json.loads(old.to_json())["format"] == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object, received list"),
        ('{"format": 9, "backbone": "vgg16"}', "format 9 is not known"),
        ('{"format": 1, "backbone": "vgg16", "gamma": 2}', r"unknown: \['gamma'\]"),
        ('{"format": 2}', "with 'backbone'"),
        ('{"format": 2, "backbone": "x", "voi": 1}', "voi must be true or false"),
    ],
    ids=["broken", "list", "later format", "unknown field", "no backbone", "number"],
)
def test_a_malformed_contract_is_refused(text, said):
    with pytest.raises(ContractError, match=said):
        InputContract.from_json(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": 2}, "1 or 3, received 2"),
        ({"channel_means": (1.0,)}, "3 numbers"),
        ({"scale": 0.0}, "positive, received 0.0"),
        ({"grey": "equal"}, "full-range, auto-level, received 'equal'"),
        ({"crop_breast": "no"}, "crop_breast must be true or false, received 'no'"),
    ],
    ids=["channels", "means", "scale", "grey", "crop"],
)
def test_an_impossible_contract_is_refused(changes, said):
    with pytest.raises(ContractError, match=said):
        InputContract("vgg16", **changes)


def test_set_mean_changes_what_the_model_subtracts_even_after_it_was_traced():
    contract = InputContract("resnet50", mean=52.0)
    model = keras.Model(*grey_input(contract))
    image = np.full((1, 2, 2, 1), 65535, np.float32)
    before = model.predict(image, verbose=0)[0, 0, 0, 0]
    changed = set_mean(model, contract, 44.0)
    after = model.predict(image, verbose=0)[0, 0, 0, 0]
    assert changed == contract.replace(mean=44.0)
    assert (before, after) == pytest.approx((203.0, 211.0))


def test_set_mean_leaves_a_net_with_its_own_means_alone(patch_model, contract):
    assert set_mean(patch_model, contract, 44.33) is contract


def test_set_mean_refuses_a_model_without_our_scale_layer():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs), name="other")
    with pytest.raises(ContractError, match="'other' has no layer 'grey_scale'"):
        set_mean(model, InputContract("resnet50"), 1.0)
