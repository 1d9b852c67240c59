"""A Dask cluster as a place to work: reach it, look at its workers, get results back.

The cluster is someone else's: it is reached by its scheduler's address, and nothing of
it is started or changed here. `parallel` decides what is done on it.

Source: Dask's own description of resilience: what a lost worker means.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

INSTALL = 'pip install ".[dask]"'
CONNECT_SECONDS = 20.0  # for a scheduler to answer
START_SECONDS = 60.0  # for a first worker to take a task
IDLE_SECONDS = 120.0  # without any worker, before the job gives up
_LOOK_SECONDS = 2.0
_AHEAD = 8  # items handed out for each thread of the cluster


class ClusterError(ValueError):
    """A cluster cannot be used: nothing was begun (exit status 2)."""


class WorkersLost(RuntimeError):
    """The workers went away in the middle of the work (exit status 1)."""


def connect(address: str):
    """A Dask client of the scheduler at an address such as tcp://scheduler:8786.

    Raises:
        ClusterError: Dask is not installed, no scheduler answers, or it has no worker.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ClusterError(f"--dask needs the package distributed: {INSTALL}")
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # errors tell
    try:
        asyncio.run(_reach(address))
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as err:
        reason = (str(err).splitlines() or [repr(err)])[0]
        raise ClusterError(
            f"--dask: no scheduler answers at {address!r}: {reason}"
        ) from err
    try:  # a task, for a cluster that adapts starts no worker without one
        client.submit(int, pure=False).result(timeout=START_SECONDS)
    except TimeoutError as err:
        client.close()
        raise ClusterError(
            f"--dask: the scheduler at {address} has no worker after "
            f"{START_SECONDS:g} s; start one with: dask worker {address}"
        ) from err
    return client


async def _reach(address: str) -> None:
    """Connect once: a `Client` that cannot leaves a traceback of its own behind."""
    from distributed import Security
    from distributed.comm import connect

    keys = Security().get_connection_args("client")
    comm = await connect(address, timeout=CONNECT_SECONDS, **keys)
    await comm.close()


def check_workers(client, folders: list[Path]) -> None:
    """Let every worker look for the project and for the folders, once.

    Args:
        client: Of `connect`.
        folders: Must be there at the same paths; a marker is written to the last one,
            so that it is the same folder and not another of that name.

    Raises:
        ClusterError: A worker lacks one of them; worker and reason are named.
    """
    token, wanted = uuid.uuid4().hex, [os.path.abspath(f) for f in folders]
    marker = Path(wanted[-1], f".seen_by_all_{token}.part")
    marker.write_text(token)
    try:
        here = make_look()(wanted, str(marker))
        there = client.run(make_look(), wanted, str(marker), on_error="return")
    finally:
        marker.unlink(missing_ok=True)
    for worker, found in sorted(there.items()):
        problem = _difference(here, found, wanted)
        if problem:
            raise ClusterError(f"--dask: worker {worker}: {problem}")


class Cluster:
    """Hands items to a cluster and gets their results, or the reason of a loss.

    Args:
        client: Of `connect`.
        function: Takes an item; can be pickled.
    """

    def __init__(self, client, function: Callable):
        import cloudpickle

        self._client, self._dumps = client, cloudpickle.dumps
        self._call, self._function = make_call(), cloudpickle.dumps(function)
        self._threads, self._looked, self._seen = 1, float("-inf"), time.monotonic()

    def submit(self, item):
        """A future of the function's result."""
        load = self._function, self._dumps(item)
        return self._client.submit(self._call, *load, pure=False)

    def window(self) -> int:
        """Items to have out: enough for all threads, few for the client's memory."""
        self._look()
        return _AHEAD * max(1, self._threads)

    def result(self, future) -> tuple[object, str]:
        """A future's result and "", or None and why it is lost.

        Raises:
            WorkersLost: The scheduler or all workers went away.
            Exception: Whatever the function raises.
        """
        from distributed import KilledWorker

        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS), ""
            except TimeoutError:
                if future.status == "error":  # the function's own
                    raise
                self._look()
            except KilledWorker as err:
                worker = getattr(err.last_worker, "address", err.last_worker)
                return None, (
                    "every worker that took it was killed, perhaps for want of "
                    f"memory, at last {worker}"
                )
            except CancelledError as err:
                raise WorkersLost("the Dask scheduler went away") from err
            except ImportError as err:
                raise WorkersLost(f"a Dask worker cannot import: {err}") from err

    def _look(self) -> None:
        """Count the threads, now and then; without any for long, give up."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        try:
            self._threads = sum(self._client.nthreads().values())
        except (OSError, RuntimeError) as err:
            raise WorkersLost(f"the Dask scheduler went away: {err}") from err
        self._looked = now
        if self._threads:
            self._seen = now
        elif now - self._seen > IDLE_SECONDS:
            raise WorkersLost(f"no Dask worker is left since {now - self._seen:.0f} s")


def make_call() -> Callable:
    """The task that works; the scheduler, which unpacks it, needs no project for it."""

    def call(function: bytes, item: bytes):
        import pickle

        return pickle.loads(function)(pickle.loads(item))

    return call


def make_look() -> Callable:
    """The task that looks, a function within one: it travels without this module."""

    def look(folders: list[str], marker: str) -> dict:
        import hashlib
        import importlib
        import sys
        import time
        from pathlib import Path

        digest, broken = hashlib.sha256(), ""
        try:
            package = importlib.import_module("dm_preprocess")
            for path in sorted(Path(package.__file__).parent.glob("*.py")):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
            for name in ("dm_preprocess.convert_image", "cv2", "pydicom", "scipy"):
                importlib.import_module(name)
        except ImportError as err:
            broken = str(err)
        until = time.monotonic() + 5  # a network folder may take its time
        while not Path(marker).is_file() and time.monotonic() < until:
            time.sleep(0.1)
        return {
            "python": ".".join(str(part) for part in sys.version_info[:2]),
            "project": digest.hexdigest(), "broken": broken,
            "folders": [folder for folder in folders if Path(folder).is_dir()],
            "token": Path(marker).read_text() if Path(marker).is_file() else "",
        }  # fmt: skip

    return look


def _difference(here: dict, there, folders: list[str]) -> str:
    """What is not there as it is here, in words; "" where nothing is."""
    if isinstance(there, BaseException):
        return f"cannot look around: {there!r}"
    if there["python"] != here["python"]:
        return f"has Python {there['python']}, here it is {here['python']}"
    if there["broken"]:
        return (
            f"cannot import the project ({there['broken']}); install it there, or "
            "start the worker with PYTHONPATH set to its folder"
        )
    if there["project"] != here["project"]:
        return "has another version of dm_preprocess than runs here"
    for folder in folders:
        if folder not in there["folders"]:
            return f"does not see the folder {folder}"
    if there["token"] != here["token"]:
        return f"does not see what is written to {folders[-1]}: it is another folder"
    return ""
