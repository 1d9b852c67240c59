"""Grey images on disk and the pixel geometry between a source and the working size.

On disk an image is a 16-bit grey PNG and a mask an 8-bit one. Both are written aside
and renamed, so that a full disk or a killed job leaves no half image behind. How files
of any format are read stands in `image_files`, how sizes are changed in `resizing`.

Source: Shen et al. 2019, 3.1.1 (16-bit PNG at 1152 x 896).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dm_preprocess.file_bytes import Source
from dm_preprocess.image_files import ImageError, read_gray
from dm_preprocess.resizing import area_weights, resize_area, resize_nearest

__all__ = [
    "FITS", "U16_MAX", "Geometry", "ImageError", "area_weights", "auto_level",
    "breast_box", "breast_mask", "fit", "mask_box", "read_gray", "read_mask_png",
    "read_png", "resize_area", "resize_nearest", "small_breast_mask", "to_u16",
    "write_mask_png", "write_png",
]  # fmt: skip
U16_MAX = 65535
FITS = ("squash", "pad")
_THUMBNAIL = 256


@dataclass(frozen=True)
class Geometry:
    """How source pixels map to working pixels: working = source * scale + offset.

    Coordinates are of pixel edges: the first pixel covers 0 to 1.
    """

    row_scale: float
    col_scale: float
    row_offset: float = 0.0
    col_offset: float = 0.0


def read_png(source: Source) -> np.ndarray:
    """Read a working image as uint16 (H, W); an 8-bit file is multiplied by 257.

    Raises:
        ImageError: As `read_gray`.
    """
    stored, bits = read_gray(source)
    return to_u16(stored, bits)


def write_png(path: str | os.PathLike, image: np.ndarray) -> Path:
    """Write a uint16 (H, W) image as a 16-bit PNG, aside and then renamed.

    Args:
        path: Where to write; folders are made.
        image: uint16 (H, W).

    Returns:
        The path written.

    Raises:
        ImageError: The array is not uint16 of two axes.
        OSError: The disk is full or may not be written; the file is named and no part
            of it is left.
    """
    if image.dtype != np.uint16 or image.ndim != 2:
        raise ImageError(
            f"{path}: an image must be uint16 (H, W), received {image.dtype} "
            f"{image.shape}"
        )
    return _write(Path(path), image)


def read_mask_png(path: str | os.PathLike) -> np.ndarray:
    """Read a mask as bool (H, W): above half of its own brightest value."""
    stored, _ = read_gray(path)
    return stored > stored.max() // 2


def write_mask_png(path: str | os.PathLike, mask: np.ndarray) -> Path:
    """Write a bool (H, W) mask as an 8-bit PNG of 0 and 255; rules as `write_png`."""
    if mask.dtype != bool or mask.ndim != 2:
        raise ImageError(
            f"{path}: a mask must be bool (H, W), received {mask.dtype} {mask.shape}"
        )
    return _write(Path(path), mask.astype(np.uint8) * 255)


def to_u16(stored: np.ndarray, bits_stored: int) -> np.ndarray:
    """Spread stored values of `bits_stored` over the whole of 16 bits.

    Args:
        stored: Values 0 to 2**bits_stored - 1, any integer type.
        bits_stored: 1 to 16; 8 is a multiplication by 257, 16 changes nothing.

    Returns:
        uint16, round(stored * 65535 / (2**bits_stored - 1)); the array itself where
        that is what it holds.

    Raises:
        ImageError: A value lies outside the range.
    """
    top = 2**bits_stored - 1
    if bits_stored == 16 and stored.dtype == np.uint16:  # no other value is possible
        return stored.astype(np.uint16, copy=False)
    low, high = (int(stored.min()), int(stored.max())) if stored.size else (0, 0)
    if not 1 <= bits_stored <= 16 or low < 0 or high > top:
        raise ImageError(
            f"stored values must lie within 0 and {top} ({bits_stored} bits), "
            f"received {low} to {high}"
        )
    if bits_stored == 16:
        return stored.astype(np.uint16)
    table = np.round(np.arange(top + 1) * (U16_MAX / top)).astype(np.uint16)
    return table.take(stored, mode="clip")  # of values that are within: the fastest


def auto_level(image: np.ndarray) -> np.ndarray:
    """Stretch an image's own range to all of 16 bits; a constant one stays as it is."""
    low, high = int(image.min()), int(image.max())
    if low == high:
        return image
    stretched = (image.astype(np.float64) - low) * (U16_MAX / (high - low))
    return np.round(stretched).astype(np.uint16)


