"""What a run has scored so far, a line an image, so that a killed one goes on.

Beside the table that is to be written lies `NAME.partial` until it is there: a line
with the settings, then a line for each image as it comes, in JSON. A run that finds it
takes what is there if its settings are the same, and refuses otherwise, naming what
differs. An image counts as done where its file has the same place, size and time; one
that failed is tried again.

Who reads this file learns no more than from the table: ids are hashed, and instead of a
path stands a digest of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dm_training.predictor import FAILED, Prediction

if TYPE_CHECKING:
    from dm_training.desk_paths import Item

FORMAT = 1
ENDING = ".partial"
_MOST_DIFFERENCES = 5


class JournalError(ValueError):
    """An earlier run's lines cannot be gone on with; the message says why."""


def journal_path(out: Path) -> Path:
    """Where the lines of a table in the making lie."""
    return out.with_name(out.name + ENDING)


def identity(item: Item) -> str:
    """What an image is known by: its place, size, time and ids; as a digest."""
    try:
        found = os.stat(item.path)
        facts = [found.st_size, found.st_mtime_ns]
    except OSError:  # it is not there: reading it will say so
        facts = []
    ids = [item.image_id, item.patient_id, item.laterality, item.view]
    text = json.dumps([item.path, *facts, *ids])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class Journal:
    """The lines of one table in the making; one process at a time has it open.

    Args:
        path: `journal_path` of the table.
        settings: What scores depend on; JSON.
        fresh: Begin anew, whatever is there.

    Attributes:
        done: Identity -> prediction, of what need not be scored again.
        digests: Identity -> digest of the pixels, of those in `done`.
        key: Fingerprint of the key that hashed ids in it; "" where none did.
        resumed: Whether an earlier run had begun it.

    Raises:
        JournalError: Other settings, a damaged line, or another process is at it.
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping, *, fresh: bool = False):
        self.path, self.done, self.key, self.resumed = path, {}, "", False
        self.digests: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")
        try:
            self._lock()
            if fresh:
                self._file.truncate(0)
            self._go_on(json.loads(json.dumps(settings)))
        except BaseException:
            self._file.close()
            raise

    def add(self, item_identity: str, prediction: Prediction, digest: str = "") -> None:
        """Note an image; it is on its way to the disk when this returns."""
        self._write({"of": item_identity, "digest": digest, **prediction.as_dict()})

    def use_key(self, fingerprint: str) -> None:
        """Note that ids are hashed with that key, once.

        Raises:
            JournalError: Those that are there were hashed with another one.
        """
        if not fingerprint or fingerprint == self.key:
            return
        if self.key:
            raise JournalError(
                f"{self.path}: was begun with another patient key; give that one, or "
                "--overwrite to start anew"
            )
        self.key = fingerprint
        self._write({"key": fingerprint})

    def close(self) -> None:
        """Leave it as it is, to go on another time."""
        with contextlib.suppress(OSError):  # told of when it was written
            self._file.close()

    def remove(self) -> None:
        """Take it away, once the table is there."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise JournalError(
                f"{self.path}: another dm-predict is writing this table"
            ) from err

    def _go_on(self, settings: dict) -> None:
        self._file.seek(0)
        text = self._file.read()
        whole = text.rfind(b"\n") + 1  # a killed run may have left half a line
        self._file.truncate(whole)
        lines = text[:whole].splitlines()
        if not lines:
            self._write({"format": FORMAT, "settings": settings})
            return
        self.resumed = True
        try:
            first, *rest = [json.loads(line) for line in lines]
            self._check(first, settings)
            for found in rest:
                self._take(found)
        except (ValueError, KeyError, TypeError) as err:
            if isinstance(err, JournalError):
                raise
            raise JournalError(
                f"{self.path}: damaged, so it cannot be gone on with; --overwrite "
                "starts anew"
            ) from err

    def _take(self, found: dict) -> None:
        if "key" in found:
            self.key = found["key"]
            return
        done, digest = found.pop("of"), found.pop("digest", "")
        prediction = Prediction.from_dict(found)
        if prediction.status == FAILED:
            self.done.pop(done, None)
        else:
            self.done[done], self.digests[done] = prediction, digest

    def _check(self, first: dict, settings: dict) -> None:
        if first["format"] != FORMAT:
            raise JournalError(
                f"{self.path}: format {first['format']!r} is not known; --overwrite "
                "starts anew"
            )
        other = differences(first["settings"], settings)
        if other:
            shown = "; ".join(other[:_MOST_DIFFERENCES])
            raise JournalError(
                f"{self.path}: was begun with other settings: {shown}. Give those, or "
                "--overwrite to start anew"
            )

    def _write(self, line: dict) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as err:  # which names no file where a disk is full
            raise OSError(err.errno, err.strerror, str(self.path)) from err


def differences(old, new, name: str = "") -> list[str]:
    """What differs between two settings, in words: "flips: 1, now 4"."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            inside = f"{name} {key}".strip()
            found += differences(old.get(key), new.get(key), inside)
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True), 1)
        return [d for at, (a, b) in pairs for d in differences(a, b, f"{name} {at}")]
    return [] if old == new else [f"{name}: {old}, now {new}"]
