"""A model with its queue, pool, limits and figures: what the addresses share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np

from dm_models import saved_model_layout as layout
from dm_training.serving.batcher import Batcher
from dm_training.serving.errors import RequestError
from dm_training.serving.limits import Admission, Limits, Place
from dm_training.serving.metrics import Metrics
from dm_training.serving.score import Desk
from dm_training.serving.served_model import Call, ServedModel

BATCH_PIXELS = 1152 * 896  # an image of a batch, at the size of the paper's nets
POOL_THREADS = max(2, min(8, os.cpu_count() or 2))


class Service:
    """A model that is being served.

    Args:
        model: What answers.
        limits: Its bounds.

    Attributes:
        draining: Whether the server was told to stop.
        closing: Whether answers end their connections.
        cut_off: Requests that were ended by `give_up`.
    """

    def __init__(self, model: ServedModel, limits: Limits | None = None):
        self.model, self.limits = model, limits or Limits()
        self.draining, self.closing, self.cut_off = False, False, 0
        self.admission = Admission(self.limits.max_queue, self.limits.max_held)
        self.metrics = Metrics(self._waiting, lambda: self.admission.held)
        self.batcher = Batcher(
            model.run, max_batch=self.limits.max_batch,
            wait_s=self.limits.batch_wait_s, note_batch=self.metrics.ran,
            max_pixels=self.limits.max_batch * BATCH_PIXELS,
        )  # fmt: skip
        self.version = layout.read_facts(model.folder).version or str(model.version)
        self.metrics.describe(name=model.name, number=str(model.version),
                              version=self.version)  # fmt: skip
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="decode")
        self._clocks: set[asyncio.Timeout] = set()
        self._desk: Desk | None = None

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place in the house for one request, for as long as it may take.

        Raises:
            RequestError: No place is left (429), the time is over (504), or the server
                stops (503).
        """
        with self.admission.admit() as place:
            clock = asyncio.timeout(self.limits.timeout_s)
            self._clocks.add(clock)
            try:
                async with clock:
                    yield place
            except TimeoutError as err:
                if self.draining:
                    raise RequestError("the server is stopping", 503) from err
                text = f"no answer within {self.limits.timeout_s:g} s"
                raise RequestError(text, 504) from err
            finally:
                self._clocks.discard(clock)

    async def run(self, call: Call) -> dict[str, np.ndarray]:
        """Run a call in the queue; one that is given up before its turn is not run."""
        return await asyncio.wrap_future(self.batcher.submit(call))

    async def in_pool(self, function: Callable, *arguments):
        """Run a function off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *arguments)

    def desk(self) -> Desk:
        """What judges uploads.

        Raises:
            RequestError: The model is none of `dm-export`'s (501).
        """
        if self._desk is None:
            self._desk = Desk(self.model, self.run, self.in_pool)
        return self._desk

    def health(self) -> str:
        """A word: "ok", "draining" or "broken"."""
        if self.draining:
            return "draining"
        return "ok" if self.batcher.alive else "broken"

    def warm_up(self) -> None:
        """Run the network once, which builds what the first request would wait for.

        Raises:
            RequestError: The model refuses an image from black to white.
        """
        try:
            contract = self.desk().contract
        except RequestError:
            return  # a model of another program: nothing says what it takes
        if contract.height is None:
            return
        levels = np.linspace(0, 65535, contract.height * contract.width, dtype="f4")
        image = levels.reshape(1, contract.height, contract.width, 1)
        names = [layout.DEFAULT_SIGNATURE]
        names += [layout.GRAD_CAM_SIGNATURE] if self.desk().maps else []
        for name in names:
            call = Call(self.model.signature(name), {layout.GREY_INPUT: image})
            self.batcher.submit(call).result()

    def give_up(self) -> None:
        """End every request that is still held, with 503."""
        now = asyncio.get_running_loop().time()
        for clock in [each for each in self._clocks if not each.expired()]:
            clock.reschedule(now)
            self.cut_off += 1

    def close(self) -> None:
        """End the threads; what runs is waited for a second at most."""
        self.batcher.stop(1.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _waiting(self) -> int:
        return self.batcher.waiting
