"""The bytes of one file from outside: a regular file of bounded size, or an upload.

What reads files of unknown origin opens them here, so that a pipe cannot make it wait
for ever, a device cannot be read, and no file is taken into memory before its size is
known. An upload is given as bytes and never written to a disk.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_FILE_BYTES = 512 * 2**20  # an uncompressed mammogram has at most some 60 MB
UPLOAD = "the upload"

Source = str | os.PathLike | bytes


class FileTooLarge(ValueError):
    """A file has more bytes than are read; the message names file and sizes."""


def source_name(source: Source) -> str:
    """What messages call it: the path, or "the upload" for bytes."""
    return UPLOAD if isinstance(source, bytes) else str(source)


def suffix_of(source: Source) -> str:
    """The path's ending in lower case; of bytes, ""."""
    return "" if isinstance(source, bytes) else Path(source).suffix.lower()


def read_head(source: Source, count: int) -> bytes:
    """The first bytes, fewer where it has fewer.

    Raises:
        OSError: It is not there, may not be read, or is no regular file.
    """
    if isinstance(source, bytes):
        return source[:count]
    with open_regular(source) as file:
        return file.read(min(count, os.fstat(file.fileno()).st_size))


def read_source(source: Source, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """All bytes.

    Raises:
        FileTooLarge: There are more than `limit`; none is read.
        OSError: It is not there, may not be read, or is no regular file.
    """
    if isinstance(source, bytes):
        _check_size(len(source), limit, UPLOAD)
        return source
    with open_regular(source) as file:
        _check_size(os.fstat(file.fileno()).st_size, limit, source)
        data = file.read(limit + 1)  # it may have grown since
    _check_size(len(data), limit, source)
    return data


def open_regular(path: str | os.PathLike):
    """Open a file for reading, never waiting for one that is a pipe or a device.

    Raises:
        OSError: It is not there, may not be read, or is no regular file.
    """
    _check_regular(os.stat(path).st_mode, path)  # opening a device may do something
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_regular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(mode: int, path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _check_size(size: int, limit: int, source) -> None:
    if size > limit:
        raise FileTooLarge(
            f"{source}: a file must have at most {limit} bytes, received {size}"
        )
