"""Contact sheets: many patches of one class on one picture, to be looked at.

A sheet shows in a second what no count does: masks that missed their lesion, black
background, inverted images. Each patch is stretched between its own 1st and 99th
percentile, for a raw patch uses a small part of 16 bits and would look flat.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import images, tables

MOST = 48
COLUMNS = 8
CELL = 128
_GAP, _HEADER, _PAPER, _INK = 6, 48, 24, 235


def contact_sheet(
    patches: Sequence[np.ndarray],
    title: str,
    *,
    captions: Sequence[str] = (),
    columns: int = COLUMNS,
    cell: int = CELL,
) -> np.ndarray:
    """Tile patches under a title.

    Args:
        patches: uint16 (H, W) each; at least one.
        title: Written at the top left.
        captions: One short line for each patch, written in its corner; none for none.
        columns: Patches a row.
        cell: Side of a tile; patches are resized to it.

    Returns:
        uint8 (height, width).
    """
    rows = -(-len(patches) // columns)
    step = cell + _GAP
    shape = (_HEADER + rows * step + _GAP, columns * step + _GAP)
    sheet = np.full(shape, _PAPER, np.uint8)
    for at, patch in enumerate(patches):
        top = _HEADER + _GAP + at // columns * step
        left = _GAP + at % columns * step
        tile = np.ascontiguousarray(stretch(images.resize_area(patch, cell, cell)))
        if at < len(captions):
            tile[cell - 17 :, : 8 + 7 * len(captions[at])] = _PAPER
            _write_text(tile, captions[at], (4, cell - 5), 0.36, _INK)
        sheet[top : top + cell, left : left + cell] = tile
    _write_text(sheet, title, (_GAP + 2, 32), 0.65, _INK)
    return sheet


def stretch(patch: np.ndarray) -> np.ndarray:
    """A patch as uint8, its 1st percentile black and its 99th white."""
    low, high = np.percentile(patch, (1, 99))
    scaled = (patch.astype(np.float32) - low) / max(high - low, 1.0)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def write_contact_sheets(
    patches: pd.DataFrame, folder: str | os.PathLike, *, most: int = MOST
) -> list[Path]:
    """Write `contact_<class>.png` for each class that has patches.

    Args:
        patches: Rows of `patches.csv`; `path` is relative to `folder`.
        folder: Where the sheets go.
        most: Patches on a sheet, taken evenly over the table's rows.

    Returns:
        The sheets written.
    """
    written = []
    for name in tables.PATCH_CLASSES:
        rows = patches[patches["class"] == name]
        if rows.empty:
            continue
        picks = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
        shown = rows.iloc[picks]
        pixels = [images.read_png(Path(folder) / cell) for cell in shown["path"]]
        title = f"{name}   {len(shown)} of {len(rows)} patches, {len(pixels[0])} pixels"
        sheet = contact_sheet(pixels, title, captions=list(shown["split"]))
        written.append(_write_sheet(Path(folder) / f"contact_{name}.png", sheet))
    return written


def _write_text(image, text, at, scale, level) -> None:
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, at, font, scale, level, 1, cv2.LINE_AA)


def _write_sheet(path: Path, sheet: np.ndarray) -> Path:
    import cv2

    aside = path.with_name(path.name + ".part")
    aside.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    os.replace(aside, path)
    return path
