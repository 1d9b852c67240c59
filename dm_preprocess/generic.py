"""A data set of one's own: a CSV of images and, optionally, one of lesions.

`SRC/images.csv` (or `--table NAME.csv`): path (relative to the CSV), label (0, 1 or
empty), patient_id, laterality, view; optional split, spacing_mm, monochrome1, density,
age, vendor, note, image_id; any other column is kept, except those that conversion
measures itself (height, grey_mean, ...). `lesions.csv` beside it: path, abnormality,
malignant, shape, geometry: `mask` and a path, `circle` and `row col radius`, `box` and
`row0 col0 row1 col1`, `polygon` and `row col row col ...`, in source pixels with the
origin top left. The images are PNG, PGM, TIFF, JPEG or DICOM. patient_id is needed:
without it one woman's images land on both sides of a split.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dm_preprocess.sources import (
    Oddity,
    SourceError,
    SourceImage,
    SourceIndex,
    SourceLesion,
)
from dm_preprocess.tables import ABNORMALITIES, IMAGE_COLUMNS, SPLITS

_NEEDED = ("path", "label", "patient_id", "laterality", "view")
_LESION_NEEDED = ("path", "abnormality", "malignant", "shape", "geometry")
_KNOWN = frozenset({*_NEEDED, "image_id", "split", "spacing_mm", "monochrome1",
                    "density", "age", "vendor", "note"})  # fmt: skip
_SIDES = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R", "": ""}


@dataclass(frozen=True)
class _Cells:
    """One row of a table, with what an error has to name."""

    table: Path
    line: int
    values: dict[str, str]

    def get(self, column: str) -> str:
        return self.values.get(column, "")

    def error(self, column: str, rule: str) -> SourceError:
        return SourceError(
            f"{self.table}: line {self.line}, column {column}: must be {rule}, "
            f"received {self.get(column)!r}"
        )

    def choice(self, column: str, allowed) -> str:
        if self.get(column) not in allowed:
            shown = ", ".join(a or "empty" for a in allowed)
            raise self.error(column, f"one of {shown}")
        return self.get(column)


def index(src: Path, *, table: str = "images.csv", index_only: bool = False):
    """Read the tables.

    Args:
        src: The folder that holds the tables.
        table: The images' table by name.
        index_only: Do not look whether the files are there.

    Returns:
        A `SourceIndex`, one image a row. Images whose file is missing are in `failed`.

    Raises:
        SourceError: A table, column or value breaks a rule, or a lesion's path is no
            image's; file, line and column are named.
    """
    path = Path(src) / table
    rows = list(_read(path, _NEEDED))
    if not rows:
        raise SourceError(f"{path}: the table has no row")
    _check_paths(rows)
    lesions = _read_lesions(path.parent / "lesions.csv", rows)
    names = _image_ids(rows)
    images = [_image(row, names[row.get("path")], lesions) for row in rows]
    missing = [] if index_only else [i for i in images if not i.source_path.is_file()]
    failed = tuple((i.image_id, f"{i.source_path}: no such file") for i in missing)
    found = tuple(image for image in images if image not in missing)
    return SourceIndex(found, _facts(images), tuple(_oddities(images)), failed)


def _read(path: Path, needed: tuple[str, ...]) -> Iterator[_Cells]:
    """The rows with their lines in the file; the csv module knows them, pandas not."""
    if not path.is_file():
        raise SourceError(f"{path}: no such table; it needs {', '.join(needed)}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            header = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in needed if name not in header]
            if missing:
                raise SourceError(
                    f"{path}: line 1: missing column {', '.join(missing)}; found "
                    f"{', '.join(header)}"
                )
            for raw in reader:
                yield _cells(path, reader.line_num, header, raw)
        except (UnicodeDecodeError, csv.Error) as err:
            raise SourceError(f"{path}: not a CSV table in UTF-8: {err}") from err


def _cells(path: Path, line: int, header: list[str], raw: dict) -> _Cells:
    if None in raw or None in raw.values():
        count = sum(value is not None for value in raw.values()) + (None in raw)
        raise SourceError(
            f"{path}: line {line}: must have {len(header)} cells, received "
            f"{'more' if None in raw else count}"
        )
    values = (value.strip() for value in raw.values())
    return _Cells(path, line, dict(zip(header, values, strict=True)))


def _check_paths(rows: list[_Cells]) -> None:
    seen = set()
    for row in rows:
        if not row.get("path"):
            raise row.error("path", "given")
        if row.get("path") in seen:
            raise row.error("path", "given once; it stands twice")
        seen.add(row.get("path"))


def _image(row: _Cells, image_id: str, lesions: dict) -> SourceImage:
    if not row.get("patient_id"):
        raise row.error("patient_id", "given: a woman's images belong to one split")
    side = row.get("laterality").upper()
    if side not in _SIDES:
        raise row.error("laterality", "L, R or empty")
    label = row.choice("label", ("0", "1", ""))
    extra = {k: v for k, v in row.values.items()
             if k not in _KNOWN and k not in IMAGE_COLUMNS}  # fmt: skip
    return SourceImage(
        image_id=image_id, patient_id=row.get("patient_id"), laterality=_SIDES[side],
        view=row.get("view").upper(), label=int(label) if label else None,
        source_path=row.table.parent / row.get("path"), source="generic",
        split=row.choice("split", (*SPLITS, "")),
        lesions=tuple(
            _lesion(cells, f"{image_id}_{number}")
            for number, cells in enumerate(lesions[row.get("path")], start=1)
        ),
        monochrome1=row.choice("monochrome1", ("0", "1", "")) == "1",
        spacing_mm=_positive(row, "spacing_mm"), vendor=row.get("vendor"),
        density=row.get("density"), age=row.get("age"), note=row.get("note"),
        extra=extra,
    )  # fmt: skip


def _positive(row: _Cells, column: str) -> float | None:
    if not row.get(column):
        return None
    value = _number(row, column, row.get(column))
    if value <= 0:
        raise row.error(column, "above 0 or empty")
    return value


def _number(row: _Cells, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as err:
        raise row.error(column, "a number") from err
    if not math.isfinite(value):
        raise row.error(column, "a finite number")
    return value


def _image_ids(rows: list[_Cells]) -> dict[str, str]:
    """A file-safe, unique id for each path: its stem, with folders where needed.

    A column image_id, where there is one, stands in for the stem.
    """
    stems = {
        row.get("path"): _safe(row.get("image_id") or Path(row.get("path")).stem)
        for row in rows
    }
    shared = Counter(name.lower() for name in stems.values())
    names, taken = {}, set()
    for path, stem in stems.items():
        name = stem if shared[stem.lower()] == 1 else _safe(path)
        number, unique = 2, name
        while unique.lower() in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique.lower())
        names[path] = unique
    return names


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "image"


def _read_lesions(path: Path, rows: list[_Cells]) -> dict[str, list[_Cells]]:
    """The lesions' rows by image path; none where there is no such table."""
    found: dict[str, list[_Cells]] = defaultdict(list)
    known = {row.get("path") for row in rows}
    for cells in _read(path, _LESION_NEEDED) if path.is_file() else ():
        if cells.get("path") not in known:
            raise cells.error("path", f"an image's path in {rows[0].table.name}")
        found[cells.get("path")].append(cells)
    return found


