"""A threshold and a temperature that travel with a model."""

import io
import json
import os
import tracemalloc
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest

from dm_models import decision as module
from dm_models.decision import (
    DECISION_MEMBER,
    DECISION_TTA_MEMBER,
    Decision,
    DecisionError,
    read_decision,
    scaled_scores,
    store_decision,
)
from dm_models.weights import ModelFileError, load_model, read_contract, save_model

FITTED = Decision(
    0.375, temperature=1.5, rule="sensitivity 0.90", level="breast", how="max",
    fitted_on={"split": "val", "n": 40, "positives": 20, "sensitivity": {"value": 0.9}},
)  # fmt: skip
OTHER = Decision(0.25)
AUGMENTED = Decision(0.125, temperature=0.5, flips=4)


@pytest.fixture
def model_file(tmp_path, patch_model, contract):
    """Saves a small model: ending -> path."""

    def save(ending=".keras"):
        return save_model(patch_model, tmp_path / f"m{ending}", contract)

    return save


def members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(path, files: dict[str, bytes], **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


# Scores and calls


def test_temperature_divides_the_logit():
    # 0.8: odds 4, and temperature 2 takes their root: odds 2, 2/3. 0.2 mirrors it: 1/3.
    found = Decision(0.5, temperature=2).calibrated([0.8, 0.5, 0.2])
    np.testing.assert_allclose(found, [2 / 3, 1 / 2, 1 / 3], rtol=1e-12)


def test_temperature_one_leaves_scores_to_the_last_bit():
    scores = np.array([0.0, 1e-12, 0.3, 1.0], np.float32)
    np.testing.assert_array_equal(scaled_scores(scores, 1), scores.astype(np.float64))


def test_extreme_scores_and_temperatures_stay_probabilities_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cold = scaled_scores([0.0, 0.4, 0.5, 0.6, 1.0], 1e-3)
        hot = scaled_scores([0.0, 0.4, 0.5, 0.6, 1.0], 1e3)
    np.testing.assert_allclose(cold, [0, 0, 0.5, 1, 1], atol=1e-12)
    np.testing.assert_allclose(hot, 0.5, atol=0.005)  # 16.1 / 1000 / 4 = 0.004


@pytest.mark.parametrize("temperature", [0.3, 1.7, 6.0])
def test_temperature_never_changes_the_order(temperature):
    scores = np.random.default_rng(3).uniform(1e-6, 1 - 1e-6, 500)
    order = np.argsort(scaled_scores(scores, temperature))
    np.testing.assert_array_equal(order, np.argsort(scores))


def test_two_temperatures_one_after_the_other_multiply():
    scores = np.array([0.1, 0.35, 0.9])
    twice = scaled_scores(scaled_scores(scores, 1.5), 2.0)
    np.testing.assert_allclose(twice, scaled_scores(scores, 3.0), rtol=1e-12)


def test_a_call_is_positive_where_the_threshold_is_reached():
    # At temperature 2, 0.8 becomes 2/3 and 0.5 stays: 0.5 is reached, not passed.
    calls = Decision(0.5, temperature=2).calls([0.8, 0.5, 0.4999])
    assert calls.tolist() == [True, True, False]
    assert Decision(0.0).calls([0.0]).all() and not Decision(1.0).calls([0.999]).any()


@pytest.mark.parametrize("score", [-0.1, 1.1, np.nan, np.inf])
def test_a_score_that_is_no_probability_is_refused(score):
    with pytest.raises(DecisionError, match=r"needs probabilities in \[0, 1\]"):
        Decision(0.5).calls([0.5, score])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": np.nan}, r"threshold must lie in \[0, 1\], received nan"),
        ({"threshold": 1.01}, r"threshold must lie in \[0, 1\], received 1.01"),
        ({"threshold": "0.5"}, r"threshold must lie in \[0, 1\], received '0.5'"),
        ({"threshold": True}, r"threshold must lie in \[0, 1\], received True"),
        ({"temperature": 0.0}, "temperature must be positive, received 0.0"),
        ({"temperature": np.nan}, "temperature must be positive, received nan"),
        ({"temperature": np.inf}, "temperature must be positive, received inf"),
        ({"temperature": None}, "temperature must be positive, received None"),
        ({"level": "side"}, "level must be one of image, breast, patient, received"),
        ({"how": "median"}, "how must be one of mean, max, received 'median'"),
        ({"flips": 2}, "flips must be one of 1, 4, received 2"),
        ({"rule": 3}, "rule must be text and fitted_on an object, received 3"),
        ({"fitted_on": []}, r"fitted_on an object, received 'given' and \[\]"),
    ],
)
def test_a_value_that_cannot_be_is_refused(fields, message):
    with pytest.raises(DecisionError, match=message):
        Decision(**{"threshold": 0.5, **fields})


