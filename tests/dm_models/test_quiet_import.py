"""What is left out of standard error during an import, and what is not."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from dm_models.quiet_import import NOISE, filtered_stderr
with filtered_stderr(NOISE):
    os.write(2, b"I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on\\n")
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called\\n")
    os.write(2, b"F0000 00:00:1.2 3 cpu.cc:1] compiled to use AVX\\n")
    print("a warning", file=sys.stderr)
    {}
os.write(2, b"I0000 after\\n")
"""
KEPT = ["F0000 00:00:1.2 3 cpu.cc:1] compiled to use AVX", "a warning"]


@pytest.mark.parametrize(
    ("end", "status", "last"),
    [("", 0, ["I0000 after"]), ("os.abort()", -6, []), ("os._exit(3)", 3, [])],
    ids=["imported", "aborted", "ended"],
)
def test_only_known_lines_are_left_out_however_it_ends(end, status, last):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(end)], stderr=subprocess.PIPE, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert done.stderr.splitlines() == KEPT + last


def test_a_failed_import_is_told():
    script = SCRIPT.format("import no_such_module")
    done = subprocess.run(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "No module named" in done.stderr
