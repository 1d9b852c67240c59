"""An export's signatures, called where neither Keras nor this project can be had."""

import json
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from serving_support import (
    DECISIONS,
    SIZE,
    export_small,
    mammogram,
    small_contract,
    small_model,
)

from dm_models import saved_model_layout as layout
from dm_models.grad_cam import cam_layer, grad_cam
from dm_models.inputs import InputContract
from dm_models.receptive_field import cell_centres, least_size
from dm_models.saved_model_writer import export_saved_model
from dm_models.weights import load_model
from dm_preprocess import images as pixels
from dm_training.scorers import KerasScorer, SavedModelScorer, prepare

# A stranger's program: TensorFlow, a folder and some arrays.
STRANGER = """
import sys
from importlib.machinery import PathFinder

AWAY = ("keras", "tf_keras", "dm_models", "dm_preprocess", "dm_training")

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in AWAY:
            return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without()
import numpy as np
import tensorflow as tf

try:
    import keras
except ImportError:
    pass
else:
    raise SystemExit("keras was found")
folder, given, found = sys.argv[1:]
model = tf.saved_model.load(folder)
arrays = np.load(given)
files = tf.constant([arrays[f"file{i}"].tobytes() for i in range(3)])
answers = {}
for name, call in model.signatures.items():
    if name.startswith("png"):
        outputs = call(png=files)
    else:
        kind = np.uint16 if name.startswith("uint16") else np.float32
        outputs = call(grey=tf.constant(arrays["grey"].astype(kind)))
    for key, value in outputs.items():
        value = value.numpy()
        answers[f"{name} {key}"] = value.astype("S") if value.dtype == object else value
assert not [name for name in sys.modules if name.split(".")[0] in AWAY]
np.savez(found, **answers)
"""


@pytest.fixture(scope="module")
def films():
    """Three images of other sizes."""
    return [mammogram(90, 70), mammogram(33, 50, 1), mammogram(*SIZE, 2)]


@pytest.fixture(scope="module")
def folder(exported):
    """The version's own folder."""
    return exported[1] / "1"


@pytest.fixture(scope="module")
def loaded(folder):
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def grey(films):
    """The three films at the model's size, float32 (3, 40, 32, 1)."""
    fitted = [prepare(film, small_contract()) for film in films]
    return np.stack(fitted).astype(np.float32)[..., None]


@pytest.fixture(scope="module")
def answers(folder, films, grey, tmp_path_factory):
    """What the stranger got: signature -> output -> array."""
    place = tmp_path_factory.mktemp("stranger")
    files = {f"file{i}": np.frombuffer(png(film), np.uint8)
             for i, film in enumerate(films)}  # fmt: skip
    np.savez(place / "given.npz", grey=grey, **files)
    command = [sys.executable, "-c", STRANGER, folder, place / "given.npz",
               place / "found.npz"]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=place, env={},
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for key, value in np.load(place / "found.npz").items():
        signature, output = key.split()
        found.setdefault(signature, {})[output] = value
    return found


