"""Ends a run's commands when the run itself is killed, however it was killed.

A stage is a shell script that starts Python that may start workers: none of them sees
that the driver is gone. A small process that only reads a pipe does: the pipe ends with
the driver, and then the process groups that were named on it are ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

GRACE_S = 5.0
_POLL_S = 0.1


class Leash:
    """Process groups that shall not outlive this process.

    Example:
        >>> with Leash() as leash:
        ...     leash.hold(12345)  # doctest: +SKIP
    """

    def __enter__(self) -> Leash:
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_exc) -> None:
        self._watcher.stdin.close()
        self._watcher.wait()

    def hold(self, group: int) -> None:
        """End this process group should the present process die."""
        self._tell(f"+{group}")

    def let_go(self, group: int) -> None:
        """The group has ended by itself; its number may be another's soon."""
        self._tell(f"-{group}")

    def _tell(self, line: str) -> None:
        self._watcher.stdin.write(line + "\n")
        self._watcher.stdin.flush()


def end_group(group: int, grace_s: float = GRACE_S) -> None:
    """Ask a process group to end, and after a while make it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            end = time.monotonic() + grace_s
            while time.monotonic() < end:
                os.killpg(group, 0)
                time.sleep(_POLL_S)


def _watch(lines) -> None:
    held = set()
    for line in lines:
        group = int(line[1:])
        (held.add if line[0] == "+" else held.discard)(group)
    for group in held:
        end_group(group)


if __name__ == "__main__":
    _watch(sys.stdin)
