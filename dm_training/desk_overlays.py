"""One image's heat map over its mammogram, beside the mammogram itself, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dm_training.image_maps import ImageMap


def overlay_image(
    grey: np.ndarray, image_map: ImageMap | None, *, caption: Sequence[str] = (),
    source_shape: tuple[int, int] | None = None,
) -> np.ndarray:  # fmt: skip
    """Draw a mammogram, and beside it the same with a heat map over it.

    Args:
        grey: uint16 (H, W), as the map was made of it.
        image_map: Its cells in pixels of `grey`; None where the model has none.
        caption: Lines under the picture; see `caption_lines`.
        source_shape: (rows, columns) of the file where `grey` was squashed from it
            (`shape_to_show`); None shows `grey` in its own proportions.

    Returns:
        uint8 (rows, columns, 3), RGB.
    """
    raise NotImplementedError


def overlay_png(
    grey: np.ndarray, image_map: ImageMap | None, *, caption: Sequence[str] = (),
    source_shape: tuple[int, int] | None = None,
) -> bytes:  # fmt: skip
    """`overlay_image` as a PNG without any text chunk."""
    raise NotImplementedError


def write_overlay(
    path: Path, grey: np.ndarray, image_map: ImageMap | None, *,
    caption: Sequence[str] = (), source_shape: tuple[int, int] | None = None,
) -> np.ndarray:  # fmt: skip
    """Write `overlay_png` aside and rename it; return the picture, for `write_dicom`."""
    raise NotImplementedError


def caption_lines(prediction) -> tuple[str, ...]:
    """What stands under an overlay: side, view, probability, decision, model.

    Args:
        prediction: With laterality, view, probability, decision, threshold, model,
            version and flips.
    """
    raise NotImplementedError


def shape_to_show(source_shape: tuple[int, int], contract) -> tuple[int, int] | None:
    """`source_shape` for `overlay_image`: None unless the contract squashes."""
    raise NotImplementedError


def path_for(folder: Path, image_id: str, ending: str) -> Path:
    """Where a file of that image lies: `folder/image_id` + `ending`, never outside."""
    raise NotImplementedError
