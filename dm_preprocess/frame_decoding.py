"""Compressed frames decoded in a process of their own, which may die on them.

A damaged stream can end the process of its decoder, run for ever or ask for memory
without end. So `frame_worker` decodes: it is started when the first compressed frame
comes, stays for the next, and is replaced when it dies or takes too long. Several
threads have several workers. A frame is refused; the caller's process goes on.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

SECONDS = 60  # for one frame; the largest mammograms take some 2
_WORKER = Path(__file__).with_name("frame_worker.py")
_idle: list[_Worker] = []


class FrameError(ValueError):
    """A stream cannot be decoded; the message says why and holds no file's name."""


def decode_frame(data: bytes, syntax: str, options: dict) -> np.ndarray:
    """Decode one encapsulated grey frame.

    Args:
        data: The value of (7FE0,0010).
        syntax: Transfer syntax UID.
        options: What `frame_worker.OPTIONS` names.

    Returns:
        Stored values (rows, columns).

    Raises:
        FrameError: Broken, of another size, or the decoder died or took too long.
    """
    worker = _take()
    try:
        values = worker.decode(data, syntax, options)
    finally:
        _give_back(worker)
    return values


class _Worker:
    """One decoding process and the two pipes to it."""

    def __init__(self):
        # A session of its own: an interrupt at the terminal is not meant for it.
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._end()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what it was still to be sent died with it

    def decode(self, data: bytes, syntax: str, options: dict) -> np.ndarray:
        """As `decode_frame`; a worker that failed to answer is no longer alive."""
        late = threading.Event()
        timer = threading.Timer(SECONDS, self._stop, [late])
        timer.start()
        try:
            answer, values = self._exchange(data, syntax, options)
        except (OSError, EOFError) as err:
            status = self._end()
            if late.is_set():
                raise FrameError(f"decoding took more than {SECONDS} s") from err
            raise FrameError(f"its decoder died of it ({_ending(status)})") from err
        except BaseException:
            self._end()  # half an answer may be left in the pipe
            raise
        finally:
            timer.cancel()
        if "error" in answer:
            raise FrameError(answer["error"])
        return values

    def _end(self) -> int:
        self._process.kill()
        return self._process.wait()

    def _stop(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _exchange(self, data: bytes, syntax: str, options: dict) -> tuple:
        request = {"bytes": len(data), "syntax": syntax, "options": options}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.write(data)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        return answer, None if "error" in answer else self._pixels(answer)

    def _pixels(self, answer: dict) -> np.ndarray:
        values = np.empty(answer["shape"], answer["dtype"])
        view = memoryview(values).cast("B")
        while view:
            count = self._process.stdout.readinto(view)
            if not count:
                raise EOFError
            view = view[count:]
        return values


def _take() -> _Worker:
    while True:
        try:
            worker = _idle.pop()  # another thread may have taken the last
        except IndexError:
            return _Worker()
        if worker.alive:
            return worker
        worker.close()


def _give_back(worker: _Worker) -> None:
    if worker.alive:
        _idle.append(worker)
    else:
        worker.close()


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _close_all() -> None:
    while _idle:
        _idle.pop().close()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_idle.clear)  # the pipes are the parent's
