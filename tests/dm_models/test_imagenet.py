import h5py
import keras
import numpy as np
import pytest

from dm_models.backbones import get_backbone
from dm_models.imagenet import DATA, BackboneWeightsError, load_imagenet
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import save_weights_h5

PLAIN = {
    "vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19,
    "resnet50": keras.applications.ResNet50,
    "inception_v3": keras.applications.InceptionV3,
    "xception": keras.applications.Xception,
}  # fmt: skip


def random_file(name, path):
    """A file of the layout of Keras's own, without top, with random weights."""
    plain = PLAIN[name](include_top=False, weights=None, input_shape=(None, None, 3))
    save_weights_h5(plain, path)
    return plain


def test_the_packaged_squeezenet_weights_load_by_name(patch_model):
    path = load_imagenet(patch_model, "squeezenet")
    assert path.parent == DATA
    with h5py.File(path) as file:
        expected = np.asarray(file["fire6/expand3x3"]["fire6/expand3x3_b"])
    found = patch_model.get_layer("fire6_expand3x3").get_weights()[1]
    np.testing.assert_array_equal(found, expected)
    assert (DATA / "LICENSE-squeezenet").is_file()


def test_imagenet_weights_tell_an_edge_from_a_plain_grey(patch_model):
    """The first layer's trained filters answer to an edge and are silent without."""
    load_imagenet(patch_model, "squeezenet")
    first = keras.Model(patch_model.input, patch_model.get_layer("conv1").output)
    image = np.full((1, 16, 16, 1), 20000.0, np.float32)
    plain = np.asarray(first(image))
    image[:, 8:] = 50000.0
    assert np.asarray(first(image))[0, 3].max() > 2 * plain.max()


def test_loading_leaves_the_other_layers_alone(patch_model):
    before = patch_model.get_layer("patch_prediction").get_weights()
    load_imagenet(patch_model, "squeezenet")
    after = patch_model.get_layer("patch_prediction").get_weights()
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_of_keras_own_layout_gives_keras_own_features(
    name, tmp_path, grey_images
):
    """By name, though Keras numbers some layers by a counter of the process."""
    path = tmp_path / "notop.h5"
    plain = random_file(name, path)
    model = build_patch_classifier(name)
    assert load_imagenet(model, name, source=path) == path
    side = get_backbone(name).least_size()
    images = grey_images(1, side, side)
    features = keras.Model(model.input, model.get_layer("patch_pool").input)
    prepared = images * (255 / 65535)
    if name in ("inception_v3", "xception"):
        prepared = prepared / 127.5 - 1
    np.testing.assert_allclose(
        features(images), plain(np.repeat(prepared, 3, -1)), rtol=1e-3, atol=1e-5
    )


def test_a_file_with_one_numbered_layer_too_many_is_refused(tmp_path):
    path = tmp_path / "notop.h5"
    random_file("xception", path)
    with h5py.File(path, "r+") as file:
        names = [name.decode() for name in file.attrs["layer_names"]]
        last = max((n for n in names if n.startswith("conv2d")), key=len)
        file.copy(last, f"{last}9")
        file.attrs["layer_names"] = [*names, f"{last}9"]
    with pytest.raises(BackboneWeightsError, match="surplus in the file: conv2d"):
        load_imagenet(build_patch_classifier("xception"), "xception", source=path)


def test_a_net_without_published_weights_says_so():
    with pytest.raises(BackboneWeightsError, match="yaroslav: train from random"):
        load_imagenet(build_patch_classifier("yaroslav"), "yaroslav")


def edited_squeezenet(tmp_path, edit):
    path = tmp_path / "edited.h5"
    path.write_bytes((DATA / get_backbone("squeezenet").weights_file).read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def without_fire9(file):
    names = [name for name in file.attrs["layer_names"] if b"fire9" not in name]
    file.attrs["layer_names"] = names


def with_surplus(file):
    group = file.create_group("fc1000")
    group.create_dataset("w", data=np.zeros(3))
    group.attrs["weight_names"] = [b"w"]
    file.attrs["layer_names"] = [*file.attrs["layer_names"], b"fc1000"]


def with_other_shape(file):
    del file["conv1"]["conv1_b"]
    file["conv1"].create_dataset("conv1_b", data=np.zeros(63, np.float32))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (without_fire9, r"missing in the file: fire9_squeeze1x1 \(3 in all\)"),
        (with_surplus, r"surplus in the file: fc1000 \(1 in all\)"),
        (with_other_shape, r"conv1, bias: the model's shape is \(64,\), .* \(63,\)"),
    ],
    ids=["missing", "surplus", "shape"],
)
def test_weights_that_do_not_match_are_refused_and_nothing_is_loaded(
    patch_model, tmp_path, edit, said
):
    before = patch_model.get_weights()
    with pytest.raises(BackboneWeightsError, match=said):
        load_imagenet(
            patch_model, "squeezenet", source=edited_squeezenet(tmp_path, edit)
        )
    for old, new in zip(before, patch_model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_nets_file_is_refused(tmp_path):
    path = DATA / get_backbone("squeezenet").weights_file
    model = build_patch_classifier("vgg16")
    with pytest.raises(
        BackboneWeightsError, match="vgg16 needs vgg16_weights.*missing"
    ):
        load_imagenet(model, "vgg16", source=path)


def test_a_file_that_is_not_there_is_named(patch_model, tmp_path):
    with pytest.raises(BackboneWeightsError, match="none.h5: no such file"):
        load_imagenet(patch_model, "squeezenet", source=tmp_path / "none.h5")


def test_a_file_that_is_not_hdf5_is_named(patch_model, tmp_path):
    (tmp_path / "bad.h5").write_text("<html>404</html>")
    with pytest.raises(BackboneWeightsError, match="bad.h5: not an HDF5 file"):
        load_imagenet(patch_model, "squeezenet", source=tmp_path / "bad.h5")


def test_no_network_says_which_file_is_wanted_and_how_to_give_it(monkeypatch):
    def unreachable(*args, **kwargs):
        raise Exception("URL fetch failure: no route to host")

    monkeypatch.setattr(keras.utils, "get_file", unreachable)
    model = build_patch_classifier("vgg16")
    with pytest.raises(
        BackboneWeightsError,
        match="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 .*no route to host"
        ".*--weights FILE",
    ):
        load_imagenet(model, "vgg16")
