"""Augmentation: draw parameters from a seed, then apply them; nothing else is random.

Shen et al. 3.1.2: rotation of up to 25 degrees, shear of up to 0.2 radians, zoom of
0.8 to 1.2 drawn apart for each axis, an intensity shift of up to 20 of 255, horizontal
and vertical flips. The whole geometry, flips included, is one affine map and one
bilinear resampling: every resampling blurs calcifications of a few pixels a little.

An epoch's parameters are drawn at once, in NumPy, before anything runs in parallel: a
seeded op inside a parallel `map` differs from run to run even where the data set is
declared deterministic.

There are two routes with one meaning. `apply` is TensorFlow's own op on a whole batch;
`warp` is OpenCV on one image, some two to three times faster on a processor. They agree
to the rounding of the resampling: within 1 of 65535.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import tensorflow as tf

RAW_PER_GREY = 65535.0 / 255.0


@dataclass(frozen=True)
class Ranges:
    """How far each parameter may go; zero for all is no augmentation.

    Attributes:
        rotation_degrees: Largest rotation to either side.
        shear_radians: Largest shear to either side.
        zoom: Largest relative change of size, for rows and columns apart.
        shift_grey: Largest intensity shift, on the 0-255 scale.
        flips: Whether to mirror left-right and up-down, each with probability 1/2.

    Source:
        Shen et al. 3.1.2; the authors' program.
    """

    rotation_degrees: float = 25.0
    shear_radians: float = 0.2
    zoom: float = 0.2
    shift_grey: float = 20.0
    flips: bool = True


PAPER = Ranges()
NONE = Ranges(0.0, 0.0, 0.0, 0.0, False)


def draw(
    seed: Sequence[int], count: int, ranges: Ranges = PAPER
) -> dict[str, np.ndarray]:
    """Draw the parameters of many images.

    Args:
        seed: Whole numbers, such as the run's seed and the epoch.
        count: How many images; those of the first ones do not depend on it.
        ranges: The limits of the uniform draws.

    Returns:
        float32 (count,) each: `rotation`, `shear` in radians, `zoom_rows`, `zoom_cols`,
        `shift` in raw 16-bit grey levels, `flip_rows`, `flip_cols` of -1 or 1.

    Example:
        >>> few, many = draw([1, 2], 3), draw([1, 2], 5)
        >>> bool((few["rotation"] == many["rotation"][:3]).all())
        True
    """
    u = np.random.default_rng(list(seed)).uniform(-1.0, 1.0, (count, 7))
    u = u.astype(np.float32).T
    sign = np.where(u[5:] < 0.0, -1.0, 1.0) if ranges.flips else np.ones((2, count))
    return {
        "rotation": u[0] * np.float32(np.deg2rad(ranges.rotation_degrees)),
        "shear": u[1] * np.float32(ranges.shear_radians),
        "zoom_rows": 1.0 + u[2] * np.float32(ranges.zoom),
        "zoom_cols": 1.0 + u[3] * np.float32(ranges.zoom),
        "shift": u[4] * np.float32(ranges.shift_grey * RAW_PER_GREY),
        "flip_rows": sign[0].astype(np.float32),
        "flip_cols": sign[1].astype(np.float32),
    }


def transforms(parameters: dict, height: int, width: int) -> np.ndarray:
    """Affine maps from output (column, row) to input, about the centre.

    Args:
        parameters: As from `draw`, each of shape (N,).
        height, width: Of the images.

    Returns:
        float32 (N, 8): two rows of three, then two zeros.
    """
    cos, sin = np.cos(parameters["rotation"]), np.sin(parameters["rotation"])
    # rows_cols = rotation @ shear @ diag(zoom * flip), for (row, column) vectors
    lean, upright = -np.sin(parameters["shear"]), np.cos(parameters["shear"])
    rows = parameters["zoom_rows"] * parameters["flip_rows"]
    cols = parameters["zoom_cols"] * parameters["flip_cols"]
    row_row, row_col = cos * rows, (cos * lean - sin * upright) * cols
    col_row, col_col = sin * rows, (sin * lean + cos * upright) * cols
    row_c, col_c = (height - 1) / 2.0, (width - 1) / 2.0
    row_0 = row_c - row_row * row_c - row_col * col_c
    col_0 = col_c - col_row * row_c - col_col * col_c
    nought = np.zeros_like(row_0)
    maps = [col_col, col_row, col_0, row_col, row_row, row_0, nought, nought]
    return np.stack(maps, axis=-1).astype(np.float32)


def apply(images: tf.Tensor, maps: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
    """Apply drawn parameters to a batch, in one resampling.

    The order is that of Shen et al.: geometry about the image's centre with edge pixels
    repeated, then the shift, clipped to the image's own range before the shift.

    Args:
        images: float32 (N, H, W, 1), raw grey levels.
        maps: float32 (N, 8), of `transforms`.
        shifts: float32 (N,), in raw grey levels.

    Returns:
        float32 (N, H, W, 1).
    """
    low = tf.reduce_min(images, axis=(1, 2, 3), keepdims=True)
    high = tf.reduce_max(images, axis=(1, 2, 3), keepdims=True)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=maps,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    shifted = moved + tf.reshape(shifts, (-1, 1, 1, 1))
    return tf.clip_by_value(shifted, low, high)


def warp(
    image: np.ndarray, transform: np.ndarray, shift: float, out: np.ndarray,
    scratch: np.ndarray,
) -> None:  # fmt: skip
    """Apply one image's map and shift by OpenCV: what `apply` does, on a processor.

    OpenCV lets go of the interpreter, so that calls in several threads run at once.

    Args:
        image: uint16 (H, W), raw grey levels.
        transform: float (8,), a row of `transforms`.
        shift: In raw grey levels.
        out: float32 (H, W), contiguous; written to.
        scratch: uint16 (H, W); written to.
    """
    low, high, _, _ = cv2.minMaxLoc(image)
    moved = cv2.warpAffine(
        image, transform[:6].astype(np.float64).reshape(2, 3), image.shape[::-1],
        dst=scratch, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    np.add(moved, np.float32(shift), out=out, casting="unsafe")
    np.clip(out, np.float32(low), np.float32(high), out=out)


def flip(images, flip_number: int):
    """One of the four flips of augmented prediction: 0 none, 1 left-right, 2, 3 both.

    Args:
        images: (N, H, W, C), any array type that can be sliced.
        flip_number: 0, 1 (left-right), 2 (up-down) or 3 (both).

    Source:
        Shen et al. 3.1.4, "augmented prediction".
    """
    if flip_number & 1:
        images = images[:, :, ::-1]
    if flip_number & 2:
        images = images[:, ::-1]
    return images
