"""Time and peak memory of a command with all of its processes, from /proc."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dm_training.benchmark.candidates import Missing

_EVERY_SECONDS = 0.05  # a look takes some milliseconds of a core
_PROC = Path("/proc")


@dataclass(frozen=True)
class Watched:
    """What a command took.

    Attributes:
        seconds: From its start to its end.
        peak_bytes: The most resident memory at one time of all its processes
            together; pages that two of them share count twice.
        output: What it printed.
    """

    seconds: float
    peak_bytes: int
    output: str


def run_watched(command: Sequence[str]) -> Watched:
    """Run a command to its end and look at its memory meanwhile.

    Raises:
        Missing: There is no /proc (not Linux).
        RuntimeError: It failed; what it said follows.
    """
    if not (_PROC / "self" / "statm").is_file():
        raise Missing("peak memory is read from /proc, which is not here")
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as said:
        began, peak = time.perf_counter(), 0
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=said)
        try:
            while process.poll() is None:
                peak = max(peak, resident_bytes(process.pid))
                time.sleep(_EVERY_SECONDS)
        finally:
            process.kill()
            process.wait()
        seconds = time.perf_counter() - began
        output.seek(0)
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: "
                               f"{said.read()[-2000:]}")  # fmt: skip
        return Watched(seconds, peak, output.read())


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all that descend from it, now."""
    children = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            stat = _read(entry / "stat")
            if stat:  # "pid (name) state parent ...", the name with spaces perhaps
                parent = int(stat.rpartition(")")[2].split()[1])
                children[parent].append(int(entry.name))
    pages, left = 0, [pid]
    while left:
        one = left.pop()
        left += children[one]
        statm = _read(_PROC / str(one) / "statm")
        pages += int(statm.split()[1]) if statm else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    """A file of /proc; empty where the process has ended meanwhile."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