def png(image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_every_signature_is_there_with_the_outputs_of_its_layout(answers):
    judged = {"scores", "probability", "positive", "threshold", "class_names",
              "input_contract", "model_version"}  # fmt: skip
    names = {"serving_default", "uint16", "png"}
    names |= {f"{name}_tta" for name in names}
    assert set(answers) == names | {"grad_cam"}
    assert all(set(answers[name]) == judged for name in names)
    assert set(answers["grad_cam"]) == {"probability", "heat"}
    assert all(len(v) == 3 for outputs in answers.values() for v in outputs.values())


@pytest.mark.parametrize("flips, suffix", [(1, ""), (4, "_tta")])
@pytest.mark.parametrize("form", ["serving_default", "uint16", "png"])
def test_a_stranger_gets_the_models_own_probability(
    form, flips, suffix, answers, exported, grey
):
    scorer, found = KerasScorer(exported[0]), answers[form + suffix]
    scores = scorer.scores([grey], flips=flips)
    assert np.ptp(scores) > 0.02  # of three films that differ
    decision = DECISIONS[flips]
    np.testing.assert_allclose(found["scores"][:, 1], scores, atol=1e-6)
    probability = decision.calibrated(scores)
    np.testing.assert_allclose(found["probability"], probability, atol=1e-6)
    assert np.abs(probability - scores).max() > 1e-3  # calibration is not idle
    assert set(found["positive"]) == {False, True}
    np.testing.assert_array_equal(found["positive"], decision.calls(scores))
    np.testing.assert_allclose(found["threshold"], decision.threshold)


def test_the_facts_of_the_model_come_with_every_answer(answers, exported):
    scorer = KerasScorer(exported[0])
    for name in set(answers) - {"grad_cam"}:
        outputs = answers[name]
        assert outputs["class_names"].tolist() == [[b"neg", b"pos"]] * 3
        assert {v.decode() for v in outputs["model_version"]} == {scorer.version}
        (text,) = set(outputs["input_contract"].tolist())
        assert "grey_stats" not in json.loads(text)
        held = InputContract.from_json(text)
        assert held == small_contract(grey_stats=None)


def test_the_mean_over_flips_is_that_of_four_pictures_flipped_by_hand(answers, grey):
    pictures = [grey, grey[:, :, ::-1], grey[:, ::-1], grey[:, ::-1, ::-1]]
    model = small_model(small_contract())
    by_hand = np.mean([np.asarray(model(each)) for each in pictures], axis=0)
    np.testing.assert_allclose(answers["uint16_tta"]["scores"], by_hand, atol=1e-6)
    assert np.abs(by_hand - np.asarray(model(grey))).max() > 1e-4


def test_grad_cam_is_that_of_the_model_and_its_cells_are_placed(
    answers, exported, grey
):
    model = load_model(exported[0])[0]
    expected = grad_cam(model, grey)
    assert expected.max() > 1e-3
    np.testing.assert_allclose(answers["grad_cam"]["heat"], expected, atol=1e-6)
    np.testing.assert_array_equal(
        answers["grad_cam"]["probability"], answers["serving_default"]["probability"]
    )
    facts = layout.read_facts(exported[1] / "1")
    assert facts.cam_centres == cell_centres(model, cam_layer(model), SIZE)
    assert facts.cam_size == SIZE
    image = grey[0, ..., 0].astype(np.uint16)
    ours = KerasScorer(exported[0]).heat(image)
    theirs = SavedModelScorer(exported[1]).heat(image)
    np.testing.assert_allclose(theirs.heat, ours.heat, atol=1e-6)
    assert theirs.centres == ours.centres


def test_an_image_scores_alone_as_in_a_batch_with_others(loaded, answers, grey):
    for name in ("serving_default", "serving_default_tta"):
        alone = [loaded.signatures[name](grey=tf.constant(one[None]))["scores"][0]
                 for one in grey]  # fmt: skip
        np.testing.assert_allclose(answers[name]["scores"], alone, atol=1e-6)


def test_another_size_is_taken_as_it_comes(exported, loaded):
    image = mammogram(57, 41).astype(np.float32)[None, ..., None]
    model = load_model(exported[0])[0]
    found = loaded.signatures["serving_default"](grey=tf.constant(image))["scores"]
    np.testing.assert_allclose(found, model(image), atol=1e-6)
    heat = loaded.signatures["grad_cam"](grey=tf.constant(image))["heat"]
    np.testing.assert_allclose(heat, grad_cam(model, image), atol=1e-6)


@pytest.mark.parametrize(
    "name", ["serving_default", "serving_default_tta", "uint16", "grad_cam"]
)
def test_images_on_another_scale_are_refused_by_every_signature(name, loaded, grey):
    kind = tf.uint16 if name == "uint16" else tf.float32
    for wrong in (np.floor(grey / 257), grey * 0):
        with pytest.raises(tf.errors.InvalidArgumentError, match="an 8-bit image time"):
            loaded.signatures[name](grey=tf.constant(wrong, kind))
    if kind == tf.float32:
        said = r"from 0 to 0\.\d+: raw 16-bit"
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            loaded.signatures[name](grey=tf.constant(grey[:1] / 65535))


def test_an_image_too_small_for_the_poolings_never_reaches_them(exported, loaded):
    assert least_size(load_model(exported[0])[0]) == (7, 7)
    call = loaded.signatures["serving_default"]
    call(grey=tf.fill((1, 7, 7, 1), 3000.0))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="at least 7 x 7, received 6 x 9"
    ):
        call(grey=tf.fill((1, 6, 9, 1), 3000.0))


