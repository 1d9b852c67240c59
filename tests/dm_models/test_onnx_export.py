"""The ONNX form: ONNX Runtime gives the model's scores, whatever size and number."""

import json
import sys

import numpy as np
import onnx
import pytest
from serving_support import DECISIONS, SIZE, mammogram, save_small, small_contract

from dm_models import onnx_export
from dm_models.decision import Decision
from dm_models.export import main
from dm_models.inputs import InputContract
from dm_models.model_card import weights_digest
from dm_models.weights import load_model


@pytest.fixture
def written(exported):
    """(.keras, .onnx)."""
    return exported[0], exported[0].with_suffix(".onnx")


@pytest.mark.parametrize("count, size", [(1, SIZE), (3, SIZE), (2, (57, 41))], ids=str)
def test_onnx_runtime_gives_the_models_scores(written, count, size):
    images = np.stack([mammogram(*size, seed) for seed in range(count)])
    images = images.astype(np.float32)[..., None]
    expected = np.asarray(load_model(written[0])[0](images))
    found = onnx_export.onnx_outputs(written[1], images)
    np.testing.assert_allclose(found["scores"], expected, atol=1e-4)
    probability = DECISIONS[1].calibrated(expected[:, 1])
    np.testing.assert_allclose(found["probability"], probability, atol=1e-4)
    assert found["probability"].dtype == np.float32


def test_the_file_tells_its_contract_and_its_decisions(written):
    model = onnx.load(str(written[1]))
    onnx.checker.check_model(model)
    held = {each.key: each.value for each in model.metadata_props}
    assert InputContract.from_json(held["input_contract.json"]) == small_contract()
    assert Decision.from_json(held["decision.json"]) == DECISIONS[1]
    assert Decision.from_json(held["decision_tta.json"]) == DECISIONS[4]
    digest = weights_digest(load_model(written[0])[0])
    assert json.loads(held["model.json"])["weights_sha256"] == digest
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [
        "batch", "height", "width", 1,
    ]  # fmt: skip
    assert written[1].with_name("small.onnx.MODEL_CARD.md").is_file()


def test_the_code_on_its_card_runs(written, monkeypatch):
    monkeypatch.chdir(written[1].parent)
    card = written[1].with_name("small.onnx.MODEL_CARD.md").read_text()
    images = mammogram(*SIZE).astype(np.float32)[None, ..., None]
    space = {"images": images}
    exec(card.split("```python\n")[1].split("```")[0], space)
    expected = np.asarray(load_model(written[0])[0](images))
    np.testing.assert_allclose(space["scores"], expected, atol=1e-4)


def test_other_scores_than_the_models_are_status_1(tmp_path, monkeypatch, capsys):
    path = save_small(tmp_path)
    monkeypatch.setattr(
        onnx_export, "onnx_scores", lambda path, images: np.full((2, 2), 0.51)
    )
    options = ["--out", str(tmp_path / "sm"), "--onnx", str(tmp_path / "m.onnx")]
    assert main([str(path), *options, "--no-serving-files"]) == 1
    assert "m.onnx: OTHER SCORES" in capsys.readouterr().out
    assert not (tmp_path / "models.config").exists()


@pytest.mark.parametrize("name", ["tf2onnx", "onnxruntime"])
def test_a_missing_package_is_named_before_anything_is_written(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, name, None)
    options = ["--out", tmp_path / "sm", "--onnx", tmp_path / "m.onnx"]
    assert main([str(tmp_path / "m.keras"), *map(str, options)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"error: --onnx needs the package {name}: pip install" in line
    assert not list(tmp_path.iterdir())
