"""One image's heat map over its mammogram, beside the mammogram itself, as a picture.

What a reader sees at the desk: on the left the mammogram alone, so that the tissue can
be judged without colour, on the right the same with the map over it; below, what was
predicted, what the colours mean, and that none of it is a diagnosis. Colour and line
lie on the breast alone: over air they would look like a lesion's. Where the map is
hottest outside of the breast, on a film label or at the image's border, the legend says
so. No name, id, date or file name is drawn. Drawn with NumPy and Pillow, which take a
sixth of matplotlib's time (0.05 s, and 0.09 s for the PNG) and may be called from
several threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from dm_preprocess import images as pixels
from dm_training import overlay_legend as legend
from dm_training.image_maps import place_map, resized_centres
from dm_training.shown_share import shown_share

if TYPE_CHECKING:
    from dm_training.image_maps import ImageMap

RESEARCH = "Research only, not for diagnosis"
LONGEST, SHORTEST = 1152, 512  # of a panel's longer side
_WINDOW_PERCENT = (1, 99.8)  # of the breast's grey levels: black and white
_EVERY = 3  # pixels in each direction that the percentiles are taken of
_COLOURS = 256
_HALF = 0.5
_SKIN = 0.015  # of a panel's longer side: how far past the breast colour may reach
_PNG_LEVEL = 1  # of zlib's: 6 takes three times as long and saves a tenth


class OverlayError(ValueError):
    """An overlay cannot be drawn or named; the message says why."""


def overlay_image(
    grey: np.ndarray, image_map: ImageMap | None, *, caption: Sequence[str] = (),
    source_shape: tuple[int, int] | None = None, negative: bool = False,
    warnings: Sequence[str] = (),
) -> np.ndarray:  # fmt: skip
    """Draw a mammogram, and beside it the same with a heat map over it.

    Args:
        grey: uint16 (H, W), as the map was made of it; bright is dense. Black is the
            lowest of the breast's levels and white its highest, not the file's window.
        image_map: Its cells in pixels of `grey`; None where the model has none. Colour
            is transparent where the map is 0; a map that is 0 everywhere leaves the
            mammogram as it is and says so.
        caption: Lines under the picture; see `caption_lines`. That the picture is for
            research only is always added.
        source_shape: (rows, columns) of the file where `grey` was squashed from it
            (`shape_to_show`); None shows `grey` in its own proportions.
        negative: Whether the decision is: the map is paler then, and has no line.
        warnings: What is unlike the training images (`check_rules.warnings_of`); an
            amber line says it in short.

    Returns:
        uint8 (rows, columns, 3), RGB. Each panel's longer side has 512 to 1152 pixels.

    Raises:
        OverlayError: `grey` is no uint16 (H, W), or the map holds NaN or infinity.
    """
    _check(grey, image_map)
    size = _panel_size(source_shape or grey.shape)
    plain = _windowed(grey, size)
    heated, outside = plain, False
    if image_map is not None and image_map.heat.max() > 0:
        breast = _on_breast(grey, size)
        heated = _heated(plain, image_map, grey.shape, breast, negative)
        outside = _hottest_outside(image_map, grey.shape, breast)
    said = legend.Said(tuple(caption), RESEARCH, unlike_words(warnings), negative,
                       outside)  # fmt: skip
    return legend.framed(plain, heated, image_map, said)


def overlay_png(grey: np.ndarray, image_map: ImageMap | None, **drawn) -> bytes:
    """`overlay_image` as a PNG, which holds pixels and no text.

    Args:
        grey: As `overlay_image`.
        image_map: As there.
        drawn: The other arguments of `overlay_image`.

    Raises:
        OverlayError: As `overlay_image`.
    """
    return _encoded(overlay_image(grey, image_map, **drawn))


def write_overlay(
    path: Path, grey: np.ndarray, image_map: ImageMap | None, **drawn
) -> np.ndarray:
    """Write `overlay_png`, aside and then renamed; a file of that name is replaced.

    Args:
        path: The PNG; folders are made. `path_for` names it after an image.
        grey: As `overlay_image`.
        image_map: As there.
        drawn: The other arguments of `overlay_image`.

    Returns:
        The picture as `overlay_image` gives it, for `dicom_out.write_dicom`.

    Raises:
        OverlayError: As `overlay_image`.
        OSError: The disk is full or may not be written; no part of it is left.
    """
    picture = overlay_image(grey, image_map, **drawn)
    write_aside(path, _encoded(picture))
    return picture


def words_of(prediction) -> dict:
    """What `overlay_image` is told of a prediction: caption, negative, warnings.

    Args:
        prediction: As `caption_lines`, with warnings.
    """
    return {
        "caption": caption_lines(prediction),
        "negative": prediction.decision == "negative",
        "warnings": tuple(prediction.warnings),
    }


def unlike_words(warnings: Sequence[str]) -> str:
    """That an image is unlike the training images, and why in short; "" where not."""
    reasons = [warning.partition(" (")[0] for warning in warnings]
    return f"unlike the training images: {'; '.join(reasons)}" if reasons else ""


def caption_lines(prediction) -> tuple[str, ...]:
    """What stands under an overlay: side, view, probability, decision, model.

    Args:
        prediction: With laterality, view, probability, decision, threshold, model,
            version and flips; threshold None or NaN where no operating point is stored.

    Example:
        "R CC", "probability 0.8300", "positive at threshold 0.4100",
        "model resnet50, version 0f3a9c21d4e7, mean over 4 flips"
    """
    where = " ".join(filter(None, (prediction.laterality, prediction.view)))
    flips = ", mean over 4 flips" if prediction.flips == 4 else ""
    return (
        where or "side and view not known",
        f"probability {shown_share(prediction.probability)}",
        decision_words(prediction),
        f"model {prediction.model}, version {prediction.version}{flips}",
    )


def decision_words(prediction) -> str:
    """The decision and the threshold that it was made at, or that there is none."""
    threshold = prediction.threshold
    if threshold is None or threshold != threshold or not prediction.decision:
        return "no operating point is stored with the model: no decision"
    return f"{prediction.decision} at threshold {shown_share(threshold)}"


def shape_to_show(source_shape: tuple[int, int], contract) -> tuple[int, int] | None:
    """`source_shape` for `overlay_image`.

    Args:
        source_shape: (rows, columns) of the file.
        contract: Of the model that `grey` was prepared for.

    Returns:
        The shape where the contract squashes; None where it keeps proportions.
    """
    squashed = contract.height is not None and contract.fit == "squash"
    return tuple(source_shape) if squashed else None


def picture_of(grey: np.ndarray, contract) -> np.ndarray:
    """An image as a model sees it, with more pixels where the file has them to show.

    Args:
        grey: uint16 (H, W), of the file.
        contract: The model's.

    Returns:
        uint16: what `scorers.prepare` gives, enlarged so that the longer side comes
        to `LONGEST`, or to as many pixels as the file has.
    """
    from dm_training.scorers import prepare

    size = (contract.height, contract.width)
    if contract.height is None or grey.shape == size:
        return grey
    there = max(grey.shape[0] / size[0], grey.shape[1] / size[1])
    more = min(LONGEST / max(size), there)
    height, width = (round(length * max(1.0, more)) for length in size)
    return prepare(grey, contract.replace(height=height, width=width))


def on_picture(
    image_map: ImageMap, shape: tuple[int, int], picture: tuple[int, int]
) -> ImageMap:
    """A map of a prepared image of `shape`, in pixels of `picture_of` its file."""
    return replace(
        image_map, centres=resized_centres(image_map.centres, shape, picture)
    )


def path_for(folder: str | Path, image_id: str, ending: str) -> Path:
    """Where a file of that image lies: `folder/image_id` + `ending`.

    Raises:
        OverlayError: The id would lead out of the folder.
    """
    inside = PurePosixPath(image_id)
    if not inside.name or inside.is_absolute() or ".." in inside.parts:
        raise OverlayError(
            f"image_id must be a path below the given root, received {image_id!r}"
        )
    return Path(folder, *inside.parts[:-1], inside.name + ending)


def write_aside(path: str | Path, data: bytes) -> None:
    """Write a file under another name and rename it; folders are made.

    Raises:
        OSError: It cannot be written; no part of it is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _check(grey: np.ndarray, image_map: ImageMap | None) -> None:
    if grey.dtype != np.uint16 or grey.ndim != 2 or not grey.size:
        raise OverlayError(
            f"grey must be uint16 (H, W), received {grey.dtype} {grey.shape}"
        )
    if image_map is not None and not np.isfinite(image_map.heat).all():
        raise OverlayError("the map must be finite, received NaN or infinity")


