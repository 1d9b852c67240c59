"""DICOM output: what it refers to, what it says, what it must not carry."""

import logging
import warnings
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dm_training import dicom_out, dicom_sr
from dm_training.dicom_out import DicomOutError, write_dicom

hd = pytest.importorskip("highdicom")

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
OVERLAY = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
PREDICTION = SimpleNamespace(
    image_id="sub/scan.dcm", laterality="R", view="CC", score=0.71,
    probability=0.8312345678, decision="positive", threshold=0.41, model="resnet50",
    version="0f3a9c21d4e7", flips=4, notes=("a border of 3 % on the left",),
)  # fmt: skip
# Kept: the patient's and the study's identity. Everything else of the header is not.
IDENTITY = {
    "PatientName": "Müller^Zoë", "PatientID": "PID-4711", "IssuerOfPatientID": "WARD7",
    "PatientBirthDate": "19600102", "PatientSex": "F", "StudyID": "ST9",
    "StudyDate": "20200304", "StudyTime": "101112.5", "AccessionNumber": "ACC815",
}  # fmt: skip
PLANTED = {
    "ReferringPhysicianName": "PLANTED^Referrer", "InstitutionName": "PLANTED Clinic",
    "InstitutionAddress": "PLANTED Street", "StationName": "PLANTED-ST",
    "PerformingPhysicianName": "PLANTED^Doer", "OperatorsName": "PLANTED^Hand",
    "DeviceSerialNumber": "PLANTED-SERIAL", "PatientAddress": "PLANTED Road",
    "PatientComments": "PLANTED comment", "OtherPatientIDs": "PLANTED-OTHER",
    "StudyDescription": "PLANTED study", "SeriesDescription": "PLANTED series",
    "Manufacturer": "PLANTED Works", "PatientMotherBirthName": "PLANTED^Maiden",
    "MedicalRecordLocator": "PLANTED-MRL", "EthnicGroup": "PLANTED",
    "PhysiciansOfRecord": "PLANTED^Record", "AdditionalPatientHistory": "PLANTED hist",
    "PatientAge": "060Y",
}  # fmt: skip


def make_source(path, *, character_set="ISO_IR 100", **values):
    """A header without pixels; a value of None leaves the attribute out."""
    source = pydicom.Dataset()
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    source.SpecificCharacterSet = character_set
    source.SOPClassUID, source.Modality = MAMMOGRAM, "MG"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(source, keyword, generate_uid())
    for keyword, value in values.items():
        if value is None:
            delattr(source, keyword)
        else:
            setattr(source, keyword, value)
    source.file_meta.MediaStorageSOPClassUID = source.get("SOPClassUID", MAMMOGRAM)
    source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    source.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / "scan.dcm", **IDENTITY, **PLANTED)


@pytest.fixture
def written(tmp_path, source):
    return write_dicom(tmp_path / "out", source, OVERLAY, PREDICTION)


def given(**changes):
    return SimpleNamespace(**{**vars(PREDICTION), **changes})


def group_of(path):
    (group,) = hd.sr.srread(path).content.get_image_measurement_groups()
    return group


def test_files_are_named_after_the_image(tmp_path, written):
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "out/sub/scan.dcm.overlay.dcm", "out/sub/scan.dcm.report.dcm",
    ]  # fmt: skip


