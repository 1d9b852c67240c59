"""What a monitor may know of a server: counts and times, never a name or a score.

In a registry of its own, so that several servers live in one process (in tests) and
nothing of the process itself is shown.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The figures of one server.

    Args:
        waiting: Gives the calls that wait for the model.
        held: Gives the requests in the house.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, waiting: Callable[[], int], held: Callable[[], int]):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "dm_serve_requests", "Answers by route and HTTP status.",
            ["route", "status"], registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "dm_serve_request_seconds", "From a request's head to its answer's end.",
            ["route"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._batches = Histogram(
            "dm_serve_batch_images", "Images that the model was given at a time.",
            buckets=ROWS, registry=registry,
        )  # fmt: skip
        for name, text, of in (
            ("dm_serve_queue_length", "Calls that wait for the model.", waiting),
            ("dm_serve_requests_held", "Requests being read, run or answered.", held),
        ):
            Gauge(name, text, registry=registry).set_function(of)

    def describe(self, **facts: str) -> None:
        """State the model's name and versions."""
        Info("dm_serve_model", "The model served.", registry=self._registry).info(facts)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def ran(self, rows: int) -> None:
        """Count one batch."""
        self._batches.observe(rows)

    def text(self) -> bytes:
        """Everything, in Prometheus's text form."""
        return generate_latest(self._registry)