def fit(
    image: np.ndarray, height: int, width: int, mode: str = "squash"
) -> tuple[np.ndarray, Geometry]:
    """Bring an image to the working size.

    Args:
        image: uint16 (H, W), or a bool mask (resized by nearest neighbour).
        height: Working rows.
        width: Working columns.
        mode: "squash" fills the size whatever the aspect, as the paper does; "pad"
            keeps the aspect and adds black at the right and below.

    Returns:
        The image and how source pixels map to it.

    Raises:
        ImageError: An unknown mode.
    """
    if mode not in FITS:
        raise ImageError(f"fit must be one of {', '.join(FITS)}, received {mode!r}")
    inner = (
        _inner_size(image.shape, height, width) if mode == "pad" else (height, width)
    )
    resize = resize_nearest if image.dtype == bool else resize_area
    fitted = np.zeros((height, width), image.dtype)
    fitted[: inner[0], : inner[1]] = resize(image, *inner)
    return fitted, Geometry(inner[0] / image.shape[0], inner[1] / image.shape[1])


def breast_mask(image: np.ndarray) -> np.ndarray:
    """Where the breast is: the largest bright region, film labels left out.

    Args:
        image: uint16 (H, W), bright tissue on dark air.

    Returns:
        bool (H, W); all False where the image is constant.
    """
    return resize_nearest(small_breast_mask(image), *image.shape)


def small_breast_mask(image: np.ndarray) -> np.ndarray:
    """`breast_mask` on a copy of at most 256 pixels a side, where it is found.

    Otsu's threshold between air and tissue on a small copy of the image, lowered to
    a quarter so that the thin skin line stays, opened so that labels come off, and the
    largest connected region of what remains.

    Args:
        image: uint16 (H, W), bright tissue on dark air.

    Returns:
        bool (h, w), as many pixels as the copy has; all False where the image is
        constant.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    if image.size == 0 or image.min() == image.max():
        return np.zeros(image.shape, bool)
    shrink = max(1.0, max(image.shape) / _THUMBNAIL)
    small = resize_area(image, *(max(1, round(n / shrink)) for n in image.shape))
    level = threshold_otsu(small) if small.min() < small.max() else small.min()
    floor = np.percentile(small, 2)
    bright = small > floor + (level - floor) / 4
    opened = ndimage.binary_opening(bright, iterations=2)
    largest = _largest_region(opened if opened.any() else bright)
    return ndimage.binary_fill_holes(largest)


def breast_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """The box (row0, col0, row1, col1) around the breast; all of it where none is."""
    return mask_box(breast_mask(image)) or (0, 0, *image.shape)


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The half-open box around a mask's pixels, or None where it is empty."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1


def _write(path: Path, image: np.ndarray) -> Path:
    import cv2

    good, data = cv2.imencode(".png", image)
    if not good:
        raise ImageError(f"{path}: the image could not be encoded as PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    except OSError as err:
        aside.unlink(missing_ok=True)
        raise OSError(err.errno, f"{err.strerror} while writing", str(path)) from err
    return path


def _inner_size(shape: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    scale = min(height / shape[0], width / shape[1])
    rows, cols = (max(1, round(n * scale)) for n in shape)
    return min(rows, height), min(cols, width)


def _largest_region(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    regions, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return regions == sizes.argmax()
