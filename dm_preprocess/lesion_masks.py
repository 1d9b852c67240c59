"""Findings as masks: drawn or read in source pixels, then brought to working pixels.

A mask follows its image through the same crop and fit, by nearest neighbour, which
makes no new values. A mask file of another size is resized and reported.

Source: CONTRACTS of the tables (circle, box, polygon, mask); CBIS-DDSM's ROI masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dm_preprocess.dicom import is_dicom, read_dicom
from dm_preprocess.images import (
    Geometry,
    ImageError,
    fit,
    mask_box,
    read_gray,
    resize_nearest,
)
from dm_preprocess.sources import SourceImage, SourceLesion

_ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Frame:
    """How one image's source pixels map to its working pixels.

    Attributes:
        size: Rows and columns of the source.
        crop: The half-open box of the source that was kept.
        geometry: Source to working coordinates, the crop included.
        working_size: Rows and columns of the working image.
        fit: "squash" or "pad".
    """

    size: tuple[int, int]
    crop: tuple[int, int, int, int]
    geometry: Geometry
    working_size: tuple[int, int]
    fit: str


def source_mask(
    image: SourceImage, lesion: SourceLesion, size: tuple[int, int], oddities: list
) -> np.ndarray:
    """A finding as a mask in source pixels.

    Args:
        image: The image it is on, for the report.
        lesion: The finding; its shape is not "none".
        size: Rows and columns of the source image.
        oddities: Gets a (kind, where, detail) where a mask file has another size.

    Returns:
        bool mask of `size`.

    Raises:
        ValueError: The mask file cannot be read, or has another aspect than its image;
            it is named. Of CBIS-DDSM, some of whose own masks have, it is reported.
    """
    if lesion.shape != "mask":
        return rasterise(lesion.shape, lesion.geometry, size)
    mask = read_mask(lesion.geometry[0])
    if mask.shape == size:
        return mask
    wide, due = mask.shape[1] / mask.shape[0], size[1] / size[0]
    other = abs(wide / due - 1) > _ASPECT_TOLERANCE
    detail = (
        f"finding {lesion.lesion_id}: mask {mask.shape[0]} x {mask.shape[1]}, image "
        f"{size[0]} x {size[1]}: resized by nearest neighbour"
    )
    if other and image.source == "generic":
        raise ValueError(f"{lesion.geometry[0]}: a mask of another aspect: {detail}")
    kind = "mask of another aspect" if other else "mask of another size"
    oddities.append((kind, image.image_id, detail))
    return resize_nearest(mask, *size)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask file (DICOM, PNG, ...) as bool: above half of its brightest value.

    Raises:
        ValueError: The file is no image or no DICOM; it is named.
    """
    if is_dicom(path):
        stored = read_dicom(path, mammogram=False).pixels
    else:
        stored, _ = read_gray(path)
    return stored > stored.max() // 2


def rasterise(shape: str, geometry: tuple, size: tuple[int, int]) -> np.ndarray:
    """Draw a circle, box or polygon given in source pixels.

    Args:
        shape: "circle" (row, col, radius), "box" (row0, col0, row1, col1; half open)
            or "polygon" (row, col, row, col, ...; outline included, one or two points
            draw a point or a line).
        geometry: The numbers.
        size: Rows and columns of the source image; what lies outside is cut off.

    Returns:
        bool mask of `size`.

    Raises:
        ImageError: An unknown shape.
    """
    import cv2
    from skimage.draw import disk

    canvas = np.zeros(size, np.uint8)
    if shape == "circle":
        row, col, radius = geometry
        canvas[disk((row, col), max(radius, 0.6), shape=size)] = 1
    elif shape == "box":
        row0, col0, row1, col1 = (max(0, round(v)) for v in geometry)
        canvas[row0:row1, col0:col1] = 1
    elif shape == "polygon":
        points = np.round(np.reshape(geometry, (-1, 2))[:, ::-1]).astype(np.int32)
        cv2.fillPoly(canvas, [points], 1)
    else:
        raise ImageError(f"shape must be circle, box or polygon, received {shape!r}")
    return canvas.astype(bool)


def working_mask(mask: np.ndarray, frame: Frame) -> np.ndarray | None:
    """A source mask in working pixels.

    A finding smaller than a working pixel can fall between the nearest neighbours; it
    is then the working pixels that its box touches.

    Args:
        mask: bool, of the source's size.
        frame: How the image was brought to the working size.

    Returns:
        bool mask of the working size, or None where nothing of it is in the frame.
    """
    row0, col0, row1, col1 = frame.crop
    cut = mask[row0:row1, col0:col1]
    box = mask_box(cut)
    if box is None:
        return None
    fitted, scales = fit(cut, *frame.working_size, frame.fit)
    if not fitted.any():
        rows = int(box[0] * scales.row_scale), int(np.ceil(box[2] * scales.row_scale))
        cols = int(box[1] * scales.col_scale), int(np.ceil(box[3] * scales.col_scale))
        fitted[slice(*rows), slice(*cols)] = True
    return fitted
