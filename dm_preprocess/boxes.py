"""Where patches lie: boxes from masks and a random generator, no pixel cut yet.

A patch lies around a region when the two overlap enough: their intersection is more
than 0.9 of the region OR more than 0.9 of the patch (a region larger than a patch can
only meet the second). Background touches no region of the image at all and lies on the
breast. Both are read off integral images, so that a candidate costs four look-ups
whatever its size.

Source: Shen et al. 3.1.1 (ten patches around each region with overlap of 0.9, as many
of background; one centred patch in the set S1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_OVERLAP = 0.9
OVERLAP_STEP = 0.05
DRAWS = 1000
MIN_ON_BREAST = 0.9
BREAST_STEP = 0.1


class BoxError(ValueError):
    """No box of the size can be drawn; the message says why."""


@dataclass(frozen=True)
class Boxes:
    """Boxes drawn on one image, and the rule that they met.

    Attributes:
        corners: int (n, 2), row and column of each box's top left pixel.
        cut_off: What each box exceeds (regions) or reaches (background): the share
            asked for, or a lower one where nothing met it.
    """

    corners: np.ndarray
    cut_off: float


def integral(mask: np.ndarray) -> np.ndarray:
    """Sums of a bool (H, W) mask above and left of each corner: int64 (H+1, W+1)."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    np.cumsum(mask, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    return sums


