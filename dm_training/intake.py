"""One file as it arrives at the desk: its grey levels, and what may be told of it.

Names, ids, dates, UIDs and serial numbers of a header stay here: what leaves is the
side, the view, a keyed hash of the patient id, and sentences of ours. What a model
should not judge (no mammogram, magnification, implant) is said in `unsuitable`; what
cannot be read as one grey picture within bounds of size and memory is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dm_preprocess import dicom, dicom_facts, images, suitability
from dm_preprocess.cbis_ddsm_files import read_subject
from dm_preprocess.file_bytes import read_head, source_name

PatientKey = Callable[[str], str]
NO_PATIENT = "no patient id: joined by study"
PLACEHOLDER = "the patient id is a placeholder: joined by study"
NO_STUDY = "no patient id and no study: joined with no other image"
_PLACEHOLDERS = frozenset({
    "ANON", "ANONYM", "ANONYMISED", "ANONYMIZED", "ANONYMOUS", "DEIDENTIFIED",
    "DUMMY", "NA", "NAN", "NIL", "NOID", "NONE", "NOPATIENTID", "NULL", "PATIENT",
    "PATIENTID", "REDACTED", "REMOVED", "TEST", "UNDEFINED", "UNKNOWN", "UNSPECIFIED",
})  # fmt: skip


class IntakeError(ValueError):
    """A file cannot be read as a mammogram; the message names the rule, no patient."""


@dataclass(frozen=True)
class Intake:
    """What was read of one file.

    Attributes:
        grey: uint16 (H, W), raw grey levels spread over 16 bits, bright is dense.
        patient: Keyed hash of the patient id, or of the study where a file gives no
            id; "" without a key.
        laterality: "L", "R" or "".
        view: "CC", "MLO", ... or "".
        notes: What was unusual, in words.
        unsuitable: Why a model should not judge it, in words; empty where it may.
        is_dicom: Whether a Secondary Capture or a report may refer to it.
        study: Keyed hash of the study, or "".
        burned_in: Whether the header says that text is part of the picture.
        patient_raw: The patient id itself, only where `keep` asks for it; it is left
            out when the record is printed.
    """

    grey: np.ndarray
    patient: str = ""
    laterality: str = ""
    view: str = ""
    notes: tuple[str, ...] = ()
    unsuitable: tuple[str, ...] = ()
    is_dicom: bool = False
    study: str = ""
    burned_in: bool = False
    patient_raw: str = field(default="", repr=False)


def read_intake(
    source: str | Path | bytes,
    *,
    patient_key: PatientKey | None = None,
    keep: bool = False,
    voi: bool = False,
) -> Intake:
    """Read a DICOM, PNG, TIFF, PGM or JPEG file.

    Args:
        source: A path, or the bytes of a file, which are never written to a disk.
        patient_key: Makes the hash of a patient id; None leaves it empty.
        keep: Give the patient id itself too, in `patient_raw`.
        voi: Apply a DICOM file's window, as a model's contract may say.

    Raises:
        IntakeError: It cannot be read; the rule is named, and a value of a header only
            where it is a number or a term of the DICOM standard.
        OSError: It is not there, may not be read, or is no regular file.
    """
    try:
        if not read_head(source, 1):
            raise IntakeError("the file is empty: it has 0 bytes")
        if dicom.is_dicom(source):
            return _dicom_intake(source, patient_key, keep=keep, voi=voi)
        stored, bits = images.read_gray(source)
    except ValueError as err:
        raise IntakeError(" ".join(str(err).split())) from err
    return Intake(images.to_u16(stored, bits), unsuitable=_constant(stored))


def reason_of(err: ValueError, source: str | Path | bytes) -> str:
    """What `read_intake` says of a file, on one line and without its path.

    A list names files below the folder that was given; where that lies is not in it.
    """
    words, where = str(err).split(), f"{source_name(source)}:".split()
    return " ".join(words[len(where) :] if words[: len(where)] == where else words)


def _dicom_intake(
    source, patient_key: PatientKey | None, *, keep: bool, voi: bool
) -> Intake:
    dataset, where = dicom.open_dicom(source), source_name(source)
    judged = suitability.judge(dataset)
    try:
        read = dicom.image_of(dataset, where, mammogram=False, voi=voi)
    except dicom.DicomError as err:
        if not judged.reasons:
            raise
        raise IntakeError(f"{err}; {judged.reasons[0]}") from err
    whose, side, view = _whose(dataset)
    patient, study, joined = _joined(whose, patient_key)
    return Intake(
        images.to_u16(read.pixels, read.bits_stored), patient,
        read.laterality or side, read.view or view,
        tuple(dict.fromkeys((*read.notes, *judged.notes, *joined))),
        (*judged.reasons, *_constant(read.pixels)), is_dicom=True, study=study,
        burned_in=judged.burned_in, patient_raw=whose.patient if keep else "",
    )  # fmt: skip


def _whose(dataset) -> tuple[dicom_facts.Identity, str, str]:
    """Identifiers, and side and view where the patient id tells them.

    In CBIS-DDSM's headers it names an image; the woman, whom several share, is in it.
    """
    whose = dicom_facts.identity_of(dataset)
    woman, side, view = read_subject(whose.patient) or (whose.patient, "", "")
    return dataclasses.replace(whose, patient=woman), side, view


def _joined(
    whose: dicom_facts.Identity, patient_key: PatientKey | None
) -> tuple[str, str, tuple[str, ...]]:
    """The hashes of patient and study, and what to know about the first."""
    if patient_key is None:
        return "", "", ()
    study = patient_key(f"study {whose.study}") if whose.study else ""
    if whose.patient and not is_placeholder(whose.patient):
        issued = f"{whose.patient} issued by {whose.issuer}"
        return patient_key(issued if whose.issuer else whose.patient), study, ()
    if not study:
        return "", "", (NO_STUDY,)
    return study, study, (PLACEHOLDER if whose.patient else NO_PATIENT,)


def is_placeholder(patient: str) -> bool:
    """Whether an id names no one: ANONYMOUS, UNKNOWN PATIENT, 0000 and the like."""
    words = "".join(c if c.isalnum() else " " for c in patient.upper()).split()
    joined = "".join(words)
    return not joined or joined in _PLACEHOLDERS or all(map(_says_nothing, words))


def _says_nothing(word: str) -> bool:
    return set(word) in ({"0"}, {"X"}) or word in _PLACEHOLDERS


def _constant(pixels: np.ndarray) -> tuple[str, ...]:
    return ("all pixels are equal",) if pixels.min() == pixels.max() else ()
