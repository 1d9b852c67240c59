"""Who may ask, and what is told of it: the layer around the application.

On loopback a request must be addressed to loopback: a web page whose name was rebound
to 127.0.0.1 sends its own name as Host. Where a token is set, every answer but the
page's own files and the health check needs it. No answer allows another origin
to read it (no CORS), and none is told to a log: a line is written for a fault of
ours, with the kind of error and where it was raised, and no more.
"""

from __future__ import annotations

import hmac
import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dm_training.serving.errors import RequestError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_ROUTES = (
    ("predict", re.compile(r"/v1/models/.*:predict")),
    ("metadata", re.compile(r"/v1/models/.*/metadata")),
    ("status", re.compile(r"/v1/models/.*")),
    ("page", re.compile(r"/(page\.(css|js))?")),
    *((name, re.compile("/" + name))
      for name in ("score", "about", "healthz", "metrics")),
)  # fmt: skip
OPEN_ROUTES = ("page", "healthz")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def route_of(path: str) -> str:
    """The name that a path is counted under; "other" for what is not there."""
    return next((name for name, way in _ROUTES if way.fullmatch(path)), "other")


class Guard:
    """The application, guarded and counted (ASGI).

    Args:
        app: What answers.
        answered: Told (route, status, seconds) of every answer.
        token: What clients must send; None for none.
        hosts: Names that a request may be addressed to; None for any.
        closing: Whether connections are to be closed after their answer.
    """

    def __init__(
        self,
        app,
        *,
        answered: Callable[[str, int, float], None],
        token: str | None = None,
        hosts: Sequence[str] | None = None,
        closing: Callable[[], bool] = lambda: False,
    ):
        self.app, self.answered, self.closing = app, answered, closing
        self.token = None if token is None else token.encode()
        self.hosts = None if hosts is None else {name.lower() for name in hosts}

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        route, began, status = route_of(scope["path"]), time.monotonic(), 0

        async def note(message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": self._headers(message)}
            await send(message)

        try:
            try:
                self._check(route, scope)
                await self.app(scope, receive, note)
            except RequestError as err:
                await _send_error(note, err)
            except Exception as err:  # told to no one but by its kind
                print(f"error: 500 on {route}: {_kind(err)}", file=sys.stderr)
                if status == 0:
                    text = f"internal error: {type(err).__name__}"
                    await _send_error(note, RequestError(text, 500))
        finally:
            self.answered(route, status, time.monotonic() - began)

    def _headers(self, message) -> list:
        given = list(message.get("headers", ()))
        named = {name.lower() for name, _ in given}
        given += [pair for pair in HEADERS if pair[0] not in named]
        if self.closing() and b"connection" not in named:
            given.append((b"connection", b"close"))
        return given

    def _check(self, route: str, scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and host and _name(host) not in self.hosts:
            raise RequestError("this server answers to its own host name alone", 403)
        origin = headers.get(b"origin")
        if origin and _address(origin.decode("latin-1")) != host:
            raise RequestError("requests of other sites' pages are not answered", 403)
        if self.token is None or route in OPEN_ROUTES:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(given.strip(), self.token)
        if scheme.lower() != b"bearer" or not right:
            raise RequestError(
                "a bearer token is needed: Authorization: Bearer TOKEN", 401,
                headers={"WWW-Authenticate": 'Bearer realm="dm-serve"'},
            )  # fmt: skip


def error_body(err: RequestError) -> dict:
    """What a client is told, in TensorFlow Serving's form."""
    return {"error": str(err), **err.facts}


async def _send_error(send, err: RequestError) -> None:
    body = json.dumps(error_body(err)).encode()
    pairs = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    headers = [
        (name.lower().encode(), value.encode())
        for name, value in {**pairs, **err.headers}.items()
    ]
    start = {"type": "http.response.start", "status": err.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _name(host: str) -> str:
    """The host name of a Host header, without its port; "" where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _address(origin: str) -> str | None:
    """The host and port of an Origin header; None where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _kind(err: Exception) -> str:
    """An error's class and where it was raised: its message may tell of a patient."""
    frames = traceback.extract_tb(err.__traceback__)
    if not frames:
        return type(err).__name__
    return (
        f"{type(err).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"
    )
