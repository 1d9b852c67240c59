"""Small pictures for a page: a mammogram, maps over it, lesions' outlines.

A page holds dozens of them, so each is as small as it may be: the mammogram a JPEG of
8 bits, a map a palette PNG of 32 colours, the outlines one of three. All pictures of
an image have the same height and width.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from dm_preprocess import images as pixels
from dm_training.image_maps import ImageMap, place_map, resized_centres
from dm_training.outlines import Outline

LONGEST = 640
OPACITY, LEVELS = 0.7, 32
_QUALITY = 80
# magma's first fifth is almost black: over dark tissue it would only darken.
_FIRST_COLOUR = 0.2
_DASHES = {True: (9, 4), False: (2, 5)}  # pixels on and off: malignant, benign
_LINE = ((0, 0, 0, 0), (0, 0, 0, 0.5), (1, 1, 1, 1))  # nothing, beside, on it
_AWAY = 2  # pixels from the lesion to its outline


def shown_jpeg(image: np.ndarray, *, longest: int = LONGEST) -> bytes:
    """A mammogram as it is looked at.

    Args:
        image: uint16 (H, W).
        longest: Of its sides; a smaller image keeps its size.

    Returns:
        A grey JPEG; the level below which 99.8 % of the pixels lie is white, so that
        film labels do not darken the breast.
    """
    import cv2

    small = pixels.resize_area(image, *_within(image.shape, longest))
    white = max(float(np.percentile(image, 99.8)), 1.0)
    grey = np.round(np.clip(small / white, 0, 1) * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()


def map_png(
    image_map: ImageMap, shape: tuple[int, int], *, longest: int = LONGEST
) -> bytes:
    """A map in colour, transparent where it is 0, at most 70 % opaque.

    Args:
        image_map: The map.
        shape: (rows, columns) of the image that it lies over.
        longest: Of the PNG's sides.
    """
    from matplotlib import colormaps

    size = _within(shape, longest)
    centres = resized_centres(image_map.centres, shape, size)
    levels = np.linspace(0, 1, LEVELS)
    colours = colormaps["magma"](_FIRST_COLOUR + (1 - _FIRST_COLOUR) * levels)
    colours[:, 3] = OPACITY * levels
    placed = np.clip(place_map(image_map.shown, centres, *size), 0, 1)
    return _palette_png(np.round(placed * (LEVELS - 1)).astype(np.uint8), colours)


def outlines_png(
    outlines: Sequence[Outline], shape: tuple[int, int], *, longest: int = LONGEST
) -> bytes:
    """Lines around lesions, white on black: dashes malignant, dots benign.

    Args:
        outlines: The lesions, in pixels of an image of `shape`.
        shape: (rows, columns).
        longest: Of the PNG's sides.
    """
    import cv2

    size = _within(shape, longest)
    lines, white = np.zeros(size, np.uint8), np.zeros(size, bool)
    for outline in outlines:
        on, off = _DASHES[outline.malignant]
        for line in _contours(pixels.resize_nearest(outline.mask, *size)):
            _set(lines, line)
            _set(white, line[np.arange(len(line)) % (on + off) < on])
    drawn = cv2.dilate(lines, np.ones((3, 3), np.uint8))
    drawn[white] = 2
    return _palette_png(drawn, np.array(_LINE))


def _within(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    factor = min(1.0, longest / max(shape))
    height, width = (max(1, round(side * factor)) for side in shape)
    return height, width


def _palette_png(indices: np.ndarray, colours: np.ndarray) -> bytes:
    """uint8 (H, W) of indices into (K, 4) colours in [0, 1] -> a PNG."""
    from PIL import Image

    levels = np.round(colours * 255).astype(np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(levels[:, :3].tobytes())  # turns the grey picture into "P"
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=levels[:, 3].tobytes(), optimize=True)
    return file.getvalue()


def _contours(mask: np.ndarray) -> list[np.ndarray]:
    """Closed lines around a mask, a little away from it: int (P, 2), (col, row)."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _AWAY + 1,) * 2)
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), *[_AWAY] * 4,
                                cv2.BORDER_CONSTANT)  # fmt: skip
    wide = cv2.dilate(padded, kernel)
    found, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [line[:, 0] - _AWAY for line in found]


def _set(picture: np.ndarray, points: np.ndarray) -> None:
    """Set pixels (col, row) to 1; those outside are left out."""
    within = ((points >= 0) & (points < picture.shape[::-1])).all(axis=1)
    cols, rows = points[within].T
    picture[rows, cols] = 1
