"""TensorFlow Serving's REST API: what is answered, and what is refused how."""

import base64
import json
import re

import keras
import numpy as np
import pytest
import served_support as served
import tensorflow as tf

from dm_models.export import export_saved_model
from dm_models.inputs import InputContract
from dm_training.serving.app import make_app
from dm_training.serving.errors import RequestError, ServeError
from dm_training.serving.limits import Limits
from dm_training.serving.served_model import Call, ServedModel
from dm_training.serving.service import Service

IMAGE = [[[1], [2]], [[3], [6]]]  # (2, 2, 1), mean 3
URL = "/v1/models/tiny"


class Tiny(tf.Module):
    """The mean grey level; signatures of several kinds."""

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 1), name="grey")])
    def scores(self, grey):
        mean = tf.reduce_mean(grey, [1, 2, 3])
        return {"scores": tf.stack([-mean, mean], 1)}

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 2), tf.uint16, name="a"),
            tf.TensorSpec((None,), name="b"),
        ]
    )
    def named(self, a, b):
        return {"a": a, "half": b / 2}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="png")])
    def text(self, png):
        same = {"same": png, "same_bytes": png}
        return {"lengths": tf.strings.length(png), **same}

    @tf.function(input_signature=[tf.TensorSpec((None,), name="x")])
    def picky(self, x):
        tf.debugging.assert_less(x, 10.0, message="x must be below ten")
        return {"log": tf.math.log(x)}

    @tf.function(input_signature=[tf.TensorSpec((None,), name="x")])
    def total(self, x):
        return {"sum": tf.reduce_sum(x)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    module = Tiny()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    names = ("named", "text", "picky", "total")
    signatures = {name: getattr(module, name) for name in names}
    signatures["serving_default"] = module.scores
    tf.saved_model.save(module, str(folder / "3"), signatures=signatures)
    return folder


@pytest.fixture(scope="module")
def client(tiny):
    model = ServedModel(tiny, least_size=(2, 2))
    service = Service(model, Limits(max_body=10_000))
    yield served.Client(make_app(service))
    service.close()


def predict(client, **body):
    return client.post(URL + ":predict", json.dumps(body))


def called(model, images):
    """What the default signature gives for images (N, H, W, 1)."""
    call = Call(model.signature(), {"grey": np.asarray(images, np.float32)})
    model.check_size(call)
    return model.run(call)["scores"].tolist()


def test_status_names_the_version_as_tensorflow_serving_does(client):
    state = {
        "version": "3",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in (URL, URL + "/versions/3"):
        assert client.get(path) == (200, {"model_version_status": [state]})


def test_metadata_shows_every_signature_as_tensorflow_serving_does(client):
    status, found = client.get(URL + "/metadata")
    spec = {"name": "tiny", "signature_name": "", "version": "3"}
    assert (status, found["model_spec"]) == (200, spec)
    shown = found["metadata"]["signature_def"]["signature_def"]
    assert set(shown) == {
        "serving_default", "named", "text", "picky", "total"
    }  # fmt: skip
    sizes = [{"size": size, "name": ""} for size in ("-1", "2")]
    given = shown["named"]["inputs"]["a"]
    assert given["dtype"] == "DT_UINT16"
    assert given["tensor_shape"] == {"dim": sizes, "unknown_rank": False}
    assert shown["named"]["method_name"] == "tensorflow/serving/predict"
    assert client.get(URL + "/versions/3/metadata") == (200, found)


@pytest.mark.parametrize(
    "body, answer",
    [
        ({"instances": [IMAGE, IMAGE]}, {"predictions": [[-3, 3], [-3, 3]]}),
        ({"instances": [{"grey": IMAGE}]}, {"predictions": [[-3, 3]]}),
        ({"inputs": [IMAGE]}, {"outputs": [[-3, 3]]}),
        ({"inputs": {"grey": [IMAGE]}}, {"outputs": [[-3, 3]]}),
        ({"inputs": [IMAGE], "signature_name": ""}, {"outputs": [[-3, 3]]}),
        (
            {"signature_name": "named", "instances": [{"a": [1, 2], "b": 3}]},
            {"predictions": [{"a": [1, 2], "half": 1.5}]},
        ),
        (
            {"signature_name": "named", "inputs": {"a": [[1, 2]], "b": [3]}},
            {"outputs": {"a": [[1, 2]], "half": [1.5]}},
        ),
        (
            {"signature_name": "text", "instances": [{"b64": "AAEA"}, "ab"]},
            {"predictions": [
                {"lengths": 3, "same": "\0\1\0", "same_bytes": {"b64": "AAEA"}},
                {"lengths": 2, "same": "ab", "same_bytes": {"b64": "YWI="}}]},
        ),
        (
            {"signature_name": "text", "instances": [{"png": {"b64": "AAEA"}}]},
            {"predictions": [
                {"lengths": 3, "same": "\0\1\0", "same_bytes": {"b64": "AAEA"}}]},
        ),
        ({"signature_name": "total", "inputs": [1, 2, 4]}, {"outputs": 7}),
    ],
    ids=["rows", "named rows", "columns", "named columns", "empty name",
         "two inputs by row", "two inputs by column", "bytes, a zero at the end",
         "named bytes", "an output without rows"],
)  # fmt: skip
def test_both_forms_answer_as_tensorflow_serving_does(client, body, answer):
    assert predict(client, **body) == (200, answer)


@pytest.mark.parametrize(
    "body, message",
    [
        ("{", "JSON Parse error: the body is not JSON at byte 1"),
        ("[" * 9000, "JSON Parse error"),
        (b"\xff\xfe\xff", "JSON Parse error"),
        ("[1]", "must be a JSON object"),
        ("{}", "either 'instances' or 'inputs'"),
        ('{"instances": [], "inputs": []}', "either 'instances' or 'inputs'"),
        ('{"instances": []}', "at least one instance"),
        ('{"instances": 5}', "at least one instance"),
        ('{"instances": [1], "signature_name": "x"}',
         'Serving signature name: "x" not found in signature def'),
        ('{"instances": [1], "signature_name": [1]}', "not found in signature def"),
        ('{"instances": [1, 2]}', "shape (None, None, None, 1), received (2,)"),
        ('{"instances": [[[[1], [2]], [[3]]]]}', "every row as long"),
        ('{"instances": [[[["a"]]]]}', "'grey' must be an array of float32"),
        ('{"instances": [[[[null]]]]}', "'grey' must be an array of float32"),
        ('{"instances": [[[[NaN]]]]}', "every number finite"),
        ('{"instances": [[[[1e39]]]]}', "every number finite"),
        ('{"instances": [[[[1], [2]]]]}', "at least 2 x 2, received 1 x 2"),
        ('{"signature_name": "picky", "inputs": []}', "shape (None,), received (0,)"),
        ('{"inputs": {"gray": [1]}}', "inputs must be grey, received gray"),
        ('{"signature_name": "named", "instances": [1]}', "must be named: a, b"),
        ('{"signature_name": "named", "instances": [{"a": 1, "b": 1}, {"a": 1}]}',
         "inputs must be a, b, received a"),
        ('{"signature_name": "named", "inputs": {"a": [[-1, 0]], "b": [1]}}',
         "'a' must be an array of uint16"),
        ('{"signature_name": "text", "inputs": [{"b64": "?"}]}', "array of string"),
        ('{"signature_name": "text", "inputs": [5]}', "array of string"),
        ('{"signature_name": "text", "inputs": ' + "[" * 900 + '"a"' + "]" * 900 + "}",
         "array of string"),
        ('{"signature_name": "picky", "inputs": [50]}', "x must be below ten"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_400_with_an_error_body(client, body, message):
    status, answer = client.post(URL + ":predict", body)
    assert (status, set(answer)) == (400, {"error"})
    assert message in answer["error"]
    assert "node" not in answer["error"]  # nothing of TensorFlow's graph


@pytest.mark.parametrize(
    "method, path, status, message",
    [
        ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
        ("GET", URL + "/versions/4", 404, "Could not find version 4 of model tiny"),
        ("GET", "/v1/models/other/metadata", 404, "Servable not found for request: La"),
        ("POST", "/v1/models/other:predict", 404, "Latest(other)"),
        ("POST", URL + "/versions/4:predict", 404, "Specific(tiny, 4)"),
        ("POST", URL + f"/versions/{'9' * 5000}:predict", 400, "Malformed request"),
        ("GET", URL + "/versions/\u0663", 400, "Malformed request"),
        ("POST", URL + ":classify", 400, f"Malformed request: POST {URL}:classify"),
        ("POST", URL, 400, f"Malformed request: POST {URL}"),
        ("GET", URL + ":predict", 400, f"Malformed request: GET {URL}:predict"),
        ("GET", "/v1/models", 400, "Malformed request: GET /v1/models"),
        ("GET", "/nowhere", 404, "Malformed request: GET /nowhere"),
        ("GET", "/score", 405, "Malformed request: GET /score"),
    ],
)
def test_what_is_not_there_is_an_error_body_too(client, method, path, status, message):
    got, head, answer = client.send(method, path, [b"{}"])
    assert (got, set(json.loads(answer))) == (status, {"error"})
    assert message in json.loads(answer)["error"]
    assert head.get("allow") == ("POST" if status == 405 else None)


def test_a_score_that_is_not_finite_is_500_and_never_a_number(client):
    status, answer = predict(client, signature_name="picky", inputs=[0])
    assert status == 500
    assert "'log' is not finite" in answer["error"]


def test_a_fault_of_ours_is_500_and_tells_nothing_of_the_request(
    tiny, monkeypatch, capsys
):
    service = Service(ServedModel(tiny))

    def broken(call):
        raise KeyError("patient's name")

    monkeypatch.setattr(service.batcher, "_run", broken)
    answer = predict(
        served.Client(make_app(service)), inputs=np.ones((1, 32, 32, 1)).tolist()
    )
    assert answer == (500, {"error": "internal error: KeyError"})
    told = capsys.readouterr().err
    assert re.fullmatch(r"error: 500 on predict: KeyError at test_serve.py:\d+\n", told)
    service.close()


def test_an_export_of_this_project_gives_the_models_own_scores(tmp_path):
    inputs = keras.Input((None, None, 1), name="grey")
    scaled = keras.layers.Rescaling(1 / 65535)(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3)(scaled))
    net = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(pooled))
    contract = InputContract("other", class_names=("neg", "pos"))
    out = export_saved_model(net, tmp_path / "net", contract=contract)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60000, (2, 33, 32, 1)).astype("float32")
    service = Service(ServedModel(out))
    body = json.dumps({"inputs": images.tolist()})
    status, answer = served.Client(make_app(service)).post(
        f"/v1/models/{service.model.name}:predict", body
    )
    found = answer["outputs"]
    scores = found["scores"] if isinstance(found, dict) else found
    np.testing.assert_allclose(scores, net.predict(images, verbose=0), atol=1e-6)
    service.close()


def test_the_png_signature_takes_files_and_says_what_it_cannot_decode(tmp_path):
    service = Service(ServedModel(served.save_export(tmp_path / "m")))
    client = served.Client(make_app(service))

    def asked(data):
        coded = {"b64": base64.b64encode(data).decode()}
        body = {"signature_name": "png", "instances": [coded]}
        return client.post("/v1/models/m:predict", json.dumps(body))

    status, answer = asked(served.png_of(50000))
    assert status == 200
    given = answer["predictions"][0]["probability"]
    assert given == pytest.approx(served.probability_of(50000), abs=1e-6)
    status, answer = asked(b"no picture")
    assert (status, "no image it can decode" in answer["error"]) == (400, True)
    service.close()


def test_the_highest_version_is_served_under_the_folders_name(tiny):
    (tiny / "2").mkdir()
    (tiny / "2" / "saved_model.pb").write_bytes(b"an older one, never opened")
    for folder, name in ((tiny, None), (tiny / "3", None), (tiny / "3", "mine")):
        model = ServedModel(folder, name)
        assert (model.name, model.version) == (name or "tiny", 3)


@pytest.mark.parametrize(
    "contract, least",
    [(None, (32, 32)), ({"height": 288, "width": 224}, (144, 112)),
     ({"height": None}, (32, 32)), ({"height": 40, "width": 1000}, (32, 500))],
    ids=["no contract", "phantoms", "any size", "low and wide"],
)  # fmt: skip
def test_images_below_half_the_trained_size_never_reach_the_net(
    tmp_path, contract, least
):
    module = Tiny()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.scores)
    if contract:
        (tmp_path / "m" / "input_contract.json").write_text(json.dumps(contract))
    model = ServedModel(tmp_path / "m")
    assert model.least_size == least
    assert called(model, np.ones((1, *least, 1))) == [[-1, 1]]
    for rows, cols in ((least[0] - 1, least[1]), (least[0], least[1] - 1)):
        with pytest.raises(RequestError, match=f"at least .* received {rows} x {cols}"):
            called(model, np.ones((1, rows, cols, 1)))


def test_a_broken_contract_is_named(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    (tmp_path / "input_contract.json").write_text("[]")
    with pytest.raises(ServeError, match="input_contract.json: no input contract"):
        ServedModel(tmp_path)


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ServeError, match="neither a SavedModel"):
        ServedModel(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ServeError, match="TensorFlow cannot load it"):
        ServedModel(tmp_path)
