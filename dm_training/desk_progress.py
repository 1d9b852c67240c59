"""How far a run is: a bar on a terminal, now and then a line elsewhere.

Both go to standard error. A log gets a line at every tenth of the images or after half
a minute, and none of a run that is done at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

_LONGEST_S, _SHORTEST_S = 30.0, 5.0  # between two lines
_SIZE = {"ncols": 80, "nrows": 24}


class Progress:
    """Counts images.

    Args:
        total: Images in all.
        shown: False where lines of results already show how far a run is.
        clock: Seconds.
    """

    def __init__(
        self, total: int, *, shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self.total, self.clock, self.done = total, clock, 0
        self.lines = shown and not terminal
        self._begun = self._last_s = clock()
        self._last = 0
        self.bar = tqdm(
            total=total, unit="image", disable=not (shown and terminal), leave=False,
            **_size(),
        )  # fmt: skip

    def update(self) -> None:
        """One more image is done."""
        self.done += 1
        self.bar.update()
        if not self.lines or self.done == self.total:
            return
        waited = self.clock() - self._last_s
        tenth = (self.done - self._last) * 10 >= self.total
        if waited >= _LONGEST_S or (tenth and waited >= _SHORTEST_S):
            self._tell()

    def write(self, line: str) -> None:
        """Print a line to standard error, above the bar."""
        self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

    def _tell(self) -> None:
        self._last, self._last_s = self.done, self.clock()
        share, taken = self.done / self.total, self._last_s - self._begun
        self.write(
            f"{self.done:,} of {self.total:,} images ({share:.0%}), {taken:.0f} s"
        )


def _size() -> dict[str, int]:
    """Of a terminal that tells none, which would get no bar; else the bar asks."""
    try:
        told = all(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError):  # no terminal, or nothing with a number
        told = False
    return {} if told else _SIZE