def _panel_size(shape: tuple[int, int]) -> tuple[int, int]:
    factor = min(max(max(shape), SHORTEST), LONGEST) / max(shape)
    height, width = (max(1, round(side * factor)) for side in shape)
    return height, width


def _windowed(grey: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 of `size`: the breast's own levels from black to white."""
    sampled = grey[::_EVERY, ::_EVERY]
    breast = sampled[pixels.breast_mask(sampled)]
    black, white = np.percentile(breast if breast.size else sampled, _WINDOW_PERCENT)
    small = pixels.resize_area(grey, *size).astype(np.float32)
    shown = (small - black) * (255 / max(white - black, 1))
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def _on_breast(grey: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 of `size`: 1 on the breast, falling to 0 past its skin line.

    1 everywhere where no breast is found, as in a constant image.
    """
    import cv2

    found = pixels.small_breast_mask(grey).astype(np.float32)
    if not found.any():
        return np.ones(size, np.float32)
    # Half of a blurred step lies on the edge, so that steps of the small mask go.
    reach = max(1, round(_SKIN * max(size)))
    shown = cv2.resize(found, size[::-1], interpolation=cv2.INTER_LINEAR)
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    near = cv2.dilate((shown >= _HALF).astype(np.float32), near)
    return cv2.GaussianBlur(near, (0, 0), reach / 3)


def _hottest_outside(
    image_map: ImageMap, shape: tuple[int, int], breast: np.ndarray
) -> bool:
    at = image_map.hottest(*shape)
    if at is None:
        return False
    row, col = (
        place * shown // there
        for place, shown, there in zip(at, breast.shape, shape, strict=True)
    )
    return bool(breast[row, col] < _HALF)


def _heated(
    plain: np.ndarray, image_map: ImageMap, shape: tuple[int, int],
    breast: np.ndarray, pale: bool,
) -> np.ndarray:  # fmt: skip
    """uint8 (rows, columns, 3): colour as opaque as it is hot, a line at one half."""
    import cv2

    centres = resized_centres(image_map.centres, shape, plain.shape)
    placed = np.clip(place_map(image_map.shown, centres, *plain.shape), 0, 1)
    at = np.rint(placed * (_COLOURS - 1)).astype(np.uint8)
    colours = legend.colours(_COLOURS, pale=pale).astype(np.float32)
    share = (colours[:, 3][at] * breast)[..., None]
    picture = (colours[:, :3] * 255)[at] * share + plain[..., None] * (1 - share)
    picture = np.rint(picture, out=picture).astype(np.uint8)
    if not pale:
        hot = (placed >= _HALF).astype(np.uint8)
        inner = cv2.erode(hot, np.ones((3, 3), np.uint8))  # not along the border
        picture[(hot > inner) & (breast >= _HALF)] = legend.HALF_LINE
    return picture


def _encoded(picture: np.ndarray) -> bytes:
    import cv2

    flags = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL]
    good, data = cv2.imencode(".png", picture[..., ::-1], flags)
    if not good:
        raise OverlayError(f"a picture of {picture.shape} cannot be encoded as PNG")
    return data.tobytes()
