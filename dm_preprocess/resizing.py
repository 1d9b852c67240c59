"""Resizing: area averaging for images, the nearest pixel for masks.

Area averaging is defined as two weight matrices, one for the rows and one for the
columns, applied in float32 and rounded: the same definition holds in NumPy and in a
TensorFlow graph, which no library's own area mode does to the last grey level. Here the
matrices are used without their zeros and in bands of rows, which adds up the same
numbers in the same order.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

_BAND = 128  # output rows, whose input stays in the processor's cache


@lru_cache(maxsize=4)
def area_weights(n_in: int, n_out: int) -> np.ndarray:
    """The matrix that resizes one axis from `n_in` to `n_out` pixels.

    Args:
        n_in: Pixels before.
        n_out: Pixels after. Where there are more than before, the weights are
            bilinear between pixel centres, the edge pixels repeated.

    Returns:
        float32 (n_out, n_in), every row adds up to 1; read-only, since it is kept.
    """
    weights = _sparse(n_in, n_out).toarray()
    weights.setflags(write=False)
    return weights


def resize_area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by area averaging: round(R @ image @ C.T) in float32.

    Args:
        image: uint16 (H, W).
        height: Rows wanted.
        width: Columns wanted.

    Returns:
        uint16 (height, width).
    """
    if image.shape == (height, width):
        return image
    columns, bands = _sparse(image.shape[1], width), _bands(image.shape[0], height)
    held = np.empty((max(rows.shape[1] for *_, rows in bands), image.shape[1]), "f4")
    resized = np.empty((height, width), np.uint16)
    for top, first, rows in bands:
        part = held[: rows.shape[1]]
        part[:] = image[first : first + len(part)]
        grey = cv2.transpose(columns @ cv2.transpose(rows @ part))
        # Weights add up to 1, so that nothing rounds to outside of 16 bits.
        resized[top : top + len(grey)] = np.rint(grey, out=grey)
    return resized


def resize_nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask by the nearest pixel centre, which makes no new values."""
    rows, cols = _nearest(mask.shape[0], height), _nearest(mask.shape[1], width)
    return mask[np.ix_(rows, cols)]


@lru_cache(maxsize=8)
def _sparse(n_in: int, n_out: int):
    """`area_weights` without its zeros: a shrink by five has six entries a row."""
    from scipy.sparse import csr_array

    columns, weights = (_overlaps if n_out <= n_in else _bilinear)(n_in, n_out)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    rows = np.broadcast_to(np.arange(n_out)[:, None], columns.shape)
    used = weights > 0
    entries = (weights[used], (rows[used], columns[used]))
    return csr_array(entries, shape=(n_out, n_in))


@lru_cache(maxsize=8)
def _bands(n_in: int, n_out: int) -> list[tuple]:
    """`_sparse` in bands of rows, whose pixels stay in the processor's cache.

    Returns:
        For each band its first output row, the first input row that it needs and the
        weights of the input rows from there on.
    """
    from scipy.sparse import csr_array

    whole, bands = _sparse(n_in, n_out), []
    for top in range(0, n_out, _BAND):
        ends = whole.indptr[top : top + _BAND + 1]
        used = whole.indices[ends[0] : ends[-1]]
        first = int(used.min())
        shape = len(ends) - 1, int(used.max()) + 1 - first
        entries = whole.data[ends[0] : ends[-1]], used - first, ends - ends[0]
        bands.append((top, first, csr_array(entries, shape=shape)))
    return bands


def _overlaps(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The input pixels that meet each output pixel, and how much of each does."""
    edges = np.arange(n_out + 1) * n_in / n_out
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.floor(low).astype(int) + np.arange(n_in // n_out + 2)
    shared = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    return np.minimum(pixel, n_in - 1), np.where(pixel < n_in, shared.clip(0), 0)


def _bilinear(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The two input pixels between whose centres each output pixel's centre lies."""
    centre = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    low = np.floor(centre).astype(int)
    part = centre - low
    pixels = np.stack([low, np.minimum(low + 1, n_in - 1)], axis=1)
    return pixels, np.stack([1 - part, part], axis=1)


def _nearest(n_in: int, n_out: int) -> np.ndarray:
    return (2 * np.arange(n_out) + 1) * n_in // (2 * n_out)
