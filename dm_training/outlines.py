"""Outlined lesions of images: masks where there are any, else boxes.

Both are in the pixels of the working images that `images.csv` names, as the converters
write them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from dm_preprocess import images as pixels
from dm_preprocess import tables


@dataclass(frozen=True)
class Outline:
    """One outlined lesion in one image.

    Attributes:
        malignant: Whether it is.
        mask: bool (H, W); the whole box where the lesion has no mask.
        box: (row0, col0, row1, col1), half open, within the image.
    """

    malignant: bool
    mask: np.ndarray
    box: tuple[int, int, int, int]


class Outlines:
    """The lesions of a `lesions.csv`, by image.

    Args:
        path: The table; None for no lesion at all.

    Raises:
        TableError: As `tables.read_lesions`.
    """

    def __init__(self, path: str | os.PathLike | None):
        self.path = path
        self._rows = {}
        if path is not None:
            frame = tables.read_lesions(path)
            self._rows = dict(list(frame.groupby("image_id")))

    def of(self, image_id: str, shape: tuple[int, int]) -> list[Outline]:
        """The outlined lesions of one image.

        Args:
            image_id: Which.
            shape: (rows, columns) of the image.

        Returns:
            One `Outline` a row that has a mask or a box; findings without either are
            left out, as is an empty mask.

        Raises:
            TableError: A mask of another size than the image.
            ImageError, OSError: A mask that cannot be read.
        """
        if image_id not in self._rows:
            return []
        found = [self._outline(row, shape)
                 for row in self._rows[image_id].itertuples()]  # fmt: skip
        return [outline for outline in found if outline is not None]

    def _outline(self, row, shape: tuple[int, int]) -> Outline | None:
        if row.mask_path:
            mask = self._mask(row, shape)
        else:
            mask = _box_mask((row.row0, row.col0, row.row1, row.col1), shape)
        box = pixels.mask_box(mask)
        return Outline(bool(row.malignant), mask, box) if box else None

    def _mask(self, row, shape: tuple[int, int]) -> np.ndarray:
        path = tables.resolve(row.mask_path, self.path)
        mask = pixels.read_mask_png(path)
        if mask.shape != tuple(shape):
            raise tables.TableError(
                f"{self.path}: lesion {row.lesion_id}: its mask is "
                f"{mask.shape[0]} x {mask.shape[1]}, image {row.image_id} is "
                f"{shape[0]} x {shape[1]}"
            )
        return mask


def _box_mask(corners: tuple[float, ...], shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    if not np.isnan(corners).any():
        row0, col0, row1, col1 = (max(int(corner), 0) for corner in corners)
        mask[row0:row1, col0:col1] = True
    return mask
