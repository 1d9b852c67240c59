"""Our weights in Keras 2: real tf_keras, in a process of its own.

tf_keras takes `TF_USE_LEGACY_KERAS` into account and cannot stand beside Keras 3.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from dm_models.backbones import get_backbone
from dm_models.freezing import set_trainable_from, trainable_names
from dm_models.keras2 import import_keras2
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import save_backbone_h5, save_weights_h5
from dm_models.whole_image import build_whole_image

STRANGER = """
import sys
import numpy as np
import tf_keras as keras
assert keras.__version__.startswith("2.")
name, weights, images, out = sys.argv[1:]
build = getattr(keras.applications, name)
images = np.load(images)
model = build(include_top=False, weights=weights)
by_order = model(images).numpy()
other = build(include_top=False, weights=None)
other.load_weights(weights, by_name=True)
np.testing.assert_array_equal(other(images).numpy(), by_order)
np.save(out, by_order)
"""

READER = """
import sys
import numpy as np
import tf_keras as keras
inputs = keras.Input((None, None, 3))
x = keras.layers.Conv2D(4, 3, name="top_block1_conv1")(inputs)
model = keras.Model(inputs, keras.layers.BatchNormalization(name="top_block1_bn1")(x))
model.load_weights(sys.argv[1], by_name=True)
np.savez(sys.argv[2], *model.get_weights())
"""


SAVER = """
import sys
import numpy as np
import tf_keras as keras
base = keras.applications.ResNet50(include_top=False, weights=None)
for layer in base.layers[:46]:
    layer.trainable = False
inputs = keras.Input((96, 64, 3))
x = keras.layers.Conv2D(8, 1, name="conv1_conv")(base(inputs))
x = keras.layers.BatchNormalization()(x)
x = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("relu")(x))
model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
model.compile("adam", "categorical_crossentropy")
grey = np.random.default_rng(0).uniform(-100, 150, (2, 96, 64, 1)).astype("float32")
scores = model.predict(np.repeat(grey, 3, -1), verbose=0)
model.save(sys.argv[1])
np.savez(sys.argv[2], grey=grey, scores=scores)
"""


def in_keras_2(code, *arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, check=True
    )


@pytest.mark.parametrize(
    ("net", "name"),
    [
        ("vgg16", "VGG16"),
        pytest.param("resnet50", "ResNet50", marks=pytest.mark.slow),
    ],
)
def test_a_patch_nets_backbone_loads_into_plain_keras_2_and_3(net, name, tmp_path):
    model = build_patch_classifier(net)
    path = save_backbone_h5(model, tmp_path / "backbone.h5")
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    in_keras_2(STRANGER, name, path, tmp_path / "images.npy", tmp_path / "out.npy")
    plain = getattr(keras.applications, name)(include_top=False, weights=str(path))
    other = getattr(keras.applications, name)(include_top=False, weights=None)
    other.load_weights(path, by_name=True)
    found = np.asarray(plain(images))
    np.testing.assert_array_equal(np.asarray(other(images)), found)
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), found, rtol=1e-3, atol=1e-4
    )
    ours = keras.Model(model.input, model.get_layer("patch_pool").input)
    grey = images[..., :1]
    np.testing.assert_allclose(
        ours(grey * 65535 / 255), plain(np.repeat(grey, 3, -1)), rtol=1e-3, atol=1e-4
    )


def test_a_whole_models_weights_are_read_by_name_in_keras_2(tmp_path):
    contract = get_backbone("squeezenet").contract(height=64, width=64)
    patch_model = build_patch_classifier("squeezenet", contract=contract)
    model = build_whole_image(patch_model, contract, "4x1")
    path = save_weights_h5(model, tmp_path / "weights.h5")
    wanted = [
        model.get_layer(name).get_weights()
        for name in ("top_block1_conv1", "top_block1_bn1")
    ]
    reader = READER.replace("(None, None, 3)", "(None, None, 512)")
    in_keras_2(reader, path, tmp_path / "found.npz")
    found = list(np.load(tmp_path / "found.npz").values())
    for one, other in zip([*wanted[0], *wanted[1]], found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_nested_resnet_of_a_later_keras_2_is_read_though_names_are_shared(tmp_path):
    """The inner net and the top both have a layer `conv1_conv`."""
    path = tmp_path / "model.h5"
    in_keras_2(SAVER, path, tmp_path / "arrays.npz")
    arrays = np.load(tmp_path / "arrays.npz")
    model, contract = import_keras2(path, mean=0.0, scale=1.0)
    np.testing.assert_allclose(model(arrays["grey"]), arrays["scores"], atol=1e-5)
    assert contract.backbone == "resnet50"
    set_trainable_from(model, "conv3_block2")
    assert trainable_names(model)[0] == "conv3_block2_1_conv"
    assert "top_conv1_conv" in trainable_names(model)
