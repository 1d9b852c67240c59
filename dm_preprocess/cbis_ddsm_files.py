"""Where CBIS-DDSM's image files lie, whatever the download's folder layout.

TCIA has handed the same 10 239 files out under five layouts: the tables' own UID paths,
two generations of the NBIA retriever's descriptive folders, NBIA REST, and Kaggle's
JPEGs by SeriesInstanceUID. File names mean nothing in any of them (`000000.dcm` is a
crop here and a mask there), so a file is known by its subject folder
(`Mass-Training_P_00001_LEFT_CC`, or `..._1` for the first finding's mask and crop) or,
where a layout has no such folder, by `dicom_info.csv` or its series. Which file of a
finding is the mask is then a matter of size and pixels.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dm_preprocess.sources import SourceError

SUFFIXES = (".dcm", ".dicom", ".jpg", ".jpeg", ".png")
_JPEG = (".jpg", ".jpeg")
_DICOM = (".dcm", ".dicom")
_SUBJECT = re.compile(
    r"(Mass|Calc)-(Training|Test)_(?P<woman>[\w-]+)_(?P<side>LEFT|RIGHT)"
    r"_(?P<view>CC|MLO)(_\d+)?"
)
# JPEG rings at the outline of a mask: levels this near an end belong to it, and this
# share of the pixels must.
_JPEG_TOLERANCE = 16
_JPEG_SHARE = 0.98
# A crop is cut around a finding; a mask of another size than its image is still about
# as large (the worst of the distributed ones has 0.87 of its image's side).
_LEAST_MASK_SIDE = 0.5


@dataclass(frozen=True)
class ImageFile:
    """One image file by its header: no pixel has been read."""

    path: Path
    height: int
    width: int
    description: str = ""


@dataclass(frozen=True)
class MaskChoice:
    """The outcome of telling a mask from a crop.

    Attributes:
        path: The mask, or None where there is none or the tie cannot be decided.
        problem: Why `path` is None, or "".
    """

    path: Path | None
    problem: str = ""


def read_subject(subject: str) -> tuple[str, str, str] | None:
    """`Mass-Training_P_00001_LEFT_CC` -> ("P_00001", "L", "CC").

    Folders are called so, and the headers' (0010,0020) Patient ID is such a name of one
    image instead of the woman's.

    Returns:
        Woman, side and view; None where it is no such name.
    """
    match = _SUBJECT.fullmatch(subject)
    return match and (match["woman"], match["side"][0], match["view"])


@dataclass
class FileTree:
    """The image files below a folder, by subject and by series."""

    root: Path
    by_subject: dict[str, list[Path]] = field(default_factory=dict)
    by_series: dict[str, list[Path]] = field(default_factory=dict)
    descriptions: dict[Path, str] = field(default_factory=dict)

    def files(self, subject: str, series: Iterable[str] = ()) -> list[Path]:
        """The files of a subject folder, else those of the series the table names.

        Args:
            subject: Such as `Mass-Training_P_00001_LEFT_CC`.
            series: SeriesInstanceUIDs; used only where no file has the subject.

        Returns:
            Paths in sorted order; empty where nothing was found.
        """
        if subject in self.by_subject:
            return self.by_subject[subject]
        found = (self.by_series.get(uid, ()) for uid in series)
        return sorted({path for paths in found for path in paths})


def read_tree(root: Path, dicom_info: Path | None = None) -> FileTree:
    """Walk a download once and sort its image files by subject and by series.

    Args:
        root: The folder of the subject folders, or one above it.
        dicom_info: Kaggle's `dicom_info.csv`, which gives each JPEG its subject.

    Returns:
        The tree; files whose name begins with a dot (macOS) are not in it.

    Raises:
        SourceError: There is no image file at all, or `dicom_info` lacks a column.
    """
    by_subject, by_series = defaultdict(list), defaultdict(list)
    for path in _image_files(root):
        folders = path.relative_to(root).parts[:-1]
        subject = next((f for f in reversed(folders) if _SUBJECT.fullmatch(f)), None)
        if subject is not None:
            by_subject[subject].append(path)
        elif folders:
            by_series[folders[-1]].append(path)
    if not by_subject and not by_series:
        raise SourceError(
            f"{root}: holds no image file ({', '.join(SUFFIXES)}) in a subject or "
            "series folder; for the counts of the tables alone use --index-only"
        )
    tree = FileTree(root, dict(by_subject), dict(by_series))
    if dicom_info is not None:
        _add_subjects(tree, dicom_info)
    return tree


def read_header(path: Path, description: str = "") -> ImageFile:
    """Size and series description of an image file, without its pixels.

    Args:
        path: A DICOM, JPEG or PNG file.
        description: Used where the file itself gives none.

    Raises:
        SourceError: The file cannot be read or gives no size.
    """
    if path.suffix.lower() in _DICOM:
        return _read_dicom_header(path, description)
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, ValueError) as err:
        raise SourceError(f"{path}: not an image: {err}") from err
    return ImageFile(path, height, width, description or path.parent.name)


def choose_full_image(files: Sequence[ImageFile]) -> ImageFile:
    """The full mammogram of a subject's files: by description, else the largest.

    Args:
        files: At least one file.
    """
    named = [f for f in files if "full mammogram" in f.description.lower()]
    return max(named or files, key=lambda f: f.height * f.width)


def choose_mask(files: Sequence[ImageFile], full: ImageFile) -> MaskChoice:
    """Tell a finding's mask from its crop, by size and then by pixels.

    A mask has its image's size and a crop is smaller, so the headers nearly always
    decide. Where no file or more than one has the image's size, a mask is the file
    that holds two values (one, where it is empty). The series description is asked
    last: it is wrong where mask and crop share a series.

    Args:
        files: The files of the finding's folder, in any order; may be empty.
        full: The image that the finding lies on.

    Returns:
        The mask, or None and the reason.

    Raises:
        SourceError: Pixels are needed and cannot be read.
    """
    if not files:
        return MaskChoice(None, "no file in the folder of the finding")
    exact = [f for f in files if (f.height, f.width) == (full.height, full.width)]
    if len(exact) == 1:
        return MaskChoice(exact[0].path)
    large = exact or [f for f in files if _is_large(f, full)]
    masks = [f for f in large if is_two_valued(f.path)]
    if len(masks) > 1:
        masks = [f for f in masks if "mask" in f.description.lower()]
        if len(masks) != 1:
            return MaskChoice(None, f"{len(large)} files look like the mask")
    if not masks:
        sizes = ", ".join(f"{f.path.name} {f.height}x{f.width}" for f in files)
        return MaskChoice(
            None, f"no mask among {sizes} (image {full.height}x{full.width})"
        )
    return MaskChoice(masks[0].path)


def is_two_valued(path: Path) -> bool:
    """Whether an image holds at most two grey levels, as a mask does.

    A JPEG is granted the ringing around a mask's outline.

    Raises:
        SourceError: The pixels cannot be read.
    """
    pixels = _read_pixels(path)
    low, high = pixels.min(), pixels.max()
    if path.suffix.lower() not in _JPEG:
        return bool(((pixels == low) | (pixels == high)).all())
    near = (pixels - low <= _JPEG_TOLERANCE) | (high - pixels <= _JPEG_TOLERANCE)
    return bool(near.mean() >= _JPEG_SHARE)


def series_of(cell: str) -> str:
    """The SeriesInstanceUID in a table's path cell `subject/study/series/file`."""
    parts = cell.split("/")
    return parts[2] if len(parts) == 4 else ""


