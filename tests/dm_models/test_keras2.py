import json
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from dm_models import freezing, weights
from dm_models.heatmap import build_heatmap
from dm_models.keras2 import import_keras2
from dm_models.keras2_files import is_keras2_model
from dm_models.layer_files import ModelFileError, WeightsError

FIXTURES = Path(__file__).parent / "data" / "keras-2.0.8"
NAMES = [
    "keras208_patch",
    "keras208_resnet",
    "keras208_vgg_partly_frozen",
    "keras208_heatmap_fc_shortcut",
]


def imported(name, **fields):
    return import_keras2(FIXTURES / f"{name}.h5", **{"mean": 0.0, "scale": 1, **fields})


def answers(name):
    """Grey images of one channel, and what Keras 2.0.8 predicted for three alike."""
    arrays = np.load(FIXTURES / f"{name}.npz")
    assert np.ptp(arrays["x"], axis=-1).max() == 0
    return arrays["x"][..., :1], arrays["y"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_predicts_as_it_did_in_keras_2(name):
    images, expected = answers(name)
    model, _ = imported(name)
    np.testing.assert_allclose(model(images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_grey_levels_are_brought_to_the_scale_that_the_flags_tell(name):
    images, expected = answers(name)
    model, contract = imported(name, mean=52.18, scale=255 / 65535)
    raw = (images + 52.18) * 65535 / 255
    np.testing.assert_allclose(model(raw), expected, rtol=0, atol=1e-5)
    assert (contract.mean, contract.scale, contract.channels) == (52.18, 255 / 65535, 3)


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_model_is_flat_and_survives_saving(name, tmp_path):
    images, expected = answers(name)
    model, contract = imported(name)
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]
    weights.save_model(model, tmp_path / "model.keras", contract)
    again, kept = weights.load_model(tmp_path / "model.keras")
    assert kept == contract
    np.testing.assert_allclose(again(images), expected, rtol=0, atol=1e-6)


def test_what_was_frozen_stays_so_and_everything_can_be_unfrozen():
    model, _ = imported("keras208_vgg_partly_frozen")
    frozen = [x.name for x in model.layers if x.weights and not x.trainable]
    assert frozen == ["block1_conv1", "block1_bn"]
    freezing.set_trainable_from(model, "top")
    assert all(name.startswith("top_") for name in freezing.trainable_names(model))
    freezing.set_trainable_from(model, "all")
    assert all(layer.trainable for layer in model.layers if layer.weights)


# Not keras208_resnet: TensorFlow 2.21 on a CPU frees memory twice in the gradient of
# its 1x1 convolution with stride 2 and 8 input channels; no network of ours has one.
@pytest.mark.parametrize("name", NAMES[2:])
def test_an_imported_model_can_be_fine_tuned(name):
    images, before = answers(name)
    model, _ = imported(name)
    freezing.set_trainable_from(model, "all")
    kernel = model.get_layer("block1_conv1").get_weights()[0]
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    assert np.isfinite(model.train_on_batch(images, np.array([0, 1, 0])))
    assert not np.array_equal(model.get_layer("block1_conv1").get_weights()[0], kernel)
    assert not np.allclose(model(images), before, atol=1e-6)


def test_an_l2_penalty_is_kept_and_can_be_changed():
    model, _ = imported("keras208_resnet")
    assert "top_conv2d_1" in freezing.set_weight_decay(model, 0.5)
    assert model.get_layer("top_conv2d_1").kernel_regularizer.l2 == 0.5


def test_an_imported_patch_classifier_gives_a_heatmap():
    images, expected = answers("keras208_patch")  # 40 x 56, a map of 5 x 7
    model, contract = imported("keras208_patch")
    assert contract.class_names[1] == "calc_mal" and contract.height is None
    found = build_heatmap(model, pool=(5, 7))(images)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-4, atol=1e-6)


def test_class_names_are_told_where_they_cannot_be_assumed():
    _, contract = imported("keras208_resnet", class_names=["normal", "cancer"])
    assert contract.class_names == ("normal", "cancer")
    with pytest.raises(ModelFileError, match="has 2 outputs: name them in order"):
        imported("keras208_resnet", class_names=["cancer"])


def test_the_users_file_is_never_changed(tmp_path):
    path = tmp_path / "model.h5"
    shutil.copy(FIXTURES / "keras208_resnet.h5", path)
    path.chmod(0o444)
    before = path.read_bytes()
    import_keras2(path, mean=0.0)
    assert path.read_bytes() == before


def edited(tmp_path, edit, name="keras208_resnet"):
    path = tmp_path / "edited.h5"
    shutil.copyfile(FIXTURES / f"{name}.h5", path)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def change_config(change):
    def edit(file):
        config = json.loads(file.attrs["model_config"])
        change(config["config"]["layers"])
        file.attrs["model_config"] = json.dumps(config)

    return edit


def make_lambda(layers):
    layers[2].update(class_name="Lambda", config={"function": ["4wEA", None, None]})


def make_unknown(layers):
    layers[2]["class_name"] = "CapsuleNet"


def call_twice(layers):
    layers[2]["inbound_nodes"] *= 2


def widen(layers):
    layers[2]["config"]["filters"] += 1


def bend(layers):
    layers[2]["config"]["activation"] = {"class_name": "function", "config": "f"}


def cut_off(layers):
    layers[2]["inbound_nodes"] = [[["nowhere", 0, 0, {}]]]


def drop_bias(layers):
    layers[2]["config"]["use_bias"] = False


def without_architecture(file):
    del file.attrs["model_config"]


def of_keras_3(file):
    file.attrs["keras_version"] = b"3.15.1"


def without_a_layer(file):
    group = file["model_weights"]
    names = [n for n in group.attrs["layer_names"] if n != b"conv2d_3"]
    group.attrs["layer_names"] = names


def with_a_surplus_layer(file):
    group = file["model_weights"]
    group.copy("conv2d_3", "conv2d_99")
    group.attrs["layer_names"] = [*group.attrs["layer_names"], b"conv2d_99"]


def with_arrays_swapped(file):
    group = file["model_weights"]["model_2"]
    names = list(group.attrs["weight_names"])
    names[0], names[4] = names[4], names[0]
    group.attrs["weight_names"] = names


def inflated(file):
    group = file["model_weights"]["dense_2"]
    name = group.attrs["weight_names"][0]
    del group[name]
    group.create_dataset(name, (2**14, 2**14), "f4", compression="gzip", chunks=True)


@pytest.mark.parametrize(
    ("edit", "error", "said"),
    [
        (change_config(make_lambda), ModelFileError, "is a Lambda: no code in a file"),
        (change_config(make_unknown), ModelFileError, "is a CapsuleNet: .* Conv2D"),
        (change_config(call_twice), ModelFileError, "is called 2 times"),
        (change_config(bend), ModelFileError, "an activation that is no name"),
        (change_config(cut_off), ModelFileError, "nothing leads to layer"),
        (change_config(widen), WeightsError, r"top_conv2d_1/kernel: .* the file holds"),
        (change_config(drop_bias), WeightsError, "conv2d_1: its arch.* 1 arrays, .* 2"),
        (without_architecture, ModelFileError, "weights only, without an architecture"),
        (of_keras_3, ModelFileError, "saved by Keras 3.15.1"),
        (without_a_layer, WeightsError, "missing in the file: the arrays of conv2d_3"),
        (with_a_surplus_layer, WeightsError, "surplus in the file: .* conv2d_99"),
        (with_arrays_swapped, WeightsError, "block1_conv1/kernel is due, .* block2"),
        (inflated, ModelFileError, "its arrays unpack to 1,024 MiB"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, edit, error, said):
    with pytest.raises(error, match=said):
        import_keras2(edited(tmp_path, edit), mean=0.0)


def test_a_truncated_file_and_one_that_is_no_hdf5_are_refused(tmp_path):
    whole = (FIXTURES / "keras208_resnet.h5").read_bytes()
    for content in (whole[: len(whole) // 2], b"no model at all"):
        (tmp_path / "bad.h5").write_bytes(content)
        with pytest.raises(ModelFileError, match="not an HDF5 file, or truncated"):
            import_keras2(tmp_path / "bad.h5", mean=0.0)
        assert not is_keras2_model(tmp_path / "bad.h5")
    with pytest.raises(ModelFileError, match="no such model file"):
        import_keras2(tmp_path / "none.h5", mean=0.0)


def test_names_that_tensorflow_numbered_again_are_recognised(tmp_path):
    """A second model of a session had `dense_2_1/kernel:0` for its layer dense_2."""

    def rename(file):
        group = file["model_weights"]["dense_2"]
        names = [
            n.replace(b"dense_2/", b"dense_2_1/") for n in group.attrs["weight_names"]
        ]
        for old, new in zip(group.attrs["weight_names"], names, strict=True):
            group[new] = group[old][()]
            del group[old]
        group.attrs["weight_names"] = names

    images, expected = answers("keras208_resnet")
    model, _ = import_keras2(edited(tmp_path, rename), mean=0.0, scale=1)
    np.testing.assert_allclose(model(images), expected, rtol=0, atol=1e-6)


def test_a_chain_of_layers_is_read_too(tmp_path):
    """A Sequential model, as Keras 2 writes it: a plain list of layers."""

    def edit(file):
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]["layers"]
        chain = [{"class_name": x["class_name"], "config": x["config"]} for x in layers]
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Sequential", "config": chain}
        )

    images, expected = answers("keras208_patch")
    model, _ = import_keras2(edited(tmp_path, edit, "keras208_patch"), mean=0, scale=1)
    np.testing.assert_allclose(model(images), expected, rtol=0, atol=1e-6)


def test_the_command_wraps_a_model_and_tells_what_it_assumed(tmp_path, capsys):
    out = tmp_path / "model.keras"
    command = ["import", str(FIXTURES / "keras208_vgg_partly_frozen.h5"), "--mean",
               "52.18", "--rescale-factor", "0.003891", "--out", str(out)]  # fmt: skip
    assert weights.main(command) == 0
    said = capsys.readouterr().out
    assert "outputs neg, pos, in this order (assumed" in said
    assert "frozen in the file: 2 layers, block1_conv1 to block1_bn" in said
    assert weights.read_contract(out).scale == 0.003891
    assert weights.main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert weights.main([*command, "--overwrite"]) == 0
