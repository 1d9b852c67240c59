"""One file as it arrives: its pixels, whose it is by hash, what speaks against it."""

import dataclasses
import hashlib

import cv2
import numpy as np
import pytest
from planted_header import plain_mammogram

from dm_training.intake import (
    NO_PATIENT,
    NO_STUDY,
    PLACEHOLDER,
    Intake,
    IntakeError,
    is_placeholder,
    read_intake,
)

RAMP = np.linspace(0, 4095, 24 * 32).round().astype(np.uint16).reshape(24, 32)


def key(patient: str) -> str:
    return hashlib.sha256(b"secret" + patient.encode()).hexdigest()[:12]


def mammogram(**tags) -> bytes:
    return plain_mammogram(
        RAMP, **{"PatientID": "A7", "StudyInstanceUID": "1.9", **tags}
    )


def test_bytes_and_path_give_the_same(tmp_path):
    path = tmp_path / "no_suffix"
    path.write_bytes(mammogram())
    one = read_intake(path, patient_key=key)
    other = read_intake(mammogram(), patient_key=key)
    np.testing.assert_array_equal(one.grey, other.grey)
    assert dataclasses.replace(one, grey=None) == dataclasses.replace(other, grey=None)
    assert (one.laterality, one.view, one.is_dicom) == ("L", "MLO", True)


def test_a_patient_id_that_names_a_cbis_ddsm_image_gives_its_woman():
    def read(subject, **tags):
        data = mammogram(PatientID=subject, ImageLaterality="", ViewPosition="", **tags)
        found = read_intake(data, patient_key=str, keep=True)
        return found.patient, found.patient_raw, found.laterality, found.view

    woman = ("P_00001", "P_00001")
    assert read("Calc-Test_P_00001_LEFT_CC") == (*woman, "L", "CC")
    assert read("Mass-Training_P_00001_RIGHT_MLO_2") == (*woman, "R", "MLO")
    other = "My-Test_P_00001_LEFT_CC"
    assert read(other) == (other, other, "", "")


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_dicom_and_the_picture_made_of_it_have_the_same_levels(suffix):
    grey = read_intake(mammogram()).grey
    data = cv2.imencode(f".{suffix}", grey)[1].tobytes()
    again = read_intake(data, patient_key=key)
    np.testing.assert_array_equal(again.grey, grey)
    assert dataclasses.replace(again, grey=None) == Intake(None)


def test_polarity_does_not_matter():
    inverted = plain_mammogram(4095 - RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_intake(inverted).grey,
                                  read_intake(mammogram()).grey)  # fmt: skip


def test_views_of_one_woman_join_and_others_do_not():
    def patient(**tags):
        return read_intake(mammogram(**tags), patient_key=key)

    first = patient(PatientID="A1", StudyInstanceUID="1.2", ViewPosition="CC")
    second = patient(PatientID="A1 ", StudyInstanceUID="1.3")
    elsewhere = patient(PatientID="A1", IssuerOfPatientID="another hospital")
    assert first.patient == second.patient
    assert len({first.patient, elsewhere.patient, patient(PatientID="A2").patient}) == 3
    assert first.study != second.study
    assert "A1" not in repr(first)
    assert read_intake(mammogram()).patient == read_intake(mammogram()).study == ""


@pytest.mark.parametrize("held,note", [
    ("", NO_PATIENT), (None, NO_PATIENT), ("ANONYMOUS", PLACEHOLDER),
    ("0000", PLACEHOLDER), ("Unknown", PLACEHOLDER), ("XXX-XXX", PLACEHOLDER),
])  # fmt: skip
def test_without_a_patient_id_the_study_joins(held, note):
    read = read_intake(mammogram(PatientID=held, StudyInstanceUID="1.2.3"),
                       patient_key=key)  # fmt: skip
    same = read_intake(mammogram(PatientID=None, StudyInstanceUID="1.2.3"),
                       patient_key=key)  # fmt: skip
    other = read_intake(mammogram(PatientID=held, StudyInstanceUID="1.2.4"),
                        patient_key=key)  # fmt: skip
    assert read.patient == same.patient == read.study != other.patient
    assert note in read.notes
    assert note not in read_intake(mammogram(PatientID=held)).notes  # no key, no join


def test_without_patient_and_study_nothing_joins():
    read = read_intake(mammogram(PatientID=None, StudyInstanceUID=None),
                       patient_key=key)  # fmt: skip
    assert (read.patient, read.study) == ("", "")
    assert NO_STUDY in read.notes


@pytest.mark.parametrize("patient,empty", [
    ("1001", False), ("P_00001", False), ("0", True), ("none", True), ("?", True),
    ("XU", False), ("Test", True), ("9", False),
    ("Anonymous Patient", True), ("anonymous^patient", True), ("PATIENT 7", False),
])  # fmt: skip
def test_placeholders_are_told_from_ids(patient, empty):
    assert is_placeholder(patient) == empty


def test_unsuitable_images_are_read_with_the_reason():
    read = read_intake(mammogram(BreastImplantPresent="YES", Modality="CR"))
    assert read.unsuitable == (
        "no mammogram: its modality is CR, not MG", "a breast implant is present",
    )  # fmt: skip
    assert read.grey.shape == RAMP.shape


def test_constant_picture_is_unsuitable():
    flat = cv2.imencode(".png", np.full((70, 80), 9, np.uint16))[1].tobytes()
    assert read_intake(flat).unsuitable == ("all pixels are equal",)
    padded = plain_mammogram(np.full((9, 9), 7, np.uint16))
    assert "all pixels are equal" in read_intake(padded).unsuitable


def test_several_frames_cannot_be_read():
    with pytest.raises(IntakeError, match=r"multi-frame \(tomosynthesis\) files are"):
        read_intake(mammogram(NumberOfFrames=12))


def test_what_holds_no_image_is_named_by_its_class():
    report = mammogram(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", PixelData=None)
    with pytest.raises(IntakeError, match="Pixel Data: must be.*Encapsulated PDF"):
        read_intake(report)


def test_burned_in_text_is_a_field_and_a_note():
    read = read_intake(mammogram(BurnedInAnnotation="YES"))
    assert read.burned_in and any("burned-in" in note for note in read.notes)


@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a"])
def test_a_file_of_no_bytes_is_called_empty(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(IntakeError, match="the file is empty: it has 0 bytes"):
        read_intake(tmp_path / name)


def test_what_is_no_picture_is_told_all_forms():
    with pytest.raises(IntakeError, match="DICOM, PNG, PGM, TIFF or JPEG is needed"):
        read_intake(b"PK\x03\x04" + bytes(200))


def test_missing_file_is_an_oserror_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.dcm"):
        read_intake(tmp_path / "gone.dcm")