def is_swapped(mask: Path, mask_cell: str, crop_cell: str) -> bool:
    """Whether the table calls this mask the crop.

    Folders are named by the series UID or end in its last five digits. Where crop and
    mask share a series, only the tables' own file names can tell.

    Args:
        mask: The file that was found to be the mask.
        mask_cell: The table's `ROI mask file path`.
        crop_cell: The table's `cropped image file path`.
    """
    same_series = series_of(mask_cell) == series_of(crop_cell)
    names_crop = _names(crop_cell, mask, by_file=same_series)
    return names_crop and not _names(mask_cell, mask, by_file=same_series)


def _names(cell: str, path: Path, *, by_file: bool) -> bool:
    uid, folder = series_of(cell), path.parent.name
    in_series = bool(uid) and (folder == uid or folder.endswith(f"-{uid[-5:]}"))
    return in_series and (not by_file or path.name == cell.split("/")[-1])


def _image_files(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = sorted(n for n in below if not n.startswith("."))
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder, name)


def _add_subjects(tree: FileTree, dicom_info: Path) -> None:
    """Enter Kaggle's files under the subject that `PatientID` names."""
    needed = ("image_path", "PatientID", "SeriesDescription")
    with open(dicom_info, newline="", encoding="utf-8-sig") as handle:
        rows = csv.DictReader(handle)
        missing = [name for name in needed if name not in (rows.fieldnames or ())]
        if missing:
            raise SourceError(f"{dicom_info}: line 1: missing {', '.join(missing)}")
        for row in rows:
            _add_subject(tree, *((row[name] or "").strip() for name in needed))


def _add_subject(tree: FileTree, cell: str, subject: str, description: str) -> None:
    where = Path(cell)
    for path in tree.by_series.get(where.parent.name, ()):
        if path.name == where.name and _SUBJECT.fullmatch(subject):
            files = tree.by_subject.setdefault(subject, [])
            if path not in files:
                files.append(path)
            tree.descriptions[path] = description


def _read_dicom_header(path: Path, description: str) -> ImageFile:
    import pydicom

    tags = ["Rows", "Columns", "SeriesDescription"]
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        height, width = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        description = str(header.get("SeriesDescription") or description)
    except Exception as err:  # pydicom raises a dozen unrelated types on broken files
        raise SourceError(f"{path}: not a readable DICOM file: {err}") from err
    if not height or not width:
        raise SourceError(
            f"{path}: (0028,0010) Rows and (0028,0011) Columns must be above 0, "
            f"received {height} and {width}"
        )
    return ImageFile(path, height, width, description or path.parent.name)


def _is_large(file: ImageFile, full: ImageFile) -> bool:
    rows, columns = file.height / full.height, file.width / full.width
    return min(rows, columns) >= _LEAST_MASK_SIDE


def _read_pixels(path: Path) -> np.ndarray:
    if path.suffix.lower() in _DICOM:
        import pydicom

        try:
            return pydicom.dcmread(path).pixel_array
        except Exception as err:  # as above; a decoder adds types of its own
            raise SourceError(f"{path}: its pixels cannot be read: {err}") from err
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise SourceError(f"{path}: its pixels cannot be read")
    return pixels
