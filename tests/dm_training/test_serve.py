import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from dm_models.export import export_saved_model
from dm_models.inputs import InputContract
from dm_training.serve import main, make_app
from dm_training.served_model import RequestError, ServedModel, ServeError

IMAGE = [[[1], [2]], [[3], [6]]]  # (2, 2, 1), mean 3
URL = "/v1/models/tiny"


class Client:
    """Calls the application itself, without a socket."""

    def __init__(self, app):
        self.app = app
        self.raised = None  # what the application let through after it had answered

    def send(self, method, path, chunks=(b"",), declared=None):
        """The (status, JSON) that answers a request in one or more chunks."""
        scope = {
            "type": "http", "http_version": "1.1", "scheme": "http", "method": method,
            "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": b"", "server": ("test", 80), "client": ("test", 1),
            "headers": [] if declared is None else [
                (b"content-length", str(declared).encode())],
        }  # fmt: skip
        messages = [
            {"type": "http.request", "body": c, "more_body": True} for c in chunks
        ]
        messages[-1]["more_body"] = False
        sent = asyncio.run(self._call(scope, iter(messages)))
        body = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], json.loads(body)

    async def _call(self, scope, messages):
        sent = []

        async def receive():
            return next(messages)

        async def send(message):
            sent.append(message)

        try:
            await self.app(scope, receive, send)
        except Exception as err:
            if not sent:
                raise
            self.raised = err
        return sent

    def get(self, path):
        return self.send("GET", path)

    def post(self, path, body=b""):
        body = body if isinstance(body, bytes) else body.encode()
        return self.send("POST", path, [body], len(body))


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
        return {"lengths": tf.strings.length(png), "same": png}

    @tf.function(input_signature=[tf.TensorSpec((None,), name="x")])
    def picky(self, x):
        tf.debugging.assert_less(x, 10.0)
        return {"log": tf.math.log(x)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    module = Tiny()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    signatures = {
        "serving_default": module.scores,
        "named": module.named,
        "text": module.text,
        "picky": module.picky,
    }
    tf.saved_model.save(module, str(folder / "3"), signatures=signatures)
    return folder


@pytest.fixture(scope="module")
def client(tiny):
    model = ServedModel(tiny, least_size=(2, 2))
    return Client(make_app(model, max_body=10_000))


def predict(client, **body):
    return client.post(URL + ":predict", json.dumps(body))


def test_status_names_the_version_as_tensorflow_serving_does(client):
    state = {
        "version": "3",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in (URL, URL + "/versions/3"):
        assert client.get(path) == (200, {"model_version_status": [state]})
    assert client.get("/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "body, answer",
    [
        ({"instances": [IMAGE, IMAGE]}, {"predictions": [[-3, 3], [-3, 3]]}),
        ({"instances": [{"grey": IMAGE}]}, {"predictions": [[-3, 3]]}),
        ({"inputs": [IMAGE]}, {"outputs": [[-3, 3]]}),
        ({"inputs": {"grey": [IMAGE]}}, {"outputs": [[-3, 3]]}),
        (
            {"signature_name": "named", "instances": [{"a": [1, 2], "b": 3}]},
            {"predictions": [{"a": [1, 2], "half": 1.5}]},
        ),
        (
            {"signature_name": "named", "inputs": {"a": [[1, 2]], "b": [3]}},
            {"outputs": {"a": [[1, 2]], "half": [1.5]}},
        ),
        (
            {"signature_name": "text", "instances": [{"b64": "AAEC"}, "ab"]},
            {"predictions": [{"lengths": 3, "same": "\0\1\2"},
                             {"lengths": 2, "same": "ab"}]},
        ),
        (
            {"signature_name": "text", "instances": [{"png": {"b64": "AAEC"}}]},
            {"predictions": [{"lengths": 3, "same": "\0\1\2"}]},
        ),
    ],
    ids=["rows", "named rows", "columns", "named columns", "two inputs by row",
         "two inputs by column", "bytes", "named bytes"],
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
        ('{"instances": [1], "signature_name": "x"}', 'name "x" is not known; known:'),
        ('{"instances": [1], "signature_name": [1]}', "is not known"),
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
        ('{"signature_name": "picky", "inputs": [50]}', "cannot take inputs of size"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_400_with_an_error_body(client, body, message):
    status, answer = client.post(URL + ":predict", body)
    assert (status, set(answer)) == (400, {"error"})
    assert message in answer["error"]


@pytest.mark.parametrize(
    "method, path, status, message",
    [
        ("GET", "/v1/models/other", 404, "Servable not found for request: Latest(oth"),
        ("POST", "/v1/models/other:predict", 404, "Latest(other)"),
        ("GET", URL + "/versions/4", 404, "Specific(tiny, 4)"),
        ("GET", "/", 404, "Malformed request: GET /"),
        ("POST", URL + ":classify", 405, "Malformed request: POST"),
        ("POST", URL, 405, "Malformed request: POST"),
    ],
)
def test_what_is_not_there_is_an_error_body_too(client, method, path, status, message):
    got, answer = client.send(method, path, [b"{}"])
    assert (got, set(answer)) == (status, {"error"})
    assert message in answer["error"]


@pytest.mark.parametrize("declared", [20_000, None, 5], ids=["yes", "no", "wrongly"])
def test_a_body_too_large_is_413_whether_or_not_it_says_its_size(client, declared):
    answer = client.send("POST", URL + ":predict", [b" " * 1000] * 20, declared)
    assert answer == (413, {"error": "a request must not exceed 10000 bytes"})


def test_a_score_that_is_not_finite_is_500_and_never_a_number(client):
    status, answer = predict(client, signature_name="picky", inputs=[0])
    assert status == 500
    assert "'log' is not finite" in answer["error"]


def test_a_fault_of_ours_is_500_and_tells_nothing_of_the_request(tiny, monkeypatch):
    model = ServedModel(tiny)

    def broken(body):
        raise KeyError("patient's name")

    monkeypatch.setattr(model, "predict", broken)
    client = Client(make_app(model))
    assert predict(client) == (500, {"error": "internal error: KeyError"})
    assert isinstance(client.raised, KeyError)  # the server's own log gets the trace


def test_one_thread_alone_runs_the_model(tiny, monkeypatch):
    model, running, most = ServedModel(tiny), [], []

    def note(body):
        running.append(threading.current_thread().name)
        time.sleep(0.05)
        most.append(len(running))
        running.pop()
        return {"thread": threading.current_thread().name}

    monkeypatch.setattr(model, "predict", note)
    client = Client(make_app(model))
    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(client.post, URL + ":predict") for _ in range(3)]
        answers = [future.result() for future in asked]
    assert answers == [(200, {"thread": "model_0"})] * 3
    assert most == [1, 1, 1]


def test_an_export_of_this_project_gives_the_models_own_scores(tmp_path):
    inputs = keras.Input((None, None, 1), name="grey")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3)(inputs))
    net = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(pooled))
    out = export_saved_model(net, tmp_path / "net", contract=InputContract("other"))
    images = np.random.default_rng(0).integers(0, 100, (2, 33, 32, 1)).astype("float32")
    client = Client(make_app(ServedModel(out)))
    body = json.dumps({"instances": images.tolist()})
    status, answer = client.post("/v1/models/net:predict", body)
    expected = net.predict(images, verbose=0)
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-6)


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
    fits = json.dumps({"inputs": np.ones((1, *least, 1)).tolist()}).encode()
    assert model.predict(fits) == {"outputs": [[-1, 1]]}
    for rows, cols in ((least[0] - 1, least[1]), (least[0], least[1] - 1)):
        small = json.dumps({"inputs": np.ones((1, rows, cols, 1)).tolist()}).encode()
        with pytest.raises(RequestError, match=f"at least .* received {rows} x {cols}"):
            model.predict(small)


def test_a_broken_contract_is_named(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    (tmp_path / "input_contract.json").write_text("[]")
    with pytest.raises(ServeError, match="input_contract.json: no input contract"):
        ServedModel(tmp_path)


def test_what_is_no_model_is_status_2(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "neither a SavedModel" in capsys.readouterr().err
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ServeError, match="TensorFlow cannot load it"):
        ServedModel(tmp_path)


def test_a_port_that_is_taken_is_status_2(tiny, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(tiny), "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
    assert main([str(tiny), "--port", "99999"]) == 2


@pytest.mark.slow
def test_the_command_serves_on_loopback_until_it_is_told_to_stop(tiny):
    command = [sys.executable, "-m", "dm_training.serve", str(tiny), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/v1/models/tiny$", line)[0]
        body = json.dumps({"inputs": np.ones((1, 32, 32, 1)).tolist()}).encode()
        with urllib.request.urlopen(url + ":predict", body, timeout=60) as answer:
            assert json.load(answer) == {"outputs": [[-1, 1]]}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