# JSON


def test_json_brings_every_field_back():
    assert Decision.from_json(FITTED.to_json()) == FITTED
    assert Decision.from_json('{"format": 1, "threshold": 0.5}') == Decision(0.5)


def test_a_number_of_numpy_is_written_as_a_number():
    text = Decision(np.float32(0.25), temperature=np.float64(2), flips=np.int64(4))
    found = json.loads(text.to_json())
    assert [found[k] for k in ("threshold", "temperature", "flips")] == [0.25, 2, 4]


@pytest.mark.parametrize("value", [float("nan"), object()], ids=["NaN", "an object"])
def test_what_is_no_json_is_not_written(value):
    with pytest.raises(DecisionError, match="fitted_on must be JSON"):
        Decision(0.5, fitted_on={"sensitivity": value}).to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[0.5]", "must be a JSON object, received list"),
        ('{"threshold": 0.5}', "format None is not known; this version reads 1"),
        ('{"format": 2, "threshold": 0.5}', "format 2 is not known"),
        ('{"format": 1}', "with threshold; received $"),
        ('{"format": 1, "threshold": 0.5, "cost": 3}', "received cost, threshold"),
        ('{"format": 1, "threshold": NaN}', "threshold must lie"),
        ('{"format": 1, "threshold": null}', "threshold must lie"),
        ('{"format": 1, "threshold": 0.5, "flips": 3}', "flips must be one of"),
    ],
    ids=["cut", "bytes", "deep", "list", "none", "later", "empty", "unknown", "NaN",
         "null", "flips"],
)  # fmt: skip
def test_a_malformed_text_is_refused_and_said_how(text, message):
    with pytest.raises(DecisionError, match=message):
        Decision.from_json(text)


# In a model file


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_model_file_gives_its_decision_back_and_the_same_scores(
    ending, model_file, patch_model, contract, grey_images
):
    path = model_file(ending)
    assert read_decision(path) is None
    store_decision(path, FITTED)
    assert read_decision(path) == FITTED
    assert read_contract(path) == contract
    images = grey_images(2, 64, 64)
    expected = np.asarray(patch_model(images))
    for loaded in (load_model(path)[0], keras.models.load_model(path, compile=False)):
        np.testing.assert_array_equal(np.asarray(loaded(images)), expected)


def test_the_optimizer_of_a_model_stays_with_it(tmp_path, contract):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(inputs))
    model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(np.ones((2, 4)), np.eye(2))
    path = save_model(model, tmp_path / "m.keras", contract)
    store_decision(path, FITTED)
    again, _ = load_model(path, compile=True)
    assert int(again.optimizer.iterations) == 1


