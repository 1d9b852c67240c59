"""The DICOM files of the synthetic collections, as bare as the originals are.

But for one thing: Manufacturer says that they are synthetic. The converter's tables, a
run's counts and a model's card take it from there, so that no figure of phantoms can
pass for one of women.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

MANUFACTURER = "SYNTHETIC (phantom)"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIGITAL_MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"


def make_uid(*parts: object) -> str:
    """A UID under the root for derived UUIDs (2.25); the same for the same parts."""
    text = "/".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=15).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    bits_stored: int,
    uids: tuple[str, str, str],
    monochrome1: bool = False,
    sop_class: str = SECONDARY_CAPTURE,
    **tags: object,
) -> None:
    """Write one grey image, uncompressed, explicit VR little endian.

    Args:
        path: The file; its folder is made.
        pixels: uint8 or uint16 (H, W), bright where dense; stored inverted within
            `bits_stored` for MONOCHROME1.
        bits_stored: 8 to 16.
        uids: Of study, series and instance.
        monochrome1: Low values mean bright.
        sop_class: SOP Class UID.
        **tags: Further attributes by DICOM keyword.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    stored = (
        (2**bits_stored - 1 - pixels).astype(pixels.dtype) if monochrome1 else pixels
    )
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, uids[2]
    data.StudyInstanceUID, data.SeriesInstanceUID = uids[0], uids[1]
    data.Modality, data.Manufacturer = "MG", MANUFACTURER
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated = stored.dtype.itemsize * 8
    data.BitsStored, data.HighBit = bits_stored, bits_stored - 1
    data.PixelRepresentation = 0
    raw = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    data["PixelData"] = _pixel_element(raw, data.BitsAllocated)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = sop_class
    data.file_meta.MediaStorageSOPInstanceUID = uids[2]
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def _pixel_element(raw: bytes, bits_allocated: int):
    from pydicom.dataelem import DataElement

    raw += b"\0" * (len(raw) % 2)
    return DataElement("PixelData", "OB" if bits_allocated == 8 else "OW", raw)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(row0, col0, row1, col1) around a mask that is not empty, half open."""
    rows, cols = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
