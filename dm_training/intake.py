"""One file as it arrives at the desk: its grey levels, and what may be told of it.

Names, ids, dates, UIDs and serial numbers of a header stay here: what leaves is the
side, the view, a keyed hash of the patient id, and sentences of ours. What a model
should not judge (no mammogram, magnification, implant) is said in `unsuitable`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dm_preprocess import dicom, images

PatientKey = Callable[[str], str]


class IntakeError(ValueError):
    """A file cannot be read as a mammogram; the message names the rule, no patient."""


@dataclass(frozen=True)
class Intake:
    """What was read of one file.

    Attributes:
        grey: uint16 (H, W), raw grey levels spread over 16 bits, bright is dense.
        patient: Keyed hash of the patient id, or "".
        laterality: "L", "R" or "".
        view: "CC", "MLO", ... or "".
        notes: What was unusual, in words.
        unsuitable: Why a model should not judge it, in words; empty where it may.
        is_dicom: Whether a Secondary Capture or a report may refer to it.
    """

    grey: np.ndarray
    patient: str = ""
    laterality: str = ""
    view: str = ""
    notes: tuple[str, ...] = ()
    unsuitable: tuple[str, ...] = ()
    is_dicom: bool = False


def read_intake(
    source: str | Path | bytes, *, patient_key: PatientKey | None = None
) -> Intake:
    """Read a DICOM, PNG, TIFF, PGM or JPEG file.

    Args:
        source: A path, or the bytes of a file, which are never written to a disk.
        patient_key: Makes the hash of a patient id; None leaves it empty.

    Raises:
        IntakeError: It cannot be read; the rule is named, no value of a header is.
        OSError: It is not there or may not be read.
    """
    try:
        if dicom.is_dicom(source):
            read = dicom.read_dicom(source)
            grey = images.to_u16(read.pixels, read.bits_stored)
            return Intake(grey, "", read.laterality, read.view, read.notes,
                          is_dicom=True)  # fmt: skip
        stored, bits = images.read_gray(source)
        return Intake(images.to_u16(stored, bits))
    except ValueError as err:
        raise IntakeError(str(err)) from err
