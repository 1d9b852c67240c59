"""Which regions each image has: the image and lesion tables joined for sampling.

Here the rule is kept that a lesion has a mask: one without is named, with its image
and file, before any patch is cut, for its image's background might show it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import tables


class PatchError(ValueError):
    """Patches cannot be taken; the message names the image and the file."""


@dataclass(frozen=True)
class Lesion:
    """One region to sample: `mask_path` is None where the source gives no outline."""

    lesion_id: str
    patch_class: str
    mask_path: Path | None


@dataclass(frozen=True)
class Image:
    """One image to sample, with all its lesions."""

    image_id: str
    patient_id: str
    split: str
    path: Path
    lesions: tuple[Lesion, ...]


def patch_class(abnormality: str, malignant: float) -> str:
    """The class of a lesion's patches; "other" findings count as masses."""
    kind = "calc" if abnormality == "calc" else "mass"
    return f"{kind}_{'mal' if malignant else 'ben'}"


def list_images(
    images: pd.DataFrame,
    lesions: pd.DataFrame,
    images_path: str | os.PathLike,
    lesions_path: str | os.PathLike,
) -> list[Image]:
    """The images of both tables that are in a split, each with its lesions.

    Raises:
        PatchError: No image has a split, or an id cannot be a file's name.
        TableError: A patient stands in two splits.
    """
    tables.check_disjoint_patients(images, where=str(images_path))
    used = images[images["split"] != ""]
    if used.empty:
        raise PatchError(f"{images_path}: no image has a split; run dm-split first")
    by_image = {name: rows for name, rows in lesions.groupby("image_id")}
    listed = []
    for row in used.itertuples():
        if Path(row.image_id).name != row.image_id:
            raise PatchError(
                f"{images_path}: image_id {row.image_id!r} is no file name"
            )
        own = _lesions_of(by_image.get(row.image_id), lesions_path)
        path = tables.resolve(row.path, images_path)
        listed.append(Image(row.image_id, row.patient_id, row.split, path, own))
    return listed


def missing_masks(images: Iterable[Image]) -> list[str]:
    """A line for each lesion whose mask is not named or whose file is not there."""
    found = []
    for image in images:
        for lesion in image.lesions:
            where = f"image {image.image_id}, lesion {lesion.lesion_id}"
            if lesion.mask_path is None:
                found.append(f"{where}: no mask is given")
            elif not lesion.mask_path.is_file():
                found.append(f"{where}: no such mask file {lesion.mask_path}")
    return found


def read_region(image: Image, lesion: Lesion, shape) -> np.ndarray | None:
    """A lesion's mask.

    Args:
        image: The image, for messages.
        lesion: One of its lesions.
        shape: (H, W) of the image's pixels.

    Returns:
        bool (H, W), or None where the lesion has no mask file.

    Raises:
        PatchError: The mask has another size or is empty; image and file are named.
    """
    from dm_preprocess.images import read_mask_png

    if lesion.mask_path is None or not lesion.mask_path.is_file():
        return None
    mask = read_mask_png(lesion.mask_path)
    if mask.shape != shape:
        raise PatchError(
            f"image {image.image_id}: its mask {lesion.mask_path} must be of the "
            f"image's size {shape}, received {mask.shape}"
        )
    if not mask.any():
        raise PatchError(f"image {image.image_id}: mask {lesion.mask_path} is empty")
    return mask


def _lesions_of(rows: pd.DataFrame | None, lesions_path) -> tuple[Lesion, ...]:
    """Lesions in an order of their own, so that the table's order draws nothing."""
    if rows is None:
        return ()
    return tuple(
        Lesion(
            row.lesion_id,
            patch_class(row.abnormality, row.malignant),
            tables.resolve(row.mask_path, lesions_path) if row.mask_path else None,
        )
        for row in rows.sort_values(["lesion_id", "mask_path"]).itertuples()
    )
