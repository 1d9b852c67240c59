import json
import os
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from dm_models.weights import (
    CONTRACT_MEMBER,
    ModelFileError,
    WeightsError,
    load_model,
    load_weights_strict,
    main,
    read_contract,
    read_layer_file,
    save_backbone_h5,
    save_model,
    save_weights_h5,
)
from dm_models.whole_image import build_whole_image

STRANGER = """
import sys
import keras
import numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
np.save(sys.argv[3], model(np.load(sys.argv[2])))
assert not [name for name in sys.modules if name.startswith("dm_")]
"""


def small_model(units=3):
    inputs = keras.Input((4, 4, 1), name="grey")
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(units, name="last")(x))


def assert_same_weights(one, other):
    for old, new in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_save_equals_load(ending, tmp_path, patch_model, contract, grey_images):
    path = save_model(patch_model, tmp_path / "deep" / f"m{ending}", contract)
    loaded, found = load_model(path)
    assert found == contract
    images = grey_images(1, 64, 64)
    np.testing.assert_array_equal(
        np.asarray(loaded(images)), np.asarray(patch_model(images))
    )
    assert [file.name for file in path.parent.iterdir()] == [f"m{ending}"]


def test_a_keras_file_loads_where_there_is_only_keras(
    tmp_path, patch_model, contract, grey_images
):
    model = build_whole_image(patch_model, contract, "4-4-8x1")
    path = save_model(model, tmp_path / "m.keras", contract)
    images = grey_images(2, 96, 70)
    np.save(tmp_path / "images.npy", images)
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(
        [sys.executable, "-c", STRANGER, path, tmp_path / "images.npy", "out.npy"],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    np.testing.assert_array_equal(
        np.load(tmp_path / "out.npy"), np.asarray(model(images))
    )


def test_optimizer_and_its_state_come_back_on_request(tmp_path, contract):
    model = small_model()
    model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(np.ones((2, 4, 4, 1)), np.eye(3)[:2])
    path = save_model(model, tmp_path / "m.keras", contract)
    again, _ = load_model(path, compile=True)
    assert int(again.optimizer.iterations) == 1
    for old, new in zip(
        model.optimizer.variables, again.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(np.asarray(old), np.asarray(new))
    assert not load_model(path)[0].compiled


def test_an_h5_file_says_that_it_holds_no_optimizer(tmp_path, contract):
    path = save_model(small_model(), tmp_path / "m.h5", contract)
    with pytest.raises(ModelFileError, match="m.h5: .*goes on from a .keras file only"):
        load_model(path, compile=True)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_model_file_from_another_project_is_refused(ending, tmp_path):
    path = tmp_path / f"other{ending}"
    small_model().save(path)
    with pytest.raises(ModelFileError, match="other.*from another project"):
        load_model(path)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98], ids=["empty", "half", "the end"])
def test_a_truncated_model_file_is_named(ending, kept, tmp_path, contract):
    path = save_model(small_model(), tmp_path / f"cut{ending}", contract)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelFileError, match="cut.*truncated"):
        load_model(path)


def test_damage_inside_a_model_file_is_named(tmp_path, contract):
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CONTRACT_MEMBER, contract.to_json())
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelFileError, match="bad.keras: Keras cannot load it"):
        load_model(path)


def test_a_lambda_in_a_model_file_is_not_run(tmp_path, contract):
    inputs = keras.Input((2,))
    outputs = keras.layers.Lambda(lambda x: x * 2)(inputs)
    path = save_model(keras.Model(inputs, outputs), tmp_path / "l.keras", contract)
    with pytest.raises(
        ModelFileError, match="l.keras: Keras cannot load it.*[Ll]ambda"
    ):
        load_model(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, contract):
    path = save_model(small_model(), tmp_path / "m.keras", contract)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(2**27))
    with pytest.raises(ModelFileError, match="assets/zeros unpacks to 128 MiB"):
        load_model(path)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_arrays_that_would_fill_the_memory_are_refused(name, tmp_path, contract):
    """A dataset of nothing but a compressed zero says it is 1 GiB large."""
    path = save_model(small_model(), tmp_path / name, contract)
    bomb = tmp_path / "bomb.h5"
    with h5py.File(bomb, "w") as file:
        file.create_dataset("x", (2**14, 2**14), "f4", compression="gzip", chunks=True)
    if name == "m.h5":
        with h5py.File(path, "r+") as file, h5py.File(bomb) as other:
            file.copy(other["x"], "x")
    else:
        with zipfile.ZipFile(path) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        members["model.weights.h5"] = bomb.read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
    with pytest.raises(ModelFileError, match="its arrays unpack to 1,024 MiB"):
        load_model(path)


def test_a_backbone_alone_is_saved_for_plain_keras_nets_only(tmp_path, patch_model):
    path = save_backbone_h5(patch_model, tmp_path / "b.h5")
    names = list(read_layer_file(path))
    assert names[0] == "conv1" and "patch_prediction" not in names
    for name in ("b.weights.h5", "b.keras"):
        with pytest.raises(ModelFileError, match="must end with .h5"):
            save_backbone_h5(patch_model, tmp_path / name)
    with pytest.raises(ModelFileError, match="no backbone that is known"):
        save_backbone_h5(small_model(), tmp_path / "c.h5")


