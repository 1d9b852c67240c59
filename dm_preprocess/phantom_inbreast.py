"""Write synthetic digital women as the INbreast collection is distributed.

Folder `AllDICOMs` whose file names carry the woman's hash (the only thing that joins
her views) and none of the DICOM tags for side, view or maker; `AllXML` with Apple
property lists of outlines; `INbreast.csv` with semicolons, CRLF and BI-RADS as text.
Benign women are BI-RADS 2, malignant ones 4a to 6. A few women besides those asked
for are BI-RADS 3 (no label can be had from that), and one is normal, with no XML.
"""

from __future__ import annotations

import csv
import hashlib
import plistlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from dm_preprocess.phantom_anatomy import VIEWS
from dm_preprocess.phantom_dicom import (
    DIGITAL_MAMMOGRAM,
    make_uid,
    write_dicom,
)
from dm_preprocess.phantom_image import PhantomCase, render_case
from dm_preprocess.phantom_trees import is_monochrome1, truth_rows

COLUMNS = (
    "Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name",
    "ACR", "Bi-Rads",
)  # fmt: skip
BITS_STORED = 14
MALIGNANT_BIRADS = ("4a", "4b", "4c", "5", "6")
EXTRA_EVERY = 20
"""One BI-RADS 3 woman more for so many asked for, and one normal woman from here on."""
SPACING_MM = 0.07 * 3328 / 576


@dataclass(frozen=True)
class DigitalWoman:
    """A woman of the digital collection.

    Attributes:
        birads: "1", "2", "3", "4a" ... as the table has it.
        blank_density: Her first view's ACR is left empty, as one is in the original.
    """

    case: PhantomCase
    index: int
    birads: str
    blank_density: bool

    @property
    def hash(self) -> str:
        text = f"phantom/{self.case.seed}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def file_number(self, view: str) -> str:
        """Eight digits, unlike for women up to 30010, in no order of the women."""
        shuffled = self.index * 7919 % 30011
        return str(20_000_000 + 1000 * shuffled + 37 * VIEWS.index(view) + 14)


def count_extras(asked: int) -> int:
    """Women that are written besides those asked for."""
    return asked // EXTRA_EVERY + int(asked >= EXTRA_EVERY) if asked else 0


def grade_women(cases: Sequence[PhantomCase], asked: int) -> list[DigitalWoman]:
    """Give every woman her BI-RADS; those past `asked` are the extras."""
    women = []
    for index, case in enumerate(cases):
        rng = np.random.default_rng([*case.seed, 108])
        birads = str(rng.choice(MALIGNANT_BIRADS)) if case.malignant else "2"
        if index >= asked:
            normal = index == len(cases) - 1
            birads = "1" if normal else "3"
            case = replace(case, lesions=()) if normal else case
        women.append(DigitalWoman(case, index, birads, blank_density=index == 1))
    return women


def write_digital_woman(
    root: Path, woman: DigitalWoman, *, size: tuple[int, int], difficulty: float
) -> tuple[list[dict], list[dict]]:
    """Render a woman's two views; write their DICOM and XML files.

    Args:
        root: Of the INbreast tree.
        woman: Whom to write.
        size: (height, width) of the images.
        difficulty: As `render`.

    Returns:
        Rows of INbreast.csv and rows of the truth about her lesions.
    """
    rows, truth = [], []
    for view in VIEWS:
        picture = render_case(
            woman.case, view, height=size[0], width=size[1], difficulty=difficulty
        )
        _write_pixels(root, woman, view, picture)
        if woman.case.lesions:
            _write_outlines(root, woman, view, picture)
        rows.append(_table_row(woman, view))
        truth += truth_rows("inbreast", woman.hash, woman.case, view, picture)
    return rows, truth


def write_table(root: Path, rows: Sequence[dict]) -> None:
    """Write INbreast.csv in the order of the file names."""
    with open(root / "INbreast.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, delimiter=";", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["File Name"]))


def _write_pixels(root: Path, woman: DigitalWoman, view: str, picture) -> None:
    number = woman.file_number(view)
    in_name = "ML" if view == "MLO" else view
    name = f"{number}_{woman.hash}_MG_{woman.case.laterality[0]}_{in_name}_ANON.dcm"
    write_dicom(
        root / "AllDICOMs" / name,
        np.round(picture.image * (2**BITS_STORED - 1)).astype(np.uint16),
        bits_stored=BITS_STORED,
        uids=tuple(make_uid(name, part) for part in ("study", "series", "image")),
        monochrome1=is_monochrome1(woman.case, view),
        sop_class=DIGITAL_MAMMOGRAM,
        PatientID="removed",
        PresentationIntentType="FOR PRESENTATION",
        ImagerPixelSpacing=[f"{SPACING_MM:.4f}"] * 2,
    )


def _table_row(woman: DigitalWoman, view: str) -> dict:
    rng = np.random.default_rng([*woman.case.seed, 109])
    density = (
        ""
        if woman.blank_density and view == VIEWS[0]
        else 1 + int(3.999 * woman.case.anatomy.glandular)
    )
    date = f"20{rng.integers(8, 11):02d}{rng.integers(1, 13):02d}"
    values = (
        "removed", "removed", woman.case.laterality[0], view, date,
        woman.file_number(view), density, woman.birads,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _write_outlines(root: Path, woman: DigitalWoman, view: str, picture) -> None:
    regions = []
    for lesion, mask in zip(woman.case.lesions, picture.lesion_masks, strict=True):
        if lesion.abnormality == "mass":
            regions.append(("Mass", _polygon(mask)))
            continue
        regions.append(("Cluster", _polygon(mask)))
        regions += [("Calcification", points) for points in _single_points(mask)]
    rois = [_roi(n, name, points) for n, (name, points) in enumerate(regions)]
    image = {"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}
    path = root / "AllXML" / f"{woman.file_number(view)}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plistlib.dumps({"Images": [image]}))


def _polygon(mask: np.ndarray) -> np.ndarray:
    """Some 20 points (x, y) around a mask."""
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    points = max(outlines, key=len)[:, 0, :]
    return points[:: max(len(points) // 20, 1)].astype(float)


def _single_points(mask: np.ndarray) -> list[np.ndarray]:
    """Two calcifications given by one point each, and one by two, in the mask."""
    rows, cols = np.nonzero(mask)
    picks = [len(rows) // 4, len(rows) // 2, 3 * len(rows) // 4]
    points = [np.array([[cols[pick], rows[pick]]], float) for pick in picks]
    points[1] = np.concatenate([points[1], points[1] + 1])
    return points


def _roi(number: int, name: str, points: np.ndarray) -> dict:
    x, y = points.mean(axis=0)
    return {
        "Area": 0.0,
        "Center": f"({x:.6f}, {y:.6f}, 0.000000)",
        "IndexInImage": number,
        "Name": name,
        "NumberOfPoints": len(points),
        "Point_mm": [
            f"({px * SPACING_MM:.6f}, {py * SPACING_MM:.6f}, 0.000000)"
            for px, py in points
        ],
        "Point_px": [f"({px:.6f}, {py:.6f})" for px, py in points],
        "Type": 15 if len(points) > 2 else 19,
    }
