"""The pictures of a report: their bytes, their kind, their size.

The kind is told by how the bytes begin, never by a file's name.
"""

from __future__ import annotations

import base64
import re
import struct
from pathlib import Path

from dm_training.report_parts import Picture, ReportError

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/svg+xml": ".svg"}

_PNG = b"\x89PNG\r\n\x1a\n"
_SVG = re.compile(rb"\s*(<\?xml[^>]*\?>|<!DOCTYPE[^>]*>|<!--.*?-->|\s+)*<svg", re.S)
_JPEG_SIZES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # frames, not tables


def read_picture(picture: Picture) -> tuple[bytes, str]:
    """The bytes of a picture and their kind.

    Returns:
        (bytes, "image/png", "image/jpeg" or "image/svg+xml").

    Raises:
        ReportError: The file is missing, or of another kind.
    """
    if isinstance(picture.source, bytes):
        return picture.source, image_kind(picture.source, "a picture")
    path = Path(picture.source)
    if not path.is_file():
        raise ReportError(f"{path}: no such picture")
    data = path.read_bytes()
    return data, image_kind(data, str(path))


def image_kind(data: bytes, name: str) -> str:
    """The kind of an image by its first bytes.

    Args:
        data: Of a whole file.
        name: Which it is, for the message.

    Raises:
        ReportError: It is neither PNG, JPEG nor SVG.
    """
    if data.startswith(_PNG):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if _SVG.match(data[:4096]):
        return "image/svg+xml"
    raise ReportError(
        f"{name}: must be a PNG, JPEG or SVG file, received bytes that begin with "
        f"{data[:8]!r}"
    )


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """(height, width) in pixels of a PNG or JPEG, from its header alone.

    Args:
        data: Of a whole file.
        name: Which it is, for the message.

    Raises:
        ReportError: It is of another kind, or ends before its size is told.

    Source: PNG specification 11.2.2 (IHDR); ITU T.81 B.2.2 (frame header).
    """
    kind = image_kind(data, name)
    if kind == "image/svg+xml":
        raise ReportError(f"{name}: must be a PNG or JPEG, received an SVG")
    try:
        if kind == "image/png":
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        return _jpeg_size(data)
    except struct.error as error:
        raise ReportError(f"{name}: ends before its size is told") from error


def data_address(data: bytes, kind: str) -> str:
    """A `data:` address that holds the image itself."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 2 + length
