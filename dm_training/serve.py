"""TensorFlow Serving's REST API for an exported model, without TensorFlow Serving.

    dm-serve exported --name whole --port 8501
    curl -d '{"instances": [...]}' http://127.0.0.1:8501/v1/models/whole:predict

A client written for the one talks to the other: `/v1/models/NAME` gives the status,
`/v1/models/NAME:predict` takes `instances` (row form) or `inputs` (column form) and
answers `predictions` or `outputs`; what is wrong comes back as `{"error": "..."}`.
Only TensorFlow loads the model, neither Keras nor this project does. One thread runs
it, so requests queue up instead of sharing memory. Requests are kept nowhere and no
log line names their content.

Source:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dm_training.served_model import RequestError, ServedModel, ServeError, find_model

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY = 32 * 2**20  # five images of 1152 x 896 as JSON
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make_app(model: ServedModel, *, max_body: int = MAX_BODY) -> Starlette:
    """The web application around a model.

    Args:
        model: What answers.
        max_body: Bytes of the largest request that is read.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    routes = [Route("/healthz", _healthz)]
    for path in ("/v1/models/{name}/versions/{version:int}", "/v1/models/{name}"):
        routes.append(Route(path + ":predict", _predict, methods=["POST"]))
        routes.append(Route(path, _status))
    handlers = {RequestError: _refused, HTTPException: _malformed, Exception: _broken}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.model, app.state.max_body = model, max_body
    app.state.worker = ThreadPoolExecutor(1, thread_name_prefix="model")
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; 2 where the model or the address cannot be had."""
    arguments = _parser().parse_args(argv)
    try:
        find_model(Path(arguments.folder))  # before TensorFlow's import
        listener = _listen(arguments.host, arguments.port)
        with listener:
            return _serve(arguments, listener)
    except ServeError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="a SavedModel, or a folder of its versions")
    parser.add_argument("--name", help="name in the URL (default: the folder's)")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument(
        "--port", type=int, default=8501, help="default: %(default)s; 0: any free one"
    )
    parser.add_argument(
        "--min-size", type=int, nargs=2, metavar=("H", "W"),
        help="smallest image let through (default: half the size trained on)",
    )  # fmt: skip
    parser.add_argument(
        "--max-body-bytes", type=int, default=MAX_BODY, help="default: %(default)s"
    )
    return parser


def _serve(arguments: argparse.Namespace, listener: socket.socket) -> int:
    import uvicorn

    least = tuple(arguments.min_size) if arguments.min_size else None
    model = ServedModel(arguments.folder, arguments.name, least_size=least)
    if arguments.host not in LOOPBACK:
        print(
            f"warning: {arguments.host} may be reached from other machines, and "
            "nobody is asked for a password",
            file=sys.stderr,
        )
    app = make_app(model, max_body=arguments.max_body_bytes)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(
        f"serving {arguments.folder} on http://{shown}:{port}/v1/models/{model.name}",
        flush=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn drains, then we return 0
        signal.signal(number, signal.SIG_IGN)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Take the address before the model is loaded, so that a taken one says so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as err:
        raise ServeError(f"cannot listen on {host} port {port}: {err}") from err


async def _healthz(request: Request) -> Response:
    return _json({"status": "ok"})


async def _status(request: Request) -> Response:
    return _json(_asked_model(request).status())


async def _predict(request: Request) -> Response:
    model, state = _asked_model(request), request.app.state
    body = await _read_body(request, state.max_body)
    loop = asyncio.get_running_loop()
    return _json(await loop.run_in_executor(state.worker, model.predict, body))


async def _refused(request: Request, err: RequestError) -> Response:
    return _json({"error": str(err)}, err.status)


async def _malformed(request: Request, err: HTTPException) -> Response:
    text = f"Malformed request: {request.method} {request.url.path}"
    return _json({"error": text}, err.status_code, err.headers)


async def _broken(request: Request, err: Exception) -> Response:
    return _json({"error": f"internal error: {type(err).__name__}"}, 500)


def _json(content: dict, status: int = 200, headers=None) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status, headers)


def _asked_model(request: Request) -> ServedModel:
    model: ServedModel = request.app.state.model
    name = request.path_params["name"]
    version = request.path_params.get("version", model.version)
    if (name, version) != (model.name, model.version):
        wanted = f"Specific({name}, {version})"
        if "version" not in request.path_params:
            wanted = f"Latest({name})"
        raise RequestError(f"Servable not found for request: {wanted}", 404)
    return model


async def _read_body(request: Request, most: int) -> bytes:
    """Read no more than allowed, whatever the header says."""
    body = bytearray()
    too_large = RequestError(f"a request must not exceed {most} bytes", 413)
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise too_large
    return bytes(body)


if __name__ == "__main__":
    sys.exit(main())
