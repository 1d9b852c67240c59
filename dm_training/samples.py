"""Which images and labels a run works on: from a table or from class folders.

The patient-level check stands here, where data enters training, and not only where
splits are made: a table edited by hand passes through here too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import inbreast, tables
from dm_preprocess.cbis_ddsm_files import read_subject

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".pgm", ".jpg", ".jpeg")
ROLES = ("train", "val", "test")
_SIDE_AND_VIEW = re.compile(r"_(L|R|LEFT|RIGHT)-(CC|MLO|ML)(?![A-Z])", re.IGNORECASE)
ID_COLUMNS = ("image_id", "patient_id", "laterality", "view")


class SamplesError(ValueError):
    """What was given to train or score on cannot be used; the message says why."""


@dataclass(frozen=True)
class Samples:
    """Images on disk with their labels and ids.

    Attributes:
        frame: One row a sample, with `path` (absolute), `label` (class index, -1
            where there is none) and the id columns; further columns are kept.
        classes: Class names in the order of the label.
        where: What was read, for messages.
        has_patients: Whether patient ids are known.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    where: str
    has_patients: bool

    @property
    def paths(self) -> list[str]:
        """Absolute paths in order."""
        return self.frame["path"].tolist()

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,), -1 for a sample with no label."""
        return self.frame["label"].to_numpy(np.int64)

    def __len__(self) -> int:
        return len(self.frame)

    def counts(self) -> dict[str, int]:
        """Samples a class, in the order of the classes."""
        labels = self.labels
        return {name: int((labels == k).sum()) for k, name in enumerate(self.classes)}


def read_samples(
    source: str | os.PathLike, role: str, *, classes: Sequence[str], labelled=True
) -> Samples:
    """Read samples from a table or from a folder with one folder a class.

    A table with a `class` column holds patches, one with `label` whole images. Where
    the table's `split` column names splits, only the rows of `role` are taken, so that
    one table can be given three times.

    Args:
        source: `images.csv`, `patches.csv` or a folder.
        role: "train", "val" or "test".
        classes: Class names in order; folders or table cells must be among them.
        labelled: Leave out rows without a label; otherwise they get -1.

    Raises:
        SamplesError: Nothing is there, a class is unknown, or (where `labelled`) a
            class has no member.
        TableError: The table breaks a rule; file, line and column are named.
    """
    source = Path(source)
    if role not in ROLES:
        raise ValueError(f"role must be one of {', '.join(ROLES)}, received {role!r}")
    if source.is_dir():
        samples = _from_folder(source, tuple(classes))
    elif source.suffix.lower() == ".csv":
        samples = _from_table(source, role, tuple(classes), labelled)
    else:
        raise SamplesError(f"{source}: neither a folder nor a .csv table")
    if labelled:
        names = [classes[k] for k in samples.labels]
        where = f"{samples.where}, split {role}"
        tables.check_labels_present(names, classes, where=where)
    return samples


def check_patients(parts: dict[str, Samples]) -> str:
    """Refuse parts that share a patient.

    Args:
        parts: Role -> samples.

    Returns:
        "checked: ..." or "not checked: ...", for the run's log and config.

    Raises:
        TableError: Naming the first patients that stand in two parts.
    """
    unknown = [p.where for p in parts.values() if not p.has_patients]
    if unknown:
        return f"not checked: no patient ids in {', '.join(sorted(set(unknown)))}"
    rows = [p.frame[["patient_id"]].assign(split=role) for role, p in parts.items()]
    tables.check_disjoint_patients(pd.concat(rows), where=" + ".join(
        sorted({p.where for p in parts.values()})))  # fmt: skip
    return f"checked: no patient of {', '.join(parts)} stands in another split"


def _from_table(path: Path, role: str, classes, labelled: bool) -> Samples:
    header = pd.read_csv(path, nrows=0).columns if path.is_file() else ()
    patches = "class" in header and "patch_id" in header
    frame = tables.read_patches(path) if patches else tables.read_images(path)
    if (frame["split"] != "").any():
        tables.check_disjoint_patients(frame, where=str(path))
        frame = frame[frame["split"] == role]
        if frame.empty:
            raise SamplesError(f"{path}: no row has split {role!r}")
    if patches:
        index = {name: k for k, name in enumerate(classes)}
        frame = frame.assign(label=frame["class"].map(index).fillna(-2))
        if (frame["label"] == -2).any():
            raise SamplesError(f"{path}: column class holds names not in {classes}")
    elif labelled:
        frame = frame[frame["label"].notna()]
    frame = frame.assign(
        label=frame["label"].fillna(-1).astype(int),
        path=[str(tables.resolve(cell, path).absolute()) for cell in frame["path"]],
    )
    frame = frame.reset_index(drop=True)
    return Samples(frame, classes, str(path), has_patients=True)


def _from_folder(folder: Path, classes: tuple[str, ...]) -> Samples:
    found = sorted(d.name for d in folder.iterdir() if d.is_dir())
    missing = [name for name in classes if name not in found]
    if missing:
        raise SamplesError(
            f"{folder}: no folder for class {', '.join(missing)}; "
            f"found {', '.join(found) or 'no folder at all'}"
        )
    rows = [
        {"path": str(p.absolute()), "image_id": f"{name}/{p.stem}", "label": k}
        for k, name in enumerate(classes)
        for p in sorted((folder / name).rglob("*"))
        if p.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not rows:
        raise SamplesError(f"{folder}: no image in any class folder")
    frame = pd.DataFrame(rows)
    ids = frame["path"].map(ids_of_name)
    for at, name in enumerate(("patient_id", "laterality", "view")):
        frame[name] = [triple[at] for triple in ids]
    sidecar = folder / "images.csv"
    if sidecar.is_file():
        frame = _with_sidecar(frame, sidecar)
    has_patients = bool((frame["patient_id"] != "").all())
    return Samples(frame, classes, str(folder), has_patients)


def ids_of_name(path: str) -> tuple[str, str, str]:
    """`{patient}_{side}_{view}...` -> its parts; empty where the name says nothing.

    CBIS-DDSM's subjects, as a file or a folder is called, and INbreast's
    `{number}_{woman}_MG_{side}_{view}_ANON` are read as their converters do.
    """
    known = inbreast.read_name(Path(path).with_suffix(".dcm")) if path else None
    if known is not None:
        return known.woman, known.laterality, known.view
    for part in (Path(path).stem, *reversed(Path(path).parts[:-1])):
        subject = read_subject(part)
        if subject is not None:
            return subject
    parts = _SIDE_AND_VIEW.sub(r"_\1_\2", Path(path).stem).split("_")
    sides = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R"}
    for at in range(1, len(parts) - 1):
        if parts[at].upper() in sides and parts[at + 1].upper() in ("CC", "MLO", "ML"):
            side, by_mg = sides[parts[at].upper()], parts[at - 1].upper() == "MG"
            patient = parts[at - 2] if by_mg and at > 2 else "_".join(parts[:at])
            return patient, side, parts[at + 1].upper()
    return "", "", ""


def _with_sidecar(frame: pd.DataFrame, sidecar: Path) -> pd.DataFrame:
    known = tables.read_images(sidecar)
    known.index = [str(tables.resolve(c, sidecar).absolute()) for c in known["path"]]
    for name in ID_COLUMNS:
        values = frame["path"].map(known[name])
        frame[name] = values.where(values.notna(), frame[name])
    return frame
