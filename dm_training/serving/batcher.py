"""One thread that runs the model, and puts together what waits for it.

A net scores eight images at once faster than eight images one by one. Calls of the same
signature and shape that wait at the same time are merged up to a number of rows; the
first of them waits for others for a few milliseconds only. A merged batch that fails
is tried again call by call, so that one bad image costs its own request alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from dm_training.serving.errors import RequestError
from dm_training.serving.served_model import Call

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Job:
    call: Call
    future: Future = field(default_factory=Future)


class _NotByRow(Exception):
    """A merged batch came back with another number of rows than it had."""


class Batcher:
    """Runs calls on one thread of its own, merged where that changes no answer.

    Args:
        run: Runs one call.
        max_batch: Rows put together at most; a longer call is run in pieces.
        max_pixels: Of all of them, so that large images are not put together into
            more than the memory holds; a single row may have more.
        wait_s: Seconds that the first call waits for others.
        note_batch: Told the rows of every batch that is run.
    """

    def __init__(
        self,
        run: Callable[[Call], Outputs],
        *,
        max_batch: int = 8,
        max_pixels: int | None = None,
        wait_s: float = 0.005,
        note_batch: Callable[[int], None] = lambda rows: None,
    ):
        self._run, self._max_rows, self._wait_s = run, max_batch, wait_s
        self._max_pixels = max_pixels
        self._note = note_batch
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        # A daemon: a call that hangs in TensorFlow must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether calls are still run."""
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """Calls that no batch has taken yet."""
        return len(self._waiting)

    def submit(self, call: Call) -> Future:
        """Queue a call.

        Returns:
            Its outputs, or the error that it alone ended with. A future that is
            cancelled before its turn is not run.

        Raises:
            RequestError: The thread has ended (503).
        """
        job = _Job(call)
        with self._changed:
            if not self.alive:
                raise RequestError("the server is stopping", 503)
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def stop(self, timeout_s: float) -> bool:
        """Run what waits, then end; whether that was done within the time."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while jobs := self._next():
            live = [j for j in jobs if j.future.set_running_or_notify_cancel()]
            if live:
                self._settle(live)

    def _next(self) -> list[_Job]:
        """The next calls to run together; none where all is done."""
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            if not self._waiting:
                return []
            jobs = [self._waiting.popleft()]
            deadline = time.monotonic() + self._wait_s
            most = self._most(jobs[0].call)
            while self._gather(jobs) < most and jobs[0].call.signature.by_row:
                left = deadline - time.monotonic()
                if left <= 0 or self._stopping:
                    break
                self._changed.wait(left)
            return jobs

    def _gather(self, jobs: list[_Job]) -> int:
        """Move what fits to the first call out of the queue; the rows there are."""
        rows = sum(job.call.rows for job in jobs)
        if not jobs[0].call.signature.by_row:
            return rows
        kind, left, most = jobs[0].call.kind, deque(), self._most(jobs[0].call)
        for job in self._waiting:
            fits = job.call.kind == kind and rows + job.call.rows <= most
            if fits:
                jobs.append(job)
                rows += job.call.rows
            else:
                left.append(job)
        self._waiting = left
        return rows

    def _most(self, call: Call) -> int:
        """Rows of such a call that may be run together."""
        if self._max_pixels is None:
            return self._max_rows
        fitting = self._max_pixels // max(1, call.row_pixels)
        return max(1, min(self._max_rows, fitting))

    def _settle(self, jobs: Sequence[_Job]) -> None:
        """Give every job its outputs or its own error."""
        try:
            results = self._results([job.call for job in jobs])
        except Exception as err:  # whatever it is, it belongs to who asked
            if len(jobs) == 1:
                jobs[0].future.set_exception(err)
                return
            for job in jobs:
                self._settle([job])
            return
        for job, outputs in zip(jobs, results, strict=True):
            job.future.set_result(outputs)

    def _results(self, calls: Sequence[Call]) -> list[Outputs]:
        if len(calls) == 1:
            return [self._alone(calls[0])]
        parts = [call.inputs for call in calls]
        merged = {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}
        outputs = self._counted(replace(calls[0], inputs=merged))
        ends = np.cumsum([call.rows for call in calls])
        if any(_length(array) != ends[-1] for array in outputs.values()):
            raise _NotByRow
        return [
            {name: a[end - call.rows : end] for name, a in outputs.items()}
            for call, end in zip(calls, ends, strict=True)
        ]

    def _alone(self, call: Call) -> Outputs:
        """One call, in pieces where it is longer than a batch may be."""
        most = self._most(call)
        if call.rows <= most:
            return self._counted(call)
        pieces = []
        for start in range(0, call.rows, most):
            cut = slice(start, start + most)
            part = {name: array[cut] for name, array in call.inputs.items()}
            try:
                pieces.append(self._counted(replace(call, inputs=part)))
            except RequestError as err:  # which counts from the piece's first image
                last = min(start + most, call.rows) - 1
                text = f"in images {start} to {last} of the request: {err}"
                raise RequestError(text, err.status) from err
        merged = {n: [piece[n] for piece in pieces] for n in pieces[0]}
        if any(sum(map(_length, found)) != call.rows for found in merged.values()):
            return self._counted(call)
        return {name: np.concatenate(found) for name, found in merged.items()}

    def _counted(self, call: Call) -> Outputs:
        self._note(call.rows)
        return self._run(call)


def _length(array: np.ndarray) -> int:
    return len(array) if array.ndim else -1
