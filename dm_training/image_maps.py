"""Maps over a mammogram: the patch heat map and Grad-CAM, each cell where it looks.

A cell of a map stands for the middle of what it sees of the image
(`dm_models.receptive_field`), which is not the middle of a tile: ResNet50's cells look
half a step further up and left than tiles would, and the heat map's average pooling
shifts its cells by half a patch. Between cells a map is interpolated, beyond the
outermost ones it is taken as there.

The patch heat map is the probability of a malignant lesion around each position, from
0 to 1 (Shen et al., 2.1). Grad-CAM has no scale of its own: it is shown in shares of
the image's own maximum, so that its pictures do not compare between images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dm_preprocess import images as pixels

PATCH_MAP, GRAD_CAM = "patch heat map", "Grad-CAM"
LABELS = {
    PATCH_MAP: "probability of a malignant lesion",
    GRAD_CAM: "Grad-CAM, share of the image's maximum",
}
MALIGNANT = ("calc_mal", "mass_mal")
Centres = tuple[tuple[float, float], tuple[float, float]]


class MapError(ValueError):
    """A map cannot be had of this model or image; the message says why."""


@dataclass(frozen=True)
class ImageMap:
    """A map, and where its cells look.

    Attributes:
        kind: `PATCH_MAP` or `GRAD_CAM`.
        heat: float32 (h, w), at least 0.
        centres: ((row of cell 0, rows from a cell to the next), the same in columns),
            in pixels of the image.
    """

    kind: str
    heat: np.ndarray
    centres: Centres

    @property
    def shown(self) -> np.ndarray:
        """The heat in [0, 1]: a probability, or Grad-CAM's share of its maximum."""
        if self.kind == PATCH_MAP:
            return self.heat
        top = float(self.heat.max())
        return self.heat / top if top > 0 else self.heat

    def hottest(self, height: int, width: int) -> tuple[int, int] | None:
        """The pixel at which the hottest cell looks, in an image of that size.

        Of equals the first counts; None where the map is the same everywhere.
        """
        if self.heat.size > 1 and self.heat.min() == self.heat.max():
            return None
        cell = np.unravel_index(self.heat.argmax(), self.heat.shape)
        row, col = (
            int(np.clip(np.floor(first + index * step + 0.5), 0, length - 1))
            for index, (first, step), length in zip(
                cell, self.centres, (height, width), strict=True
            )
        )
        return row, col


def place_map(
    heat: np.ndarray, centres: Centres, height: int, width: int
) -> np.ndarray:
    """Bring a map to an image's grid.

    Args:
        heat: (h, w).
        centres: ((first row, step), (first column, step)) of its cells, in pixels of
            the grid, the first pixel's centre at 0; see
            `dm_models.receptive_field.cell_centres`.
        height: Rows of the grid.
        width: Columns.

    Returns:
        float32 (height, width): bilinear between cells' centres, the nearest cell's
        value beyond the outermost.

    Example:
        >>> place_map(np.array([[0.0, 1.0]]), ((0, 1), (1, 2)), 1, 5)
        array([[0. , 0. , 0.5, 1. , 1. ]], dtype=float32)
    """
    heat = np.asarray(heat, np.float32)
    for axis, length in enumerate((height, width)):
        first, step = centres[axis]
        at = np.clip((np.arange(length) - first) / step, 0, heat.shape[axis] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, heat.shape[axis] - 1)
        share = np.expand_dims((at - low).astype(np.float32), 1 - axis)
        heat = heat.take(low, axis) * (1 - share) + heat.take(high, axis) * share
    return heat


def resized_centres(
    centres: Centres, shape: tuple[int, int], resized: tuple[int, int]
) -> Centres:
    """Where cells look on a grid of another size over the same image.

    Args:
        centres: In pixels of a grid of `shape`.
        shape: (rows, columns).
        resized: (rows, columns) of the other grid.
    """
    rows, cols = [
        ((first + 0.5) * new / old - 0.5, step * new / old)
        for (first, step), old, new in zip(centres, shape, resized, strict=True)
    ]
    return rows, cols