def test_every_other_member_stays_byte_for_byte(model_file):
    path = model_file()
    before = members(path)
    store_decision(path, FITTED)
    after = members(path)
    assert Decision.from_json(after.pop(DECISION_MEMBER)) == FITTED
    assert after == before and list(after) == list(before)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_new_decision_replaces_the_old_one_and_none_takes_it_away(ending, model_file):
    path = model_file(ending)
    for decision in (FITTED, OTHER):
        store_decision(path, decision)
        assert read_decision(path) == decision
    if ending == ".keras":
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist().count(DECISION_MEMBER) == 1
    store_decision(path, None)
    assert read_decision(path) is None
    assert [file.name for file in path.parent.iterdir()] == [f"m{ending}"]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_single_and_four_flip_decisions_do_not_touch_each_other(ending, model_file):
    path = model_file(ending)
    for decision in (AUGMENTED, FITTED, OTHER):  # OTHER replaces FITTED alone
        store_decision(path, decision)
        assert read_decision(path, decision.flips) == decision
    assert (read_decision(path), read_decision(path, 4)) == (OTHER, AUGMENTED)
    again = Decision(0.75, flips=4)
    store_decision(path, again)
    assert (read_decision(path, flips=1), read_decision(path, flips=4)) == (
        OTHER,
        again,
    )
    store_decision(path, None)
    assert read_decision(path) is None and read_decision(path, 4) is None


def older_file(path, decision):
    """A model file with one decision in the one place that there used to be."""
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            file.attrs["dm_decision"] = decision.to_json()
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("decision.json", decision.to_json())
    return path


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_an_older_files_four_flip_decision_is_the_one_for_four(ending, model_file):
    path = older_file(model_file(ending), AUGMENTED)
    assert (read_decision(path), read_decision(path, 4)) == (None, AUGMENTED)
    store_decision(path, FITTED)  # beside it
    assert (read_decision(path), read_decision(path, 4)) == (FITTED, AUGMENTED)
    path = older_file(model_file(ending), AUGMENTED)
    newer = Decision(0.75, flips=4)
    store_decision(path, newer)  # in its place
    assert (read_decision(path), read_decision(path, 4)) == (None, newer)


def test_each_decision_lies_under_its_own_name(model_file, tmp_path):
    for decision in (FITTED, AUGMENTED):
        for ending in (".keras", ".h5"):
            path = tmp_path / f"m{ending}"
            store_decision(path if path.exists() else model_file(ending), decision)
    found = members(tmp_path / "m.keras")
    assert Decision.from_json(found["decision.json"]) == FITTED
    assert Decision.from_json(found["decision_tta.json"]) == AUGMENTED
    with h5py.File(tmp_path / "m.h5") as file:
        assert Decision.from_json(file.attrs["dm_decision"]) == FITTED
        assert Decision.from_json(file.attrs["dm_decision_tta"]) == AUGMENTED


def test_other_numbers_of_flips_are_refused(model_file):
    with pytest.raises(ValueError, match="flips must be 1 or 4, received 2"):
        read_decision(model_file(), 2)


def test_a_model_saved_anew_holds_no_decision(model_file, tmp_path):
    path = model_file()
    store_decision(path, FITTED)
    model, contract = load_model(path)
    assert read_decision(save_model(model, tmp_path / "anew.keras", contract)) is None
    assert read_decision(save_model(model, path, contract)) is None


def test_packed_members_stay_packed_and_the_same(tmp_path):
    files = {"config.json": b"{}" * 5000, "folder/": b"", "model.weights.h5": b"\0" * 9}
    path = zip_of(tmp_path / "m.keras", files, compression=zipfile.ZIP_DEFLATED)
    store_decision(path, FITTED)
    assert {n: d for n, d in members(path).items() if n != DECISION_MEMBER} == files
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("config.json").compress_size < 200


def test_a_large_member_is_not_held_in_memory(tmp_path):
    path = zip_of(tmp_path / "m.keras", {"model.weights.h5": bytes(48 * 2**20)})
    tracemalloc.start()
    store_decision(path, FITTED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20
    assert read_decision(path) == FITTED


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("step", ["copy", "rename"])
def test_an_interrupted_write_leaves_the_old_file(
    ending, step, model_file, monkeypatch
):
    path = model_file(ending)
    store_decision(path, OTHER)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if step == "rename":
        monkeypatch.setattr(module.os, "replace", full)
    else:
        monkeypatch.setattr(module.shutil, "copyfileobj", full)
        monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        store_decision(path, FITTED)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [f"m{ending}"]


def test_who_may_read_the_file_does_not_change(model_file):
    path = model_file()
    os.chmod(path, 0o640)
    store_decision(path, FITTED)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["m.weights.h5", "m.onnx", "folder"])
