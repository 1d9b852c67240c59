"""One source image to one working PNG, its lesion masks and its rows for the tables.

Reading may fail for one file and the job goes on; writing may not: a full disk ends
the job. A sidecar `images/<image_id>.json`, written last, holds the rows and a key over
the source files and the parameters, so that what is done is not done again.

Source: Shen et al. 2019, 3.1.1; DICOM grey levels as `dicom` and `images` say.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from dm_preprocess.dicom import is_dicom, read_dicom
from dm_preprocess.images import (
    U16_MAX,
    auto_level,
    breast_box,
    fit,
    mask_box,
    read_gray,
    to_u16,
    write_mask_png,
    write_png,
)
from dm_preprocess.lesion_masks import Frame, source_mask, working_mask
from dm_preprocess.sources import SourceImage, SourceLesion

GREYS = ("full-range", "auto-level")
FORMAT = 1

_DICOM_SAYS = (
    "monochrome1 of the table is not used: the file's own (0028,0004) Photometric "
    "Interpretation is followed"
)


@dataclass(frozen=True)
class Settings:
    """What decides a working image's pixels; recorded in `convert.json`.

    Attributes:
        height: Working rows.
        width: Working columns.
        fit: "squash" or "pad".
        crop_breast: Cut to the breast's box before fitting.
        grey: "full-range" of the stored bits, or each image's own "auto-level".
        voi: Apply a DICOM file's Modality and VOI LUT or window.
    """

    height: int = 1152
    width: int = 896
    fit: str = "squash"
    crop_breast: bool = False
    grey: str = "full-range"
    voi: bool = False


def preparation_columns(settings: Settings) -> dict[str, int | str]:
    """Columns for images.csv: what was not left at its default, for a training to see.

    Whoever trains on these images puts them into the model's input contract.
    """
    plain = Settings()
    made = {name: getattr(settings, name) for name in ("crop_breast", "grey", "voi")}
    return {
        name: value if isinstance(value, str) else int(value)
        for name, value in made.items()
        if value != getattr(plain, name)
    }


@dataclass(frozen=True)
class Converted:
    """What became of one image.

    Attributes:
        image: Its row for images.csv, or None where it failed.
        lesions: Its rows for lesions.csv.
        oddities: (kind, where, detail).
        failed: (image_id, path, reason), or None.
        reused: It was done before.
    """

    image: dict | None
    lesions: tuple[dict, ...] = ()
    oddities: tuple[tuple[str, str, str], ...] = ()
    failed: tuple[str, str, str] | None = None
    reused: bool = False


@dataclass(frozen=True)
class _Source:
    """A source image's pixels at 16 bits and what its file says."""

    grey_u16: np.ndarray
    bits_stored: int
    laterality: str = ""
    view: str = ""
    vendor: str = ""
    spacing_mm: float | None = None
    notes: tuple[str, ...] = ()


def convert_image(image: SourceImage, out: Path, settings: Settings) -> Converted:
    """Convert one image, or take it from an earlier run.

    Args:
        image: What the reader found.
        out: The converted data folder.
        settings: How to convert.

    Returns:
        Rows and oddities; a source file that cannot be read is in `failed`.

    Raises:
        OSError: The output cannot be written (disk full); the file is named.
    """
    try:
        key = _key(image, settings)
        done = _earlier(image, out, key)
        if done is not None:
            return done
        working, row, masks, oddities = _work(image, out, settings)
    except Exception as err:  # decoders raise anything; it is listed in failed.csv
        reason = str(err) if isinstance(err, (ValueError, OSError)) else repr(err)
        return Converted(None, failed=(image.image_id, str(image.source_path), reason))
    lesions = tuple(lesion for lesion, _ in masks)
    for lesion, mask in masks:
        if mask is not None:
            write_mask_png(out / lesion["mask_path"], mask)
    write_png(out / row["path"], working)
    result = Converted(row, lesions, tuple(oddities))
    _write_sidecar(_sidecar(out, image), key, result)
    return result


def _work(image: SourceImage, out: Path, settings: Settings):
    """All that is read and computed, before anything is written."""
    source = _read_source(image, settings)
    grey = source.grey_u16
    oddities = _source_oddities(image, source)
    crop = breast_box(grey) if settings.crop_breast else (0, 0, *grey.shape)
    working, scales = fit(
        grey[crop[0] : crop[2], crop[1] : crop[3]],
        settings.height, settings.width, settings.fit,
    )  # fmt: skip
    geometry = replace(
        scales,
        row_offset=scales.row_offset - crop[0] * scales.row_scale,
        col_offset=scales.col_offset - crop[1] * scales.col_scale,
    )
    frame = Frame(grey.shape, crop, geometry, working.shape, settings.fit)
    masks = [
        _lesion_row(image, number, lesion, frame, oddities)
        for number, lesion in enumerate(image.lesions, start=1)
    ]
    return working, _image_row(image, source, working, frame, out), masks, oddities


def _read_source(image: SourceImage, settings: Settings) -> _Source:
    path = image.source_path
    if is_dicom(path):
        dicom = read_dicom(path, voi=settings.voi)
        grey = to_u16(dicom.pixels, dicom.bits_stored)
        facts = (dicom.laterality, dicom.view, dicom.vendor, dicom.spacing_mm)
        notes = (*dicom.notes, *([_DICOM_SAYS] if image.monochrome1 else []))
        source = _Source(grey, dicom.bits_stored, *facts, notes)
    else:
        stored, bits = read_gray(path)
        grey = to_u16(stored, bits)
        source = _Source(U16_MAX - grey if image.monochrome1 else grey, bits)
    if settings.grey == "auto-level":
        return replace(source, grey_u16=auto_level(source.grey_u16))
    return source


