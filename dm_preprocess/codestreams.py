"""The size that a compressed stream declares, read before anything decodes it.

JPEG (baseline to lossless), JPEG-LS and JPEG 2000. A stream that declares another size
than the header of its DICOM file, or a size beyond all mammograms, is refused before a
decoder makes room for it.

Source: ITU-T T.81 B.2.2 (SOF), T.87 C.2.2 (SOF55), T.800 A.5.1 (SIZ).
"""

from __future__ import annotations

from typing import NamedTuple

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers that no length follows
_SCAN = b"\xff\xda"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


class StreamSize(NamedTuple):
    """What a stream says of itself."""

    rows: int
    columns: int
    samples: int
    bits: int


def declared_size(data: bytes) -> StreamSize | None:
    """The size that a JPEG, JPEG-LS or JPEG 2000 stream declares.

    Args:
        data: The stream, or the beginning of it.

    Returns:
        Its size, or None where it is no such stream or its header is broken.
    """
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    start = data.find(b"\xff\x4f\xff\x51") if data[:8] == _JP2_SIGNATURE else 0
    if start >= 0 and data[start : start + 4] == b"\xff\x4f\xff\x51":
        return _jpeg_2000_size(data[start : start + 64])
    return None


def scans(data: bytes) -> int:
    """How many scans a JPEG may have; each costs a pass over all pixels."""
    return data.count(_SCAN)


def _jpeg_size(data: bytes) -> StreamSize | None:
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _SOF:
            rows, columns = (_big(data, at + 5, 2), _big(data, at + 7, 2))
            return StreamSize(rows, columns, data[at + 9], data[at + 4])
        else:
            at += 2 + _big(data, at + 2, 2)
    return None


def _jpeg_2000_size(head: bytes) -> StreamSize | None:
    if len(head) < 43:
        return None
    right, bottom, left, top = (_big(head, at, 4) for at in (8, 12, 16, 20))
    samples, bits = _big(head, 40, 2), (head[42] & 0x7F) + 1
    return StreamSize(max(bottom - top, 0), max(right - left, 0), samples, bits)


def _big(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
