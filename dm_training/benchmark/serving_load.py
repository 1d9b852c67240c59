"""What dm-serve stands: many clients at a time, against the bare network.

    python -m dm_training.benchmark.serving_load models/whole --clients 32 --seconds 60

Starts dm-serve on a free port of loopback. Each client sends one 16-bit PNG of the
working size after the other, as base64 to the signature `png`, over a connection that
it keeps. Before and after, the network alone is timed on batches of tensors that are
ready. A shared machine's speed drifts, so that both take turns with `--rounds`. A
request is lost when it was sent and no answer came; one that finds the port closed is
refused. `--stop-after` sends SIGTERM while the clients are asking. Prints JSON.
Processor time per image is told too: other work on the machine hardly changes it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dm_models import saved_model_layout as layout
from dm_training.benchmark import machine, synthetic

_DISTINCT = 16  # images; more would only take memory
_HOST = "127.0.0.1"
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)(/v1/models/\S+)")


@dataclass
class Tally:
    """What became of the clients' requests.

    Attributes:
        statuses: HTTP status -> answers.
        sent: Requests of which a byte was sent.
        lost: Requests of which a byte was sent and that got no answer.
        refused: Connections that were refused.
        seconds: Of each answer with status 200.
        last: When the last answer came (`time.perf_counter`).
    """

    statuses: Counter = field(default_factory=Counter)
    sent: int = 0
    lost: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)
    last: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, status: int, seconds: float) -> None:
        """Note an answer."""
        with self.lock:
            self.sent += 1
            self.statuses[status] += 1
            self.last = time.perf_counter()
            if status == 200:
                self.seconds.append(seconds)

    def unanswered(self, *, was_sent: bool) -> None:
        """Note a request without an answer."""
        with self.lock:
            self.sent += was_sent
            self.lost += was_sent
            self.refused += not was_sent


class Clients:
    """Clients that ask until they are told to stop.

    Args:
        port: Of the server.
        path: Of `:predict`.
        bodies: What they send, in turns.
        tally: Where they note what became of it.
    """

    def __init__(self, port: int, path: str, bodies: Sequence[bytes], tally: Tally):
        self.port, self.path, self.bodies, self.tally = port, path, bodies, tally
        self._until = 0.0

    def ask(self, number: int, seconds: float) -> None:
        """That many clients for that long, and until their last answers are there."""
        self._until = time.perf_counter() + seconds
        threads = [
            threading.Thread(target=self._one, args=(first,)) for first in range(number)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _one(self, at: int) -> None:
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=300)
        while time.perf_counter() < self._until:
            if not self._request(connection, self.bodies[at % len(self.bodies)]):
                break
            at += 1
        connection.close()

    def _request(self, connection, body: bytes) -> bool:
        """One request; whether there is sense in another."""
        began = time.perf_counter()
        try:
            if connection.sock is None:
                connection.connect()
        except OSError:
            self.tally.unanswered(was_sent=False)
            return False
        try:
            connection.request("POST", self.path, body)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self.tally.unanswered(was_sent=True)
            connection.close()
            return True
        self.tally.answered(answer.status, time.perf_counter() - began)
        return True


class Bare:
    """The export's network on tensors that are ready.

    Args:
        folder: The SavedModel's own.
        images: uint16 (N, H, W, 1); one batch.

    Attributes:
        images: How many were scored.
        processor_s: Processor time that they took.
    """

    def __init__(self, folder: Path, images: np.ndarray):
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(folder))
        self._function = self._loaded.signatures[layout.DEFAULT_SIGNATURE]
        self._batch = {layout.GREY_INPUT: tf.constant(images, tf.float32)}
        self._rows, self.images, self.processor_s = len(images), 0, 0.0
        self.rate(0.0)  # the first call builds what the others use
        self.images, self.processor_s = 0, 0.0

    def rate(self, seconds: float) -> float:
        """Images a second over at least that long."""
        began, done, worked = time.perf_counter(), 0, time.process_time()
        while not done or time.perf_counter() - began < seconds:
            self._function(**self._batch)[layout.SCORES].numpy()
            done += self._rows
        self.images += done
        self.processor_s += time.process_time() - worked
        return done / (time.perf_counter() - began)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 1 where a request was lost or the server did not end well."""
    arguments = _parser().parse_args(argv)
    folder, _, name = layout.find_saved_model(arguments.folder)
    images = _images(folder, _DISTINCT)
    command = [sys.executable, "-m", "dm_training.serve", str(arguments.folder),
               "--port", "0", "--max-batch", str(arguments.max_batch),
               "--max-queue", str(2 * arguments.clients)]  # fmt: skip
    bare = Bare(folder, images[: arguments.max_batch])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        found = _ADDRESS.search(server.stdout.readline())
        if not found:
            return 1
        bodies = [_body(image) for image in images]
        clients = Clients(int(found[1]), found[2] + ":predict", bodies, Tally())
        clients.ask(2, 0.5 if arguments.seconds < 10 else 5)  # warm
        tally = clients.tally = Tally()
        figures = _measured(arguments, clients, bare, server)
        server.send_signal(signal.SIGTERM)
        status = server.wait(120)
    shown = {"model": name, "image": list(images.shape[1:3]), **figures,
             "server_exit": status, "machine": machine.describe()}  # fmt: skip
    print(json.dumps(shown, indent=1))
    return 1 if tally.lost or status else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serving_load", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="an export of dm-export")
    parser.add_argument("--clients", type=int, default=32, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of load (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="turns with the bare network"
    )
    parser.add_argument("--max-batch", type=int, default=8, help="default: %(default)s")
    parser.add_argument(
        "--stop-after", type=float, metavar="S", help="SIGTERM after S seconds of load"
    )
    return parser


def _measured(arguments, clients: Clients, bare: Bare, server) -> dict:
    """Load and bare network in turns; what came of it."""
    tally, rounds = clients.tally, arguments.rounds
    each = arguments.seconds / rounds
    rates, bare_rates, answers = [], [bare.rate(each / 4)], 0
    if arguments.stop_after is not None:
        threading.Timer(
            arguments.stop_after, server.send_signal, (signal.SIGTERM,)
        ).start()
    worked = _processor_s(server.pid)
    for _ in range(rounds):
        began = time.perf_counter()
        clients.ask(arguments.clients, each)
        answered = len(tally.seconds)
        rates.append((answered - answers) / max(tally.last - began, 1e-9))
        answers = answered
        bare_rates.append(bare.rate(each / 4))
    worked = _processor_s(server.pid) - worked
    both = zip(rates, bare_rates, bare_rates[1:], strict=False)
    ratios = [rate / ((before + after) / 2) for rate, before, after in both]
    return {
        "clients": arguments.clients, "seconds": arguments.seconds, "rounds": rounds,
        "max_batch": arguments.max_batch, "sent": tally.sent,
        "answered": dict(sorted(tally.statuses.items())), "lost": tally.lost,
        "connections_refused": tally.refused,
        "images_per_s": rates, "bare_images_per_s": bare_rates,
        "ratio": {"median": statistics.median(ratios), "rounds": ratios},
        "processor_s_per_image": {
            "dm-serve": worked / max(1, answers),
            "bare": bare.processor_s / bare.images,
        },
        **_quantiles(tally.seconds),
    }  # fmt: skip


def _processor_s(pid: int) -> float:
    """Processor time of a process so far; NaN where the system does not tell.

    Where other work takes turns on the machine, clocks say less than this.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return float("nan")
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _quantiles(seconds: Sequence[float]) -> dict:
    if not seconds:
        return {"p50_s": None, "p99_s": None, "longest_s": None}
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return {"p50_s": float(p50), "p99_s": float(p99), "longest_s": max(seconds)}


def _images(folder: Path, number: int) -> np.ndarray:
    """Images of the model's own size, uint16 (N, H, W, 1)."""
    contract = json.loads((folder / "input_contract.json").read_text(encoding="utf-8"))
    size = contract["height"], contract["width"]
    made = [synthetic.breast_image(*size, seed) for seed in range(number)]
    return np.stack(made)[..., None]


def _body(image: np.ndarray) -> bytes:
    import cv2

    coded = base64.b64encode(cv2.imencode(".png", image)[1]).decode()
    request = {"signature_name": layout.PNG_SIGNATURE, "instances": [{"b64": coded}]}
    return json.dumps(request).encode()


if __name__ == "__main__":
    sys.exit(main())