def test_capture_is_the_overlay_and_says_what_it_is(source, written):
    header, capture = pydicom.dcmread(source), pydicom.dcmread(written[0])
    np.testing.assert_array_equal(capture.pixel_array, OVERLAY)
    assert capture.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert (capture.Modality, capture.BurnedInAnnotation) == ("OT", "YES")
    assert "not for diagnosis" in capture.SeriesDescription
    assert list(capture.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert capture.ImageLaterality == "R" and capture.ContentQualification == "RESEARCH"
    (item,) = capture.SourceImageSequence
    assert item.ReferencedSOPInstanceUID == header.SOPInstanceUID
    assert item.ReferencedSOPClassUID == header.SOPClassUID


def test_both_belong_to_the_sources_study_in_series_of_their_own(source, written):
    every = [pydicom.dcmread(path) for path in (source, *written)]
    assert len({each.StudyInstanceUID for each in every}) == 1
    assert len({each.SeriesInstanceUID for each in every}) == 3
    assert len({each.SOPInstanceUID for each in every}) == 3


@pytest.mark.parametrize("number", [0, 1], ids=["capture", "report"])
def test_identity_is_the_sources_and_nothing_else_is_copied(written, number):
    found = pydicom.dcmread(written[number])
    assert {name: str(found[name].value) for name in IDENTITY} == IDENTITY
    data = written[number].read_bytes()
    assert b"PLANTED" not in data and b"060Y" not in data
    assert found.ReferringPhysicianName == ""


@pytest.mark.parametrize("number", [0, 1], ids=["capture", "report"])
def test_every_attribute_that_the_standard_demands_is_there(tmp_path, number):
    from highdicom import _standard_utils as standard

    bare = make_source(tmp_path / "bare.dcm")
    found = pydicom.dcmread(write_dicom(tmp_path, bare, OVERLAY, PREDICTION)[number])
    iod = standard.get_sop_class_iod_map()[found.SOPClassUID]
    demanded = [
        (attribute["keyword"], attribute["type"])
        for module in standard.get_iod_module_map()[iod]
        # What the content demands depends on value types: `srread` checks it.
        if module["usage"] == "M" and module["key"] != "sr-document-content"
        for attribute in standard.get_module_attribute_map()[module["key"]]
        if not attribute["path"] and attribute["type"] in ("1", "2")
    ]
    assert len(demanded) > 20
    assert [name for name, _ in demanded if name not in found] == []
    assert [
        name
        for name, kind in demanded
        if kind == "1" and found[name].value in ("", None)
    ] == []


def test_report_refers_to_the_source_and_says_research_in_its_title(source, written):
    header, report = pydicom.dcmread(source), hd.sr.srread(written[1])
    assert isinstance(report, hd.sr.ComprehensiveSR)
    title = report.ConceptNameCodeSequence[0].CodeMeaning
    assert title == "Research only, not for diagnosis: output of a model"
    assert "not for diagnosis" in report.SeriesDescription
    assert report.VerificationFlag == "UNVERIFIED"
    ((study, series, instance, _),) = report.get_evidence()
    assert (study, series) == (header.StudyInstanceUID, header.SeriesInstanceUID)
    assert instance == header.SOPInstanceUID
    (image,) = group_of(written[1]).source_images
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance


def test_report_holds_probability_score_threshold_decision_and_model(written):
    group = group_of(written[1])
    figures = {each.name.value: each.value for each in group.get_measurements()}
    assert figures == pytest.approx(
        {"PROBABILITY": 0.831235, "SCORE": 0.71, "THRESHOLD": 0.41}, abs=1e-9
    )
    units = {each.name.value: each.unit.value for each in group.get_measurements()}
    assert units == {"PROBABILITY": "1", "SCORE": "1", "THRESHOLD": "1"}
    (decision,) = group.get_qualitative_evaluations()
    assert decision.value == hd.sr.CodedConcept("10828004", "SCT", "Positive")
    (site,) = group.finding_sites
    assert site.laterality.meaning == "Right"
    words = texts(written[1])
    assert {"resnet50", "0f3a9c21d4e7"} <= set(words)
    assert "weights: SHA-256 begins 0f3a9c21d4e7" in words
    assert "mean over 4 flips of the image" in words
    assert "positive at threshold 0.4100" in words
    assert any("by the model: 0.8312. Positive is what the labels" in w for w in words)
    assert dicom_sr.RESEARCH_SENTENCE in words
    assert "Note: a border of 3 % on the left" in words


def texts(path):
    """Every text value of a report's tree."""
    return [str(each.value) for each in pydicom.dcmread(path).iterall()
            if each.keyword == "TextValue"]  # fmt: skip


def test_codes_of_the_private_scheme_are_explained(written):
    report = pydicom.dcmread(written[1])
    used = {item.CodingSchemeDesignator for element in report.iterall()
            if element.VR == "SQ" and element.keyword.endswith("CodeSequence")
            for item in element.value}  # fmt: skip
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator in used
    assert {each for each in used if each.startswith("99")} == {dicom_sr.SCHEME}


def test_without_an_operating_point_nothing_is_decided(tmp_path, source):
    bare = given(threshold=None, decision="", laterality="", view="", score=None)
    _, report = write_dicom(tmp_path, source, OVERLAY, bare)
    group = group_of(report)
    assert [each.name.value for each in group.get_measurements()] == ["PROBABILITY"]
    assert group.get_qualitative_evaluations() == []
    assert any("no decision" in words for words in texts(report))


def test_a_rerun_replaces_nothing_unless_told_to(tmp_path, source, written):
    before = [path.read_bytes() for path in written]
    with pytest.raises(DicomOutError, match="exists already"):
        write_dicom(tmp_path / "out", source, OVERLAY, PREDICTION)
    assert [path.read_bytes() for path in written] == before
    first = pydicom.dcmread(written[0]).SOPInstanceUID
    write_dicom(tmp_path / "out", source, OVERLAY, PREDICTION, overwrite=True)
    assert pydicom.dcmread(written[0]).SOPInstanceUID != first
    assert len(list((tmp_path / "out").rglob("*.*"))) == 2


@pytest.mark.parametrize("keyword", dicom_out.REFERENCE)
@pytest.mark.parametrize("value", [None, "1.2.SECRET"], ids=["missing", "malformed"])
def test_a_source_that_cannot_be_referred_to_is_named_not_quoted(
    tmp_path, keyword, value
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = make_source(tmp_path / "scan.dcm", **{keyword: value})
    with pytest.raises(DicomOutError, match=keyword) as caught:
        write_dicom(tmp_path / "out", source, OVERLAY, PREDICTION)
    assert "SECRET" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_source_of_an_unknown_class_is_a_named_error(tmp_path):
    source = make_source(tmp_path / "scan.dcm", SOPClassUID="1.2.3.4.5")
    with pytest.raises(DicomOutError, match="does not allow"):
        write_dicom(tmp_path / "out", source, OVERLAY, PREDICTION)


def test_a_picture_file_cannot_be_referred_to(tmp_path):
    (tmp_path / "scan.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(400))
    with pytest.raises(DicomOutError, match="no DICOM file"):
        write_dicom(tmp_path / "out", tmp_path / "scan.png", OVERLAY, PREDICTION)


def test_what_was_not_scored_is_not_reported(tmp_path, source):
    with pytest.raises(DicomOutError, match="nothing was scored"):
        write_dicom(tmp_path, source, OVERLAY, given(probability=None))


def test_an_id_cannot_lead_out_of_the_folder(tmp_path, source):
    with pytest.raises(DicomOutError, match="image_id"):
        write_dicom(tmp_path, source, OVERLAY, given(image_id="../scan"))


def test_an_overlay_of_another_kind_is_refused(tmp_path, source):
    with pytest.raises(DicomOutError, match="float64"):
        write_dicom(tmp_path, source, OVERLAY / 255, PREDICTION)


ODD = {
    "PatientName": "SECRETNAME", "PatientBirthDate": "SECRET60", "PatientSex": "SECRET",
    "StudyDate": "2020-03-04", "StudyTime": "SECRET", "PatientID": "SECRET" * 20,
}  # fmt: skip


def test_odd_values_are_neither_quoted_nor_in_the_way(tmp_path, capfd, caplog, recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = make_source(tmp_path / "scan.dcm", **ODD)
    caplog.set_level(logging.DEBUG)
    recwarn.clear()
    paths = write_dicom(tmp_path, source, OVERLAY, PREDICTION)
    uid = pydicom.dcmread(source).SOPInstanceUID
    said = caplog.text + "".join(capfd.readouterr())
    assert "SECRET" not in said and uid not in said
    assert not [each for each in recwarn if "SECRET" in str(each.message)]
    found = pydicom.dcmread(paths[1])
    assert found.PatientName == "SECRETNAME" and found.PatientID == "SECRET" * 20
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        assert not found[keyword].value, keyword


def test_what_was_lossy_once_stays_so(tmp_path):
    lossy = make_source(tmp_path / "a.dcm", LossyImageCompression="01",
                        LossyImageCompressionRatio=12.5)  # fmt: skip
    capture, _ = write_dicom(tmp_path, lossy, OVERLAY, PREDICTION)
    found = pydicom.dcmread(capture)
    assert found.LossyImageCompression == "01"
    assert found.LossyImageCompressionRatio == 12.5


def test_panels_are_oriented_as_the_source_is(tmp_path):
    path = make_source(tmp_path / "a.dcm", PatientOrientation=["P", "F"])
    capture, _ = write_dicom(tmp_path, path, OVERLAY, PREDICTION)
    assert list(pydicom.dcmread(capture).PatientOrientation) == ["P", "F"]
