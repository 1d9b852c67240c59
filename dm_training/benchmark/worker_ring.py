"""Worker processes that fill batches in shared memory, as fast loaders do.

A ring of slots, each one batch: a worker takes a free slot, fills it and hands it
over; the consumer gets a view without a copy. Nothing but slot numbers is pickled.
"""

from __future__ import annotations

import math
import multiprocessing
import traceback
from collections.abc import Iterator
from multiprocessing import shared_memory

import numpy as np

from dm_training.benchmark.candidates import Missing, die_with_parent, load

_SLOTS_A_WORKER = 3


def batches(
    maker: str, config: dict, *, shape: tuple[int, ...], workers: int
) -> Iterator[np.ndarray]:
    """Batches without end out of worker processes.

    Args:
        maker: "module:function"; the function gets `config` and the worker's number
            and returns `fill(batch)`, which fills a float32 array in place.
        config: For `maker`.
        shape: Of a batch.
        workers: How many processes.

    Yields:
        float32 of `shape`, valid until the next one is asked for.

    Raises:
        Missing: A worker cannot import what it needs.
        RuntimeError: A worker failed; its traceback follows.
    """
    context = multiprocessing.get_context("spawn")
    free, filled = context.SimpleQueue(), context.SimpleQueue()
    slots = workers * _SLOTS_A_WORKER
    memory = shared_memory.SharedMemory(create=True, size=slots * _bytes(shape))
    arguments = maker, config, memory.name, shape, free, filled
    processes = [
        context.Process(target=_work, args=(n, *arguments), daemon=True)
        for n in range(workers)
    ]
    try:
        for slot in range(slots):
            free.put(slot)
        for process in processes:
            process.start()
        while True:
            slot = filled.get()
            if not isinstance(slot, int):
                kind, text = slot
                raise (Missing if kind == "missing" else RuntimeError)(text)
            yield _view(memory, shape, slot)
            free.put(slot)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
        memory.close()
        memory.unlink()


def _bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape) * 4


def _view(memory, shape: tuple[int, ...], slot: int) -> np.ndarray:
    return np.ndarray(shape, np.float32, memory.buf, slot * _bytes(shape))


def _work(number: int, maker, config, memory_name: str, shape, free, filled) -> None:
    die_with_parent()
    memory = shared_memory.SharedMemory(memory_name)
    try:
        fill = load(maker)(config, number)
        while True:
            slot = free.get()
            fill(_view(memory, shape, slot))
            filled.put(slot)
    except ImportError as err:
        filled.put(("missing", str(err)))
    except Exception:  # told to the consumer, who raises it
        filled.put(("failed", traceback.format_exc()))
