import keras
import numpy as np
import pytest
import tensorflow as tf
from serving_support import save_small, small_contract, small_model

from dm_models import export, export_check, saved_model_writer
from dm_models import saved_model_layout as layout
from dm_models.export import (
    ExportError,
    export_saved_model,
    float32_copy,
    main,
    scores_of_saved_model,
)
from dm_models.inputs import InputContract
from dm_models.model_card import weights_digest
from dm_models.patch_classifier import build_patch_classifier
from dm_models.saved_model_writer import version_folder
from dm_models.weights import load_model, load_weights_strict, save_model
from dm_models.whole_image import build_whole_image


@pytest.fixture
def image_contract(contract):
    return contract.replace(class_names=("neg", "pos"))


@pytest.fixture
def image_model(patch_model, contract):
    return build_whole_image(patch_model, contract, "4-4-8x1")


def test_another_backend_is_told_where_to_export(
    image_model, image_contract, tmp_path, monkeypatch
):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match="this process runs 'jax': save the model as"):
        export_saved_model(image_model, tmp_path / "sm", contract=image_contract)
    assert not (tmp_path / "sm").exists()


@pytest.mark.parametrize("option", ["--out", "--keras"])
def test_what_cannot_be_written_is_told_before_the_model_is_opened(
    option, tmp_path, capsys
):
    (tmp_path / "file").touch()
    options = {"--out": tmp_path / "sm", option: tmp_path / "file" / "within" / "x"}
    given = [str(part) for pair in options.items() for part in pair]
    assert main([str(tmp_path / "none.keras"), *given]) == 2
    assert f"{tmp_path / 'file'} is no writable folder" in capsys.readouterr().err


