"""What the benchmark needs, made by itself: PNGs, DICOM files, class folders.

An image has a breast's smooth half ellipse against one edge, noise of a few bits in it
and black air around it, so that a PNG of it is about as long as one of a mammogram and
takes about as long to decode.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from dm_preprocess import images, phantom_dicom

CLASSES = ("neg", "pos")
_NOISE_U16 = 90.0  # standard deviation: about eight of the sixteen bits are noise


def breast_image(height: int, width: int, seed: int) -> np.ndarray:
    """One image.

    Args:
        height, width: Size.
        seed: Another seed, another image.

    Returns:
        uint16 (height, width): bright within the breast, 0 in the air.
    """
    rng = np.random.default_rng(seed)
    rows = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    cols = np.linspace(0.0, 1.0, width, dtype=np.float32)[None]
    reach = rng.uniform(0.7, 0.95)
    inside = 1.0 - (rows / 0.9) ** 2 - (cols / reach) ** 2
    waves = np.sin(rows * rng.uniform(4, 9)) * np.cos(cols * rng.uniform(4, 9))
    grey = 9000.0 + 26000.0 * np.sqrt(np.maximum(inside, 0.0)) + 5000.0 * waves
    grey += rng.normal(0.0, _NOISE_U16, grey.shape).astype(np.float32)
    grey[inside <= 0.0] = 0.0
    return np.clip(grey, 0, images.U16_MAX).astype(np.uint16)


def write_class_folders(
    folder: Path, count: int, height: int, width: int, *, distinct: int | None = None
) -> list[str]:
    """Write PNGs into a folder a class, half of the images each.

    Args:
        folder: Where the class folders go.
        count: How many images.
        height, width: Their size.
        distinct: How many of them differ; the others are hard links, which to a
            reader are files like any other. None: all.

    Returns:
        Their paths, those of the first class first.
    """
    distinct = min(distinct or count, count)
    paths = []
    for number in range(count):
        name = f"p{number:05d}_L_CC.png"
        path = folder / CLASSES[number % len(CLASSES)] / name
        if number < distinct:
            images.write_png(path, breast_image(height, width, number))
        else:
            os.link(paths[number % distinct], path)
        paths.append(path)
    return sorted(str(path) for path in paths)


def write_dicoms(folder: Path, count: int, height: int, width: int) -> list[str]:
    """Write DICOM files as bare as CBIS-DDSM's: 16 bits, uncompressed."""
    paths = []
    for number in range(count):
        path = folder / f"image_{number:03d}.dcm"
        uids = tuple(
            phantom_dicom.make_uid("benchmark", number, level) for level in range(3)
        )
        phantom_dicom.write_dicom(
            path, breast_image(height, width, number), bits_stored=16, uids=uids
        )
        paths.append(str(path))
    return paths


def write_generic_source(folder: Path, dicoms: list[str], count: int) -> Path:
    """Make a folder that `dm-convert generic` reads, of links to a few DICOM files.

    Args:
        folder: To be made.
        dicoms: The files, taken in turn.
        count: How many images the folder shall have.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    header = ("path", "label", "patient_id", "laterality", "view")
    with open(folder / "images.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number in range(count):
            name = f"scan_{number:04d}.dcm"
            os.link(dicoms[number % len(dicoms)], folder / name)
            writer.writerow((name, number % 2, f"p{number:04d}", "L", "CC"))
    return folder