@pytest.mark.parametrize("name", ["serving_default_tta", "uint16", "png", "grad_cam"])
def test_no_images_at_all_are_refused_with_a_sentence(name, loaded):
    signature = loaded.signatures[name]
    ((key, spec),) = signature.structured_input_signature[1].items()
    none = tf.zeros([0, *[64] * (spec.shape.rank - 2), *[1] * (spec.shape.rank > 1)])
    given = tf.cast(none, spec.dtype) if name != "png" else tf.constant([], tf.string)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one image"):
        signature(**{key: given})


def test_padded_files_are_padded_as_on_disk(tmp_path):
    contract = small_contract(fit="pad")
    path, out = export_small(tmp_path, contract=contract, decisions={})
    loaded = tf.saved_model.load(str(out / "1"))
    films = [mammogram(90, 30), mammogram(20, 90, 1)]
    found = loaded.signatures["png"](png=tf.constant([png(film) for film in films]))
    fitted = [pixels.fit(film, *SIZE, mode="pad")[0] for film in films]
    given = np.stack(fitted).astype(np.float32)[..., None]
    expected = KerasScorer(path).scores([given], flips=1)
    np.testing.assert_allclose(found["probability"], expected, atol=1e-6)
    assert "positive" not in found and "threshold" not in found


def test_a_model_of_cropped_images_takes_no_files_and_says_so(tmp_path, capsys):
    contract = small_contract(crop_breast=True)
    _, out = export_small(tmp_path, contract=contract, decisions={})
    names = set(tf.saved_model.load(str(out / "1")).signatures)
    assert names == {"serving_default", "serving_default_tta", "uint16", "uint16_tta",
                     "grad_cam"}  # fmt: skip
    assert "without the signature `png`: this model's" in capsys.readouterr().out
    card = (out / "1" / "MODEL_CARD.md").read_text()
    assert "There is no signature for encoded files" in card and "| `png`" not in card


def test_patch_classes_have_scores_and_no_call(tmp_path):
    contract = small_contract(class_names=("background", "calc", "mass"))
    _, out = export_small(tmp_path, contract=contract, decisions={})
    loaded = tf.saved_model.load(str(out / "1"))
    assert "grad_cam" not in loaded.signatures
    black = np.zeros((2, *SIZE, 1), np.float32)
    found = loaded.signatures["serving_default_tta"](grey=tf.constant(black))
    assert set(found) == {"scores", "class_names", "input_contract", "model_version"}
    assert found["class_names"][1].numpy().tolist() == list(
        map(str.encode, contract.class_names)
    )


def test_under_mixed_precision_the_export_is_float32_throughout(tmp_path, grey):
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    contract = small_contract()
    mixed = small_model(contract)
    keras.mixed_precision.set_dtype_policy("float32")
    assert mixed.get_layer("c1").compute_dtype == "float16"
    folder = export_saved_model(mixed, tmp_path / "mixed", contract=contract)
    loaded = tf.saved_model.load(str(folder))
    plain = small_model(contract)
    for name in ("serving_default", "grad_cam"):
        outputs = loaded.signatures[name](grey=tf.constant(grey))
        assert {each.dtype for each in outputs.values()} <= {tf.float32, tf.string}
    found = loaded.signatures["serving_default"](grey=tf.constant(grey))["scores"]
    np.testing.assert_allclose(found, plain(grey), atol=1e-6)


def test_a_net_of_one_size_takes_files_of_any(tmp_path):
    contract = small_contract()
    inputs = keras.Input((*SIZE, 1), name="grey")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 65535)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(flat))
    folder = export_saved_model(model, tmp_path / "fixed", contract=contract)
    loaded = tf.saved_model.load(str(folder))
    assert "grad_cam" not in loaded.signatures  # no averaged map
    film = mammogram(90, 70)
    given = pixels.fit(film, *SIZE)[0][None, ..., None].astype(np.float32)
    found = loaded.signatures["png"](png=tf.constant([png(film)]))["scores"]
    np.testing.assert_allclose(found, model(given), atol=1e-6)


def test_the_graph_holds_stock_ops_alone(folder):
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    library = saved.meta_graphs[0].graph_def.library
    inner = {function.signature.name for function in library.function}
    used = {node.op for function in library.function for node in function.node_def}
    assert "DecodePng" in used and not used & {"PyFunc", "EagerPyFunc"}
    assert not [op for op in used - inner if op_def_registry.get(op) is None]
