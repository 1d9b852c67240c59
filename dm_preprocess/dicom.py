"""One mammogram out of one DICOM file: stored values, spacing, side and view.

What this decides, as the papers' data needs it: the stored values are used as they are
(no window) unless a VOI is asked for; MONOCHROME1 is inverted within BitsStored, never
with the array's own maximum; padding is air, not tissue; anything that is not a single
grey frame is refused with the tag that says so. Names, dates, accession numbers and
serial numbers are never read into the record. Decoders: pydicom itself (uncompressed,
RLE) and GDCM (JPEG Lossless, JPEG-LS, JPEG 2000, 8-bit JPEG).

Source: DICOM PS3.3 C.7.6.3 (Image Pixel), C.7.5.1.1.2 (Pixel Padding), C.11.1 and
C.11.2 (Modality and VOI LUT), CID 4014 (views).
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_VIEW_CODES = {
    "399162004": "CC", "399368009": "MLO", "399260004": "ML", "399352003": "LM",
    "399099002": "LMO", "399196006": "FB", "399192008": "XCCL", "399101009": "XCCM",
    "399188001": "SIO", "441555000": "ISO", "R-10242": "CC", "R-10226": "MLO",
    "R-10224": "ML", "R-10228": "LM", "R-10230": "LMO", "R-10244": "FB",
}  # fmt: skip


class DicomError(ValueError):
    """A DICOM file cannot be used; the message names file, tag and value."""


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
        view: "CC", "MLO", ... or "".
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


def is_dicom(path: str | os.PathLike) -> bool:
    """Whether a file is DICOM by its content ("DICM" at 128) or else by its suffix."""
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:] == b"DICM" or Path(path).suffix.lower() in SUFFIXES


def read_dicom(
    path: str | os.PathLike, *, mammogram: bool = True, voi: bool = False
) -> DicomImage:
    """Read one grey frame.

    Args:
        path: The file.
        mammogram: Refuse a Modality other than MG.
        voi: Apply Modality LUT, then VOI LUT or window (LINEAR, LINEAR_EXACT or
            SIGMOID, the first of several), and spread the result over 16 bits. The
            default keeps the stored values, as the papers did.

    Returns:
        The frame and its facts.

    Raises:
        DicomError: No DICOM, truncated, several frames or channels, not MG, or values
            outside BitsStored; file, tag and value are named.
    """
    dataset = _read(path)
    notes = _check_kind(dataset, path, mammogram=mammogram)
    photometric = _check_pixels(dataset, path)
    stored = _stored_values(dataset, path)
    padding = _padding(dataset, stored)
    if padding is not None:
        notes.append(f"{int(padding.sum())} padding pixels set to 0")
    if voi:
        grey, bits, voi_notes = _displayed(dataset, stored.astype(np.int32), path)
        notes += voi_notes
    else:
        bits = int(dataset.BitsStored)
        grey = _unsigned(dataset, _where(padding, _lowest(dataset), stored), path)
    if photometric == "MONOCHROME1":
        grey = (2**bits - 1) - grey
    pixels = _where(padding, 0, grey).astype(np.uint16, copy=False)
    return DicomImage(
        pixels, bits, *pixels.shape, spacing_mm=_spacing(dataset, path),
        laterality=_laterality(dataset), view=_view(dataset),
        vendor=_text(dataset, "Manufacturer"), photometric=photometric,
        description=_text(dataset, "SeriesDescription"), notes=tuple(notes),
    )  # fmt: skip


def _read(path: str | os.PathLike):
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():  # a codec may fill in a missing end unseen
            warnings.filterwarnings("error", message="End of file reached")
            dataset = pydicom.dcmread(path)
    except InvalidDicomError as err:
        raise DicomError(f"{path}: not a DICOM file (no DICM at byte 128)") from err
    except (EOFError, ValueError, KeyError, NotImplementedError, UserWarning) as err:
        raise DicomError(
            f"{path}: the DICOM file is truncated or broken: {err}"
        ) from err
    if not getattr(dataset.file_meta, "TransferSyntaxUID", None):
        raise _error(path, dataset.file_meta, "TransferSyntaxUID", "must be given")
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelData"):
        if not _get(dataset, name, path):
            raise _error(
                path, dataset, name, "must be given; not an image, or truncated"
            )
    return dataset


def _check_kind(dataset, path, *, mammogram: bool) -> list[str]:
    modality = _text(dataset, "Modality")
    if mammogram and modality not in ("MG", ""):
        raise _error(path, dataset, "Modality", "must be MG: this is no mammogram")
    frames = _get(dataset, "NumberOfFrames", path) or 1
    if int(frames) > 1:
        raise _error(
            path, dataset, "NumberOfFrames",
            "must be 1: multi-frame (tomosynthesis) files are not supported",
        )  # fmt: skip
    notes = [] if modality or not mammogram else ["Modality is absent"]
    if _text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING":
        notes.append("FOR PROCESSING: raw detector values, not a displayed image")
    return notes


def _check_pixels(dataset, path) -> str:
    """The photometric interpretation, after every rule about the pixels' layout."""
    if int(_get(dataset, "SamplesPerPixel", path) or 1) != 1:
        raise _error(path, dataset, "SamplesPerPixel", "must be 1 (grey)")
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise _error(path, dataset, "PhotometricInterpretation",
                     "must be MONOCHROME1 or MONOCHROME2")  # fmt: skip
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16):
        raise _error(path, dataset, "BitsAllocated", "must be 8 or 16")
    if not 1 <= stored <= allocated:
        raise _error(path, dataset, "BitsStored", f"must be 1 to {allocated}")
    high = _get(dataset, "HighBit", path)
    if high is not None and int(high) != stored - 1:
        raise _error(path, dataset, "HighBit", f"must be BitsStored - 1 = {stored - 1}")
    return photometric


