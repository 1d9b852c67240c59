"""Patient ids that join and tell nothing: a keyed hash, whose key the user keeps.

A plain hash of a hospital number is undone by trying all numbers; HMAC-SHA256 with a
secret key is not. The same key gives the same woman the same id in every run and from
every source, a DICOM header or a file name; whoever lacks the key cannot go back. The
key lies in a file of its own that only its owner may read, and never in a log or table.

Source: HMAC: RFC 2104. Why a key: DICOM PS3.15 E.1.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import sys
import tempfile
import threading
from pathlib import Path

ENVIRONMENT = "DM_PATIENT_KEY"
DIGITS = 16
_KEY_BYTES, _LEAST_TEXT, _MOST_TEXT = 32, 32, 4096


class KeyFileError(RuntimeError):
    """The key file cannot be used; the message names it, never the key."""


class PatientKey:
    """Makes ids with the key of a file, which is made when first needed.

    Args:
        path: The key file; None for `default_path`.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        self.path = default_path() if path is None else Path(path)
        self._key: bytes | None = None
        self._lock = threading.Lock()

    def __call__(self, patient: str) -> str:
        """Hash an id.

        Args:
            patient: As a header or a file name has it; outer blanks do not count.

        Returns:
            16 hexadecimal digits; "" for an empty id.

        Raises:
            KeyFileError: The key can neither be read nor made.
        """
        text = patient.strip()
        if not text:
            return ""
        found = hmac.new(self._load(), text.encode("utf-8"), hashlib.sha256)
        return found.hexdigest()[:DIGITS]

    @property
    def fingerprint(self) -> str:
        """Tells keys apart and gives none away; "" as long as none was needed."""
        if self._key is None:
            return ""
        named = hmac.new(self._key, b"fingerprint of this key", hashlib.sha256)
        return named.hexdigest()[:DIGITS]

    def check(self) -> None:
        """Read the key if its file is there, so that a bad one is told of at once.

        Raises:
            KeyFileError: It cannot be used.
        """
        with self._lock:
            if self._key is None and self.path.exists():
                self._key = _read(self.path)
                _warn_of_readers(self.path)

    def _load(self) -> bytes:
        with self._lock:
            if self._key is None:
                if not self.path.exists() and _make(self.path):
                    print(
                        f"made a key for patient ids: {self.path}; keep it: only with "
                        "the same key do later runs give the same ids",
                        file=sys.stderr,
                    )
                self._key = _read(self.path)
            return self._key


def default_path() -> Path:
    """`$DM_PATIENT_KEY`, or a file among the user's settings."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    try:
        return Path.home() / ".config" / "dm-mammography" / "patient.key"
    except RuntimeError as err:
        raise KeyFileError(
            f"no home folder to keep a key in: --patient-key or ${ENVIRONMENT} names "
            "a file"
        ) from err


def _make(path: Path) -> bool:
    """Write a new key, unless another process was first; whether it is ours.

    The file is written whole under another name and then linked, so that nobody reads
    half a key, and of two processes at once the second takes the first one's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:  # mkstemp: 0600
                file.write(secrets.token_hex(_KEY_BYTES) + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
                return True
            return False
        finally:
            os.unlink(aside)
    except OSError as err:
        raise KeyFileError(f"{path}: the key cannot be made: {err.strerror}") from err


def _read(path: Path) -> bytes:
    """The key: all of the file but blanks around it."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_TEXT + 1).strip()
    except OSError as err:
        raise KeyFileError(f"{path}: the key cannot be read: {err.strerror}") from err
    if not _LEAST_TEXT <= len(text) <= _MOST_TEXT:
        raise KeyFileError(
            f"{path}: a key must hold {_LEAST_TEXT} to {_MOST_TEXT} characters, "
            f"received {len(text)}"
        )
    return text


def _warn_of_readers(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        print(f"warning: {path}: others may read this key (chmod 600)", file=sys.stderr)
