"""The files that TensorFlow Serving is started with, and its warm-up requests."""

import json

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from serving_support import mammogram, save_small
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from dm_models import serving_files
from dm_models.export import main

FILES = ("models.config", "batching.config", "Dockerfile", "compose.yaml")


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported[1] / "1"))


def version(folder, name, number=1):
    """A folder that looks like an exported version."""
    path = folder / name / str(number)
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"")


def test_every_model_of_the_folder_is_in_the_servers_list(tmp_path):
    version(tmp_path, "second")
    version(tmp_path, 'a "first"', 12)
    (tmp_path / "no model").mkdir()
    (tmp_path / "weights.h5").write_bytes(b"")
    serving_files.write_serving_files(tmp_path)
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((tmp_path / "models.config").read_text(), config)
    found = [(one.name, one.base_path) for one in config.model_config_list.config]
    assert found == [('a "first"', '/models/a "first"'), ("second", "/models/second")]
    assert {one.model_platform for one in config.model_config_list.config} == {
        "tensorflow"
    }


def test_the_container_reads_the_files_that_are_written(tmp_path):
    serving_files.write_serving_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    for name in ("Dockerfile", "compose.yaml"):
        text = (tmp_path / name).read_text()
        assert "--model_config_file=/models/models.config" in text
        assert "--batching_parameters_file=/models/batching.config" in text
    line = (tmp_path / "Dockerfile").read_text().splitlines()[-1]
    assert len(json.loads(line.removeprefix("CMD "))) == 3
    assert "127.0.0.1:8501:8501" in (tmp_path / "compose.yaml").read_text()


def test_an_unedited_file_is_refreshed_and_an_edited_one_is_left(tmp_path):
    first = serving_files.write_serving_files(tmp_path)
    assert list(first.values()) == ["written"] * 4
    assert set(serving_files.write_serving_files(tmp_path).values()) == {"unchanged"}
    version(tmp_path, "new")
    edited = tmp_path / "batching.config"
    edited.write_text(edited.read_text().replace("value: 8", "value: 1"))
    foreign = tmp_path / "Dockerfile"
    foreign.write_text("FROM scratch\n")
    done = serving_files.write_serving_files(tmp_path)
    assert [done[tmp_path / name] for name in FILES] == [
        "written", "edited", "not ours", "unchanged",
    ]  # fmt: skip
    assert "value: 1" in edited.read_text()
    assert '"new"' in (tmp_path / "models.config").read_text()
    done = serving_files.write_serving_files(tmp_path, overwrite=True)
    assert done[edited] == "written" and "value: 8" in edited.read_text()
    assert done[foreign] == "not ours" and foreign.read_text() == "FROM scratch\n"


def test_the_command_writes_them_beside_the_model(tmp_path, capsys):
    path, models = save_small(tmp_path), tmp_path / "models"
    models.mkdir()
    (models / "Dockerfile").write_text("FROM scratch\n")
    assert main([str(path), "--out", str(models / "m" / "5")]) == 0
    said = capsys.readouterr()
    assert "Dockerfile left as it is: not ours" in said.err
    assert sorted(path.name for path in models.iterdir()) == sorted((*FILES, "m"))
    assert '"/models/m"' in (models / "models.config").read_text()


def test_the_warm_up_is_what_the_server_parses_and_every_signature_answers_it(
    exported, loaded
):
    extra = exported[1] / "1" / "assets.extra"
    path = extra / "tf_serving_warmup_requests"
    asked = set()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert log.SerializeToString(deterministic=True) == record
        assert request.model_spec.name == "small"
        signature = request.model_spec.signature_name
        given = {name: tf.constant(tf.make_ndarray(proto))
                 for name, proto in request.inputs.items()}  # fmt: skip
        (count,) = {len(tensor) for tensor in given.values()}
        outputs = loaded.signatures[signature](**given)
        assert all(len(value) == count for value in outputs.values())
        if "grey" in given:
            assert given["grey"].shape[1:] == (40, 32, 1)
        asked.add(signature)
    assert asked == set(loaded.signatures)
    assert path.stat().st_size < 10_000


def test_a_request_becomes_a_response_as_the_server_makes_it(loaded):
    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name="small", signature_name="png_tta")
    )
    files = [tf.io.encode_png(mammogram(60, 50, seed)[..., None]).numpy()
             for seed in range(2)]  # fmt: skip
    request.inputs["png"].CopyFrom(tf.make_tensor_proto(files))
    received = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    call = loaded.signatures[received.model_spec.signature_name]
    outputs = call(**{name: tf.constant(tf.make_ndarray(proto))
                      for name, proto in received.inputs.items()})  # fmt: skip
    response = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    found = predict_pb2.PredictResponse.FromString(response.SerializeToString()).outputs
    probability = tf.make_ndarray(found["probability"])
    np.testing.assert_array_equal(probability, outputs["probability"])
    assert probability.shape == (2,) and probability.dtype == np.float32
    assert tf.make_ndarray(found["positive"]).dtype == bool
    assert tf.make_ndarray(found["class_names"]).tolist() == [[b"neg", b"pos"]] * 2
