"""Write synthetic film women as the CBIS-DDSM collection is distributed.

The tree, the four tables and their quirks are those of the real release: newlines
inside path cells, crop and mask that change places, both called 000000.dcm, masks of
another size, an image that stands in the mass and in the calcification table, women
in both official splits, PatientID that is the folder's name. A reader that is right
on this tree has met them all.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dm_preprocess.phantom_anatomy import VIEWS
from dm_preprocess.phantom_dicom import box_of, make_uid, write_dicom
from dm_preprocess.phantom_image import PhantomCase, PhantomImage, render_case
from dm_preprocess.phantom_lesions import Lesion

TABLES = {
    ("mass", "train"): "mass_case_description_train_set.csv",
    ("mass", "test"): "mass_case_description_test_set.csv",
    ("calc", "train"): "calc_case_description_train_set.csv",
    ("calc", "test"): "calc_case_description_test_set.csv",
}
_PATHS = ("image file path", "cropped image file path", "ROI mask file path")
_MIDDLE = ("assessment", "pathology", "subtlety")
HEADERS = {
    "mass": (
        "patient_id", "breast_density", "left or right breast", "image view",
        "abnormality id", "abnormality type", "mass shape", "mass margins",
        *_MIDDLE, *_PATHS,
    ),
    "calc": (
        "patient_id", "breast density", "left or right breast", "image view",
        "abnormality id", "abnormality type", "calc type", "calc distribution",
        *_MIDDLE, *_PATHS,
    ),
}  # fmt: skip
_TYPE_NAME = {"mass": "mass", "calc": "calcification"}
_PREFIX = {
    ("mass", "train"): "Mass-Training",
    ("mass", "test"): "Mass-Test",
    ("calc", "train"): "Calc-Training",
    ("calc", "test"): "Calc-Test",
}
_SIGNS = {
    ("mass", 0): (("OVAL", "ROUND"), ("CIRCUMSCRIBED",)),
    ("mass", 1): (("IRREGULAR",), ("SPICULATED", "ILL_DEFINED")),
    ("calc", 0): (("COARSE", "ROUND_AND_REGULAR"), ("CLUSTERED", "REGIONAL")),
    ("calc", 1): (("PLEOMORPHIC", "FINE_LINEAR_BRANCHING"), ("CLUSTERED",)),
}
TEST_PAIRS = 2
"""Of the ten benign-malignant pairs in a block, these are the official test set."""
LEAKING_FROM = 20
"""Women from which on one or two of them stand in both official splits."""
ODD_ASPECT = 0.94


@dataclass(frozen=True)
class FilmWoman:
    """A woman of the film collection and the official split of each of her tables."""

    case: PhantomCase
    index: int
    splits: dict[str, str]

    @property
    def patient_id(self) -> str:
        return f"P_{self.index + 1:05d}"


def assign_splits(cases: Sequence[PhantomCase]) -> list[FilmWoman]:
    """Give every woman her official split, 80 to 20, both labels alike.

    The first two women who have both a mass and calcifications leak, in a collection
    that is large enough: their masses stand in train, their calcifications in test.
    """
    leaks_left = 2 if len(cases) >= LEAKING_FROM else 0
    women = []
    for index, case in enumerate(cases):
        split = "test" if case.pair < TEST_PAIRS else "train"
        splits = {"mass": split, "calc": split}
        if leaks_left and len({lesion.abnormality for lesion in case.lesions}) == 2:
            splits, leaks_left = {"mass": "train", "calc": "test"}, leaks_left - 1
        women.append(FilmWoman(case, index, splits))
    return women


def write_film_woman(
    root: Path, woman: FilmWoman, *, size: tuple[int, int], difficulty: float
) -> tuple[list[tuple[tuple[str, str], dict]], list[dict]]:
    """Render a woman's two views and write their DICOM files.

    Args:
        root: Of the CBIS-DDSM tree.
        woman: Whom to write.
        size: (height, width) of the full images.
        difficulty: As `render`.

    Returns:
        Rows of the official tables, each with its key in TABLES, and rows of the
        truth about her lesions.
    """
    rows, truth = [], []
    for view in VIEWS:
        picture = render_case(
            woman.case, view, height=size[0], width=size[1], difficulty=difficulty
        )
        for kind in ("mass", "calc"):
            numbers = [
                number
                for number, lesion in enumerate(woman.case.lesions)
                if lesion.abnormality == kind
            ]
            if numbers:
                rows += _write_image(root, woman, view, kind, numbers, picture)
        truth += truth_rows("cbis-ddsm", woman.patient_id, woman.case, view, picture)
    return rows, truth


def write_tables(root: Path, rows: Sequence[tuple[tuple[str, str], dict]]) -> None:
    """Write the four official tables, rows ending in CRLF, in the order given."""
    for key, name in TABLES.items():
        with open(root / name, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, HEADERS[key[0]], lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(row for at, row in rows if at == key)


def truth_rows(
    tree: str, patient_id: str, case: PhantomCase, view: str, picture: PhantomImage
) -> list[dict]:
    """What was really drawn, a row a lesion and view, in pixels of the full image."""
    return [
        {
            "tree": tree,
            "patient_id": patient_id,
            "laterality": case.laterality,
            "view": view,
            "abnormality": lesion.abnormality,
            "malignant": lesion.malignant,
            "row": round(row, 1),
            "col": round(col, 1),
            "radius": round(radius, 1),
        }
        for lesion, (row, col, radius) in zip(
            case.lesions, picture.circles, strict=True
        )
    ]


def is_monochrome1(case: PhantomCase, view: str) -> bool:
    """Whether an image is stored inverted: one in ten, whatever its label."""
    rng = np.random.default_rng([*case.seed, 105, VIEWS.index(view)])
    return bool(rng.uniform() < 0.1)


def _write_image(root, woman: FilmWoman, view, kind, numbers, picture):
    """One folder of the full image, and one for each lesion of one kind in it."""
    split = woman.splits[kind]
    side = woman.case.laterality
    folder = f"{_PREFIX[kind, split]}_{woman.patient_id}_{side}_{view}"
    pixels = np.round(picture.image * 65535).astype(np.uint16)
    path = _new_path(woman, folder, "full", 0)
    _write(root, path, pixels, view, "full mammogram images",
           monochrome1=is_monochrome1(woman.case, view))  # fmt: skip
    rows = []
    for abnormality, number in enumerate(numbers, start=1):
        lesion = woman.case.lesions[number]
        mask = picture.lesion_masks[number]
        cropped, roi = _write_region(
            root, woman, f"{folder}_{abnormality}", view, pixels, mask
        )
        row = _table_row(woman, view, kind, abnormality, lesion)
        row |= dict(zip(_PATHS, _broken_cells(kind, path, cropped, roi), strict=True))
        rows.append(((kind, split), row))
    return rows


def _write_region(root, woman, folder, view, pixels, mask) -> tuple[str, str]:
    """Crop and mask of a lesion; (what the table calls crop, what it calls mask)."""
    rng = np.random.default_rng([*woman.case.seed, 106, sum(folder.encode())])
    fate = rng.uniform()
    first = _new_path(woman, folder, "region", 0)
    second = f"{first.rpartition('/')[0]}/000001.dcm"
    if fate < 0.06:
        second = _new_path(woman, folder, "other", 0)
    crop_path, mask_path = (second, first) if fate > 0.7 else (first, second)
    row0, col0, row1, col1 = box_of(mask)
    _write(root, crop_path, pixels[row0:row1, col0:col1], view, "cropped images")
    stored = _odd_size(mask.astype(np.uint8) * np.uint8(255), woman.index, view)
    _write(root, mask_path, stored, view, "ROI mask images")
    return first, second


def _odd_size(mask_u8: np.ndarray, index: int, view: str) -> np.ndarray:
    """A few women's CC masks have another size: 3 % larger, or of another aspect."""
    height, width = mask_u8.shape
    if view == "CC" and index % 40 == 5:
        return _resized(mask_u8, round(height * 1.03), round(width * 1.03))
    if view == "CC" and index % 100 == 11:
        return _resized(mask_u8, height, round(width * ODD_ASPECT))
    return mask_u8