def test_the_command_exports_every_form_with_the_models_scores(
    image_model, image_contract, tmp_path, capsys, grey_images
):
    model_path = save_model(image_model, tmp_path / "best.keras", image_contract)
    out, weights, copy = (tmp_path / name for name in ("sm", "w.h5", "copy.keras"))
    options = ["--weights-h5", str(weights), "--keras", str(copy)]
    assert main([str(model_path), "--out", str(out), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 7 + 2 + 2  # signatures, files, cards, what is where
    assert [line.split(": ")[1][:11] for line in said[:9]] == ["same scores"] * 9
    assert said[-1].startswith(
        f"exported {model_path} to {out / '1'}, {weights}, {copy}"
    )
    assert said[-1].endswith("compose.yaml")

    images = grey_images(2, 101, 90)  # not the size of the check: any size goes
    expected = np.asarray(image_model(images))
    np.testing.assert_allclose(scores_of_saved_model(out, images), expected, atol=1e-6)
    text = (out / "1" / "input_contract.json").read_text()
    assert InputContract.from_json(text) == image_contract
    assert (out / "1" / "assets.extra" / "input_contract.json").read_text() == text
    facts = layout.read_facts(out / "1")
    assert (facts.name, facts.weights_sha256) == ("sm", weights_digest(image_model))
    fresh = type(image_model).from_config(image_model.get_config())
    load_weights_strict(fresh, weights)
    np.testing.assert_array_equal(np.asarray(fresh(images)), expected)
    assert load_model(copy)[1] == image_contract


def _others(name):
    """Another image than the one whose scores are expected."""
    image = tf.fill((1, 40, 32, 1), tf.constant(9000, tf.uint16))
    if name.startswith("png"):
        return tf.io.encode_png(image[0])[None]
    return image if name.startswith("uint16") else tf.cast(image, tf.float32)


def test_an_export_with_other_scores_is_status_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_check, "_request", lambda name, images: {
        "png" if name.startswith("png") else "grey": _others(name)})  # fmt: skip
    assert main([str(save_small(tmp_path)), "--out", str(tmp_path / "sm")]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("OTHER SCORES") == 7  # heat and scores alike
    assert "other scores than the model's" in captured.err


def test_a_mixed_precision_model_has_a_float32_copy(contract, grey_images):
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    mixed = build_patch_classifier("squeezenet", contract=contract)
    plain = float32_copy(mixed)
    assert {layer.compute_dtype for layer in plain.layers[1:]} == {"float32"}
    assert mixed.get_layer("conv1").compute_dtype == "bfloat16"
    for ours, theirs in zip(plain.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def tiny():
    return small_model(small_contract())


def version(folder):
    """What counts as an exported version, without the time that a real one takes."""
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("an earlier one")
    return folder


def test_each_export_becomes_the_next_version(tiny, tmp_path):
    out = tmp_path / "models" / "sm"
    assert version_folder(out, overwrite=False) == out / "1"
    assert version_folder(out, overwrite=True) == out / "1"
    version(out / "1")
    made = export_saved_model(tiny, out, contract=small_contract())
    assert made == out / "2"
    (out / "7").mkdir()  # no model: taken for none, and not touched
    assert version_folder(out, overwrite=False) == out / "3"
    assert version_folder(out, overwrite=True) == out / "2"
    assert layout.find_saved_model(out) == (out / "2", 2, "sm")
    assert (out / "1" / "saved_model.pb").read_text() == "an earlier one"
    assert layout.read_facts(made).name == "sm"
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []


def test_a_version_is_replaced_only_when_asked(tiny, tmp_path, capsys):
    out, contract = tmp_path / "sm", small_contract()
    old = version(out / "4")
    with pytest.raises(ExportError, match="4 exists; give --overwrite"):
        export_saved_model(tiny, old, contract=contract)
    model_path = save_model(tiny, tmp_path / "m.keras", contract)
    assert main([str(model_path), "--out", str(old)]) == 2
    assert "exists" in capsys.readouterr().err
    assert (old / "saved_model.pb").read_text() == "an earlier one"
    assert export_saved_model(tiny, out, contract=contract, overwrite=True) == old
    assert (old / "variables").is_dir()
    assert [path.name for path in out.iterdir()] == ["4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.keras", "sm"]


def test_a_saved_model_without_versions_is_replaced_only_when_asked(tiny, tmp_path):
    out = tmp_path / "sm"
    out.mkdir()
    (out / "saved_model.pb").write_text("as earlier releases wrote it")
    with pytest.raises(ExportError, match="sm exists; give --overwrite"):
        export_saved_model(tiny, out, contract=small_contract())
    made = export_saved_model(tiny, out, contract=small_contract(), overwrite=True)
    assert made == out / "1" and [path.name for path in out.iterdir()] == ["1"]


def test_a_failed_export_leaves_what_was_there(tiny, tmp_path, monkeypatch):
    made = version(tmp_path / "sm" / "1")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model_writer, "_write_sidecars", fail)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(tiny, made.parent, contract=small_contract(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["sm"]
    assert (made / "saved_model.pb").read_text() == "an earlier one"


def test_a_bad_model_is_status_2_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "bad.keras").write_text("no zip")
    out = tmp_path / "sm"
    assert main([str(tmp_path / "bad.keras"), "--out", str(out)]) == 2
    assert "bad.keras: not a .keras file" in capsys.readouterr().err
    assert not out.exists()


def test_a_contract_that_names_other_classes_than_the_net_has_is_status_2(
    tiny, tmp_path, capsys
):
    wrong = small_contract(class_names=("a", "b", "c"))
    path = save_model(tiny, tmp_path / "m.keras", wrong)
    assert main([str(path), "--out", str(tmp_path / "sm")]) == 2
    said = capsys.readouterr().err
    assert "class_names must name the net's 2 outputs, received a, b, c" in said
    assert [each.name for each in tmp_path.iterdir()] == ["m.keras"]


def test_a_run_folder_stands_for_its_best_model(tiny, tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "dm_models.export._opened", lambda given: opened.append(given.model)
    )
    monkeypatch.setattr("dm_models.export._export_all", lambda *given: 1 / 0)
    (tmp_path / "run").mkdir()
    save_model(tiny, tmp_path / "run" / "best.keras", small_contract())
    with pytest.raises(ZeroDivisionError):
        main([str(tmp_path / "run"), "--out", str(tmp_path / "sm")])
    assert opened == [tmp_path / "run" / "best.keras"]
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--out", str(tmp_path / "sm")]) == 2
    assert "a run folder with best.keras" in capsys.readouterr().err


def test_the_last_lines_say_where_a_cards_figures_are_from_or_that_there_are_none():
    assert export._cards_line(2, ["whole"]) == "2 model cards, figures from whole"
    assert "no run folder beside the model" in export._cards_line(1, [])
    assert "--card-from DIR" in export._cards_line(1, [])
