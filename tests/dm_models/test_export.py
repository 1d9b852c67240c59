import keras
import numpy as np
import pytest

from dm_models import export
from dm_models.export import (
    ExportError,
    export_saved_model,
    float32_copy,
    main,
    scores_of_saved_model,
)
from dm_models.inputs import InputContract
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import load_model, load_weights_strict, save_model
from dm_models.whole_image import build_whole_image


@pytest.fixture
def image_model(patch_model, contract):
    return build_whole_image(patch_model, contract, "4-4-8x1")


def test_another_backend_is_told_where_to_export(
    image_model, contract, tmp_path, monkeypatch
):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match="this process runs 'jax': save the model as"):
        export_saved_model(image_model, tmp_path / "sm", contract=contract)
    assert not (tmp_path / "sm").exists()


def test_the_command_exports_every_form_with_the_models_scores(
    image_model, contract, tmp_path, capsys, grey_images
):
    model_path = save_model(image_model, tmp_path / "best.keras", contract)
    out, weights, copy = (tmp_path / name for name in ("sm", "w.h5", "copy.keras"))
    options = ["--weights-h5", str(weights), "--keras", str(copy)]
    assert main([str(model_path), "--out", str(out), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1][:11] for line in said[:3]] == ["same scores"] * 3
    assert said[-1] == f"exported {model_path} to {out}, {weights}, {copy}"

    images = grey_images(2, 101, 90)  # not the size of the check: any size goes
    expected = np.asarray(image_model(images))
    np.testing.assert_allclose(scores_of_saved_model(out, images), expected, atol=1e-6)
    text = (out / "input_contract.json").read_text()
    assert InputContract.from_json(text) == contract
    assert (out / "assets.extra" / "input_contract.json").read_text() == text
    fresh = type(image_model).from_config(image_model.get_config())
    load_weights_strict(fresh, weights)
    np.testing.assert_array_equal(np.asarray(fresh(images)), expected)
    assert load_model(copy)[1] == contract


def test_an_export_with_other_scores_is_status_1(
    image_model, contract, tmp_path, capsys, monkeypatch
):
    model_path = save_model(image_model, tmp_path / "best.keras", contract)
    monkeypatch.setattr(
        export, "scores_of_saved_model", lambda out, images: np.full((4, 2), 0.5)
    )
    assert main([str(model_path), "--out", str(tmp_path / "sm")]) == 1
    captured = capsys.readouterr()
    assert "OTHER SCORES" in captured.out
    assert "other scores than the model's" in captured.err


def test_a_mixed_precision_model_is_exported_in_float32(
    contract, tmp_path, grey_images
):
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    mixed = build_patch_classifier("squeezenet", contract=contract)
    plain = float32_copy(mixed)
    assert {layer.compute_dtype for layer in plain.layers[1:]} == {"float32"}
    assert mixed.get_layer("conv1").compute_dtype == "bfloat16"
    out = export_saved_model(mixed, tmp_path / "sm", contract=contract)
    images = grey_images(1, 64, 64)
    np.testing.assert_allclose(
        scores_of_saved_model(out, images), np.asarray(plain(images)), atol=1e-6
    )


def test_what_exists_is_not_overwritten_unasked(
    patch_model, contract, tmp_path, capsys
):
    out = tmp_path / "sm"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    with pytest.raises(ExportError, match="sm exists; give --overwrite"):
        export_saved_model(patch_model, out, contract=contract)
    model_path = save_model(patch_model, tmp_path / "m.keras", contract)
    assert main([str(model_path), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    assert (out / "mine.txt").read_text() == "kept"
    export_saved_model(patch_model, out, contract=contract, overwrite=True)
    assert (out / "saved_model.pb").is_file() and not (out / "mine.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.keras", "sm"]


def test_a_bad_model_is_status_2_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "bad.keras").write_text("no zip")
    out = tmp_path / "sm"
    assert main([str(tmp_path / "bad.keras"), "--out", str(out)]) == 2
    assert "bad.keras: not a .keras file" in capsys.readouterr().err
    assert not out.exists()