def _source_oddities(image: SourceImage, source: _Source) -> list[tuple[str, str, str]]:
    where = image.image_id
    found = [("file note", where, note) for note in source.notes]
    if _is_constant(source.grey_u16):
        found.append(("constant image", where, f"all {source.grey_u16.flat[0]}"))
    for name in ("laterality", "view"):
        table, file = getattr(image, name), getattr(source, name)
        if table and file and table != file:
            detail = f"the table says {table}, the file {file}; the table's is kept"
            found.append((f"{name} differs", where, detail))
    return found


def _is_constant(grey: np.ndarray) -> bool:
    middle = grey[len(grey) // 2]  # enough for nearly all: the rest need not be read
    return middle.min() == middle.max() and grey.min() == grey.max()


def _image_row(image, source: _Source, working, frame: Frame, out: Path) -> dict:
    extra = {name: value for name, value in image.extra.items()}
    notes = [image.note, *source.notes]
    return extra | {
        "image_id": image.image_id, "patient_id": image.patient_id,
        "laterality": image.laterality or source.laterality,
        "view": image.view or source.view, "split": image.split, "label": image.label,
        "path": f"images/{image.image_id}.png",
        "source_path": Path(os.path.relpath(image.source_path, out)).as_posix(),
        "source": image.source, "source_height": frame.size[0],
        "source_width": frame.size[1], "bits_stored": source.bits_stored,
        "height": working.shape[0], "width": working.shape[1],
        **asdict(frame.geometry),
        "spacing_mm": source.spacing_mm if image.spacing_mm is None
        else image.spacing_mm,
        "grey_mean": round(float(working.mean()) * 255 / U16_MAX, 4),
        "vendor": image.vendor or source.vendor, "density": image.density,
        "age": image.age, "note": "; ".join(note for note in notes if note),
    }  # fmt: skip


def _lesion_row(
    image: SourceImage, number: int, lesion: SourceLesion, frame: Frame,
    oddities: list,
) -> tuple[dict, np.ndarray | None]:  # fmt: skip
    """A lesion's row and its working mask, None where it has no pixel."""
    mask = None
    if lesion.shape == "none":
        oddities.append(("no outline", image.image_id, f"finding {lesion.lesion_id}"))
    else:
        source = source_mask(image, lesion, frame.size, oddities)
        mask = working_mask(source, frame)
        if mask is None:
            reason = "lies outside of the image or crop" if source.any() else "is empty"
            detail = f"finding {lesion.lesion_id} {reason}"
            oddities.append(("empty mask", image.image_id, detail))
    box = (None,) * 4 if mask is None else mask_box(mask)
    path = "" if mask is None else f"masks/{image.image_id}_{number}.png"
    row = {
        "lesion_id": lesion.lesion_id, "image_id": image.image_id,
        "patient_id": image.patient_id, "laterality": image.laterality,
        "abnormality": lesion.abnormality, "malignant": lesion.malignant,
        "pathology": lesion.pathology, "subtlety": lesion.subtlety,
        "assessment": lesion.assessment,
        **dict(zip(("row0", "col0", "row1", "col1"), box, strict=True)),
        "mask_path": path, "note": lesion.note,
    }  # fmt: skip
    return row, mask


def _key(image: SourceImage, settings: Settings) -> str:
    """A digest over everything that decides the result; other pixels, another key."""
    masks = [lesion.geometry[0] for lesion in image.lesions if lesion.shape == "mask"]
    files = []
    for path in [image.source_path, *masks]:
        state = os.stat(path)
        files.append((str(path), state.st_size, state.st_mtime_ns))
    record = (FORMAT, asdict(settings), files, asdict(replace(image, extra={})),
              dict(image.extra))  # fmt: skip
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _sidecar(out: Path, image: SourceImage) -> Path:
    return out / "images" / f"{image.image_id}.json"


def _earlier(image: SourceImage, out: Path, key: str) -> Converted | None:
    """The result of an earlier run, where its key and all of its files are there."""
    path = _sidecar(out, image)
    if not path.is_file():
        return None
    try:
        done = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # not one of ours: the image is converted anew
        return None
    if done.get("key") != key:
        return None
    files = [done["image"]["path"], *(row["mask_path"] for row in done["lesions"])]
    if not all((out / name).is_file() for name in files if name):
        return None
    oddities = tuple(tuple(oddity) for oddity in done["oddities"])
    return Converted(done["image"], tuple(done["lesions"]), oddities, reused=True)


def _write_sidecar(path: Path, key: str, result: Converted) -> None:
    record = {"key": key, "image": result.image, "lesions": result.lesions,
              "oddities": result.oddities}  # fmt: skip
    write_text(path, json.dumps(record, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small text file aside and rename it.

    Raises:
        OSError: It cannot be written; the file is named and no part of it is left.
    """
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as err:
        aside.unlink(missing_ok=True)
        raise OSError(err.errno, f"{err.strerror} while writing", str(path)) from err
