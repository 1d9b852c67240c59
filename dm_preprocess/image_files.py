"""PNG, PGM, TIFF and JPEG files that nobody vouches for, as grey levels.

The size is read from the file's own header and held to a bound before anything is
decoded: a PNG of a few kilobytes may declare a hundred gigabytes. Only these formats
are given to OpenCV, which would try a dozen more, and of a PNG only the parts that make
the picture: its texts and profiles can be bombs, and libpng prints their names.
"""

from __future__ import annotations

import numpy as np

from dm_preprocess.file_bytes import FileTooLarge, Source, read_source, source_name
from dm_preprocess.image_headers import (
    HeaderError,
    PictureSize,
    bare_png,
    picture_size,
)

MAX_SAMPLES = 100_000_000  # pixels times channels
_ENDS = {b"\x89PNG\r\n\x1a\n": b"IEND", b"\xff\xd8": b"\xff\xd9"}  # PNG, JPEG
_TAIL = 1024


class ImageError(ValueError):
    """An image file cannot be used; the message names the file and the rule."""


def read_gray(source: Source) -> tuple[np.ndarray, int]:
    """Read a PNG, PGM, TIFF or JPEG with its depth intact.

    Args:
        source: A path, or the bytes of a file. Three channels are accepted where all
            are equal; of a TIFF with several pages the first is read.

    Returns:
        The stored values as uint8 or uint16 (H, W), and the bits stored: 8 or 16. The
        values of a PGM that declares another white than 255 or 65535 are spread over
        16 bits, those of a TIFF that declares 0 to be white are turned.

    Raises:
        ImageError: No image, another depth, a colour picture, or beyond the bounds;
            the file is named.
        OSError: It is not there, may not be read, or is no regular file.
    """
    image, where = _decode(source), source_name(source)
    if image.ndim == 3:
        image = _one_channel(image, where)
    if image.dtype == np.uint8:
        return image, 8
    if image.dtype == np.uint16:
        return image, 16
    raise ImageError(
        f"{where}: grey levels must be 8 or 16 bits, received {image.dtype}"
    )


def _decode(source: Source) -> np.ndarray:
    import cv2

    where = source_name(source)
    try:
        data = read_source(source)
        for start, end in _ENDS.items():
            if data.startswith(start) and end not in data[-_TAIL:]:
                raise HeaderError("the file is truncated, its end mark is missing")
        size = picture_size(data)
        _check_size(size)
        picture = bare_png(data) if size and size.kind == "PNG" else data
    except FileTooLarge as err:
        raise ImageError(str(err)) from err
    except HeaderError as err:
        raise ImageError(f"{where}: {err}") from err
    flat = np.frombuffer(picture, np.uint8)
    # What is wrong is said below, once. libpng and libjpeg still print fixed sentences
    # and numbers of their own; nothing that a file says is among them.
    cv2.utils.logging.setLogLevel(0)
    try:
        image = cv2.imdecode(flat, cv2.IMREAD_UNCHANGED) if size else None
    except cv2.error as err:
        raise ImageError(
            f"{where}: no readable image: OpenCV gave up ({err.code})"
        ) from err
    return _as_declared(_checked(image, size, len(data), where), size, where)


def _check_size(size: PictureSize | None) -> None:
    if size is None:
        return
    rows, columns, samples = size.rows, size.columns, size.samples
    if rows < 1 or columns < 1 or rows * columns * samples > MAX_SAMPLES:
        raise HeaderError(
            f"a {size.kind} must declare 1 to {MAX_SAMPLES} samples, received {rows} "
            f"rows x {columns} columns x {samples} channels"
        )


def _checked(
    image: np.ndarray | None, size: PictureSize | None, count: int, where: str
) -> np.ndarray:
    if image is None:
        raise ImageError(
            f"{where}: no readable image ({count} bytes); DICOM, PNG, PGM, TIFF "
            "or JPEG is needed"
        )
    if sorted(image.shape[:2]) != sorted((size.rows, size.columns)):  # a TIFF may turn
        raise ImageError(
            f"{where}: the file declares {size.rows} x {size.columns} pixels, its "
            f"decoder gave {image.shape[0]} x {image.shape[1]}"
        )
    return image


def _as_declared(image: np.ndarray, size: PictureSize, where: str) -> np.ndarray:
    """Grey levels as the file's header means them, where the decoder did not look."""
    if size.inverted and image.dtype == np.uint16:
        return np.iinfo(image.dtype).max - image
    if image.dtype.kind != "u" or size.white in (0, np.iinfo(image.dtype).max):
        return image
    if image.max() > size.white:
        raise ImageError(
            f"{where}: a PGM's values must not be above the {size.white} that it "
            f"declares, received {image.max()}"
        )
    spread = np.round(np.arange(size.white + 1) * (65535 / size.white))
    return spread.astype(np.uint16)[image]


def _one_channel(image: np.ndarray, where: str) -> np.ndarray:
    """The one plane of a picture saved in colour; a fourth channel must be opaque."""
    colour, alpha = image[..., :3], image[..., 3:]
    equal = (colour == colour[..., :1]).all()
    opaque = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    if not equal or (alpha.size and (alpha != opaque).any()):
        raise ImageError(
            f"{where}: a grey image is needed, received {image.shape[2]} channels that "
            "differ; a colour or transparent picture is no mammogram"
        )
    return np.ascontiguousarray(image[..., 0])