def over_source(
    image_map: ImageMap, source_shape: tuple[int, int], contract
) -> ImageMap:
    """A map of a prepared image, placed over the file that the image was made of.

    Args:
        image_map: Its cells in pixels of the prepared image.
        source_shape: (rows, columns) of the file.
        contract: What the image was prepared for; one without a size changed nothing.
    """
    if contract.height is None:
        return image_map
    outline = np.zeros(source_shape, bool)
    geometry = pixels.fit(outline, contract.height, contract.width, mode=contract.fit)
    centres = _source_centres(image_map.centres, geometry[1])
    return replace(image_map, centres=centres)


def patch_mapper(patch_model, contract) -> Callable[[np.ndarray], ImageMap]:
    """Make what draws the patch heat map of images.

    Args:
        patch_model: A patch classifier.
        contract: Its contract, with the patch size.

    Returns:
        uint16 (H, W) at the scale that patches were cut at -> `ImageMap`.

    Raises:
        MapError: Not a patch classifier, or its contract holds no patch size; on
            calling: an image smaller than a patch.
    """
    from dm_models.backbones import get_backbone
    from dm_models.heatmap import build_heatmap
    from dm_models.receptive_field import cell_centres

    if not set(MALIGNANT) <= set(contract.class_names) or contract.height is None:
        raise MapError(
            "a patch classifier with its patch size is due, received classes "
            f"{', '.join(contract.class_names)} and size {contract.height}"
        )
    wanted = [contract.class_names.index(name) for name in MALIGNANT]
    net = get_backbone(contract.backbone)
    side = (net.map_size(contract.height), net.map_size(contract.width))
    model = build_heatmap(patch_model, pool=side)

    def mapped(image: np.ndarray) -> ImageMap:
        try:
            centres = cell_centres(model, model.get_layer("heatmap"), image.shape)
        except ValueError as err:
            raise MapError(f"smaller than a patch: {err}") from err
        heat = np.asarray(model(_batch(image), training=False))[0][..., wanted]
        return ImageMap(PATCH_MAP, np.clip(heat.sum(axis=-1), 0, 1), centres)

    return mapped


def cam_mapper(
    model, contract, *, layer: str | None = None
) -> Callable[[np.ndarray], ImageMap]:
    """Make what draws Grad-CAM of images.

    Args:
        model: A whole-image classifier.
        contract: Its contract; an image of another size is brought to its own for the
            net, and the map's places back.
        layer: As `dm_models.grad_cam.cam_layer`; None for the last map.

    Returns:
        uint16 (H, W) -> `ImageMap`.

    Raises:
        MapError: A net or a layer without such a map.
    """
    from dm_models.grad_cam import GradCamError, cam_layer, grad_cam
    from dm_models.receptive_field import cell_centres

    try:
        chosen = cam_layer(model, layer)
    except GradCamError as err:
        raise MapError(str(err)) from err

    def mapped(image: np.ndarray) -> ImageMap:
        fitted, geometry = _fitted(image, contract)
        heat = grad_cam(model, _batch(fitted), layer=chosen.name)[0]
        centres = cell_centres(model, chosen, fitted.shape)
        return ImageMap(GRAD_CAM, heat, _source_centres(centres, geometry))

    return mapped


def _batch(image: np.ndarray) -> np.ndarray:
    return image[None, ..., None].astype(np.float32)


def _fitted(image: np.ndarray, contract):
    height, width = contract.height or image.shape[0], contract.width or image.shape[1]
    if image.shape == (height, width):
        return image, pixels.Geometry(1.0, 1.0)
    return pixels.fit(image, height, width, mode=contract.fit)


def _source_centres(centres: Centres, geometry: pixels.Geometry) -> Centres:
    """Places in a fitted image, in pixels of the image that was fitted."""
    (row, down), (col, across) = centres
    row = (row + 0.5 - geometry.row_offset) / geometry.row_scale - 0.5
    col = (col + 0.5 - geometry.col_offset) / geometry.col_scale - 0.5
    return (row, down / geometry.row_scale), (col, across / geometry.col_scale)
