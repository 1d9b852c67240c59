"""A prediction as DICOM: a Secondary Capture of its overlay and a Structured Report."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class DicomOutError(ValueError):
    """No object can be made of that source; the message names the rule, no value."""


def write_dicom(
    folder: Path, source: Path, overlay: np.ndarray, prediction, *,
    overwrite: bool = False,
) -> list[Path]:  # fmt: skip
    """Write both objects for one image.

    Args:
        folder: Where to; the files are named after `prediction.image_id`.
        source: The DICOM file that was scored; its header is read again.
        overlay: uint8 (H, W, 3), `desk_overlays.overlay_image`.
        prediction: With image_id, laterality, view, score, probability, decision,
            threshold, model, version, flips and notes.
        overwrite: Replace files of the same names.

    Returns:
        `image_id.overlay.dcm` and `image_id.report.dcm`.

    Raises:
        DicomOutError: The source is no DICOM file, cannot be referred to, or the files
            are there already.
    """
    raise NotImplementedError
