"""What a client may ask for: bytes, requests at a time, seconds.

A request is counted in before its body is read and out when it is answered, so that
the bodies held in memory are bounded too. A body is read here and nowhere else: into
memory, never to a disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dm_training.serving.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY = 64 * 2**20  # a mammogram as DICOM; ten images of 1152 x 896 as JSON
MAX_HELD = 2**30
MOST_PIXELS = 10_000_000  # of a grey image: a ResNet50 takes some 3 GiB for as many
RETRY_AFTER_S = 1
CLOSE = {"Connection": "close"}


@dataclass(frozen=True)
class Limits:
    """The bounds of a server.

    Attributes:
        max_body: Bytes of the largest body.
        max_queue: Requests with a body that are held at a time, read or run.
        max_held: Bytes of all their bodies together.
        max_batch: Images that the model is given at a time.
        batch_wait_s: How long the first of a batch waits for others.
        timeout_s: From a request's head to its answer.
        stall_s: Without a byte of a body that is due.
        drain_s: For what is in flight when the server is told to stop.
    """

    max_body: int = MAX_BODY
    max_queue: int = 64
    max_held: int = MAX_HELD
    max_batch: int = 8
    batch_wait_s: float = 0.005
    timeout_s: float = 120.0
    stall_s: float = 15.0
    drain_s: float = 30.0


class Admission:
    """Counts requests and their bytes in and out.

    Attributes:
        held: Requests in the house.
        held_bytes: Of their bodies, as far as they have come.
    """

    def __init__(self, most: int, most_bytes: int = MAX_HELD):
        self.most, self.most_bytes = most, most_bytes
        self.held, self.held_bytes = 0, 0

    @contextmanager
    def admit(self) -> Iterator[Place]:
        """Hold a place for one request.

        Raises:
            RequestError: None is left (429, with Retry-After).
        """
        if self.held >= self.most:
            raise _too_many(f"{self.most} requests are waiting already")
        place = Place(self)
        self.held += 1
        try:
            yield place
        finally:
            self.held -= 1
            self.held_bytes -= place.bytes


@dataclass
class Place:
    """What one request holds.

    Attributes:
        admission: Of all.
        bytes: Of its body.
    """

    admission: Admission
    bytes: int = 0

    def take(self, count: int) -> None:
        """Count further bytes of the body in.

        Raises:
            RequestError: All requests together would hold too many (429).
        """
        if self.admission.held_bytes + count > self.admission.most_bytes:
            raise _too_many("waiting requests hold all the memory they may", **CLOSE)
        self.bytes += count
        self.admission.held_bytes += count


async def read_body(request: Request, limits: Limits, place: Place) -> bytes:
    """Read no more than allowed, whatever the header says, and wait no longer.

    Raises:
        RequestError: Too large (413), stalled or cut off (408), or more than there is
            room for beside the others (429).
    """
    too_large = RequestError(
        f"a request must not exceed {limits.max_body} bytes", 413, headers=CLOSE
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limits.max_body:
        raise too_large
    body, more = bytearray(), True
    while more:
        message = await _next_message(request, min(limits.stall_s, limits.timeout_s))
        if message["type"] == "http.disconnect":
            raise RequestError("the body was cut off", 408, headers=CLOSE)
        chunk, more = message.get("body", b""), message.get("more_body", False)
        if len(body) + len(chunk) > limits.max_body:
            raise too_large
        place.take(len(chunk))
        body += chunk
    return bytes(body)


async def _next_message(request: Request, seconds: float) -> dict:
    try:
        async with asyncio.timeout(seconds):
            return await request.receive()
    except TimeoutError as err:
        raise RequestError(
            f"no byte of the body came for {seconds:g} s", 408, headers=CLOSE
        ) from err


def _too_many(why: str, **headers: str) -> RequestError:
    told = {"Retry-After": str(RETRY_AFTER_S), **headers}
    return RequestError(f"{why}; try again later", 429, headers=told)