def _stored_values(dataset, path) -> np.ndarray:
    """The stored values (H, W); bits above BitsStored are kept, to be seen."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed and (
        dataset.file_meta.TransferSyntaxUID.is_encapsulated
    ):
        return _decoded(dataset, path)
    kind = "i" if dataset.get("PixelRepresentation", 0) else "u"
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    dtype = np.dtype(f"{order}{kind}{int(dataset.BitsAllocated) // 8}")
    shape = int(dataset.Rows), int(dataset.Columns)
    due, data = shape[0] * shape[1] * dtype.itemsize, dataset.PixelData
    if len(data) < due:
        raise DicomError(
            f"{path}: (7FE0,0010) Pixel Data: truncated: {shape[0]} rows x {shape[1]} "
            f"columns x {dtype.itemsize} bytes = {due} bytes are due, received "
            f"{len(data)}"
        )
    return np.frombuffer(data, dtype, shape[0] * shape[1]).reshape(shape)


def _decoded(dataset, path) -> np.ndarray:
    from pydicom.pixels import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID.name
    try:
        values = pixel_array(dataset, raw=True)
    except Exception as err:  # the decoders raise whatever they like
        raise DicomError(
            f"{path}: (7FE0,0010) Pixel Data: cannot be decoded ({syntax}), truncated "
            f"or broken: {' '.join(str(err).split())}"
        ) from err
    if values.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise DicomError(
            f"{path}: (7FE0,0010) Pixel Data: {dataset.Rows} x {dataset.Columns} "
            f"pixels are due, the {syntax} stream holds {values.shape}"
        )
    return values


def _padding(dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the file says that pixels are padding (C.7.5.1.1.2); None: nowhere."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    bounds = [
        _same_sign(dataset, v) for v in (first, first if limit is None else limit)
    ]
    found = (stored >= min(bounds)) & (stored <= max(bounds))
    return found if found.any() else None


def _where(padding: np.ndarray | None, value: int, stored: np.ndarray) -> np.ndarray:
    """The array with a value where padding is; itself where there is none."""
    return stored if padding is None else np.where(padding, value, stored)


def _same_sign(dataset, value: int) -> int:
    """A padding value read as US although the pixels are signed, or the reverse."""
    span = 2 ** int(dataset.BitsAllocated)
    value = int(value) % span
    signed = bool(dataset.get("PixelRepresentation", 0))
    return value - span if signed and value >= span // 2 else value


def _lowest(dataset) -> int:
    signed = bool(dataset.get("PixelRepresentation", 0))
    return -(2 ** (int(dataset.BitsStored) - 1)) if signed else 0


def _unsigned(dataset, stored: np.ndarray, path) -> np.ndarray:
    """Stored values moved to 0 ... 2**BitsStored - 1; others are refused."""
    low = _lowest(dataset)
    high = low + 2 ** int(dataset.BitsStored) - 1
    possible = np.iinfo(stored.dtype)
    if (possible.min < low and stored.min() < low) or (
        possible.max > high and stored.max() > high
    ):
        raise _error(
            path, dataset, "BitsStored",
            f"stored values must lie within {low} and {high}, found "
            f"{int(stored.min())} to {int(stored.max())}",
        )  # fmt: skip
    return stored.astype(np.int32) - low if low else stored


def _displayed(dataset, stored, path) -> tuple[np.ndarray, int, list[str]]:
    """Modality and VOI transform, spread over 16 bits (0 to 65535)."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    if not dataset.get("VOILUTSequence") and dataset.get("WindowCenter") is None:
        levels = _unsigned(dataset, stored, path) * (
            65535 / (2**dataset.BitsStored - 1)
        )
        return (
            np.round(levels).astype(np.int32),
            16,
            ["no VOI in the file: stored values"],
        )
    try:
        shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset, index=0)
    except (ValueError, TypeError, IndexError, AttributeError, KeyError) as err:
        raise DicomError(
            f"{path}: (0028,3010) VOI LUT Sequence or (0028,1050) Window Center: "
            f"cannot be applied: {err}"
        ) from err
    low, high = _output_range(dataset)
    levels = (np.asarray(shown, float) - low) * (65535 / (high - low))
    return np.round(np.clip(levels, 0, 65535)).astype(np.int32), 16, []


