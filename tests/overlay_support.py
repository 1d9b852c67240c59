"""A breast, a map and a prediction, for tests of overlays."""

from types import SimpleNamespace

import numpy as np

from dm_training.image_maps import PATCH_MAP, ImageMap

PREDICTION = SimpleNamespace(
    image_id="Jones_Mary/scan.dcm", laterality="R", view="CC", score=0.7,
    probability=0.83, decision="positive", threshold=0.41, model="resnet50",
    version="0f3a9c21d4e7", flips=4, notes=(), warnings=(),
)  # fmt: skip


def breast(shape=(288, 224), seed=0):
    """A half ellipse of tissue at the left border, darker than 30,000, on air."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    inside = (rows / shape[0] - 0.5) ** 2 / 0.16 + (cols / shape[1]) ** 2 / 0.36 < 1
    noise = np.random.default_rng(seed).integers(8000, 30000, shape)
    return np.where(inside, noise, 0).astype(np.uint16)


def map_at(row, col, shape, *, kind=PATCH_MAP, cells=(9, 7)):
    """A map whose only hot cell looks at that pixel."""
    heat, cell = np.zeros(cells, np.float32), (cells[0] // 2, cells[1] // 2)
    heat[cell] = 1.0
    steps = [side / count for side, count in zip(shape, cells, strict=True)]
    centres = tuple(
        (at - cell[axis] * steps[axis], steps[axis])
        for axis, at in enumerate((row, col))
    )
    return ImageMap(kind, heat, centres)
