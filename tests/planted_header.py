"""Mammograms with a marker planted in every field of the header, and the search for it.

    dataset = planted_mammogram(pixels)
    assert find_planted([stdout, stderr, table.read_bytes(), overlay]) == []

The dictionary of the DICOM standard is walked: every name, id, date, time, number in
text, comment and UID there is gets a value of its own, so that what is found names the
field that it came from. Nothing is planted in what says how the pixels are stored.
"""

import io
import re
import warnings
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"
_TEXT = frozenset("AE CS LO LT PN SH ST UC UR UT".split())
_NOT_PLANTED = frozenset({  # how the pixels are stored, and what they are
    "SpecificCharacterSet", "SOPClassUID", "Modality", "PhotometricInterpretation",
    "NumberOfFrames", "ImageLaterality", "Laterality", "ViewPosition", "VOILUTFunction",
    "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept",
    "ImagerPixelSpacing", "PixelSpacing", "PresentationIntentType", "PartialView",
    "EstimatedRadiographicMagnificationFactor", "BreastImplantPresent",
    "BurnedInAnnotation", "SpecimenDescriptionSequence",
})  # fmt: skip
_MARKS = re.compile(
    r"ZQX[0-9A-F]{8}"  # text, by tag
    r"|\b2\.25\.77777\d+"  # UIDs
    r"|\b1937-?[01]\d-?[0-3]\d"  # dates
    r"|\b0459\d\d\.7777"  # times
    r"|\b770077\d*"  # numbers written as text
    r"|\b0?97[DWMY]\b"  # ages
)


def marker(tag: int, vr: str) -> str | None:
    """The value planted in a field; None for binary numbers and pixels."""
    if vr in _TEXT:
        return f"ZQX{int(tag):08X}" + ("^JANE" if vr == "PN" else "")
    return {
        "UI": f"2.25.77777{int(tag)}", "DA": f"193704{1 + tag % 28:02d}",
        "TM": f"0459{tag % 60:02d}.7777", "DT": f"193705{1 + tag % 28:02d}045959",
        "IS": f"770077{tag % 1000:03d}", "DS": f"770077{tag % 1000:03d}.5",
        "AS": "097Y",
    }.get(vr)  # fmt: skip


