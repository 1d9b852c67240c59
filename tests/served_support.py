"""Small models to serve, and a client that calls the application without a socket."""

import asyncio
import contextlib
import json
import threading
import time

import cv2
import numpy as np
import tensorflow as tf

from dm_models import saved_model_layout as layout
from dm_models.inputs import InputContract

HEIGHT, WIDTH, STEP, THRESHOLD = 64, 48, 8, 0.5
CONTRACT = InputContract(
    "other", height=HEIGHT, width=WIDTH, class_names=("neg", "pos")
)
GREY_RULE = "grey levels must be in [0, 65535]"
_GREY = tf.TensorSpec((None, None, None, 1), name=layout.GREY_INPUT)


class Client:
    """Calls an application itself, without a socket."""

    def __init__(self, app):
        self.app = app

    def send(self, method, path, chunks=(b"",), declared=None, headers=None):
        """The (status, headers, body) that answers a request in one or more chunks."""
        return asyncio.run(self.asend(method, path, chunks, declared, headers))

    async def asend(self, method, path, chunks=(b"",), declared=None, headers=None):
        """The same, where a loop runs already."""
        path, _, query = path.partition("?")
        given = {k.lower(): v for k, v in (headers or {}).items()}
        if declared is not None:
            given["content-length"] = str(declared)
        scope = {
            "type": "http", "http_version": "1.1", "scheme": "http", "method": method,
            "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "server": ("test", 80),
            "client": ("test", 1),
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        }  # fmt: skip
        waiting, sent = list(chunks), []

        async def receive():
            if not waiting:
                await asyncio.Event().wait()  # a client that says no more
            chunk = waiting.pop(0)
            if chunk is None:
                return {"type": "http.disconnect"}
            if callable(chunk):
                await chunk()
                return await receive()
            return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent)
        head = {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}
        return sent[0]["status"], head, body

    def get(self, path, **more):
        """(status, JSON)."""
        return _read(self.send("GET", path, **more))

    def post(self, path, body=b"", **more):
        """(status, JSON)."""
        body = body if isinstance(body, bytes) else body.encode()
        return _read(self.send("POST", path, [body], len(body), **more))


def _read(answer):
    return answer[0], json.loads(answer[2])


class Export(tf.Module):
    """What `dm-export` writes, with the mean grey level as its whole network."""

    def __init__(self, threshold=THRESHOLD):
        super().__init__()
        self.threshold = threshold

    def _outputs(self, grey):
        rule = tf.debugging.Assert(tf.reduce_max(grey) <= 65535, [GREY_RULE])
        with tf.control_dependencies([rule]):
            mean = tf.reduce_mean(grey, [1, 2, 3])
        positive = tf.sigmoid((mean - 30000) / 5000)
        rows = tf.shape(positive)[0]
        names = tf.tile(tf.constant([["neg", "pos"]]), [rows, 1])
        found = {
            layout.SCORES: tf.stack([1 - positive, positive], 1),
            layout.PROBABILITY: positive,
            layout.CLASS_NAMES: names,
            layout.VERSION: tf.fill([rows], "0123456789ab"),
        }
        if self.threshold is not None:
            found[layout.POSITIVE] = positive >= self.threshold
            found[layout.THRESHOLD] = tf.fill([rows], self.threshold)
        return found

    @tf.function(input_signature=[_GREY])
    def score(self, grey):
        return self._outputs(grey)

    @tf.function(input_signature=[_GREY])
    def score_tta(self, grey):
        return self._outputs(grey)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, layout.PNG_INPUT)])
    def png(self, png):
        def decoded(one):
            grey = tf.io.decode_png(one, 1, tf.uint16)
            grey = tf.image.resize(tf.cast(grey, tf.float32), (HEIGHT, WIDTH))
            return tf.ensure_shape(grey, (HEIGHT, WIDTH, 1))

        return self._outputs(tf.map_fn(decoded, png, fn_output_signature=tf.float32))

    @tf.function(input_signature=[_GREY])
    def grad_cam(self, grey):
        heat = tf.nn.avg_pool2d(grey, STEP, STEP, "VALID")[..., 0]
        return {layout.HEAT: heat / 65535}


def save_export(folder, *, maps=True, threshold=THRESHOLD, number=1):
    """Write `folder/1`, a SavedModel with its sidecars."""
    module = Export(threshold)
    signatures = {
        layout.DEFAULT_SIGNATURE: module.score,
        layout.DEFAULT_SIGNATURE + layout.TTA: module.score_tta,
        layout.PNG_SIGNATURE: module.png,
    }
    if maps:
        signatures[layout.GRAD_CAM_SIGNATURE] = module.grad_cam
    inside = folder / str(number)
    tf.saved_model.save(module, str(inside), signatures=signatures)
    first = (STEP - 1) / 2
    facts = layout.ModelFacts(
        folder.name, "0123456789abcdef" * 4,
        ((first, STEP), (first, STEP)) if maps else None,
        (HEIGHT, WIDTH) if maps else None,
    )  # fmt: skip
    (inside / layout.MODEL_FILE).write_text(facts.to_json())
    (inside / "input_contract.json").write_text(CONTRACT.to_json())
    return folder


def png_of(level, size=(HEIGHT, WIDTH)):
    """A 16-bit PNG, half of it that bright."""
    image = np.zeros(size, np.uint16)
    image[:, : size[1] // 2] = level
    return cv2.imencode(".png", image)[1].tobytes()


def probability_of(level):
    """What `Export` gives for `png_of`."""
    return float(1 / (1 + np.exp(-(level / 2 - 30000) / 5000)))


@contextlib.contextmanager
def running(service, **options):
    """A server on a free port of loopback, in a thread; gives (server, address)."""
    from dm_training.serving.server import Server, listen

    with listen("127.0.0.1", 0) as listener:
        server = Server(service, **options)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield server, listener.getsockname()[:2]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def wait_until(true, seconds=20):
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
