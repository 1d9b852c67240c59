"""Harmless bright points: lone specks and calcified vessels.

They are no findings, both classes have them alike, and the digital images show more of
them than the film. A classifier has to learn that a speck by itself, or a row of them
along a vessel, is no cluster.
"""

from __future__ import annotations

import numpy as np

from dm_preprocess.phantom_anatomy import Breast


def scatter_specks(breast: Breast, rng: np.random.Generator, count: int) -> None:
    """Add lone specks anywhere in the breast, in place.

    Args:
        breast: Any view.
        rng: Of this view.
        count: How many.
    """
    height = breast.mask.shape[0]
    for _ in range(count):
        row = int(rng.uniform(0.06, 0.94) * height)
        col = rng.uniform() ** 0.8 * breast.skin[row]
        _add_speck(breast, rng, row, col)


def calcify_vessels(breast: Breast, rng: np.random.Generator, count: int) -> None:
    """Add the two rows of specks in the walls of calcified vessels, in place.

    Args:
        breast: Any view.
        rng: Of this view.
        count: Vessels.
    """
    height = breast.mask.shape[0]
    for _ in range(count):
        row = rng.uniform(*breast.rows)
        at = int(np.clip(row, 0, height - 1))
        col = rng.uniform(0.1, 0.9) * breast.skin[at]
        turn, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 2.5)
        wall = rng.uniform(0.004, 0.008) * height
        for along in np.arange(0, rng.uniform(0.12, 0.3), 0.007):
            angle = turn + bend * along
            row += 0.007 * height * np.sin(angle)
            col += 0.007 * height * np.cos(angle)
            for side in (-wall, wall):
                off = side * rng.uniform(0.6, 1.4)
                place = row + off * np.cos(angle), col - off * np.sin(angle)
                if rng.uniform() < 0.5:
                    _add_speck(breast, rng, *place, fade=rng.uniform(0.3, 0.9))


def _add_speck(breast: Breast, rng, row, col, *, fade: float = 1.0) -> None:
    """One round speck of about two pixels at 288 rows, wherever the breast is."""
    height, width = breast.mask.shape
    sigma = rng.uniform(0.42, 0.75) * height / 288
    bright = fade * rng.uniform(0.25, 0.6)
    reach = int(np.ceil(3 * sigma))
    rows = np.arange(int(row) - reach, int(row) + reach + 1)
    cols = np.arange(int(col) - reach, int(col) + reach + 1)
    rows, cols = rows[(rows >= 0) & (rows < height)], cols[(cols >= 0) & (cols < width)]
    if not rows.size or not cols.size:
        return
    spot = bright * np.outer(
        np.exp(-0.5 * ((rows - row) / sigma) ** 2),
        np.exp(-0.5 * ((cols - col) / sigma) ** 2),
    )
    where = np.ix_(rows, cols)
    breast.attenuation[where] += (spot * breast.thickness[where]).astype(np.float32)
