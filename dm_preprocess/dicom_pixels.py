"""The pixels of a DICOM data set: stored values, padding, polarity and display.

The layout is checked, and the size against a bound, before a pixel is decoded. Values
come as they are stored; what spreads them over 16 bits (a VOI) is asked for. Decoders:
numpy for uncompressed pixels; pydicom (RLE) and GDCM (JPEG Lossless, JPEG-LS, JPEG
2000, 8-bit JPEG) in a process of their own, see `frame_decoding`.

Source: DICOM PS3.3 C.7.6.3 (Image Pixel), C.7.5.1.1.2 (Pixel Padding), C.11.1 and
C.11.2 (Modality and VOI LUT).
"""

from __future__ import annotations

import numpy as np

from dm_preprocess.codestreams import declared_size
from dm_preprocess.dicom_values import DicomError, integer, invalid, tag_name, text
from dm_preprocess.frame_decoding import FrameError, decode_frame
from dm_preprocess.frame_worker import OPTIONS

MAX_PIXELS = 100_000_000  # films digitised at 43.5 um have up to 40 million
_NATIVE = frozenset({
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
})  # fmt: skip
_SIZED = frozenset(
    "1.2.840.10008.1.2.4." + kind
    for kind in ("50", "51", "57", "70", "80", "81", "90", "91")
)  # JPEG, JPEG-LS, JPEG 2000: each stream begins with its size
_BIG_ENDIAN = "1.2.840.10008.1.2.2"


def check_layout(dataset, where: str) -> str:
    """The photometric interpretation, after every rule about the pixels' layout.

    Raises:
        DicomError: Naming the tag.
    """
    _check_present(dataset, where)
    if integer(dataset, "SamplesPerPixel", where, 1) != 1:
        raise invalid(where, dataset, "SamplesPerPixel", "must be 1 (grey)")
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise invalid(where, dataset, "PhotometricInterpretation",
                      "must be MONOCHROME1 or MONOCHROME2")  # fmt: skip
    allocated = integer(dataset, "BitsAllocated", where)
    stored = integer(dataset, "BitsStored", where)
    if allocated not in (8, 16):
        raise invalid(where, dataset, "BitsAllocated", "must be 8 or 16")
    if not 1 <= stored <= allocated:
        raise invalid(where, dataset, "BitsStored", f"must be 1 to {allocated}")
    if integer(dataset, "HighBit", where, stored - 1) != stored - 1:
        rule = f"must be BitsStored - 1 = {stored - 1}"
        raise invalid(where, dataset, "HighBit", rule)
    if integer(dataset, "PixelRepresentation", where, 0) not in (0, 1):
        raise invalid(where, dataset, "PixelRepresentation", "must be 0 or 1")
    return photometric