def plant(dataset: Dataset) -> Dataset:
    """Fill every field of the standard that is not in use, and private ones."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if group in (0, 2, 4, 0x7FE0, 0xFFFE) or keyword in _NOT_PLANTED:
            continue
        value = marker(tag, vr.split(" ")[0])
        if value and tag not in dataset:
            dataset.add_new(tag, vr.split(" ")[0], value)
        elif vr == "SQ" and tag not in dataset:
            dataset.add_new(tag, "SQ", [_nested(tag)])
    block = dataset.private_block(0x0011, "ZQX00110010", create=True)
    block.add_new(1, "LO", "ZQX00111001")
    block.add_new(2, "UT", "ZQX00111002 " * 50)
    dataset.add_new(0x60000022, "LO", "ZQX60000022")
    dataset.add_new(0x60001500, "LO", "ZQX60001500")
    return dataset


def planted_mammogram(pixels: np.ndarray | None = None, **tags) -> bytes:
    """The bytes of a mammogram of 12 bits whose every field holds a marker.

    Args:
        pixels: uint16 (H, W) up to 4095; None for a small gradient.
        tags: Fields set after planting; None removes one.
    """
    if pixels is None:
        pixels = np.linspace(0, 4095, 96 * 80).astype(np.uint16).reshape(96, 80)
    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _written(plant(_plain(pixels)), tags)


def plain_mammogram(pixels: np.ndarray, **tags) -> bytes:
    """As `planted_mammogram`, without the markers: it is made in a tenth of the time.

    Args:
        pixels: uint16 (H, W) up to 4095.
        tags: Fields of one's own; None removes one.
    """
    return _written(_plain(pixels), tags)


def _written(dataset: Dataset, tags: dict) -> bytes:
    for name, value in tags.items():
        if value is None:
            dataset.pop(Tag(name), None)
        else:
            setattr(dataset, name, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def variants() -> dict[str, bytes]:
    """Good, unusual and damaged files, each full of markers, by name."""
    good = planted_mammogram()
    meta = good.index(b"\x02\x00\x10\x00UI")
    frames = planted_mammogram(NumberOfFrames="111111111111")
    modifier = Dataset()
    modifier.CodeValue, modifier.CodeMeaning = "399163009", "ZQX00080104"
    view = Dataset()
    view.CodeValue, view.ViewModifierCodeSequence = "399162004", [modifier]
    with_text = {
        name: planted_mammogram(**{name: "ZQX0000FFFF"})
        for name in ("Modality", "PhotometricInterpretation", "SOPClassUID",
                     "PresentationIntentType", "ImageLaterality", "ViewPosition",
                     "BurnedInAnnotation", "SpecificCharacterSet")
    }  # fmt: skip
    return with_text | {
        "good": good,
        "burned in": planted_mammogram(BurnedInAnnotation="YES"),
        "ct": planted_mammogram(Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"),
        "tomosynthesis": planted_mammogram(NumberOfFrames=3),
        "magnification": planted_mammogram(ViewCodeSequence=[view]),
        "no patient": planted_mammogram(PatientID=None),
        "no rows": planted_mammogram(Rows=None),
        "no pixels": planted_mammogram(PixelData=None),
        "values too high": planted_mammogram(np.full((8, 8), 9999, np.uint16)),
        "frames in words": frames.replace(b"111111111111", b"ZQX00280008 "),
        "rows in words": good.replace(b"\x28\x00\x10\x00US\x02\x00",
                                      b"\x28\x00\x10\x00LO\x02\x00"),
        "unknown syntax": good[:meta] + good[meta:].replace(
            b"1.2.840.10008.1.2.1\0", b"2.25.77777131088888\0", 1),
        "compressed by name only": good[:meta] + good[meta:].replace(
            b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1),
        "cut in the header": good[: len(good) // 3],
        "cut in the pixels": good[:-400],
        "lengths broken": good.replace(b"PN\x10\x00", b"PN\xf1\xff"),
    }  # fmt: skip


def find_planted(texts) -> list[str]:
    """Every marker in what came out.

    Args:
        texts: Strings, bytes, files and folders by `Path`, whose
            names and contents are searched, PNGs with their compressed texts.

    Returns:
        What was found, each once, in order; empty is good.
    """
    found = []
    for text in texts:
        for part in _parts(text):
            found += _MARKS.findall(part)
    return list(dict.fromkeys(found))


def _parts(text):
    if isinstance(text, Path):
        inside = sorted(text.rglob("*")) if text.is_dir() else [text]
        for path in inside:
            yield path.name
            if path.is_file():
                yield from _parts(path.read_bytes())
    elif isinstance(text, bytes):
        yield text.decode("latin-1")
        if text.startswith(b"\x89PNG"):
            yield from _png_texts(text)
    else:
        yield str(text)


def _png_texts(data: bytes):
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        yield repr(picture.info)


def _nested(tag: int) -> Dataset:
    item, deeper = Dataset(), Dataset()
    deeper.PatientID = f"ZQX{int(tag):08X}"
    item.CodeMeaning = item.PatientComments = f"ZQX{int(tag):08X}"
    item.PersonName = f"ZQX{int(tag):08X}^JANE"
    item.ReferencedSOPInstanceUID = f"2.25.77777{int(tag)}"
    item.add_new(0x00080096, "SQ", [deeper])
    return item


def _plain(pixels: np.ndarray) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationVersionName = "ZQX00020013"
    dataset.file_meta.SourceApplicationEntityTitle = "ZQX00020016"
    dataset.SOPClassUID, dataset.Modality = MAMMOGRAPHY, "MG"
    dataset.SOPInstanceUID = "2.25.77777524312"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.ImageLaterality, dataset.ViewPosition = "L", "MLO"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = pixels.astype("<u2").tobytes()
    return dataset