def box_counts(sums: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Mask pixels inside each box.

    Args:
        sums: The mask's `integral`.
        corners: int (n, 2), each box's top left pixel; boxes lie inside the image.
        size: Side of the boxes.

    Returns:
        int (n,).
    """
    row, col = corners[:, 0], corners[:, 1]
    below, above = sums[row + size], sums[row]
    picks = np.arange(len(corners))
    return (
        below[picks, col + size] - below[picks, col]
        - above[picks, col + size] + above[picks, col]
    )  # fmt: skip


def overlap_shares(
    mask: np.ndarray, corners: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """How much of a region, and how much of the patch, each box's intersection is.

    Args:
        mask: bool (H, W) of the region; an empty one overlaps nothing.
        corners: int (n, 2).
        size: Side of the boxes.

    Returns:
        float (n,) intersection / region and intersection / patch, in [0, 1].
    """
    shared = box_counts(integral(mask), np.asarray(corners), size)
    return shared / max(1, int(mask.sum())), shared / size**2


def centre_box(mask: np.ndarray, size: int) -> Boxes:
    """One box whose centre is the mask's centroid, moved inside where it sticks out.

    Args:
        mask: bool (H, W) of the region.
        size: Side of the box.

    Returns:
        One box; `cut_off` is 0, for the overlap is whatever it is.

    Raises:
        BoxError: The mask is empty, or the image smaller than the box.
    """
    _check_fits(mask.shape, size)
    rows, cols = np.nonzero(mask)
    if not len(rows):
        raise BoxError("the region's mask is empty")
    centroid = np.array([rows.mean(), cols.mean()]) + 0.5
    corner = np.round(centroid - size / 2).astype(int)
    return Boxes(np.clip(corner, 0, np.array(mask.shape) - size)[None], 0.0)


def sample_region_boxes(
    mask: np.ndarray,
    n: int,
    size: int,
    rng: np.random.Generator,
    *,
    min_overlap: float = MIN_OVERLAP,
    breast: np.ndarray | None = None,
) -> Boxes:
    """Random boxes around a region.

    Candidates come in draws of 1000 from all places where box and region can overlap
    by half of the smaller one. A draw in which none overlaps enough lowers the cut-off
    by 0.05, as the authors' sampler does. Boxes that lie on the breast are preferred
    where there are any: were there air in patches of lesions and none in those of
    background, a network could tell the two by it.

    Args:
        mask: bool (H, W) of the region.
        n: How many boxes.
        size: Side of the boxes.
        rng: The image's own generator.
        min_overlap: Intersection / region or intersection / patch must exceed it.
        breast: bool (H, W); None for no preference. A draw with enough overlap but not
            enough breast lowers the share of breast, 0.9 at first, by 0.1.

    Returns:
        n boxes inside the image, and the cut-off that they exceed.

    Raises:
        BoxError: As `centre_box`.
    """
    ranges = _corner_ranges(mask, size)
    sums, region, cut_off = integral(mask), int(mask.sum()), min_overlap
    breast_sums = integral(np.ones_like(mask) if breast is None else breast)
    share, found = MIN_ON_BREAST, np.empty((0, 2), int)
    while len(found) < n:
        drawn = np.stack([rng.integers(lo, hi + 1, DRAWS) for lo, hi in ranges], axis=1)
        shared = box_counts(sums, drawn, size)
        close = drawn[(shared > cut_off * region) | (shared > cut_off * size**2)]
        good = close[box_counts(breast_sums, close, size) >= share * size**2]
        found = np.concatenate([found, good])
        if not len(close):
            cut_off = round(cut_off - OVERLAP_STEP, 10)
        elif not len(good):
            share = round(share - BREAST_STEP, 10)
    return Boxes(found[:n], cut_off)


def sample_background_boxes(
    regions: np.ndarray,
    breast: np.ndarray,
    n: int,
    size: int,
    rng: np.random.Generator,
    *,
    min_breast: float = MIN_ON_BREAST,
) -> Boxes:
    """Random boxes of background: on the breast, touching no region.

    Every place in the image is looked at, so the share of breast is lowered, by 0.1 a
    step down to 0.1, only where no box reaches it; touching a region is never allowed.

    Args:
        regions: bool (H, W), the union of ALL the image's regions.
        breast: bool (H, W).
        n: How many boxes.
        size: Side of the boxes.
        rng: The image's own generator.
        min_breast: Share of a box that must lie on the breast.

    Returns:
        n boxes, different ones where there are so many, and the share they reach;
        no box (0, 2) where regions leave no room on the breast.

    Raises:
        BoxError: The image is smaller than the box.
    """
    _check_fits(regions.shape, size)
    free = _all_counts(regions, size) == 0
    on_breast = np.where(free, _all_counts(breast, size) / size**2, -1.0)
    best = on_breast.max()
    share = min_breast
    while best < share and share > BREAST_STEP:
        share = round(share - BREAST_STEP, 10)
    places = np.flatnonzero(on_breast >= share)
    if not len(places):
        return Boxes(np.empty((0, 2), int), share)
    chosen = places[rng.choice(len(places), n, replace=len(places) < n)]
    return Boxes(np.stack(np.unravel_index(chosen, free.shape), axis=1), share)


def _check_fits(shape: tuple[int, ...], size: int) -> None:
    if size < 1 or min(shape) < size:
        raise BoxError(
            f"a patch of {size} x {size} must fit the image of {shape[0]} x {shape[1]}"
        )


def _corner_ranges(mask: np.ndarray, size: int) -> list[tuple[int, int]]:
    """First and last corner, by axis, where the box can still overlap enough."""
    _check_fits(mask.shape, size)
    ranges = []
    for axis, length in enumerate(mask.shape):
        where = np.flatnonzero(mask.any(axis=1 - axis))
        if not len(where):
            raise BoxError("the region's mask is empty")
        first, end = int(where[0]), int(where[-1]) + 1
        margin = min(size, end - first) // 2
        low, high = sorted((first, end - size))
        ranges.append((
            int(np.clip(low - margin, 0, length - size)),
            int(np.clip(high + margin, 0, length - size)),
        ))  # fmt: skip
    return ranges


def _all_counts(mask: np.ndarray, size: int) -> np.ndarray:
    """Mask pixels inside the box at every corner: int (H - size + 1, W - size + 1)."""
    sums = integral(mask)
    return sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + (
        sums[:-size, :-size]
    )  # fmt: skip
