"""The frame of an overlay: titles, caption, the colours' meaning, the research notice.

All text lies outside of the mammogram, so that no tissue is covered on either side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
_PALE = 0.22
OUTSIDE = "The hottest place lies outside of the breast."
# Plasma without its ends: over grey, its last tenth looks green and its first black.
_COLOUR_MAP, _FIRST_COLOUR, _LAST_COLOUR = "plasma", 0.1, 0.9
_GREY_UNDER = 0.35  # of white: the tissue that the bar's colours lie over
_NARROWEST = 400  # pixels of a column, so that text fits beneath a narrow panel


@dataclass(frozen=True)
class Said:
    """What is written around the panels, besides the map's legend.

    Attributes:
        caption: Lines for below the left panel.
        notice: The line at the foot, over the whole width.
        warning: A line above it, or "".
        negative: Whether the map is drawn pale and without a line, for that reason.
        outside: Whether the map is hottest outside of the breast.
    """

    caption: Sequence[str]
    notice: str
    warning: str = ""
    negative: bool = False
    outside: bool = False


def framed(
    plain: np.ndarray, heated: np.ndarray, image_map: ImageMap | None, said: Said
) -> np.ndarray:
    """Put both panels side by side and write around them.

    Args:
        plain: uint8 (H, W), the mammogram.
        heated: uint8 (H, W) or (H, W, 3), with the map.
        image_map: The map, or None.
        said: The words.

    Returns:
        uint8 (rows, columns, 3).
    """
    from PIL import Image, ImageDraw

    place = _Layout(*plain.shape)
    words = _wrapped(said.caption, place, place.column)
    alarm = _wrapped([OUTSIDE] if said.outside else [], place, place.column)
    sense = _wrapped(meaning(image_map, pale=said.negative), place, place.column)
    shift = 2 if _has_heat(image_map) else 0  # lines that the colour bar takes
    below = place.line(max(len(words), len(alarm) + len(sense) + shift))
    foot = _wrapped(filter(None, (said.warning, said.notice)), place, place.text_width)
    step, top = place.line(1) - place.line(0), below + place.size // 2
    size = (place.full_width, top + (len(foot) - 1) * step + 2 * place.size)
    picture = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(picture)
    _panel(picture, pen, plain, place.left, "mammogram")
    _panel(picture, pen, heated, place.right, _title(image_map))
    _write(pen, words, (place.left, place.line(0)), place)
    _write(pen, alarm, (place.right, place.line(shift)), place, _NOTICE)
    _write(pen, sense, (place.right, place.line(shift + len(alarm))), place)
    _write(pen, foot, (place.left, top), place, _NOTICE)
    if shift:
        _draw_bar(picture, pen, place, pale=said.negative)
    return np.asarray(picture)


def colours(count: int, *, pale: bool = False) -> np.ndarray:
    """The colours of a map from 0 to 1, float (count, 4) RGBA in [0, 1].

    A perceptually even scale, as opaque as the map is high: 0 is transparent. A pale
    one is half as opaque.
    """
    from matplotlib import colormaps

    levels = np.linspace(0, 1, count)
    spread = _FIRST_COLOUR + (_LAST_COLOUR - _FIRST_COLOUR) * levels
    found = colormaps[_COLOUR_MAP](spread)
    found[:, 3] = (_PALE if pale else _OPACITY) * levels
    return found


def meaning(image_map: ImageMap | None, *, pale: bool = False) -> list[str]:
    """What the colours say, or why there are none."""
    if image_map is None:
        return ["this model gives no heat map"]
    if not _has_heat(image_map):
        return [f"the {image_map.kind} is 0 everywhere: nothing to show"]
    half = "0.5" if image_map.kind == PATCH_MAP else "half of it"
    line = "" if pale else f"; line: {half}"
    lines = [f"{LABELS[image_map.kind]}{line}"]
    if pale:
        lines.append("Pale and without a line: the decision is negative.")
    if image_map.kind == PATCH_MAP:
        return [*lines, f"highest in this image: {image_map.heat.max():.2f}"]
    return [*lines, "Colours do not compare between images and are no probability."]


@dataclass(frozen=True)
class _Layout:
    """Where things lie, in pixels, for panels of a height and a width."""

    height: int
    width: int

    @property
    def size(self) -> int:
        """Of the text."""
        return max(14, round(max(self.height, self.width) / 56))

    @property
    def column(self) -> int:
        return max(self.width, _NARROWEST)

    @property
    def left(self) -> int:
        return self.size

    @property
    def right(self) -> int:
        return 2 * self.size + self.column

    @property
    def top(self) -> int:
        return 2 * self.size + self.size // 2

    @property
    def full_width(self) -> int:
        return 3 * self.size + 2 * self.column

    @property
    def text_width(self) -> int:
        """Of what stands below both columns."""
        return self.size + 2 * self.column

    def line(self, number: int) -> int:
        """The top of a line of text below the panels."""
        return self.top + self.height + self.size // 2 + round(1.4 * self.size) * number


def _title(image_map: ImageMap | None) -> str:
    return f"with {image_map.kind}" if image_map is not None else "no map"


def _has_heat(image_map: ImageMap | None) -> bool:
    return image_map is not None and bool(image_map.heat.max() > 0)


def _panel(picture, pen, panel: np.ndarray, left: int, title: str) -> None:
    """Paste a panel in the middle of its column, its title above it."""
    from PIL import Image

    place = _Layout(*panel.shape[:2])
    at = left + (place.column - place.width) // 2
    picture.paste(Image.fromarray(panel), (at, place.top))
    pen.text((at, place.size // 2), title, _FAINT, font=_font(place.size))


def _draw_bar(picture, pen, place: _Layout, *, pale: bool) -> None:
    """Colours from 0 to 1 as they look over tissue, with their figures beneath."""
    from PIL import Image

    spread = colours(place.column, pale=pale)
    shown = spread[:, :3] * spread[:, 3:] + _GREY_UNDER * (1 - spread[:, 3:])
    bar = np.repeat(np.rint(shown * 255).astype(np.uint8)[None], place.size, axis=0)
    top = place.line(0) + place.size // 4
    picture.paste(Image.fromarray(bar), (place.right, top))
    for figure, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        at = (place.right + round(figure * (place.column - 1)), place.line(1))
        pen.text(at, f"{figure:g}", _TEXT, font=_font(place.size), anchor=anchor)
    if not pale:
        half = place.right + place.column // 2
        pen.line((half, top, half, top + place.size - 1), HALF_LINE)


def _write(
    pen, lines: Sequence[str], at: tuple[int, int], place: _Layout, colour=_TEXT
) -> None:
    step = place.line(1) - place.line(0)
    for number, line in enumerate(lines):
        where = (at[0], at[1] + number * step)
        pen.text(where, line, colour, font=_font(place.size))


def _wrapped(lines: Iterable[str], place: _Layout, width: int) -> list[str]:
    """Lines of that width at most; a word that is longer is broken."""
    font, wrapped = _font(place.size), []
    for line in lines:
        held = ""
        for word in line.split():
            if held and font.getlength(f"{held} {word}") <= width:
                held = f"{held} {word}"
                continue
            wrapped += [held] if held else []
            *full, held = _broken(font, word, width)
            wrapped += full
        wrapped.append(held)
    return wrapped


def _broken(font, word: str, width: int) -> list[str]:
    """A word in parts that fit, usually one."""
    parts = []
    while font.getlength(word) > width and len(word) > 1:
        fits = len(word) - 1
        while fits > 1 and font.getlength(word[:fits]) > width:
            fits -= 1
        parts.append(word[:fits])
        word = word[fits:]
    return [*parts, word]


@lru_cache(maxsize=64)
def _font(size: int):
    """DejaVu Sans, which comes with matplotlib, whatever fonts the machine has."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size
    )
