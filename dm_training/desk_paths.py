"""Which files to score: from files, folders and tables, in any mixture.

In a folder everything counts that ends as an image does or begins as a DICOM file;
hidden files and DICOMDIR do not. A table keeps its own ids, splits and labels, a folder
with one folder a class (neg, pos) its labels. Nothing is opened here but for its first
bytes, so that a bad file costs its own line later and not the list.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from dm_preprocess import tables
from dm_preprocess.dicom import SUFFIXES as DICOM_SUFFIXES
from dm_training.samples import ID_COLUMNS, IMAGE_SUFFIXES, SamplesError

KEPT_COLUMNS = ("density", "vendor", "age")  # of a table: subgroups are made of them
_SUFFIXES = frozenset(IMAGE_SUFFIXES) | DICOM_SUFFIXES
_SIDES = {"LEFT": "L", "RIGHT": "R", "l": "L", "r": "R", "left": "L", "right": "R"}
_ENDING = re.compile(r"\.[a-z0-9]{1,5}")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")  # they break lines and screens


@dataclass(frozen=True)
class Item:
    """One file to score.

    Attributes:
        image_id: The path below the given folder, a file's name, or a table's id.
        path: Absolute.
        patient_id, laterality, view: As a table has them; "" elsewhere.
        split: A table's, or "".
        y_true: 0, 1 or None.
        kept: Further columns of a table, as pairs.
    """

    image_id: str
    path: str
    patient_id: str = ""
    laterality: str = ""
    view: str = ""
    split: str = ""
    y_true: int | None = None
    kept: tuple[tuple[str, str], ...] = ()


def list_items(
    paths: Sequence[str], split: str = "test", *, passed: Counter | None = None
) -> list[Item]:
    """List what the command line names, each file once.

    Args:
        paths: Files, folders and tables (`.csv`).
        split: Rows of tables to take: "train", "val", "test" or "all"; a table that
            names no split is taken whole.
        passed: Counts, by their endings, files of folders that are not taken.

    Raises:
        SamplesError: A path is not there, or nothing to score is found.
        TableError: A table breaks a rule.
    """
    passed = Counter() if passed is None else passed
    found = [item for path in paths for item in _items_of(Path(path), split, passed)]
    in_tables = {item.path for item in found if item.patient_id}
    once: dict[tuple[str, str], Item] = {}
    for item in found:
        if item.patient_id:
            once.setdefault((item.path, item.image_id), item)
        elif item.path not in in_tables:  # a table knows more of it
            once.setdefault((item.path, ""), item)
    if not once:
        said = f" ({passed_over(passed)})" if passed else ""
        raise SamplesError(f"{', '.join(map(str, paths))}: no image found{said}")
    return _told_apart(list(once.values()))


def passed_over(passed: Counter) -> str:
    """What `list_items` counted, in words: "3 files passed over (2 .txt, 1 .zip)"."""
    count = sum(passed.values())
    kinds = ", ".join(f"{number} {kind}" for kind, number in passed.most_common())
    return f"{count} file{'s' * (count != 1)} passed over ({kinds})"


def _items_of(path: Path, split: str, passed: Counter) -> list[Item]:
    if path.suffix.lower() == ".csv":
        return _of_table(path, split)
    if path.is_file():
        return [Item(printable(path.name), str(path.absolute()))]
    if not path.is_dir():
        raise SamplesError(f"{path}: no such file or folder")
    if all((path / name).is_dir() for name in tables.IMAGE_CLASSES):
        return _of_classes(path, passed)
    return [
        Item(printable(found.relative_to(path).as_posix()), str(found.absolute()))
        for found in _files_in(path, passed)
    ]


def _files_in(folder: Path, passed: Counter) -> Iterator[Path]:
    """Files below a folder that may be images, and folders that cannot be opened.

    What lies in those nobody knows: they shall fail by their names.
    """
    found, closed = [], set()
    walk = os.walk(folder, onerror=lambda err: closed.add(Path(err.filename)))
    for base, _, names in walk:
        found += [Path(base, name) for name in names]
    for path in sorted([*found, *closed]):
        if path in closed:
            yield path
            continue
        if not (path.is_file() or path.is_symlink()) or path.is_dir():
            continue
        hidden = path.name.startswith(".") or path.name.upper() == "DICOMDIR"
        if hidden or not (path.suffix.lower() in _SUFFIXES or _begins_as_dicom(path)):
            passed[_kind_of(path)] += 1
        else:
            yield path


def _kind_of(path: Path) -> str:
    """A file that is not taken by its ending, never by its name."""
    if path.name.startswith("."):
        return "hidden"
    if path.name.upper() == "DICOMDIR":
        return "DICOMDIR"
    ending = path.suffix.lower()
    return ending if _ENDING.fullmatch(ending) else "of another ending"


def _begins_as_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:  # whether it is an image nobody knows: it shall fail by its name
        return True


def _of_table(path: Path, split: str) -> list[Item]:
    frame = tables.read_images(path, paths_as_ids=True)
    if split != "all" and (frame["split"] != "").any():
        frame = frame[frame["split"] == split]
        if frame.empty:
            raise SamplesError(f"{path}: no row has split {split!r}")
    kept = [name for name in KEPT_COLUMNS if name in frame]
    frame["laterality"] = frame["laterality"].replace(_SIDES)
    return [
        Item(
            row["image_id"], str(tables.resolve(row["path"], path).absolute()),
            row["patient_id"], row["laterality"], row["view"], row["split"],
            None if pd.isna(row["label"]) else int(row["label"]),
            tuple((name, row[name]) for name in kept),
        )
        for row in frame.to_dict("records")
    ]  # fmt: skip


def _of_classes(folder: Path, passed: Counter) -> list[Item]:
    """Files of class folders with their labels; ids of a sidecar `images.csv`."""
    sidecar, known = folder / "images.csv", {}
    if sidecar.is_file():
        known = {item.path: item for item in _of_table(sidecar, "all")}
    found = []
    for label, name in enumerate(tables.IMAGE_CLASSES):
        for path in _files_in(folder / name, passed):
            image_id = printable(f"{name}/{path.stem}")
            item = Item(image_id, str(path.absolute()), y_true=label)
            row = known.get(item.path)
            ids = {} if row is None else {n: getattr(row, n) for n in ID_COLUMNS}
            found.append(replace(item, **ids))
    return found


def printable(path: str) -> str:
    """A path as an id: bytes that are no UTF-8 and control characters are escaped.

    A table is UTF-8 text, which such a name could not be written into.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda c: c[0].encode("unicode_escape").decode(), text)


def _told_apart(found: list[Item]) -> list[Item]:
    """Ids that stand twice become paths below the nearest folder around all of them.

    Raises:
        SamplesError: Two ids are alike even so.
    """
    counts = Counter(item.image_id for item in found)
    twice = [item.path for item in found if counts[item.image_id] > 1]
    if not twice:
        return found
    top = os.path.commonpath([os.path.dirname(path) for path in twice])
    items = [
        replace(
            item, image_id=printable(Path(os.path.relpath(item.path, top)).as_posix())
        )
        if counts[item.image_id] > 1
        else item
        for item in found
    ]
    counts = Counter(item.image_id for item in items)
    image_id, times = counts.most_common(1)[0]
    if times > 1:
        raise SamplesError(f"{times} images would be called {image_id!r}")
    return items
