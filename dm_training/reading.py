"""Files as a network wants them: any format in, raw 16-bit grey of one size out.

`dm_preprocess.convert` does this once for a whole data set and keeps PNGs; here it is
done for files on their way to a score, by the same functions, so that a DICOM and the
PNG made of it get the same score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dm_preprocess import dicom, images
from dm_training.image_store import ImageStore
from dm_training.samples import Samples


class FileStore(ImageStore):
    """Pixels of files of any format, read and fitted to a contract's size once."""

    def __init__(self, arrays: list[np.ndarray]):
        self.paths = [""] * len(arrays)
        self.height, self.width = arrays[0].shape if arrays else (None, None)
        self._pixels = arrays


def read_grey(path: str | Path) -> np.ndarray:
    """The raw grey levels of a DICOM, PNG, TIFF, PGM or JPEG file.

    Returns:
        uint16 (H, W), 0 dark, 65535 the top of the stored range.

    Raises:
        DicomError, ImageError: Naming file and tag.
    """
    with open(path, "rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM"
    if is_dicom or Path(path).suffix.lower() in (".dcm", ".dicom"):
        read = dicom.read_dicom(path)
        return images.to_u16(read.pixels, read.bits_stored)
    stored, bits = images.read_gray(path)
    return images.to_u16(stored, bits)


def readable(samples: Samples, contract):
    """Open what can be read; name what cannot.

    Args:
        samples: Rows of a table, or files of any format.
        contract: The model's; its size and fit are applied to files that are not of
            that size.

    Returns:
        (store, samples that can be read, [(image_id, reason), ...]).
    """
    paths = [Path(path) for path in samples.paths]
    if samples.has_patients and all(p.suffix.lower() == ".png" for p in paths):
        whole = [_is_whole_png(path) for path in paths]
        left = _kept(samples, np.flatnonzero(whole))
        lost = samples.frame["image_id"][~np.asarray(whole)]
        store = ImageStore(
            left, height=contract.height, width=contract.width, fit=contract.fit
        )
        return store, left, [(name, "no whole PNG file") for name in lost]
    arrays, failed, kept = [], [], []
    for at, path in enumerate(samples.paths):
        try:
            image = read_grey(path)
        except (ValueError, OSError) as err:
            failed.append((samples.frame["image_id"].iloc[at], str(err)))
        else:
            kept.append(at)
            arrays.append(_fitted(image, contract))
    return FileStore(arrays), _kept(samples, kept), failed


def _kept(samples: Samples, rows) -> Samples:
    frame = samples.frame.iloc[rows].reset_index(drop=True)
    return Samples(frame, samples.classes, samples.where, samples.has_patients)


def _is_whole_png(path: Path) -> bool:
    """Whether a file begins and ends as a PNG; a truncated one lacks the end."""
    if not path.is_file() or path.stat().st_size < 20:
        return False
    with open(path, "rb") as file:
        begin = file.read(8)
        file.seek(-8, 2)
        return begin == b"\x89PNG\r\n\x1a\n" and file.read(4) == b"IEND"


def _fitted(image: np.ndarray, contract) -> np.ndarray:
    if contract.height is None or image.shape == (contract.height, contract.width):
        return image
    return images.fit(image, contract.height, contract.width, mode=contract.fit)[0]
