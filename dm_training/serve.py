"""TensorFlow Serving's REST API for an exported model, and a page to drop a file on.

    dm-serve models/whole --port 8501
    curl -d '{"instances": [...]}' http://127.0.0.1:8501/v1/models/whole:predict
    curl -F file=@scan.dcm 'http://127.0.0.1:8501/score?overlay=0'

A client written for TensorFlow Serving talks to it too. `/score` takes one DICOM or
other image and answers probability, decision and heat map; the page at `/` does so in
a browser. `/healthz` and `/metrics` are for monitors. Requests are merged into batches
and run by one thread; what is uploaded is written to no disk and told to no log. For
research only.

Source:
    https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence

from dm_models.layer_files import ModelFileError
from dm_models.saved_model_layout import find_saved_model
from dm_training.serving.errors import RequestError, ServeError
from dm_training.serving.guard import LOOPBACK_NAMES
from dm_training.serving.limits import MOST_PIXELS, Limits


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    Returns:
        0; 1 where requests had to be ended unanswered; 2 where the model, the address
        or the token cannot be had.
    """
    arguments = _parser().parse_args(argv)
    try:
        find_saved_model(arguments.folder)  # before TensorFlow's import
        limits = _limits(arguments)
        from dm_training.serving.server import listen, read_token

        token = read_token(arguments.token_file, arguments.host)
        with listen(arguments.host, arguments.port) as listener:
            return _serve(arguments, limits, token, listener)
    except (ServeError, ModelFileError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-serve", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add, bounds = parser.add_argument, Limits()
    add("folder", help="a SavedModel, or a folder of its versions")
    add("--name", help="name in the URL (default: the folder's)")
    add(
        "--host",
        default="127.0.0.1",
        help="default: %(default)s; any that others can reach demands a token",
    )
    add("--port", type=int, default=8501, help="default: %(default)s; 0: any free one")
    add(
        "--token-file",
        metavar="FILE",
        help="clients must send its line as bearer token (or DM_SERVE_TOKEN)",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="on loopback: a further name that a proxy passes on as Host",
    )
    add(
        "--min-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="smallest image let through (default: half the size trained on)",
    )
    for name, kind, default, text in (
        ("--max-pixels", int, MOST_PIXELS, "of one grey image; beyond: 413"),
        ("--max-body-bytes", int, bounds.max_body, "largest request; beyond: 413"),
        ("--max-queue", int, bounds.max_queue, "requests held; beyond: 429"),
        ("--max-held-bytes", int, bounds.max_held, "of all requests; beyond: 429"),
        ("--max-batch", int, bounds.max_batch, "images run together"),
        ("--batch-wait-ms", float, 1000 * bounds.batch_wait_s, "wait for others"),
        ("--timeout", float, bounds.timeout_s, "seconds of a request; beyond: 504"),
        ("--drain-seconds", float, bounds.drain_s, "for what is in flight at the end"),
    ):
        add(name, type=kind, default=default, help=text + " (default: %(default)s)")
    return parser


def _limits(arguments: argparse.Namespace) -> Limits:
    """The bounds asked for.

    Raises:
        ServeError: One is not positive.
    """
    for name in (
        "max_body_bytes", "max_queue", "max_held_bytes", "max_pixels", "max_batch",
        "timeout",
    ):  # fmt: skip
        if not getattr(arguments, name) > 0:
            option = "--" + name.replace("_", "-")
            raise ServeError(
                f"{option} must be positive, received {getattr(arguments, name)}"
            )
    return Limits(
        max_body=arguments.max_body_bytes, max_queue=arguments.max_queue,
        max_held=arguments.max_held_bytes,
        max_batch=arguments.max_batch, timeout_s=arguments.timeout,
        batch_wait_s=max(0.0, arguments.batch_wait_ms / 1000),
        drain_s=max(0.0, arguments.drain_seconds),
    )  # fmt: skip


def _serve(arguments, limits: Limits, token, listener: socket.socket) -> int:
    # TensorFlow's own log repeats what a request did wrong.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from dm_models.quiet_import import import_tensorflow

    import_tensorflow()
    from dm_training.serving.served_model import ServedModel
    from dm_training.serving.server import Server, is_loopback
    from dm_training.serving.service import Service

    least = tuple(arguments.min_size) if arguments.min_size else None
    service = Service(
        ServedModel(
            arguments.folder,
            arguments.name,
            least_size=least,
            most_pixels=arguments.max_pixels,
        ),
        limits,
    )
    _warm_up(service)
    names = (*LOOPBACK_NAMES, *arguments.allow_host)
    server = Server(
        service, token=token, hosts=names if is_loopback(arguments.host) else None
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    own = f"http://{shown}:{port}"
    print(
        f"serving {arguments.folder}: page {own}/ , model "
        f"{own}/v1/models/{service.model.name}",
        flush=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # it drains, then we return
        signal.signal(number, signal.SIG_IGN)
    server.run(sockets=[listener])
    print(f"stopped; {service.cut_off} requests ended unanswered", flush=True)
    return 1 if service.cut_off else 0


def _warm_up(service) -> None:
    try:
        service.warm_up()
    except RequestError as err:
        print(f"warning: not warmed up: {err}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
