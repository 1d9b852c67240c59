"""The picture that answers an upload: the mammogram, and beside it its heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dm_preprocess import images as pixels
from dm_training.image_maps import ImageMap, place_map, resized_centres

LONGEST = 1152


def overlay_png(
    grey: np.ndarray, image_map: ImageMap | None, *, caption: Sequence[str] = (),
    source_shape: tuple[int, int] | None = None,
) -> bytes:  # fmt: skip
    """Draw a mammogram, and beside it the same with a map over it.

    Args:
        grey: uint16 (H, W), as the map was made of it.
        image_map: Its cells in pixels of `grey`; None draws the mammogram twice.
        caption: Not drawn here.
        source_shape: (rows, columns) whose proportions are shown; None for `grey`'s.

    Returns:
        A PNG of pixels alone.
    """
    import cv2

    shape = source_shape or grey.shape
    factor = min(1.0, LONGEST / max(shape))
    size = tuple(max(1, round(side * factor)) for side in shape)
    black, white = np.percentile(grey, (1, 99.8))
    small = pixels.resize_area(grey, *size).astype(np.float32)
    plain = np.clip((small - black) * (255 / max(white - black, 1)), 0, 255)
    plain = np.repeat(plain[..., None], 3, axis=-1)
    heated = plain
    if image_map is not None:
        centres = resized_centres(image_map.centres, grey.shape, size)
        heat = place_map(image_map.shown, centres, *size)[..., None]
        heated = plain * (1 - heat / 2) + np.float32([0, 80, 255]) * (heat / 2)
    drawn = np.concatenate([plain, heated], axis=1).astype(np.uint8)
    return cv2.imencode(".png", drawn)[1].tobytes()
