"""The fastest loader that a PyTorch user would write: OpenCV in a worker a core.

One warpAffine on 16-bit pixels holds the whole geometry; shift and clipping follow in
place, in the batch. The images are those of `dm_training.augment` for the same
parameters, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, pi, sin

import numpy as np

from dm_training.benchmark import worker_ring

RAW_PER_GREY = 65535.0 / 255.0


def batches(config: dict) -> Iterator:
    """A candidate (`candidates.Candidate`).

    Args:
        config: `paths`, `height`, `width`, `batch`, `workers`, `ranges` (the fields of
            `augment.Ranges`), and `hold`: "files" decodes each image each time,
            "memory" once.
    """
    shape = config["batch"], 1, config["height"], config["width"]
    maker = f"{__name__}:make_fill"
    ring = worker_ring.batches(maker, config, shape=shape, workers=config["workers"])
    first = next(ring)
    yield {"shape": list(first.shape), "dtype": str(first.dtype)}
    for batch in ring:
        yield len(batch)


def make_fill(config: dict, number: int):
    """A worker's `fill(batch)`; each worker draws from a stream of its own."""
    import cv2

    cv2.setNumThreads(1)
    rng, paths = np.random.default_rng([1, number]), config["paths"]
    held = [_read(path) for path in paths] if config["hold"] == "memory" else None

    def fill(batch: np.ndarray) -> None:
        for slot in batch:
            index = rng.integers(len(paths))
            image = _read(paths[index]) if held is None else held[index]
            augment_into(slot[0], image, draw(rng, config["ranges"]))

    return fill


def draw(rng: np.random.Generator, ranges: dict) -> dict[str, float]:
    """One image's parameters, by the names and units of `augment.draw`."""
    u = rng.uniform(-1.0, 1.0, 7)
    sign = np.where(u[5:] < 0.0, -1.0, 1.0) if ranges["flips"] else (1.0, 1.0)
    return {
        "rotation": u[0] * ranges["rotation_degrees"] * pi / 180.0,
        "shear": u[1] * ranges["shear_radians"],
        "zoom_rows": 1.0 + u[2] * ranges["zoom"],
        "zoom_cols": 1.0 + u[3] * ranges["zoom"],
        "shift": u[4] * ranges["shift_grey"] * RAW_PER_GREY,
        "flip_rows": sign[0],
        "flip_cols": sign[1],
    }


def augment_into(out: np.ndarray, image: np.ndarray, parameters: dict) -> None:
    """Apply drawn parameters to one image.

    Args:
        out: float32 (H, W), written to.
        image: uint16 (H, W).
        parameters: As from `draw`.
    """
    import cv2

    low, high = image.min(), image.max()
    moved = cv2.warpAffine(
        image, transform(parameters, *image.shape), image.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    np.add(moved, np.float32(parameters["shift"]), out=out, casting="unsafe")
    np.clip(out, np.float32(low), np.float32(high), out=out)


def transform(parameters: dict, height: int, width: int) -> np.ndarray:
    """The map from output (column, row) to input, float64 (2, 3), about the centre."""
    turn_cos, turn_sin = cos(parameters["rotation"]), sin(parameters["rotation"])
    lean, upright = -sin(parameters["shear"]), cos(parameters["shear"])
    rows = parameters["zoom_rows"] * parameters["flip_rows"]
    cols = parameters["zoom_cols"] * parameters["flip_cols"]
    row_row, col_row = turn_cos * rows, turn_sin * rows
    row_col = (turn_cos * lean - turn_sin * upright) * cols
    col_col = (turn_sin * lean + turn_cos * upright) * cols
    row_c, col_c = (height - 1) / 2.0, (width - 1) / 2.0
    row_0 = row_c - row_row * row_c - row_col * col_c
    col_0 = col_c - col_row * row_c - col_col * col_c
    return np.array([[col_col, col_row, col_0], [row_col, row_row, row_0]])


def _read(path: str) -> np.ndarray:
    import cv2

    return cv2.imread(path, cv2.IMREAD_UNCHANGED)