def stored_values(dataset, where: str) -> np.ndarray:
    """The stored values (H, W); bits above BitsStored are kept, to be seen.

    Args:
        dataset: What `check_layout` has passed.
        where: The file, for messages.

    Raises:
        DicomError: Truncated, of another size, or not to be decoded.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in _NATIVE:
        return _decoded(dataset, syntax, where)
    kind = "i" if dataset.get("PixelRepresentation") else "u"
    order = ">" if syntax == _BIG_ENDIAN else "<"
    dtype = np.dtype(f"{order}{kind}{int(dataset.BitsAllocated) // 8}")
    shape = int(dataset.Rows), int(dataset.Columns)
    due, data = shape[0] * shape[1] * dtype.itemsize, dataset.PixelData
    if len(data) < due:
        raise DicomError(
            f"{where}: (7FE0,0010) Pixel Data: truncated: {shape[0]} rows x {shape[1]} "
            f"columns x {dtype.itemsize} bytes = {due} bytes are due, received "
            f"{len(data)}"
        )
    return np.frombuffer(data, dtype, shape[0] * shape[1]).reshape(shape)


def _check_present(dataset, where: str) -> None:
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored"):
        if not integer(dataset, name, where):
            rule = "must be given; not an image, or truncated"
            raise invalid(where, dataset, name, rule)
    if not isinstance(dataset.get("PixelData"), bytes) or not dataset.PixelData:
        raise DicomError(
            f"{where}: {tag_name('PixelData')}: must be given; not an image, or "
            "truncated, received nothing"
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise DicomError(
            f"{where}: (0028,0010) Rows x (0028,0011) Columns: must be 1 to "
            f"{MAX_PIXELS} pixels, received {rows} x {columns}"
        )


def _decoded(dataset, syntax: str, where: str) -> np.ndarray:
    from pydicom.uid import UID, UID_dictionary

    known = syntax in UID_dictionary and UID(syntax).is_transfer_syntax
    if not known or not UID(syntax).is_encapsulated:
        rule = "must be a transfer syntax of images"
        raise invalid(where, dataset.file_meta, "TransferSyntaxUID", rule)
    _check_stream(dataset, syntax, where)
    options = {
        name: int(dataset.get("".join(w.title() for w in name.split("_")), 0))
        for name in OPTIONS[:-1]
    } | {OPTIONS[-1]: text(dataset, "PhotometricInterpretation")}
    try:
        values = decode_frame(dataset.PixelData, syntax, options)
    except FrameError as err:
        raise DicomError(
            f"{where}: (7FE0,0010) Pixel Data: cannot be decoded ({UID(syntax).name}), "
            f"truncated or broken: {err}"
        ) from err
    if values.shape != (dataset.Rows, dataset.Columns) or values.dtype.kind not in "iu":
        raise DicomError(
            f"{where}: (7FE0,0010) Pixel Data: {dataset.Rows} x {dataset.Columns} "
            f"pixels are due, the {UID(syntax).name} stream holds {values.shape}"
        )
    return values


def _check_stream(dataset, syntax: str, where: str) -> None:
    """Refuse a stream that declares another size than the header."""
    from pydicom.encaps import generate_frames

    try:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    except Exception as err:  # of several classes, and StopIteration
        raise DicomError(
            f"{where}: (7FE0,0010) Pixel Data: its fragments are truncated or broken "
            f"({type(err).__name__})"
        ) from None
    size = declared_size(frame)
    due = int(dataset.Rows), int(dataset.Columns), 1
    if size is None and syntax in _SIZED:
        raise DicomError(
            f"{where}: (7FE0,0010) Pixel Data: truncated or broken: its stream "
            "declares no size"
        )
    if size and (size.rows, size.columns, size.samples) != due:
        raise DicomError(
            f"{where}: (7FE0,0010) Pixel Data: {due[0]} x {due[1]} pixels of 1 sample "
            f"are due, its stream declares {size.rows} x {size.columns} of "
            f"{size.samples}"
        )


def padding_of(dataset, stored: np.ndarray, where: str) -> np.ndarray | None:
    """Where the file says that pixels are padding (C.7.5.1.1.2); None: nowhere.

    Raises:
        DicomError: A padding value that is no number.
    """
    first = integer(dataset, "PixelPaddingValue", where)
    if first is None:
        return None
    limit = integer(dataset, "PixelPaddingRangeLimit", where, first)
    bounds = [_same_sign(dataset, value) for value in (first, limit)]
    found = (stored >= min(bounds)) & (stored <= max(bounds))
    return found if found.any() else None


def fill(padding: np.ndarray | None, value: int, stored: np.ndarray) -> np.ndarray:
    """The array with a value where padding is; itself where there is none."""
    return stored if padding is None else np.where(padding, value, stored)


def lowest(dataset) -> int:
    """The lowest value that BitsStored and the sign allow."""
    signed = bool(dataset.get("PixelRepresentation"))
    return -(2 ** (int(dataset.BitsStored) - 1)) if signed else 0


def unsigned(dataset, stored: np.ndarray, where: str) -> np.ndarray:
    """Stored values moved to 0 ... 2**BitsStored - 1.

    Raises:
        DicomError: A value lies outside.
    """
    low = lowest(dataset)
    high = low + 2 ** int(dataset.BitsStored) - 1
    possible = np.iinfo(stored.dtype)
    if (possible.min < low and stored.min() < low) or (
        possible.max > high and stored.max() > high
    ):
        raise invalid(
            where, dataset, "BitsStored",
            f"stored values must lie within {low} and {high}, found "
            f"{int(stored.min())} to {int(stored.max())}",
        )  # fmt: skip
    return stored.astype(np.int32) - low if low else stored


def displayed(dataset, stored: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    """Modality and VOI transform, spread over 16 bits (0 to 65535), and notes.

    Raises:
        DicomError: A transform that cannot be applied.
    """
    if not dataset.get("VOILUTSequence") and dataset.get("WindowCenter") is None:
        top = 2 ** int(dataset.BitsStored) - 1
        levels = unsigned(dataset, stored, where) * (65535 / top)
        return np.round(levels).astype(np.int32), ["no VOI in the file: stored values"]
    try:
        shown, (low, high) = _windowed(dataset, stored), _output_range(dataset)
        scale = 65535 / (high - low)
    except Exception as err:  # of several classes; pydicom's words quote values
        raise DicomError(
            f"{where}: (0028,3010) VOI LUT Sequence or (0028,1050) Window Center: "
            f"cannot be applied ({type(err).__name__})"
        ) from None
    levels = np.nan_to_num((shown - low) * scale)
    return np.round(np.clip(levels, 0, 65535)).astype(np.int32), []


def _windowed(dataset, stored: np.ndarray) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset, index=0)
    return np.asarray(shown, float)


def _same_sign(dataset, value: int) -> int:
    """A padding value read as US although the pixels are signed, or the reverse."""
    span = 2 ** int(dataset.BitsAllocated)
    value %= span
    signed = bool(dataset.get("PixelRepresentation"))
    return value - span if signed and value >= span // 2 else value


def _output_range(dataset) -> tuple[float, float]:
    """The range in which pydicom leaves values after a VOI transform."""
    if dataset.get("VOILUTSequence"):
        return 0.0, 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    if dataset.get("ModalityLUTSequence"):
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        return 0.0, 2.0**bits - 1
    slope = float(dataset.get("RescaleSlope", 1))
    intercept = float(dataset.get("RescaleIntercept", 0))
    low = lowest(dataset)
    ends = [v * slope + intercept for v in (low, low + 2**dataset.BitsStored - 1)]
    return min(ends), max(ends)
