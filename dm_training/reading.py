"""Files as a network wants them: any format in, raw 16-bit grey of one size out.

`dm_preprocess.convert` does this once for a whole data set and keeps PNGs; here it is
done for files on their way to a score, by the same functions, so that a DICOM and the
PNG made of it get the same score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dm_models.inputs import InputContract
from dm_preprocess import dicom, images
from dm_training.image_store import ImageStore
from dm_training.samples import Samples
from dm_training.scorers import prepare


class FileStore(ImageStore):
    """Pixels of files of any format, read and prepared for a model when asked for.

    Nothing is held, however many files there are; four flips read each four times.
    """

    def __init__(self, samples: Samples, contract: InputContract):
        self.paths, self.contract = samples.paths, contract
        self.height, self.width, self.fit = contract.height, contract.width, None
        self._pixels = self._cache = None
        if contract.height is None and self.paths:
            self.height, self.width = self._decode(self.paths[0]).shape

    def _decode(self, path: str) -> np.ndarray:
        return prepare(read_grey(path, voi=self.contract.voi), self.contract)


def read_grey(path: str | Path, *, voi: bool = False) -> np.ndarray:
    """The raw grey levels of a DICOM, PNG, TIFF, PGM or JPEG file.

    Args:
        path: The file.
        voi: Apply a DICOM file's window.

    Returns:
        uint16 (H, W), 0 dark, 65535 the top of the stored range.

    Raises:
        DicomError, ImageError: Naming file and tag.
    """
    if dicom.is_dicom(path):
        read = dicom.read_dicom(path, voi=voi)
        return images.to_u16(read.pixels, read.bits_stored)
    stored, bits = images.read_gray(path)
    return images.to_u16(stored, bits)


def readable(samples: Samples, contract: InputContract):
    """Open what can be read; name what cannot.

    Args:
        samples: Rows of a table, or files of any format.
        contract: The model's, by which files are prepared.

    Returns:
        (store, samples that can be read, [(image_id, reason), ...]).
    """
    ids = samples.frame["image_id"].tolist()
    tabled = samples.has_patients
    if tabled and all(path.lower().endswith(".png") for path in samples.paths):
        reasons = ["" if _is_whole_png(Path(path)) else "no whole PNG file"
                   for path in samples.paths]  # fmt: skip
    else:
        reasons = [_unreadable(path, contract) for path in samples.paths]
    left = _kept(samples, [at for at, reason in enumerate(reasons) if not reason])
    failed = [pair for pair in zip(ids, reasons, strict=True) if pair[1]]
    return FileStore(left, contract), left, failed


def _unreadable(path: str, contract: InputContract) -> str:
    """Why a file cannot be read; "" where it can."""
    try:
        read_grey(path, voi=contract.voi)
    except (ValueError, OSError) as err:
        return str(err)
    return ""


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