def _output_range(dataset) -> tuple[float, float]:
    """The range in which pydicom leaves values after a VOI transform."""
    if dataset.get("VOILUTSequence"):
        return 0.0, 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    if dataset.get("ModalityLUTSequence"):
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        return 0.0, 2.0**bits - 1
    slope = float(dataset.get("RescaleSlope", 1))
    intercept = float(dataset.get("RescaleIntercept", 0))
    low = _lowest(dataset)
    ends = [v * slope + intercept for v in (low, low + 2**dataset.BitsStored - 1)]
    return min(ends), max(ends)


def _spacing(dataset, path) -> float | None:
    for name in ("ImagerPixelSpacing", "PixelSpacing"):
        value = _get(dataset, name, path)
        if value and float(value[0]) > 0:
            return float(value[0])
    return None


def _laterality(dataset) -> str:
    for name in ("ImageLaterality", "Laterality"):
        side = _text(dataset, name).upper()[:1]
        if side in ("L", "R"):
            return side
    return ""


def _view(dataset) -> str:
    position = _text(dataset, "ViewPosition").upper()
    if position:
        return position
    for item in dataset.get("ViewCodeSequence") or []:
        code = _text(item, "CodeValue")
        if code in _VIEW_CODES:
            return _VIEW_CODES[code]
    return ""


def _text(dataset, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip()[:64]


def _get(dataset, name: str, path):
    """A value of the data set; pydicom parses it only now, so errors come up here."""
    try:
        return dataset.get(name)
    except (ValueError, TypeError, OverflowError) as err:
        raise DicomError(f"{path}: {_tag(name)}: cannot be read: {err}") from err


def _tag(name: str) -> str:
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(name)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}"


def _error(path, dataset, name: str, rule: str) -> DicomError:
    value = dataset.get(name)
    received = "nothing" if value is None or value == "" else repr(value)
    return DicomError(f"{path}: {_tag(name)}: {rule}, received {received}")