def _resized(mask_u8: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(mask_u8, (width, height), interpolation=cv2.INTER_NEAREST)


def _new_path(woman: FilmWoman, folder: str, what: str, number: int) -> str:
    key = (*woman.case.seed, folder, what)
    study, series = make_uid(*key, "study"), make_uid(*key, "series")
    return f"{folder}/{study}/{series}/{number:06d}.dcm"


def _write(root: Path, path: str, pixels, view, description, monochrome1=False) -> None:
    folder, study, series, _ = path.split("/")
    write_dicom(
        root / path,
        pixels,
        bits_stored=pixels.dtype.itemsize * 8,
        uids=(study, series, make_uid(path)),
        monochrome1=monochrome1,
        PatientID=folder,
        PatientName=folder,
        BodyPartExamined="BREAST",
        PatientOrientation=view,
        SeriesDescription=description,
    )


def _table_row(woman: FilmWoman, view, kind, abnormality: int, lesion: Lesion) -> dict:
    rng = np.random.default_rng([lesion.seed, 107])
    firsts, seconds = _SIGNS[kind, lesion.malignant]
    if lesion.malignant:
        assessment, pathology = int(rng.integers(4, 6)), "MALIGNANT"
    else:
        assessment = int(rng.integers(2, 5))
        pathology = "BENIGN_WITHOUT_CALLBACK" if assessment == 2 else "BENIGN"
    density = 1 + int(3.999 * woman.case.anatomy.glandular)
    values = (
        woman.patient_id, density, woman.case.laterality, view, abnormality,
        _TYPE_NAME[kind], str(rng.choice(firsts)), str(rng.choice(seconds)),
        assessment, pathology, lesion.subtlety,
    )  # fmt: skip
    return dict(zip(HEADERS[kind], values, strict=False))


def _broken_cells(kind: str, image: str, cropped: str, roi: str) -> tuple[str, ...]:
    """The newline that ends one path cell of every real row."""
    if kind == "mass":
        return image, cropped, roi + "\n"
    return image, cropped + "\n", roi
