"""Peak memory of a command counts all of its processes."""

import sys

import pytest

from dm_training.benchmark.memory import run_watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
HOLD = "import time; held = b'x' * {} * 2**20; time.sleep(0.4); print('done')"
OUTER = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"


def test_what_a_process_holds_is_seen():
    watched = run_watched([sys.executable, "-c", HOLD.format(100)])
    assert 100 * 2**20 < watched.peak_bytes < 160 * 2**20
    assert watched.seconds > 0.4
    assert watched.output == "done\n"


def test_what_a_child_of_it_holds_is_seen_too():
    inner = HOLD.format(100)
    assert run_watched([sys.executable, "-c", OUTER.format(inner)]).peak_bytes > 1e8


def test_a_command_that_fails_is_an_error_with_its_words():
    program = "import sys; print('out of luck', file=sys.stderr); sys.exit(3)"
    with pytest.raises(RuntimeError, match="(?s)ended with 3.*out of luck"):
        run_watched([sys.executable, "-c", program])
