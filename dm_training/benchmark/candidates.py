"""A candidate: a process of its own that works in slices and is frozen between them.

Thread pools, decoders' settings and buffers of one candidate must not touch another.
Each therefore lives in its own process group, which is stopped by a signal as soon as
its slice is over: its workers neither disturb the next candidate nor fill their
buffers for the next slice, and it goes on from where it stood.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping

from dm_training.benchmark import timing

_PATIENCE = 300.0  # seconds beyond a slice after which a candidate counts as hung
_PR_SET_PDEATHSIG = 1


class Missing(RuntimeError):
    """A candidate cannot run here: a package is not installed; says which."""


class CandidateError(RuntimeError):
    """A candidate failed; the message ends with its traceback."""


class Candidate:
    """One way of doing a job, in a process group of its own.

    Args:
        name: For messages.
        maker: "module:function". The function gets `config` and yields first a dict of
            facts, then, after each step and without end, how many items it did.
        config: What the function needs; JSON-like.
        environment: Set before anything is imported.
    """

    def __init__(
        self, name: str, maker: str, config: Mapping,
        environment: Mapping[str, str] | None = None,
    ):  # fmt: skip
        self.name, self.facts = name, {}
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = theirs, maker, dict(config), dict(environment or {})
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        theirs.close()

    def start(self) -> dict:
        """Wait until the first step could run, then freeze.

        Returns:
            The candidate's facts.

        Raises:
            Missing: A package is not installed.
            CandidateError: It failed.
        """
        self.facts = self._answer(_PATIENCE)
        self._signal(signal.SIGSTOP)
        return self.facts

    def run(self, seconds: float) -> float:
        """Work for some seconds, then freeze; returns items a second."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # `_answer` says so
            self._pipe.send(seconds)
        rate = self._answer(seconds + _PATIENCE)
        self._signal(signal.SIGSTOP)
        return rate

    def close(self) -> None:
        """Let it end, and end it where it does not."""
        if self._process.is_alive():
            self._signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):
                self._pipe.send(None)
            self._process.join(10)
        if self._process.is_alive():
            self._signal(signal.SIGKILL)
            self._process.join()
        self._pipe.close()

    def _answer(self, seconds: float):
        if not self._pipe.poll(seconds):
            raise CandidateError(f"{self.name}: no answer within {seconds:.0f} s")
        try:
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionResetError) as err:
            self._process.join()
            status = self._process.exitcode
            raise CandidateError(f"{self.name}: ended with status {status}") from err
        if kind == "missing":
            raise Missing(f"{self.name}: {value}")
        if kind == "failed":
            raise CandidateError(f"{self.name}: {value}")
        return value

    def _signal(self, number: int) -> None:
        # The group is there from the first answer on; before it, the process alone.
        send = os.killpg if os.getpgid(self._process.pid) != os.getpgid(0) else os.kill
        send(self._process.pid, number)


@contextlib.contextmanager
def started(candidates: Mapping[str, Candidate]) -> Iterator[dict[str, str]]:
    """Start candidates one after another, and end them all at the end.

    Args:
        candidates: Name -> candidate.

    Yields:
        Name -> why, for those that cannot run here.
    """
    missing = {}
    try:
        for name, candidate in candidates.items():
            try:
                candidate.start()
            except Missing as err:
                missing[name] = str(err)
        yield missing
    finally:
        for candidate in candidates.values():
            candidate.close()


def measure(
    candidates: Mapping[str, Candidate], *, seconds: Mapping[str, float], rounds: int,
    warm: float,
) -> dict[str, list[float]]:  # fmt: skip
    """Items a second of started candidates that take turns.

    Args:
        candidates: Name -> candidate.
        seconds: Name -> length of its slice.
        rounds: Slices each.
        warm: Seconds of a slice before the first round, which is not counted.
    """
    for candidate in candidates.values():
        candidate.run(warm)
    turns = {
        name: lambda c=candidate, s=seconds[name]: c.run(s)
        for name, candidate in candidates.items()
    }
    return timing.take_turns(turns, rounds)


def die_with_parent() -> None:
    """Let the kernel end this process when its parent ends: a frozen one never would.

    Only Linux can.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def load(maker: str):
    """The function that "module:function" names."""
    module, name = maker.split(":")
    return getattr(importlib.import_module(module), name)


def _serve(pipe, maker: str, config: dict, environment: dict) -> None:
    """The candidate's side: answer each number of seconds with a rate."""
    os.setpgid(0, 0)
    die_with_parent()
    os.environ.update(environment)
    try:
        with contextlib.closing(load(maker)(config)) as steps:
            pipe.send(("facts", next(steps)))
            while (seconds := pipe.recv()) is not None:
                pipe.send(("rate", timing.rate_of(lambda: next(steps), seconds)))
    except (ImportError, Missing) as err:
        pipe.send(("missing", str(err)))
    except Exception:  # whatever it is, it is told to the parent
        pipe.send(("failed", traceback.format_exc()))
