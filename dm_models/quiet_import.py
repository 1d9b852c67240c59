"""TensorFlow's greetings kept off the screen while it is imported.

It logs half a dozen lines from C++ before any setting takes effect. They pass through
`grep`, a process of its own, so that what says why an import was aborted still comes
through; without one they are shown. Everything but the known lines is shown as it
comes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

NOISE = (
    r"^I0000 |^To enable the following instructions: |^[EW]0000 .*(Unable to register "
    r"cu[A-Z]+ factory|computation placer already registered)|^WARNING: All log "
    r"messages before absl::InitializeLog\(\) is called"
)
_PATIENCE_S = 5


def import_tensorflow() -> None:
    """Import TensorFlow without its greetings, where Keras runs on it."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    known = "tensorflow" in sys.modules or find_spec("tensorflow") is None
    if backend != "tensorflow" or known:
        return
    with filtered_stderr(NOISE):
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def filtered_stderr(pattern: str) -> Iterator[None]:
    """Leave lines that match out of standard error, whoever in this process writes.

    Args:
        pattern: As `grep -E` takes it.
    """
    try:
        grep, shown = shutil.which("grep"), os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    try:
        if grep is None:
            yield
        else:
            yield from _through(grep, pattern, shown)
    finally:
        os.close(shown)


def _through(grep: str, pattern: str, shown: int) -> Iterator[None]:
    command = [grep, "--line-buffered", "-a", "-v", "-E", pattern]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=shown,
                             stderr=shown, start_new_session=True)  # fmt: skip
    sys.stderr.flush()
    os.dup2(child.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(shown, 2)
        child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # another holds the pipe
            child.wait(_PATIENCE_S)
