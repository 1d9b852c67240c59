"""A prediction as DICOM: a Secondary Capture of its overlay and a Structured Report.

Both go back to the archive that the mammogram came from, into its own study: they carry
the patient's and the study's identity as the source states it (name, id, its issuer,
birth date, sex; study UID, id, date, time, accession number) and refer to the source
instance. They are patient data, unlike every other output of this project. Nothing else
of the header is copied: no physician, institution, station, serial number, private
element. What the source leaves out and the standard lets be empty stays empty.

Each object opens a new series of the study, apart from the mammograms, with UIDs of its
own; its modality is OT or SR, so that no hanging protocol takes it for a mammogram.
The capture says `BurnedInAnnotation` YES. The standard means text that identifies the
patient, which is not drawn here, but the mammogram beneath may hold some, and a
de-identifier is to stop at pixels with text in them.

Source: DICOM PS3.3 A.8.1 (Secondary Capture), C.7.6.1 (General Image); the report's
content stands in `dicom_sr`.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np

from dm_training.desk_overlays import RESEARCH, OverlayError, path_for, write_aside
from dm_training.dicom_sr import RESEARCH_SENTENCE, SOFTWARE, make_report

ENDINGS = (".overlay.dcm", ".report.dcm")
REFERENCE = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID",
)  # fmt: skip
_IDENTITY = (
    "PatientID", "IssuerOfPatientID", "PatientName", "AccessionNumber", "StudyID",
)  # fmt: skip
_DATES = {"PatientBirthDate": "%Y%m%d", "StudyDate": "%Y%m%d", "StudyTime": "%H%M%S"}
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_SERIES_NUMBER = 9001  # beyond what a modality gives its own series
# What pydicom raises for a value that its representation does not allow.
_MALFORMED = (ValueError, TypeError, AttributeError, NotImplementedError, KeyError)


class DicomOutError(ValueError):
    """No object can be made of that source; the message names the rule, no value."""


def write_dicom(
    folder: str | Path, source: str | Path, overlay: np.ndarray, prediction, *,
    overwrite: bool = False,
) -> list[Path]:  # fmt: skip
    """Write both objects for one image.

    Args:
        folder: Where to; the files are named after `prediction.image_id`.
        source: The DICOM file that was scored; its header is read again.
        overlay: uint8 (H, W, 3), `desk_overlays.overlay_image`.
        prediction: With image_id, laterality, view, score, probability, decision,
            threshold, model, version, flips and notes.
        overwrite: Replace files of the same names; they get new UIDs.

    Returns:
        `image_id.overlay.dcm` and `image_id.report.dcm`.

    Raises:
        DicomOutError: The source is no DICOM file, its header cannot be read or lacks
            what a reference needs, nothing was scored, the image_id leads out of the
            folder, or the files are there already.
        OSError: The disk is full or may not be written.
    """
    for name in ("pydicom", "highdicom"):  # they log values and UIDs of headers
        logging.getLogger(name).setLevel(logging.CRITICAL)
    paths = _paths(folder, prediction.image_id, overwrite)
    if prediction.probability is None:
        raise DicomOutError("there is no probability to report: nothing was scored")
    _check_overlay(overlay)
    header = _read_header(source)
    with warnings.catch_warnings():  # they quote values of the header
        warnings.simplefilter("ignore")
        reference = _reference(header)
        try:
            capture = make_capture(reference, header, overlay, prediction)
            report = make_report(reference, prediction)
            written = [_bytes(capture), _bytes(report)]
        except _MALFORMED as err:
            raise DicomOutError(
                "the source's header does not allow an object that refers to it "
                f"({type(err).__name__})"
            ) from err
    for path, data in zip(paths, written, strict=True):
        write_aside(path, data)
    return paths


def make_capture(reference, header, overlay: np.ndarray, prediction):
    """Make the Secondary Capture image of an overlay.

    Args:
        reference: A data set of the source's identity and UIDs alone.
        header: The source's header, for its orientation and lossy compression.
        overlay: uint8 (H, W, 3).
        prediction: As `write_dicom`.
    """
    from highdicom import UID
    from highdicom.sc import SCImage

    image = SCImage(
        overlay, "RGB", 8, "PATIENT", reference.StudyInstanceUID, UID(), _SERIES_NUMBER,
        UID(), 1, SOFTWARE, patient_orientation=("L", "F"),
        series_description=f"Heat map: {RESEARCH.lower()}",
        manufacturer_model_name=SOFTWARE, content_qualification="RESEARCH",
        specific_character_set="ISO_IR 192",
    )  # fmt: skip
    for keyword in (*_IDENTITY, *_DATES, "PatientSex"):
        if keyword in reference:
            setattr(image, keyword, reference.get(keyword))
    # Both panels lie as the source does; where it does not say, nor does this.
    image.PatientOrientation = header.get("PatientOrientation") or None
    image.BodyPartExamined = "BREAST"
    if prediction.laterality in ("L", "R"):
        image.ImageLaterality = prediction.laterality
    image.BurnedInAnnotation = "YES"
    image.ImageComments = RESEARCH_SENTENCE
    image.DerivationDescription = (
        "The mammogram, windowed, without and with a heat map of a research model; "
        "text is burned in"
    )
    image.SourceImageSequence = [_source_item(reference)]
    _keep_lossy(image, header)
    return image


def _paths(folder, image_id: str, overwrite: bool) -> list[Path]:
    try:
        paths = [path_for(folder, image_id, end) for end in ENDINGS]
    except OverlayError as err:
        raise DicomOutError(str(err)) from err
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise DicomOutError(f"{', '.join(there)}: exists already (overwrite)")
    return paths


def _check_overlay(overlay: np.ndarray) -> None:
    if overlay.dtype != np.uint8 or overlay.ndim != 3 or overlay.shape[2] != 3:
        raise DicomOutError(
            f"overlay must be uint8 (H, W, 3), received {overlay.dtype} {overlay.shape}"
        )


def _read_header(source: str | Path):
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(source, stop_before_pixels=True)
    except InvalidDicomError as err:
        raise DicomOutError(
            "the source is no DICOM file: there is no instance that an overlay or a "
            "report could refer to"
        ) from err
    except (*_MALFORMED, EOFError) as err:
        raise DicomOutError(
            f"the source's header cannot be read ({type(err).__name__})"
        ) from err


def _reference(header):
    """A new data set of nothing but identity and UIDs: all that highdicom may copy."""
    import pydicom

    reference = pydicom.Dataset()
    reference.SpecificCharacterSet = "ISO_IR 192"
    for keyword in REFERENCE:
        value = _text(header, keyword)
        if len(value) > 64 or not _UID.fullmatch(value):
            raise DicomOutError(
                f"the source's {keyword} is missing or malformed: without it no object "
                "can refer to the instance"
            )
        setattr(reference, keyword, value)
    for keyword in _IDENTITY:
        setattr(reference, keyword, _text(header, keyword))
    if not reference.IssuerOfPatientID:
        del reference.IssuerOfPatientID
    sex = _text(header, "PatientSex")
    reference.PatientSex = sex if sex in ("M", "F", "O") else ""
    for keyword, form in _DATES.items():
        setattr(reference, keyword, _moment(_text(header, keyword), form))
    return reference


def _text(header, keyword: str) -> str:
    """A value as text; "" where it is missing or empty."""
    try:
        value = header.get(keyword)
    except _MALFORMED as err:
        raise DicomOutError(
            f"the source's {keyword} cannot be read ({type(err).__name__})"
        ) from err
    return "" if value is None else str(value).strip(" \0")


def _moment(text: str, form: str) -> str:
    """A date or time of the source; "" where it is none."""
    try:
        datetime.strptime(text.partition(".")[0], form)
    except ValueError:
        return ""
    return text


def _source_item(reference):
    import pydicom
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = reference.SOPClassUID
    item.ReferencedSOPInstanceUID = reference.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    return item


def _keep_lossy(image, header) -> None:
    """What was lossy once stays so (PS3.3 C.7.6.1.1.5)."""
    image.LossyImageCompression = "00"
    if _text(header, "LossyImageCompression") == "01":
        image.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if header.get(keyword):
                setattr(image, keyword, header[keyword].value)


def _bytes(dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
