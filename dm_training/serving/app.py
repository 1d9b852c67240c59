"""What is answered at which address.

    GET  /v1/models/NAME[/versions/N][/metadata]    TensorFlow Serving's REST API
    POST /v1/models/NAME[/versions/N]:predict
    POST /score                                     one uploaded file -> JSON or PNG
    GET  /   /about   /healthz   /metrics           page, model, health, Prometheus

Decoding and encoding run in a pool, the network on the batcher's thread, so that the
event loop is always free to refuse, to time out and to say how it is.

Source:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from dm_training.serving import json_tensors
from dm_training.serving.errors import RequestError
from dm_training.serving.guard import Guard
from dm_training.serving.limits import read_body
from dm_training.serving.score import RESEARCH, Wish, answer_of
from dm_training.serving.served_model import Call, ServedModel
from dm_training.serving.service import Service

HERE = Path(__file__).parent
PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
JSON = "application/json"
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18}))?"
_PREDICT = re.compile(_MODEL + ":predict", re.IGNORECASE)
_SHOW = re.compile(_MODEL + "(?P<metadata>/metadata)?", re.IGNORECASE)
_SWITCH = {"0": False, "1": True, "false": False, "true": True}


class App:
    """The application around a service (ASGI); `make_app` guards it.

    Args:
        service: What answers.
    """

    def __init__(self, service: Service):
        self.service = service
        self._page = {
            path: ((HERE / name).read_bytes(), kind)
            for path, (name, kind) in PAGE.items()
        }
        self._plain = {
            "/about": ("GET", self._about), "/healthz": ("GET", self._health),
            "/metrics": ("GET", self._metrics), "/score": ("POST", self._score),
            **{path: ("GET", self._file) for path in PAGE},
        }  # fmt: skip

    async def __call__(self, scope, receive, send) -> None:
        request = Request(scope, receive)
        response = await self._handler(request)(request)
        await response(scope, receive, send)

    def _handler(self, request: Request):
        path, method = request.url.path, request.method
        if path in self._plain:
            due, handler = self._plain[path]
            if method == due or (method == "HEAD" and due == "GET"):
                return handler
            raise _malformed(request, 405, Allow=due)
        if method == "POST" and _PREDICT.fullmatch(path):
            return self._predict
        if method == "GET" and _SHOW.fullmatch(path):
            return self._show
        raise _malformed(request, 400 if path.lower().startswith("/v1/") else 404)

    async def _predict(self, request: Request) -> Response:
        service, model = self.service, self.service.model
        name, version = _PREDICT.fullmatch(request.url.path).groups()
        if not _is(model, name, version):
            raise _not_served(name, version)
        async with service.place() as place:
            body = await read_body(request, service.limits, place)
            call, form = await service.in_pool(_call, model, body)
            outputs = await service.run(call)
            text = await service.in_pool(_answer, outputs, form)
        return Response(text, media_type=JSON)

    async def _show(self, request: Request) -> Response:
        model = self.service.model
        name, version, metadata = _SHOW.fullmatch(request.url.path).groups()
        if _is(model, name, version):
            return _json(model.metadata() if metadata else model.status())
        if metadata:
            raise _not_served(name, version)
        which = f"version {version}" if version else "any versions"
        raise RequestError(f"Could not find {which} of model {name}", 404)

    async def _score(self, request: Request) -> Response:
        began, service = time.monotonic(), self.service
        as_png = request.headers.get("accept", "").strip() == "image/png"
        wish = Wish(
            tta=_switch(request, "tta", False),
            overlay=as_png or _switch(request, "overlay", True),
            anyway=_switch(request, "anyway", False),
        )
        desk = service.desk()
        if as_png and not desk.maps:
            raise RequestError("the model was exported without heat maps", 406)
        async with service.place() as place:
            body = await read_body(request, service.limits, place)
            kind = request.headers.get("content-type", "")
            arrived = [await service.in_pool(desk.read, body, kind)]
            del body  # neither it nor the levels as they came wait in the queue
            told, overlay = await desk.judge(arrived.pop(), wish)
            if as_png:
                return Response(overlay, media_type="image/png")
            text = await service.in_pool(_dumped, answer_of(told, overlay, began))
        return Response(text, media_type=JSON)

    async def _about(self, request: Request) -> Response:
        service = self.service
        facts = {"model": service.model.name, "version": service.version,
                 "max_body": service.limits.max_body, "purpose": RESEARCH}  # fmt: skip
        try:
            facts["maps"] = service.desk().maps
        except RequestError as err:
            facts["cannot_score"] = str(err)
        return _json(facts)

    async def _health(self, request: Request) -> Response:
        word = self.service.health()
        return _json({"status": word}, 200 if word == "ok" else 503)

    async def _metrics(self, request: Request) -> Response:
        metrics = self.service.metrics
        return Response(metrics.text(), headers={"Content-Type": metrics.content_type})

    async def _file(self, request: Request) -> Response:
        data, kind = self._page[request.url.path]
        headers = {"Content-Security-Policy": POLICY, "X-Frame-Options": "DENY"}
        return Response(data, media_type=kind, headers=headers)


def make_app(service: Service, *, token: str | None = None, hosts=None) -> Guard:
    """The application around a service, guarded and counted.

    Args:
        service: What answers.
        token: What clients must send; None for none.
        hosts: Names that requests may be addressed to; None for any.
    """
    return Guard(
        App(service), answered=service.metrics.answered, token=token, hosts=hosts,
        closing=lambda: service.closing,
    )  # fmt: skip


def _is(model: ServedModel, name: str, version: str | None) -> bool:
    return name == model.name and (version is None or int(version) == model.version)


def _not_served(name: str, version: str | None) -> RequestError:
    wanted = f"Specific({name}, {version})" if version else f"Latest({name})"
    return RequestError(f"Servable not found for request: {wanted}", 404)


def _malformed(request: Request, status: int, **headers: str) -> RequestError:
    text = f"Malformed request: {request.method} {request.url.path}"
    return RequestError(text, status, headers=headers)


def _call(model: ServedModel, body: bytes) -> tuple[Call, str]:
    """A `:predict` body as a call of the model, and the form to answer in."""
    request, form = json_tensors.parse_request(body)
    signature = model.signature(request.get("signature_name"))
    arrays = json_tensors.read_arrays(request[form], form, signature.specs)
    call = Call(signature, arrays)
    model.check_size(call)
    return call, form


def _answer(outputs, form: str) -> bytes:
    return _dumped(json_tensors.answer_of(outputs, form))


def _dumped(content: dict) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _json(content: dict, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type=JSON)


def _switch(request: Request, name: str, default: bool) -> bool:
    given = request.query_params.get(name)
    if given is None:
        return default
    if given.lower() not in _SWITCH:
        raise RequestError(f"{name} must be 0 or 1, received {given[:20]!r}")
    return _SWITCH[given.lower()]
