"""The header and the stored bytes of a DICOM file that nobody vouches for.

Opened within bounds: the file's size, the size to which a deflated one may grow, and
how many elements it may hold (a file of empty elements costs a hundred times its
size in memory, nested sequences a stack). Only the elements that are needed are kept,
and each is parsed here, so that a broken one is met here and nowhere else.

Source: DICOM PS3.10 7 (file format), PS3.5 A.5 (deflated).
"""

from __future__ import annotations

import io
import logging
import re
import warnings
import zlib

from dm_preprocess.dicom_values import DicomError, integer, tag_name
from dm_preprocess.file_bytes import (
    FileTooLarge,
    Source,
    read_head,
    read_source,
    source_name,
    suffix_of,
)

SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
MAX_INFLATED_BYTES = 512 * 2**20  # as much as a file may have
MAX_READS = 400_000  # of pydicom: two or three an element; mammograms have some 300
MAX_VALUE_BYTES = 2**20  # of an element other than the pixels; a VOI LUT has 128 KiB
_HEAD = 16 * 2**20
_NEEDED = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "PixelData",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "Modality", "SpecificCharacterSet",
)  # fmt: skip
_DISPLAY = (
    "VOILUTSequence", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
_FACTS = (
    "ImagerPixelSpacing", "PixelSpacing", "ImageLaterality", "Laterality",
    "ViewPosition", "ViewCodeSequence", "ViewModifierCodeSequence", "Manufacturer",
    "SeriesDescription", "SOPClassUID", "PresentationIntentType", "ImageType",
    "EstimatedRadiographicMagnificationFactor", "PartialView", "BreastImplantPresent",
    "BurnedInAnnotation", "BodyPartExamined", "SpecimenDescriptionSequence",
    "PatientID", "IssuerOfPatientID", "StudyInstanceUID",
)  # fmt: skip
KEPT = (*_NEEDED, *_DISPLAY, *_FACTS)
_MAX_CHARSETS = 1024  # bytes; pydicom looks each up, and warns of it, while it reads
_CHARSET_TAGS = (b"\x08\x00\x05\x00", b"\x00\x08\x00\x05")
_SILENT = ("ignore", None, Warning, re.compile(r"pydicom(\.|$)"), 0)
_PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # either byte order


class _BoundedBytes(io.BytesIO):
    """Bytes in memory that end the reading of a file with too much in its header.

    Values that are not kept are skipped, not read, unless they lie in a sequence.
    """

    reads = 0
    _element = b""  # the tag, VR and length that were read last

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise _TooMuch
        if size > self._most():
            raise _TooMuch
        data = super().read(size)
        if size == 8:
            self._element = data
        return data

    def _most(self) -> int:
        """The most bytes that the value of the present element may have."""
        tag = self._element[:4]
        if tag in _PIXEL_TAGS:
            return MAX_INFLATED_BYTES
        return _MAX_CHARSETS if tag in _CHARSET_TAGS else MAX_VALUE_BYTES


class _TooMuch(Exception):
    """Raised through pydicom; no ValueError, which it may take for a broken value."""


def is_dicom(source: Source) -> bool:
    """Whether it is DICOM by its content ("DICM" at 128) or else by a path's suffix.

    Raises:
        OSError: It is not there, may not be read, or is no regular file.
    """
    return read_head(source, 132)[128:] == b"DICM" or suffix_of(source) in SUFFIXES


def open_dicom(source: Source):
    """Read a file's header and stored bytes; nothing is decoded yet.

    Args:
        source: A path, or the bytes of a file.

    Returns:
        A pydicom data set of the elements in `KEPT`, each parsed, with `file_meta`.

    Raises:
        DicomError: No DICOM, truncated, broken, or beyond a bound; the file is named.
        OSError: It is not there, may not be read, or is no regular file.
    """
    where = source_name(source)
    silence_pydicom()
    try:
        data = read_source(source)
    except FileTooLarge as err:
        raise _too_large(source, err) from err
    dataset = _parsed(data, where)
    if not getattr(dataset, "file_meta", None) or not _syntax(dataset):
        raise DicomError(
            f"{where}: {tag_name('TransferSyntaxUID')}: must be given, received nothing"
        )
    _parse_values(dataset, where)
    return dataset


def silence_pydicom() -> None:
    """Keep pydicom's warnings, which quote values, from terminals and logs.

    For the whole process and without `warnings.catch_warnings`, which is not safe in
    threads; files are decoded in several.
    """
    if warnings.filters[:1] != [_SILENT]:  # moving it would leave a gap for threads
        warnings.filterwarnings("ignore", module=_SILENT[3].pattern)
    log = logging.getLogger("pydicom")
    log.disabled, log.propagate = True, False  # its own words, and its modules'


def _too_large(source: Source, err: FileTooLarge) -> DicomError:
    """Why a file is too large: tomosynthesis is said to be that, not a size."""
    try:
        dataset = _parsed(read_head(source, _HEAD), source_name(source), pixels=False)
        check_frames(dataset, source_name(source))
    except DicomError as reason:
        if "multi-frame" in str(reason):
            return reason
    return DicomError(str(err))


def check_frames(dataset, where: str) -> None:
    """Refuse a file of several frames.

    Raises:
        DicomError: Naming the tag.
    """
    frames = integer(dataset, "NumberOfFrames", where, 1)
    if frames > 1:
        raise DicomError(
            f"{where}: {tag_name('NumberOfFrames')}: must be 1: multi-frame "
            f"(tomosynthesis) files are not supported, received {frames}"
        )


def _syntax(dataset):
    """The transfer syntax; a broken one counts as absent."""
    try:
        return dataset.file_meta.get("TransferSyntaxUID")
    except Exception:  # any of pydicom's, which quote the value
        return None


def _parsed(data: bytes, where: str, *, pixels: bool = True):
    """pydicom's data set, with every way in which it fails told in words of ours."""
    from pydicom.errors import InvalidDicomError

    try:
        dataset = _read(data, where, pixels=pixels)
    except DicomError:
        raise
    except InvalidDicomError:
        raise DicomError(f"{where}: not a DICOM file (no DICM at byte 128)") from None
    except (_TooMuch, RecursionError):
        raise DicomError(
            f"{where}: the DICOM file's header is beyond bounds: too many elements, "
            "too deeply nested ones or too long a value"
        ) from None
    except Exception as err:  # pydicom has no common class; its words quote values
        raise DicomError(
            f"{where}: the DICOM file is truncated or broken ({type(err).__name__})"
        ) from None
    if not len(dataset):  # what pydicom leaves where the file ends inside an element
        raise DicomError(
            f"{where}: the DICOM file is truncated or broken: it ends within an element"
        )
    return dataset


def _read(data: bytes, where: str, *, pixels: bool):
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if data[128:132] != b"DICM":
        raise pydicom.errors.InvalidDicomError
    file = _BoundedBytes(data)
    file.seek(132)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return pydicom.dcmread(
            file, stop_before_pixels=not pixels, specific_tags=list(KEPT)
        )
    inflated = _BoundedBytes(_inflated(data[file.tell() :], where))
    tags = [Tag(name) for name in KEPT]
    dataset = read_dataset(inflated, False, True, specific_tags=tags)
    dataset.file_meta = FileMetaDataset(meta)
    return dataset


def _inflated(data: bytes, where: str) -> bytes:
    """A deflated data set; pydicom itself would set no bound to its size."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(data, MAX_INFLATED_BYTES)
    if stream.unconsumed_tail:
        raise DicomError(
            f"{where}: the deflated data set must grow to at most {MAX_INFLATED_BYTES} "
            "bytes, received more"
        )
    if not stream.eof:
        raise DicomError(f"{where}: the DICOM file is truncated: its deflated part is")
    return inflated


def _parse_values(dataset, where: str) -> None:
    """Have pydicom parse every element now, and drop facts that it cannot parse.

    Raises:
        DicomError: An element without which the pixels cannot be understood.
    """
    from pydicom.tag import Tag

    for name in KEPT:
        try:
            _check_length(dataset, name)
            dataset.get(name)
        except Exception as err:  # pydicom has no common class; its words quote values
            if name in _FACTS:
                del dataset[Tag(name)]
                continue
            raise DicomError(
                f"{where}: {tag_name(name)}: cannot be read ({type(err).__name__})"
            ) from None


def _check_length(dataset, name: str) -> None:
    """Refuse to parse a value of many megabytes: a list of a million words."""
    if name == "PixelData" or name not in dataset:
        return
    value = dataset.get_item(name).value
    if isinstance(value, bytes) and len(value) > MAX_VALUE_BYTES:
        raise OverflowError
