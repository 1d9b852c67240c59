"""One mammogram out of one DICOM file: stored values, spacing, side and view.

What this decides, as the papers' data needs it: the stored values are used as they are
(no window) unless a VOI is asked for; MONOCHROME1 is inverted within BitsStored, never
with the array's own maximum; padding is air, not tissue; anything that is not a single
grey frame is refused with the tag that says so. Names, dates, accession numbers and
serial numbers are never read into the record. How a file is opened is `dicom_header`'s,
how pixels are decoded `dicom_pixels`'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dm_preprocess import dicom_facts, dicom_pixels
from dm_preprocess.dicom_header import SUFFIXES, check_frames, is_dicom, open_dicom
from dm_preprocess.dicom_values import DicomError, invalid, text
from dm_preprocess.file_bytes import Source, source_name

__all__ = [
    "SUFFIXES", "DicomError", "DicomImage", "image_of", "is_dicom", "open_dicom",
    "read_dicom",
]  # fmt: skip


@dataclass(frozen=True)
class DicomImage:
    """One frame and what a table needs to know about it.

    Attributes:
        pixels: uint16 (height, width); bright is dense (MONOCHROME1 inverted), within
            0 and 2**bits_stored - 1; padding is 0. Signed values are shifted up by
            2**(bits_stored - 1).
        bits_stored: BitsStored; 16 after a VOI.
        spacing_mm: Row spacing of a pixel at the detector, or None.
        laterality: "L", "R" or "" where the file does not say.
        view: "CC", "MLO", ... (`dicom_facts.VIEWS`) or "".
        vendor: Manufacturer or "".
        photometric: As the file says, before inversion.
        description: SeriesDescription, which tells CBIS-DDSM's masks from its images.
        notes: What a user should know about the file, in words.
    """

    pixels: np.ndarray
    bits_stored: int
    height: int
    width: int
    spacing_mm: float | None
    laterality: str
    view: str
    vendor: str
    photometric: str
    description: str = ""
    notes: tuple[str, ...] = ()


def read_dicom(
    source: Source, *, mammogram: bool = True, voi: bool = False
) -> DicomImage:
    """Read one grey frame.

    Args:
        source: A path, or the bytes of a file.
        mammogram: Refuse a Modality other than MG.
        voi: Apply Modality LUT, then VOI LUT or window (LINEAR, LINEAR_EXACT or
            SIGMOID, the first of several), and spread the result over 16 bits. The
            default keeps the stored values, as the papers did.

    Returns:
        The frame and its facts.

    Raises:
        DicomError: No DICOM, truncated, several frames or channels, not MG, beyond a
            bound, or values outside BitsStored; file and tag are named, and a value
            only where it is a number or a term of the standard.
        OSError: It is not there, may not be read, or is no regular file.
    """
    dataset, where = open_dicom(source), source_name(source)
    return image_of(dataset, where, mammogram=mammogram, voi=voi)


def image_of(
    dataset, where: str, *, mammogram: bool = True, voi: bool = False
) -> DicomImage:
    """The frame of a data set that `open_dicom` has opened.

    Args:
        dataset: The data set.
        where: The file, for messages.
        mammogram: As `read_dicom`.
        voi: As `read_dicom`.

    Raises:
        DicomError: As `read_dicom`.
    """
    notes = _check_kind(dataset, where, mammogram=mammogram)
    photometric = dicom_pixels.check_layout(dataset, where)
    pixels, bits, more = _grey(dataset, where, photometric, voi=voi)
    return DicomImage(
        pixels, bits, *pixels.shape, spacing_mm=dicom_facts.spacing_of(dataset),
        laterality=dicom_facts.laterality_of(dataset),
        view=dicom_facts.view_of(dataset), vendor=text(dataset, "Manufacturer"),
        photometric=photometric, description=text(dataset, "SeriesDescription"),
        notes=(*notes, *more),
    )  # fmt: skip


def _check_kind(dataset, where: str, *, mammogram: bool) -> list[str]:
    modality = text(dataset, "Modality")
    if mammogram and modality not in ("MG", ""):
        rule = "must be MG: this is no mammogram"
        raise invalid(where, dataset, "Modality", rule)
    check_frames(dataset, where)
    notes = [] if modality or not mammogram else ["Modality is absent"]
    if text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING":
        notes.append("FOR PROCESSING: raw detector values, not a displayed image")
    return notes


def _grey(
    dataset, where: str, photometric: str, *, voi: bool
) -> tuple[np.ndarray, int, list[str]]:
    """uint16 (H, W), bright is dense, padding 0; the bits used; notes."""
    stored, notes = dicom_pixels.stored_values(dataset, where), []
    padding = dicom_pixels.padding_of(dataset, stored, where)
    if padding is not None:
        notes.append(f"{int(padding.sum())} padding pixels set to 0")
    if voi:
        grey, more = dicom_pixels.displayed(dataset, stored.astype(np.int32), where)
        bits, notes = 16, notes + more
    else:
        bits, air = int(dataset.BitsStored), dicom_pixels.lowest(dataset)
        tissue = dicom_pixels.fill(padding, air, stored)
        grey = dicom_pixels.unsigned(dataset, tissue, where)
    if photometric == "MONOCHROME1":
        grey = (2**bits - 1) - grey
    pixels = dicom_pixels.fill(padding, 0, grey).astype(np.uint16, copy=False)
    return pixels, bits, notes
