"""One function over many items, in order: on this machine's cores or a Dask cluster.

`--jobs` uses joblib's processes. `--dask tcp://scheduler:8786` sends the items to the
workers of a Dask cluster instead: the project must be importable there, in the version
that runs here, and the folders that the command names must lie at the same paths. Both
are looked at once, before the work. Items are handed out in a window that moves on, so
that the client holds few of them, and results come back in the items' order.

A Dask worker that is killed costs only time: another one does its items. An item during
which workers die time and again (`distributed.scheduler.allowed-failures` of the
scheduler, 3 where nothing else is said) is tried once more with nothing beside it, for
an innocent neighbour looks the same from outside; then it counts as lost.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from dm_preprocess.dask_cluster import (
    Cluster,
    ClusterError,
    WorkersLost,
    check_workers,
    connect,
)

__all__ = [
    "ClusterError", "Mapped", "Workers", "WorkersLost", "add_worker_arguments",
    "cost_line", "map_in_order", "open_workers",
]  # fmt: skip


@dataclass(frozen=True)
class Workers:
    """Where work runs; made by `open_workers`.

    Attributes:
        jobs: Processes on this machine; -1 for all cores.
        client: A Dask client, or None for this machine.
    """

    jobs: int = -1
    client: object | None = None

    def check(self, *folders: Path) -> None:
        """Let every worker of a cluster look for the project and the folders.

        Args:
            *folders: Folders that must lie at the same paths. They exist, and the last
                one is written to.

        Raises:
            ClusterError: A worker lacks one of them; worker and reason are named.
        """
        if self.client is not None:
            check_workers(self.client, list(folders))

    def describe(self) -> str:
        """How many there are, in words."""
        if self.client is None:
            from joblib import effective_n_jobs

            count = effective_n_jobs(self.jobs)
            return f"{count} process{'es' * (count != 1)}"
        threads = self.client.nthreads().values()
        plural = "s" * (len(threads) != 1)
        return f"{len(threads)} Dask worker{plural} of {sum(threads)} threads together"


@dataclass
class Mapped:
    """What `map_in_order` returns.

    Attributes:
        results: One for each item, in the items' order.
        seconds: Processor time of each in its worker; None where it was lost.
        wall_seconds: What all took by the clock, waiting and start of workers included.
        workers: Where they ran, in words.
    """

    results: list = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)
    wall_seconds: float = 0.0
    workers: str = ""

    def cost(self, counted: Sequence[bool]) -> dict:
        """The costs in figures, for a report.

        Args:
            counted: For each item, whether it counts in the mean.

        Returns:
            Processor seconds an image (None where none counts), seconds in all by the
            clock, and where.
        """
        pairs = zip(self.seconds, counted, strict=True)
        used = [taken for taken, counts in pairs if counts and taken is not None]
        mean = round(sum(used) / len(used), 4) if used else None
        wall = round(self.wall_seconds, 2)
        return {
            "core_seconds_per_image": mean, "wall_seconds": wall,
            "workers": self.workers,
        }  # fmt: skip


def cost_line(cost: dict) -> str:
    """`Mapped.cost` in words, for a command's last line."""
    each = cost["core_seconds_per_image"]
    shown = "" if each is None else f"{each:.3g} s of a core an image, "
    return f"{shown}{cost['wall_seconds']:.3g} s in all by {cost['workers']}"


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--jobs` and `--dask`."""
    parser.add_argument("--jobs", type=_jobs, default=-1, metavar="N",
        help="processes on this machine (default: -1, all cores)")  # fmt: skip
    parser.add_argument("--dask", default="", metavar="ADDRESS",
        help="run on the Dask cluster of this scheduler instead, such as "
        "tcp://scheduler:8786; its workers need this project, in the same version, and "
        "the same folders at the same paths (--jobs has no effect then)")  # fmt: skip


@contextmanager
def open_workers(jobs: int = -1, dask: str = "") -> Iterator[Workers]:
    """Workers of this machine or of a cluster, for the length of a `with`.

    Args:
        jobs: Processes on this machine; -1 for all cores.
        dask: A scheduler's address; "" for this machine.

    Yields:
        Where `map_in_order` may run.

    Raises:
        ClusterError: Dask is not installed, no scheduler answers, or it has no worker.
    """
    if not dask:
        yield Workers(jobs)
        return
    client = connect(dask)
    try:
        yield Workers(jobs, client)
    finally:
        client.close()


def map_in_order(
    function: Callable,
    items: Sequence,
    workers: Workers,
    *,
    what: str = "working",
    lost: Callable | None = None,
) -> Mapped:
    """Call a function with each item on all workers, with a progress bar.

    Args:
        function: Takes an item. It can be pickled, and may be called twice with an
            item, whose first worker died after the work.
        items: Images to work on.
        workers: Of `open_workers`.
        what: Stands before the progress bar.
        lost: Called with an item whose workers died every time and with the reason;
            gives the item's result. None raises `WorkersLost` instead.

    Returns:
        Results in the items' order, and what they took.

    Raises:
        WorkersLost: A process of this machine was killed, the cluster went away, or an
            item was lost.
        Exception: Whatever the function raises.
    """
    from tqdm import tqdm

    began, done = time.perf_counter(), Mapped(workers=workers.describe())
    timed = partial(_timed, function)
    with tqdm(total=len(items), desc=what, unit="image", disable=None) as bar:
        if workers.client is None:
            pairs = _on_this_machine(timed, items, workers.jobs, bar)
        else:
            pairs = _on_cluster(Cluster(workers.client, timed), items, lost, bar)
    done.results = [result for result, _ in pairs]
    done.seconds = [seconds for _, seconds in pairs]
    done.wall_seconds = time.perf_counter() - began
    return done


def _timed(function: Callable, item) -> tuple[object, float]:
    began = time.thread_time()  # of this thread alone: other work does not count
    result = function(item)
    return result, time.thread_time() - began


def _on_this_machine(timed: Callable, items: Sequence, jobs: int, bar) -> list[tuple]:
    from joblib import Parallel, delayed

    pairs = []
    try:
        pool = Parallel(n_jobs=jobs, return_as="generator")
        for pair in pool(delayed(timed)(item) for item in items):
            pairs.append(pair)
            bar.update()
    except BrokenExecutor as err:
        raise WorkersLost(
            "a process was killed, perhaps for want of memory, of which fewer --jobs "
            "need less"
        ) from err
    return pairs


def _on_cluster(cluster: Cluster, items: Sequence, lost, bar) -> list[tuple]:
    """All results; items whose workers died are tried again at the end, alone."""
    pairs: list = [None] * len(items)
    suspects, out, ahead = [], deque(), iter(range(len(items)))
    while True:
        room = max(0, cluster.window() - len(out))
        out.extend((at, cluster.submit(items[at])) for at in islice(ahead, room))
        if not out:
            break
        at, future = out.popleft()
        pairs[at], reason = cluster.result(future)
        suspects += [at] if reason else []
        bar.update(not reason)
    for at in suspects:
        pairs[at], reason = cluster.result(cluster.submit(items[at]))
        if reason:
            pairs[at] = (_lost(items[at], reason, lost), None)
        bar.update()
    return pairs


def _lost(item, reason: str, lost: Callable | None):
    if lost is None:
        raise WorkersLost(f"{getattr(item, 'image_id', item)}: {reason}")
    return lost(item, reason)


def _jobs(text: str) -> int:
    if not text.removeprefix("-").isdigit() or int(text) < -1 or int(text) == 0:
        raise argparse.ArgumentTypeError(
            f"must be 1 or more, or -1 for all cores, received {text}"
        )
    return int(text)
