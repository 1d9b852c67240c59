"""Values of a DICOM header, read so that none of them gets into a message.

A header names a woman in dozens of fields, and any field may hold what belongs into
another. So an error shows a value only where it is a number or a term that the standard
itself defines; all else is "a value that is not shown". What pydicom says of a broken
value quotes it: its words are not passed on, nor chained as the cause, which a
traceback in a log would print.

Source: DICOM PS3.3 C.7.3.1.1.1 (modalities), C.7.6.3.1.2 (photometric interpretation),
PS3.6 (UIDs).
"""

from __future__ import annotations

MODALITIES = frozenset(
    "ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS "
    "ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN LS MG MR M3D NM OAM OCT OP OPM OPT "
    "OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE "
    "RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN "
    "TEXTUREMAP TG US VA XA XAPROTOCOL XC".split()
)
PHOTOMETRIC = frozenset({
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422",
    "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "HSV", "ARGB", "CMYK",
    "XYB",
})  # fmt: skip
_TERMS = MODALITIES | PHOTOMETRIC | {"YES", "NO", "FOR PRESENTATION", "FOR PROCESSING"}
_NOT_SHOWN = "a value that is not shown"
_LONGEST = 64


class DicomError(ValueError):
    """A DICOM file cannot be used; the message names file and tag, no patient."""


def shown(value) -> str:
    """A value as a message may show it."""
    if value is None or value == "" or value == b"":
        return "nothing"
    if isinstance(value, bool | int | float):  # pydicom's IS and DSfloat are among them
        return f"{float(value):g}" if isinstance(value, float) else str(int(value))
    if isinstance(value, str) and value in _TERMS:
        return repr(str(value))
    return uid_name(value) or _NOT_SHOWN


def uid_name(value) -> str:
    """The standard's name of a UID that it defines, such as a SOP class; else ""."""
    from pydicom.uid import UID_dictionary

    known = UID_dictionary.get(str(value)) if isinstance(value, str) else None
    return known[0] if known else ""


def tag_name(name: str) -> str:
    """A keyword as "(0028,0010) Rows"."""
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(name)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}"


def invalid(where: str, dataset, name: str, rule: str) -> DicomError:
    """The error for a value that breaks a rule."""
    return DicomError(
        f"{where}: {tag_name(name)}: {rule}, received {shown(dataset.get(name))}"
    )


def integer(dataset, name: str, where: str, default: int | None = None) -> int | None:
    """A whole number, or the default where the tag is absent or empty.

    Raises:
        DicomError: It holds something else, or several numbers.
    """
    value = dataset.get(name)
    if value is None or value == "" or value == b"":
        return default
    if isinstance(value, int | float) and value == value and int(value) == value:
        return int(value)
    raise invalid(where, dataset, name, "must be one whole number")


def number(dataset, name: str) -> float | None:
    """The first number of a tag that is only informative; None where there is none."""
    value = dataset.get(name)
    try:
        first = value if isinstance(value, int | float | str) else value[0]
        found = float(first)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None  # absent, empty or no number: nothing depends on it
    return found if abs(found) < float("inf") else None


def text(dataset, name: str) -> str:
    """A value as one line of at most 64 characters, "" where the tag is absent."""
    value = dataset.get(name)
    return "" if value is None else " ".join(str(value).split())[:_LONGEST].strip()


def words(dataset, name: str) -> list[str]:
    """The values of a tag in upper case; none where it is absent."""
    value = dataset.get(name)
    if value is None:
        return []
    several = [value] if isinstance(value, str | bytes) else value
    try:
        return [str(word).strip().upper() for word in several]
    except TypeError:  # one number
        return [str(several)]


def items(dataset, name: str) -> list:
    """The items of a sequence; none where it is absent or no sequence."""
    from pydicom.dataset import Dataset

    value = dataset.get(name)
    if value is None or isinstance(value, str | bytes):
        return []
    try:
        return [item for item in value if isinstance(item, Dataset)]
    except TypeError:
        return []