def test_a_name_that_is_no_model_files_is_refused(name, tmp_path):
    with pytest.raises(ModelFileError, match="must end with .keras or .h5"):
        store_decision(tmp_path / name, FITTED)


@pytest.mark.parametrize("ending", [".keras", ".h5", ".json"])
def test_a_missing_file_is_named(ending, tmp_path):
    path = tmp_path / f"none{ending}"
    with pytest.raises(ModelFileError, match=f"none{ending}.*(cannot be read|HDF5)"):
        read_decision(path)
    if ending != ".json":
        with pytest.raises(ModelFileError, match=f"none{ending}: no such model file"):
            store_decision(path, FITTED)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_file_that_is_no_model_is_named_and_left_alone(ending, tmp_path):
    path = tmp_path / f"text{ending}"
    path.write_text("no model")
    for refused in (lambda: store_decision(path, FITTED), lambda: read_decision(path)):
        with pytest.raises(ModelFileError, match=f"text{ending}: .*not an? "):
            refused()
    assert path.read_text() == "no model"
    assert len(list(tmp_path.iterdir())) == 1


def test_damage_in_a_member_is_named_and_the_file_left_alone(tmp_path):
    text = b"weights weights weights " * 99
    packed = zip_of(tmp_path / "m.keras", {"w": text}, compression=zipfile.ZIP_DEFLATED)
    for where in (40, 34):  # in the packed data; 30 bytes of header and a name of one
        broken = bytearray(packed.read_bytes())
        broken[where] ^= 0xFF
        path = tmp_path / f"broken{where}.keras"
        path.write_bytes(broken)
        with pytest.raises(ModelFileError, match=f"broken{where}.keras: .*damaged"):
            store_decision(path, FITTED)
        assert path.read_bytes() == broken
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"{", "decision cannot be read: no JSON"),
        (b'{"format": 2, "threshold": 0.5}', "format 2 is not known"),
        (b'{"format": 1, "threshold": NaN}', "threshold must lie"),
        (b" " * (2**20 + 1), "more than 1,048,576 bytes long: it is none of ours"),
    ],
    ids=["malformed", "a later format", "NaN", "huge"],
)
def test_a_stored_decision_that_cannot_be_read_is_no_missing_one(
    stored, message, tmp_path
):
    path = zip_of(tmp_path / "m.keras", {DECISION_MEMBER: stored})
    with pytest.raises(ModelFileError, match=f"m.keras: .*{message}"):
        read_decision(path)
    store_decision(path, FITTED)  # and it can be replaced
    assert read_decision(path) == FITTED


def test_a_damaged_stored_decision_is_named(tmp_path):
    buffer = io.BytesIO()
    zip_of(buffer, {DECISION_MEMBER: FITTED.to_json().encode()})
    broken = bytearray(buffer.getvalue())
    broken[60] ^= 0xFF
    (tmp_path / "m.keras").write_bytes(broken)
    with pytest.raises(ModelFileError, match="m.keras: decision cannot be read: .*CRC"):
        read_decision(tmp_path / "m.keras")


def test_a_folder_and_a_json_file_are_read_too(tmp_path):
    assert read_decision(tmp_path) is None
    (tmp_path / DECISION_MEMBER).write_text(FITTED.to_json(), encoding="utf-8")
    assert read_decision(tmp_path) == FITTED
    assert read_decision(tmp_path / DECISION_MEMBER) == FITTED
    (tmp_path / DECISION_TTA_MEMBER).write_text(AUGMENTED.to_json(), encoding="utf-8")
    assert (read_decision(tmp_path), read_decision(tmp_path, 4)) == (FITTED, AUGMENTED)
    for flips in (1, 4):  # a file by name is that one, whatever it is for
        assert read_decision(tmp_path / DECISION_TTA_MEMBER, flips) == AUGMENTED
    (tmp_path / DECISION_MEMBER).write_bytes(b"\xff")
    with pytest.raises(ModelFileError, match="decision cannot be read: no JSON"):
        read_decision(tmp_path)
