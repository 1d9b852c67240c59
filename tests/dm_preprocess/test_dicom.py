"""DICOM files, each written here: grey levels, facts, and what is refused."""

import dataclasses

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

from dm_preprocess.dicom import DicomError, DicomImage, is_dicom, read_dicom

MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"


def write(path, pixels, *, bits=12, syntax=ExplicitVRLittleEndian, **tags):
    """A minimal mammogram; `tags` replace its own, None removes one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = MAMMOGRAPHY, generate_uid()
    dataset.Modality, dataset.PhotometricInterpretation = "MG", "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def ramp(bits=12, shape=(24, 32)):
    """A smooth image that holds 0 and the highest value, so that codecs are tried."""
    values = np.linspace(0, 2**bits - 1, shape[0] * shape[1])
    return values.round().astype(np.uint16).reshape(shape)


def transcode(path, out, syntax):
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(out))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return out


CODECS = [
    "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian", "RLELossless",
    "JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless",
    "JPEG2000Lossless",
]  # fmt: skip


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("syntax", CODECS)
def test_every_transfer_syntax_gives_the_stored_values(tmp_path, syntax, bits):
    plain = write(tmp_path / "plain.dcm", ramp(bits), bits=bits)
    coded = transcode(plain, tmp_path / "coded.dcm", syntax)
    assert pydicom.dcmread(coded).file_meta.TransferSyntaxUID != ExplicitVRLittleEndian
    image = read_dicom(coded)
    np.testing.assert_array_equal(image.pixels, ramp(bits))
    assert image.bits_stored == bits


def test_big_endian_gives_the_stored_values(tmp_path):
    pixels = ramp().astype(">u2")
    path = write(tmp_path / "a.dcm", pixels, syntax=ExplicitVRBigEndian)
    np.testing.assert_array_equal(read_dicom(path).pixels, ramp())


def test_8_bit_file_is_read(tmp_path):
    pixels = np.array([[0, 1], [254, 255]], np.uint8)
    image = read_dicom(write(tmp_path / "a.dcm", pixels, bits=8))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert (image.pixels.dtype, image.bits_stored) == (np.uint16, 8)


def test_monochrome1_is_inverted_within_bits_stored_not_the_maximum(tmp_path):
    pixels = np.array([[0, 100, 3000]], np.uint16)  # the maximum is below 4095
    path = write(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_dicom(path).pixels, [[4095, 3995, 1095]])
    assert read_dicom(path).photometric == "MONOCHROME1"


def test_signed_values_are_shifted_up_by_half_of_the_range(tmp_path):
    pixels = np.array([[-2048, -1, 0, 2047]], np.int16)
    found = read_dicom(write(tmp_path / "a.dcm", pixels)).pixels
    np.testing.assert_array_equal(found, [[0, 2047, 2048, 4095]])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_becomes_air_whatever_the_polarity(tmp_path, photometric):
    pixels = np.array([[65535, 10, 2000, 65534]], np.uint16)
    path = write(tmp_path / "a.dcm", pixels, PhotometricInterpretation=photometric)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 65534)
    dataset.add_new("PixelPaddingRangeLimit", "US", 65535)
    dataset.save_as(path)
    image = read_dicom(path)
    inner = [4085, 2095] if photometric == "MONOCHROME1" else [10, 2000]
    np.testing.assert_array_equal(image.pixels, [[0, *inner, 0]])
    assert image.notes == ("2 padding pixels set to 0",)


def test_signed_padding_is_understood(tmp_path):
    pixels = np.array([[-2048, 5]], np.int16)
    path = write(tmp_path / "a.dcm", pixels)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS", -2048)
    dataset.save_as(path)
    image = read_dicom(path)
    np.testing.assert_array_equal(image.pixels, [[0, 2053]])
    assert "1 padding" in image.notes[0]


def test_values_above_bits_stored_are_refused_with_the_tag(tmp_path):
    path = write(tmp_path / "a.dcm", np.array([[0, 4096]], np.uint16))
    with pytest.raises(DicomError, match=r"\(0028,0101\) Bits Stored.*0 to 4096"):
        read_dicom(path)


def test_facts_come_from_the_tags(tmp_path):
    path = write(
        tmp_path / "a.dcm", ramp(), ImagerPixelSpacing=[0.07, 0.08], ViewPosition="MLO",
        PixelSpacing=[0.2, 0.2], ImageLaterality="R", Manufacturer=" ACME ",
        PresentationIntentType="FOR PROCESSING", SeriesDescription="ROI mask images",
    )  # fmt: skip
    image = read_dicom(path)
    assert (image.height, image.width, image.spacing_mm) == (24, 32, 0.07)
    assert (image.laterality, image.view, image.vendor) == ("R", "MLO", "ACME")
    assert image.description == "ROI mask images"
    assert any("FOR PROCESSING" in note for note in image.notes)


def test_absent_facts_are_empty(tmp_path):
    image = read_dicom(write(tmp_path / "a.dcm", ramp()))
    facts = (image.laterality, image.view, image.vendor, image.spacing_mm, image.notes)
    assert facts == ("", "", "", None, ())


@pytest.mark.parametrize(
    "code,view", [("399162004", "CC"), ("R-10226", "MLO"), ("1", "")]
)
def test_view_and_side_have_second_sources(tmp_path, code, view):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code, "SCT"
    path = write(tmp_path / "a.dcm", ramp(), ViewCodeSequence=[item], Laterality="L",
                 PixelSpacing=[0.1, 0.2])  # fmt: skip
    image = read_dicom(path)
    assert (image.view, image.laterality, image.spacing_mm) == (view, "L", 0.1)


def test_names_dates_and_numbers_never_reach_the_record(tmp_path):
    path = write(
        tmp_path / "a.dcm", ramp(), PatientName="Doe^Jane", PatientID="SECRET1",
        StudyDate="20200102", AccessionNumber="SECRET2", DeviceSerialNumber="SECRET3",
        PatientBirthDate="19500102",
    )  # fmt: skip
    shown = repr(dataclasses.astuple(read_dicom(path)))
    for secret in ("Doe", "SECRET", "20200102", "19500102"):
        assert secret not in shown
    assert not {"patient", "date"} & {f.name for f in dataclasses.fields(DicomImage)}


def test_truncated_file_names_file_and_pixel_data(tmp_path):
    path = write(tmp_path / "cut.dcm", ramp())
    path.write_bytes(path.read_bytes()[:-100])
    message = r"cut\.dcm: \(7FE0,0010\) Pixel Data: truncated: .* = 1536 bytes are due"
    with pytest.raises(DicomError, match=message):
        read_dicom(path)


@pytest.mark.parametrize("missing", [10, 40, 2000])
@pytest.mark.parametrize("syntax", CODECS[2:])
def test_truncated_compressed_file_is_refused(tmp_path, syntax, missing):
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    plain = write(tmp_path / "plain.dcm", noise)
    coded = transcode(plain, tmp_path / "cut.dcm", syntax)
    coded.write_bytes(coded.read_bytes()[:-missing])
    with pytest.raises(DicomError, match=r"cut\.dcm: the DICOM file is truncated"):
        read_dicom(coded)


def test_broken_compressed_stream_is_refused_with_the_tag(tmp_path):
    coded = transcode(
        write(tmp_path / "plain.dcm", ramp()), tmp_path / "bad.dcm", "JPEGLSLossless"
    )
    dataset = pydicom.dcmread(coded)
    dataset.PixelData = dataset.PixelData[:40] + bytes(len(dataset.PixelData) - 40)
    dataset.save_as(coded)
    with pytest.raises(
        DicomError, match=r"bad\.dcm: \(7FE0,0010\) .*cannot be decoded"
    ):
        read_dicom(coded)


def test_header_cut_before_the_image_is_refused(tmp_path):
    path = write(tmp_path / "cut.dcm", ramp())
    path.write_bytes(path.read_bytes()[:360])
    with pytest.raises(DicomError, match=r"cut\.dcm: .*\(0028,0010\) Rows|truncated"):
        read_dicom(path)


@pytest.mark.parametrize(
    "tags,message",
    [
        ({"Modality": "CT"}, r"\(0008,0060\) Modality: must be MG.*'CT'"),
        ({"NumberOfFrames": 3}, r"\(0028,0008\) Number of Frames: must be 1.*3"),
        ({"SamplesPerPixel": 3}, r"\(0028,0002\) Samples per Pixel: must be 1.*3"),
        (
            {"PhotometricInterpretation": "RGB"},
            r"\(0028,0004\) Photometric Interpretation: .*MONOCHROME2, received 'RGB'",
        ),
        ({"BitsAllocated": 32}, r"\(0028,0100\) Bits Allocated: must be 8 or 16"),
        ({"BitsStored": 17}, r"\(0028,0101\) Bits Stored: must be 1 to 16"),
        ({"HighBit": 15}, r"\(0028,0102\) High Bit: must be BitsStored - 1 = 11"),
        ({"Rows": None}, r"\(0028,0010\) Rows: must be given.*received nothing"),
        ({"PixelData": None}, r"\(7FE0,0010\) Pixel Data: must be given"),
    ],
)
def test_what_is_no_single_grey_mammogram_is_refused_with_its_tag(
    tmp_path, tags, message
):
    path = write(tmp_path / "odd.dcm", ramp(), **tags)
    with pytest.raises(DicomError, match=r"odd\.dcm: " + message):
        read_dicom(path)


def test_mask_files_may_have_another_modality_and_an_absent_one_is_noted(tmp_path):
    path = write(tmp_path / "a.dcm", ramp(), Modality="SEG")
    assert read_dicom(path, mammogram=False).height == 24
    path = write(tmp_path / "b.dcm", ramp(), Modality=None)
    assert read_dicom(path).notes == ("Modality is absent",)


def test_what_is_not_dicom_is_refused(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\x89PNG" * 100)
    with pytest.raises(DicomError, match=r"a\.dcm: not a DICOM file"):
        read_dicom(tmp_path / "a.dcm")


def test_dicom_is_known_by_content_and_by_suffix(tmp_path):
    assert is_dicom(write(tmp_path / "no_suffix", ramp()))
    (tmp_path / "a.png").write_bytes(b"\x89PNG" * 100)
    assert not is_dicom(tmp_path / "a.png")
    (tmp_path / "b.DCM").write_bytes(b"short")
    assert is_dicom(tmp_path / "b.DCM")


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_window_is_applied_only_where_asked(tmp_path, function, photometric):
    path = write(
        tmp_path / "a.dcm", ramp(), WindowCenter=[2048, 9], WindowWidth=[1024, 9],
        VOILUTFunction=function, PhotometricInterpretation=photometric,
    )  # fmt: skip
    shown = read_dicom(path, voi=True)
    levels = shown.pixels.ravel().astype(int)
    if photometric == "MONOCHROME1":
        levels = 65535 - levels
        assert read_dicom(path).pixels.ravel()[0] == 4095
    assert shown.bits_stored == 16
    assert (np.diff(levels) >= 0).all()
    assert levels[0] < 700 and levels[-1] > 64800
    middle = levels[ramp().ravel().searchsorted(2048)]
    assert abs(middle - 32768) < 400
    expected = {"LINEAR": 0.0, "LINEAR_EXACT": 0.0, "SIGMOID": 1 / (1 + np.exp(4))}
    low = levels[ramp().ravel().searchsorted(2048 - 1024)] / 65535
    assert low == pytest.approx(expected[function], abs=0.002)


def test_rescale_slope_goes_before_the_window(tmp_path):
    path = write(
        tmp_path / "a.dcm", ramp(), RescaleSlope=2, RescaleIntercept=-100,
        WindowCenter=2048 * 2 - 100, WindowWidth=1024 * 2,
    )  # fmt: skip
    plain = write(tmp_path / "b.dcm", ramp(), WindowCenter=2048, WindowWidth=1024)
    found = read_dicom(path, voi=True).pixels.astype(int)
    assert np.abs(found - read_dicom(plain, voi=True).pixels).max() < 65535 / 500


def test_voi_lut_is_applied(tmp_path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 10])
    item.add_new(
        "LUTData", "OW", np.minimum(np.arange(4096), 1023).astype("<u2").tobytes()
    )
    path = write(tmp_path / "a.dcm", ramp(), VOILUTSequence=[item])
    expected = np.round(np.minimum(ramp().astype(int), 1023) * 65535 / 1023)
    np.testing.assert_array_equal(read_dicom(path, voi=True).pixels, expected)


def test_no_voi_in_the_file_is_noted(tmp_path):
    image = read_dicom(write(tmp_path / "a.dcm", ramp()), voi=True)
    assert image.notes == ("no VOI in the file: stored values",)
    np.testing.assert_array_equal(image.pixels, np.round(ramp() * (65535 / 4095)))
