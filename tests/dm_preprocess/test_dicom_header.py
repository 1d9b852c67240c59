"""DICOM files of unknown origin: from bytes, with numbers that are none, in silence."""

import dataclasses
import warnings

import numpy as np
import pytest
from planted_header import plain_mammogram

from dm_preprocess import dicom_header
from dm_preprocess.dicom import DicomError, is_dicom, read_dicom

RAMP = np.linspace(0, 4095, 24 * 32).round().astype(np.uint16).reshape(24, 32)


def test_pydicom_is_silenced_once_and_stays_so():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_dicom(plain_mammogram(RAMP))
        before = list(warnings.filters)
        assert before[0][0] == "ignore"
        read_dicom(plain_mammogram(RAMP))
        assert warnings.filters == before


def test_bytes_are_read_as_the_file_is(tmp_path):
    data, path = plain_mammogram(RAMP), tmp_path / "a"
    path.write_bytes(data)
    image, again = read_dicom(path), read_dicom(data)
    np.testing.assert_array_equal(image.pixels, RAMP)
    np.testing.assert_array_equal(again.pixels, RAMP)
    assert dataclasses.replace(again, pixels=None) == dataclasses.replace(
        image, pixels=None
    )
    assert is_dicom(data) and not is_dicom(b"\x89PNG" * 100)


def test_errors_of_bytes_name_the_upload():
    data = plain_mammogram(RAMP, BitsAllocated=32)
    with pytest.raises(DicomError, match=r"^the upload: \(0028,0100\).*received 32$"):
        read_dicom(data)


@pytest.mark.parametrize("tag,wrong", [
    ("Rows", [24, 24]), ("BitsStored", [12, 12]), ("HighBit", [11, 11]),
    ("SamplesPerPixel", [1, 1]), ("PixelRepresentation", 7),
])  # fmt: skip
def test_numbers_that_are_none_are_refused_by_their_tag(tag, wrong):
    data = plain_mammogram(RAMP, **{tag: wrong})
    with pytest.raises(DicomError, match="must be (one whole number|0 or 1), received"):
        read_dicom(data)


def test_transform_that_cannot_be_applied_is_refused_without_its_words():
    data = plain_mammogram(RAMP, WindowCenter=1, WindowWidth=1, RescaleSlope=0,
                           RescaleIntercept=0)  # fmt: skip
    with pytest.raises(DicomError, match=r"Window Center: cannot be applied \(\w+\)$"):
        read_dicom(data, voi=True)


def test_size_is_refused_before_the_pixels_are_looked_at(monkeypatch):
    from dm_preprocess import dicom_pixels

    monkeypatch.setattr(dicom_pixels, "MAX_PIXELS", 24 * 32)
    assert read_dicom(plain_mammogram(RAMP)).height == 24
    monkeypatch.setattr(dicom_pixels, "MAX_PIXELS", 24 * 32 - 1)
    with pytest.raises(DicomError, match=r"must be 1 to 767 pixels, received 24 x 32"):
        read_dicom(plain_mammogram(RAMP))


def test_nothing_is_kept_that_names_a_woman_but_the_ids_that_join_her_views():
    dataset = dicom_header.open_dicom(
        plain_mammogram(RAMP, PatientName="DOE", PatientID="A1", StudyDate="20200102")
    )
    assert dataset.PatientID == "A1"
    assert not {"PatientName", "StudyDate", "SOPInstanceUID"} & set(dataset.dir())