@pytest.mark.slow
def test_names_beyond_what_an_attribute_holds_stand_in_pieces(tmp_path):
    inputs = keras.Input((4,))
    x = inputs
    for index in range(600):
        x = keras.layers.Dense(1, name=f"a_rather_long_name_{index:03d}_{'x' * 100}")(x)
    model = keras.Model(inputs, x)
    path = save_weights_h5(model, tmp_path / "w.h5")
    with h5py.File(path) as file:
        assert "layer_names0" in file.attrs and "layer_names" not in file.attrs
    fresh = keras.Model.from_config(model.get_config())
    load_weights_strict(fresh, path)
    assert_same_weights(model, fresh)
    again = keras.Model.from_config(model.get_config())
    again.load_weights(path)  # Keras reads the pieces too
    assert_same_weights(model, again)


def test_a_contract_of_a_later_format_names_the_file(tmp_path, contract):
    path = tmp_path / "later.keras"
    with zipfile.ZipFile(path, "w") as archive:
        later = {**json.loads(contract.to_json()), "format": 99}
        archive.writestr(CONTRACT_MEMBER, json.dumps(later))
    with pytest.raises(ModelFileError, match="later.keras: .* format 99"):
        read_contract(path)


@pytest.mark.parametrize("name", ["m.onnx", "m.weights.h5"])
def test_another_ending_is_refused(name, tmp_path, contract):
    with pytest.raises(ModelFileError, match="must end with .keras or .h5"):
        save_model(small_model(), tmp_path / name, contract)
    with pytest.raises(ModelFileError, match="must end with .keras or .h5"):
        load_model(tmp_path / name)


def test_a_missing_model_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="none.keras: no such model file"):
        load_model(tmp_path / "none.keras")


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, contract):
    path = save_model(small_model(), tmp_path / "m.keras", contract)
    before = path.read_bytes()
    with pytest.raises(AttributeError, match="to_json"):
        save_model(small_model(), path, "no contract")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.keras"]


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5"])
def test_weights_alone_come_back_strictly_and_by_keras_itself(name, tmp_path):
    model = small_model()
    model.get_layer("norm").set_weights([np.full(2, v) for v in (1.0, 2.0, 3.0, 4.0)])
    path = save_weights_h5(model, tmp_path / name)
    ours, theirs = small_model(), small_model()
    load_weights_strict(ours, path)
    theirs.load_weights(path)
    assert_same_weights(ours, model)
    assert_same_weights(theirs, model)


def test_a_layer_file_gives_a_plain_keras_net_its_backbone_by_name(tmp_path):
    from dm_models.patch_classifier import build_patch_classifier

    model = build_patch_classifier("vgg16", num_classes=2)
    path = save_weights_h5(model, tmp_path / "w.h5")
    plain = keras.applications.VGG16(include_top=False, weights=None)
    plain.load_weights(path, by_name=True)
    np.testing.assert_array_equal(
        plain.get_layer("block5_conv3").get_weights()[0],
        model.get_layer("block5_conv3").get_weights()[0],
    )


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5"])
def test_weights_of_another_shape_are_refused_and_none_is_loaded(name, tmp_path):
    path = save_weights_h5(small_model(units=5), tmp_path / name)
    model = small_model()
    before = small_model()
    before.set_weights(model.get_weights())
    with pytest.raises(WeightsError, match=r"the model's shape is \(8, 3\).*\(8, 5\)"):
        load_weights_strict(model, path)
    assert_same_weights(model, before)


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5"])
@pytest.mark.parametrize("what", ["missing", "surplus"])
def test_a_missing_and_a_surplus_layer_are_named(what, name, tmp_path):
    short, full = small_model(), small_model()
    short = keras.Model(short.input, short.get_layer("flat").output)
    saved, loaded = (short, full) if what == "missing" else (full, short)
    path = save_weights_h5(saved, tmp_path / name)
    with pytest.raises(WeightsError, match=f"{what} in the file: (last|layers/dense)"):
        load_weights_strict(loaded, path)


def test_swapped_batch_norm_arrays_are_seen_though_their_shapes_agree(tmp_path):
    path = save_weights_h5(small_model(), tmp_path / "w.h5")
    with h5py.File(path, "r+") as file:
        names = list(file["norm"].attrs["weight_names"])
        file["norm"].attrs["weight_names"] = [names[1], names[0], *names[2:]]
    with pytest.raises(
        WeightsError, match="norm: gamma is due, the file has norm/beta"
    ):
        load_weights_strict(small_model(), path)


def test_an_hdf5_file_that_is_no_weights_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(ModelFileError, match="data.h5: no attribute 'layer_names'"):
        load_weights_strict(small_model(), tmp_path / "data.h5")


def test_describe_prints_the_contract(tmp_path, contract, capsys):
    path = save_model(small_model(), tmp_path / "m.keras", contract)
    assert main(["describe", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["backbone"] == "squeezenet"


def test_describe_of_a_bad_file_is_status_2_and_no_traceback(tmp_path, capsys):
    assert main(["describe", str(tmp_path / "none.keras")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