def _lesion(cells: _Cells, lesion_id: str) -> SourceLesion:
    shape = cells.choice("shape", tuple(_SHAPES))
    malignant = int(cells.choice("malignant", ("0", "1")))
    return SourceLesion(
        lesion_id=cells.get("lesion_id") or lesion_id,
        abnormality=cells.choice("abnormality", ABNORMALITIES), malignant=malignant,
        shape=shape, geometry=_SHAPES[shape](cells),
        pathology=cells.get("pathology") or ("MALIGNANT" if malignant else "BENIGN"),
        subtlety=cells.get("subtlety"), assessment=cells.get("assessment"),
        note=cells.get("note"),
    )  # fmt: skip


def _mask(cells: _Cells) -> tuple[Path]:
    if not cells.get("geometry"):
        raise cells.error("geometry", "the path of the mask")
    return (cells.table.parent / cells.get("geometry"),)


def _circle(cells: _Cells) -> tuple[float, ...]:
    row, col, radius = _numbers(cells, 3)
    if radius <= 0:
        raise cells.error("geometry", "row col radius with a radius above 0")
    return row, col, radius


def _box(cells: _Cells) -> tuple[float, ...]:
    row0, col0, row1, col1 = _numbers(cells, 4)
    if row1 <= row0 or col1 <= col0:
        raise cells.error(
            "geometry", "row0 col0 row1 col1 with row0 < row1, col0 < col1"
        )
    return row0, col0, row1, col1


def _polygon(cells: _Cells) -> tuple[float, ...]:
    values = _numbers(cells, None)
    if len(values) < 2 or len(values) % 2:
        raise cells.error("geometry", "pairs of row and col")
    return values


def _numbers(cells: _Cells, count: int | None) -> tuple[float, ...]:
    texts = cells.get("geometry").split()
    if count is not None and len(texts) != count:
        raise cells.error("geometry", f"{count} numbers separated by spaces")
    return tuple(_number(cells, "geometry", text) for text in texts)


_SHAPES: dict[str, Callable[[_Cells], tuple]] = {
    "mask": _mask, "circle": _circle, "box": _box, "polygon": _polygon,
}  # fmt: skip


def _facts(images: list[SourceImage]) -> dict[str, int]:
    return {
        "rows": len(images),
        "images": len(images),
        "women": len({image.patient_id for image in images}),
        "positive": sum(image.label == 1 for image in images),
        "negative": sum(image.label == 0 for image in images),
        "without_label": sum(image.label is None for image in images),
        "findings": sum(len(image.lesions) for image in images),
    }


def _oddities(images: list[SourceImage]) -> Iterator[Oddity]:
    splits = defaultdict(set)
    for image in images:
        splits[image.patient_id].add(image.split)
        malignant = any(lesion.malignant for lesion in image.lesions)
        if malignant and image.label == 0:
            detail = "label 0, but a malignant lesion is drawn on it"
            yield Oddity("label against lesion", image.image_id, detail)
    for patient, found in splits.items():
        if len(found - {""}) > 1:
            detail = f"in the splits {', '.join(sorted(found - {''}))}"
            yield Oddity("patient in several splits", patient, detail)
