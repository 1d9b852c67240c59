"""The size that a picture's own header declares, read before a decoder sees the file.

Source: PNG specification (W3C) 5.3 and 11.2; ITU-T T.81 B.2.2 (JPEG); TIFF 6.0 section
2 and BigTIFF; Netpbm's pgm(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dm_preprocess.codestreams import declared_size, scans

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SCANS = 64  # of a progressive JPEG; the usual ones have about ten
MAX_CHUNKS = 200_000  # of a PNG; a 200 MB one in chunks of 8 KiB has 25,000
_PICTURE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}  # as OpenCV gives them, by colour type
_TIFF_TYPES = {1: 1, 3: 2, 4: 4, 16: 8}  # BYTE, SHORT, LONG, LONG8: their bytes
_TIFF_TAGS = {256: "columns", 257: "rows", 259: "compression", 277: "samples",
              322: "tile columns", 323: "tile rows", 258: "bits",
              262: "photometric"}  # fmt: skip
_OLD_JPEG = 6  # withdrawn in 1995; the least looked-after reader of libtiff
_PNM = re.compile(
    rb"P([1-6])(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})\s"
    rb"(?:(?:\s|#[^\n\r]*[\n\r])*(\d{1,5})\s)?"
)


class HeaderError(ValueError):
    """A picture's header is broken or beyond a bound; the message names no file."""


class PictureSize(NamedTuple):
    """What a file says of itself.

    Attributes:
        kind: "PNG", "JPEG", "TIFF" or "PGM".
        rows, columns, samples: Its size.
        white: The value that a PGM declares to be white, where the decoder leaves
            values as they are; 0 elsewhere.
        inverted: Whether a TIFF says that 0 is white, where the decoder leaves that.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    white: int = 0
    inverted: bool = False


def picture_size(data: bytes) -> PictureSize | None:
    """The size that a file declares.

    Args:
        data: The whole file.

    Returns:
        Its size, or None where it is neither PNG, JPEG, TIFF nor PGM (or PBM, PPM).

    Raises:
        HeaderError: It is one of them, and its header is broken or beyond a bound.
    """
    if data.startswith(PNG_SIGNATURE):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(data)
    found = _PNM.match(data[:4096])
    if not found:
        return None
    kind, columns, rows, white = (int(part or 0) for part in found.groups())
    # OpenCV spreads the values of a text file over 8 bits where they are of 8 bits.
    scaled = kind in (1, 4) or (kind in (2, 3) and white < 256)
    samples = 3 if kind in (3, 6) else 1
    return PictureSize("PGM", rows, columns, samples, 0 if scaled else white)


def bare_png(data: bytes) -> bytes:
    """A PNG with nothing but its picture: no text, profile, animation or date.

    Raises:
        HeaderError: A chunk reaches beyond the file, or there are too many.
    """
    chunks = list(_chunks(data))
    if all(kind in _PICTURE_CHUNKS for kind, *_ in chunks):
        return data
    kept = [data[a:b] for kind, a, b in chunks if kind in _PICTURE_CHUNKS]
    return PNG_SIGNATURE + b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind, start and end of each chunk up to IEND."""
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if end > len(data):
            raise HeaderError(
                "no readable image: a chunk of the PNG reaches beyond the file"
            )
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise HeaderError(f"a PNG must have at most {MAX_CHUNKS} chunks, received more")


def _png(data: bytes) -> PictureSize:
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < 33:
        raise HeaderError("no readable image: the PNG does not begin with its header")
    columns, rows = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return PictureSize("PNG", rows, columns, _PNG_SAMPLES.get(data[25], 4))


def _jpeg(data: bytes) -> PictureSize:
    size = declared_size(data)
    if size is None:
        raise HeaderError("no readable image: the JPEG declares no size")
    if scans(data) > MAX_SCANS:
        raise HeaderError(
            f"a JPEG must have at most {MAX_SCANS} scans, received {scans(data)}"
        )
    return PictureSize("JPEG", size.rows, size.columns, size.samples)


def _tiff(data: bytes) -> PictureSize:
    """Size of the first page; others are not read."""
    tags = {"samples": 1, "compression": 1} | _tiff_tags(data)
    if not {"rows", "columns"} <= tags.keys():
        raise HeaderError("no readable image: the TIFF declares no size")
    if tags["compression"] == _OLD_JPEG:
        raise HeaderError("TIFF compression 6 (old JPEG) is not read")
    samples = tags["samples"]
    tile = tags.get("tile rows", 1) * tags.get("tile columns", 1)
    whole = tags["rows"] * tags["columns"]
    if tile > max(4 * whole, 2**20):  # a decoder makes room for one whole tile
        raise HeaderError(
            f"a TIFF's tile must not be larger than its picture, received "
            f"{tags.get('tile rows')} x {tags.get('tile columns')}"
        )
    # OpenCV turns the grey levels of such files of 1 and 8 bits, and not of 16.
    inverted = tags.get("photometric") == 0 and tags.get("bits") == 16
    return PictureSize(
        "TIFF", tags["rows"], tags["columns"], samples, inverted=inverted
    )


def _tiff_tags(data: bytes) -> dict[str, int]:
    order = "little" if data[:2] == b"II" else "big"

    def read(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    big = read(2, 2) == 43
    at, width = (read(8, 8), 8) if big else (read(4, 4), 4)
    entries = read(at, 8 if big else 2)
    at, step = (at + 8, 20) if big else (at + 2, 12)
    if at + entries * step > len(data):
        raise HeaderError(
            "no readable image: the TIFF's directory reaches beyond the end of the file"
        )
    tags = {}
    for entry in range(at, at + entries * step, step):
        name, size = _TIFF_TAGS.get(read(entry, 2)), _TIFF_TYPES.get(read(entry + 2, 2))
        if name and size and name not in tags:
            tags[name] = read(entry + 4 + width, size)
    return tags
