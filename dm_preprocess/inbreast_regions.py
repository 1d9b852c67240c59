"""The outlines of INbreast's XML files: regions, their names and their points.

Each file is an Apple property list, as the viewer OsiriX wrote it: `Images[0].ROIs[]`
with a `Name` and `Point_px`, texts "(x, y)" in source pixels, x being the column. What
is no text of that form is refused; nothing is evaluated.

Source: Moreira et al. (2012), Academic Radiology 19(2):236-248.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.parsers.expat import ExpatError

from dm_preprocess.sources import SourceError

# Names as the annotators wrote them, case aside. Asymmetries and distortions count as
# masses, as in mini-MIAS. A spiculated region is drawn around its mass and is a lesion
# of its own here, since the files do not say which mass it belongs to.
ABNORMALITY_OF_NAME = {
    "mass": "mass",
    "spiculated region": "mass",
    "espiculated region": "mass",
    "asymmetry": "mass",
    "assymetry": "mass",
    "distortion": "mass",
    "calcification": "calc",
    "calcifications": "calc",
    "cluster": "calc",
}
# A region of one or two points marks a single calcification and gives no outline. At
# 0.07 mm a pixel this radius makes it 0.6 mm wide, as single calcifications are.
POINT_RADIUS = 4.0

_IGNORED = "pectoralmuscle"
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_POINT = re.compile(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")


@dataclass(frozen=True)
class Region:
    """One outline: its name as written (spaces joined), points as (row, column)."""

    name: str
    points: tuple[tuple[float, float], ...]

    def outline(self) -> tuple[str, tuple[float, ...]]:
        """Shape and geometry of a `SourceLesion`.

        Returns:
            A polygon; for one or two points a circle around their middle that holds
            them and has at least `POINT_RADIUS`.
        """
        if len(self.points) > 2:
            return "polygon", tuple(value for point in self.points for value in point)
        (row0, col0), (row1, col1) = self.points[0], self.points[-1]
        half = ((row1 - row0) ** 2 + (col1 - col0) ** 2) ** 0.5 / 2
        middle = ((row0 + row1) / 2, (col0 + col1) / 2)
        return "circle", (*middle, max(POINT_RADIUS, half))


def abnormality_of(region: Region) -> tuple[str, str]:
    """What a region shows: "mass", "calc" or "other", and why that is in doubt.

    A name that is not known (`Unnamed`, `Point 1`) says nothing; one or two points
    are then a single calcification and an outline is "other".

    Returns:
        The abnormality, and "" or the doubt in words.
    """
    known = ABNORMALITY_OF_NAME.get(region.name.lower())
    count = len(region.points)
    if known is None:
        known = "calc" if count <= 2 else "other"
        return known, f"unknown name {region.name!r}, {count} point(s): {known}"
    if known == "mass" and count <= 2:
        return known, f"{region.name!r} has only {count} point(s)"
    return known, ""


def read_regions(path: Path) -> list[Region]:
    """The regions of an XML file, without those of the pectoral muscle.

    Args:
        path: `AllXML/<File Name>.xml`.

    Returns:
        In the file's order; a region may have no point.

    Raises:
        SourceError: The file is no property list of this form; it is named.
    """
    try:
        with open(path, "rb") as handle:
            images = plistlib.load(handle, fmt=plistlib.FMT_XML)["Images"]
        found = [_region(roi) for roi in (images[0]["ROIs"] if images else ())]
    except (
        ExpatError, plistlib.InvalidFileException, OSError, ValueError, KeyError,
        IndexError, TypeError, AttributeError,
    ) as err:  # fmt: skip
        reason = f"{type(err).__name__}: {err}"
        raise SourceError(f"{path}: not an annotation of INbreast: {reason}") from err
    return [r for r in found if r.name.lower().replace(" ", "") != _IGNORED]


def _region(roi: dict) -> Region:
    name = " ".join(str(roi.get("Name", "")).split())
    return Region(name, _points(roi.get("Point_px", ())))


def _points(texts: Sequence[str]) -> tuple[tuple[float, float], ...]:
    points = []
    for text in texts:
        match = _POINT.fullmatch(text.strip())
        if not match:
            raise ValueError(f"Point_px must be '(x, y)', received {text!r}")
        points.append((float(match[2]), float(match[1])))
    return tuple(points)
