"""Memory of batches, used again when TensorFlow has let go of a batch.

A batch of mammograms is tens of megabytes. Fresh memory of that size comes from the
kernel page by page, each one cleared first, which takes as long as a third of the
augmentation; and TensorFlow copies an array that does not begin at a multiple of 64
bytes. Arrays from here do, so that it takes them over as they are, and their memory
comes back when the last one who holds them is done.
"""

from __future__ import annotations

import math
import weakref

import numpy as np

_ALIGNED = 64


class BatchMemory:
    """Hands out float32 arrays; safe in several threads."""

    def __init__(self):
        self._free: dict[int, list[np.ndarray]] = {}

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of that shape, with whatever was in it before.

        Its memory is used again once neither it nor a view of it is alive.
        """
        size = math.prod(shape)
        free = self._free.setdefault(size, [])
        try:
            block = free.pop()
        except IndexError:
            block = _block(size)
        whole = np.frombuffer(memoryview(block), np.float32)  # all views hold it
        weakref.finalize(whole, free.append, block).atexit = False
        return whole.reshape(shape)


def _block(size: int) -> np.ndarray:
    raw = np.empty(size * 4 + _ALIGNED, np.uint8)
    start = -raw.ctypes.data % _ALIGNED
    return raw[start : start + size * 4].view(np.float32)
