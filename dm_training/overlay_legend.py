"""The frame of an overlay: titles, caption, the colours' meaning, the research notice.

All text lies outside of the mammogram, so that no tissue is covered on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_training.image_maps import LABELS, PATCH_MAP

if TYPE_CHECKING:
    from dm_training.image_maps import ImageMap

_GROUND, _TEXT, _FAINT, _NOTICE = (16, 16, 16), (232,) * 3, (168,) * 3, (255, 196, 84)
HALF_LINE = (235,) * 3  # around what reaches half of the scale
_OPACITY = 0.5  # where the map is 1: tissue must stay readable beneath
# Plasma without its ends: over grey, its last tenth looks green and its first black.
_COLOUR_MAP, _FIRST_COLOUR, _LAST_COLOUR = "plasma", 0.1, 0.9
_GREY_UNDER = 0.35  # of white: the tissue that the bar's colours lie over
_NARROWEST = 400  # pixels of a column, so that text fits beneath a narrow panel


def framed(
    plain: np.ndarray, heated: np.ndarray, image_map: ImageMap | None,
    caption: Sequence[str], notice: str,
) -> np.ndarray:  # fmt: skip
    """Put both panels side by side and write around them.

    Args:
        plain: uint8 (H, W), the mammogram.
        heated: uint8 (H, W) or (H, W, 3), with the map.
        image_map: The map, or None.
        caption: Lines for below the left panel.
        notice: The line at the foot, over the whole width.

    Returns:
        uint8 (rows, columns, 3).
    """
    from PIL import Image, ImageDraw

    height, width = plain.shape
    size = max(14, round(max(height, width) / 56))
    column = max(width, _NARROWEST)
    left, right, top = size, 2 * size + column, 2 * size + size // 2
    below = top + height + size // 2
    words = _wrapped(caption, size, column)
    meaning = _wrapped(_meaning(image_map), size, column)
    rows = max(len(words), len(meaning) + _bar_lines(image_map))
    foot = below + rows * _step(size) + size // 2
    picture = Image.new("RGB", (3 * size + 2 * column, foot + 2 * size), _GROUND)
    pen = ImageDraw.Draw(picture)
    inset = (column - width) // 2
    for panel, at, title in (
        (plain, left, "mammogram"),
        (heated, right, _title(image_map)),
    ):
        picture.paste(Image.fromarray(panel), (at + inset, top))
        pen.text((at + inset, size // 2), title, _FAINT, font=_font(size))
    _write(pen, words, (left, below), size)
    if _bar_lines(image_map):
        _draw_bar(picture, pen, (right, below), column, size)
    _write(pen, meaning, (right, below + _bar_lines(image_map) * _step(size)), size)
    pen.text((left, foot), notice, _NOTICE, font=_font(size))
    return np.asarray(picture)


def colours(count: int) -> np.ndarray:
    """The colours of a map from 0 to 1, float (count, 4) RGBA in [0, 1].

    A perceptually even scale, as opaque as the map is high: 0 is transparent.
    """
    from matplotlib import colormaps

    levels = np.linspace(0, 1, count)
    spread = _FIRST_COLOUR + (_LAST_COLOUR - _FIRST_COLOUR) * levels
    found = colormaps[_COLOUR_MAP](spread)
    found[:, 3] = _OPACITY * levels
    return found


def _title(image_map: ImageMap | None) -> str:
    return f"with {image_map.kind}" if image_map is not None else "no map"


def _has_heat(image_map: ImageMap | None) -> bool:
    return image_map is not None and bool(image_map.heat.max() > 0)


def _meaning(image_map: ImageMap | None) -> list[str]:
    """What the colours say, or why there are none."""
    if image_map is None:
        return ["this model gives no heat map"]
    if not _has_heat(image_map):
        return [f"the {image_map.kind} is 0 everywhere: nothing to show"]
    if image_map.kind == PATCH_MAP:
        highest = f"highest in this image: {image_map.heat.max():.2f}"
        return [f"{LABELS[PATCH_MAP]}; line: 0.5", highest]
    return [
        f"{LABELS[image_map.kind]}; line: half of it",
        "Colours do not compare between images and are no probability.",
    ]


def _bar_lines(image_map: ImageMap | None) -> int:
    return 2 if _has_heat(image_map) else 0


def _draw_bar(picture, pen, at: tuple[int, int], width: int, size: int) -> None:
    """Colours from 0 to 1 as they look over tissue, with their figures beneath."""
    from PIL import Image

    spread = colours(width)
    shown = spread[:, :3] * spread[:, 3:] + _GREY_UNDER * (1 - spread[:, 3:])
    line = np.rint(shown * 255).astype(np.uint8)
    bar = np.broadcast_to(line, (size, width, 3))
    left, top = at
    picture.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, top + size // 4))
    for figure, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        place = (left + round(figure * (width - 1)), top + _step(size))
        pen.text(place, f"{figure:g}", _TEXT, font=_font(size), anchor=anchor)
    half = left + round(0.5 * (width - 1))
    pen.line((half, top + size // 4, half, top + size // 4 + size - 1), HALF_LINE)


def _write(pen, lines: Sequence[str], at: tuple[int, int], size: int) -> None:
    left, top = at
    for number, line in enumerate(lines):
        pen.text((left, top + number * _step(size)), line, _TEXT, font=_font(size))


def _wrapped(lines: Sequence[str], size: int, width: int) -> list[str]:
    """Lines of at most that width; a word that is longer is broken."""
    font, wrapped = _font(size), []
    for line in lines:
        held = ""
        for word in line.split():
            if held and font.getlength(f"{held} {word}") <= width:
                held = f"{held} {word}"
                continue
            if held:
                wrapped.append(held)
            while font.getlength(word) > width and len(word) > 1:
                fits = _fitting(font, word, width)
                wrapped.append(word[:fits])
                word = word[fits:]
            held = word
        wrapped.append(held)
    return wrapped


def _fitting(font, word: str, width: int) -> int:
    fits = len(word) - 1
    while fits > 1 and font.getlength(word[:fits]) > width:
        fits -= 1
    return fits


def _step(size: int) -> int:
    """Pixels from a line of text to the next."""
    return round(1.4 * size)


@lru_cache(maxsize=64)
def _font(size: int):
    """DejaVu Sans, which comes with matplotlib, whatever fonts the machine has."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size
    )
