"""What a data set's reader hands to the converter: images, lesions, oddities.

A reader (`cbis_ddsm`, `inbreast`, `mini_mias`, `generic`) knows one source's tables and
folders and no pixels beyond what it needs to tell a mask from a crop. `convert` knows
pixels and no source. These records are all that passes between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class SourceError(ValueError):
    """A source cannot be read at all; the message names file and line."""


@dataclass(frozen=True)
class SourceLesion:
    """One annotated finding on one image, in source pixels (origin top left).

    Attributes:
        lesion_id: Shared by two views only where the source says so.
        abnormality: "mass", "calc" or "other".
        malignant: 0 or 1.
        shape: "mask", "circle", "box", "polygon" or "none" (no outline is given).
        geometry: For a mask a 1-tuple of its path, else numbers: (row, col, radius),
            (row0, col0, row1, col1) or (row, col, row, col, ...).
    """

    lesion_id: str
    abnormality: str
    malignant: int
    shape: str
    geometry: tuple = ()
    pathology: str = ""
    subtlety: str = ""
    assessment: str = ""
    note: str = ""


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Attributes:
        image_id: Safe as a file name; unique in the source.
        label: 1 malignant, 0 not, None unknown.
        split: "train", "val", "test" or "" where the source gives none that is safe.
        monochrome1: For files that cannot say (PNG, PGM, TIFF): low means bright.
        spacing_mm: Row spacing of a source pixel where the source's table gives it.
        extra: Further columns for images.csv, such as `official_split`.
    """

    image_id: str
    patient_id: str
    laterality: str
    view: str
    label: int | None
    source_path: Path
    source: str
    split: str = ""
    lesions: tuple[SourceLesion, ...] = ()
    monochrome1: bool = False
    spacing_mm: float | None = None
    vendor: str = ""
    density: str = ""
    age: str = ""
    note: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Oddity:
    """Something about a source that a user should know, and where it was met."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class SourceIndex:
    """All that a reader found.

    Attributes:
        facts: What `--index-only` writes to index.json, such as rows, images, women.
        failed: (id or path, reason) of entries that could not be indexed.
    """

    images: tuple[SourceImage, ...]
    facts: Mapping[str, object]
    oddities: tuple[Oddity, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
