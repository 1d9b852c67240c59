"""How far a run is, on terminals of any kind and in logs."""

import os
import pty
import subprocess
import sys

from dm_training.desk_progress import Progress

BAR = """
import time
from dm_training.desk_progress import Progress
progress = Progress(4)
for _ in range(4):
    time.sleep(0.15)
    progress.update()
progress.close()
"""


def test_a_bar_stands_on_a_terminal_that_does_not_tell_its_size():
    ours, theirs = pty.openpty()  # 0 columns, as many programs open one
    process = subprocess.Popen([sys.executable, "-c", BAR], stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 1000):
            said += chunk
    except OSError:  # how Linux tells that the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"2/4" in said and b"image/s" in said


def lines(capsys, total, seconds_each, **options):
    now = [0.0]
    progress = Progress(total, clock=lambda: now[0], **options)
    for _ in range(total):
        now[0] += seconds_each
        progress.update()
    progress.close()
    return capsys.readouterr().err.splitlines()


def test_a_log_gets_a_line_at_every_tenth(capsys):
    said = lines(capsys, 2000, 0.05)
    assert said[0] == "200 of 2,000 images (10%), 10 s" and len(said) == 9


def test_a_log_gets_a_line_after_half_a_minute_and_none_of_a_short_run(capsys):
    assert lines(capsys, 100_000, 0.01)[0].startswith("3,000 of 100,000")
    assert lines(capsys, 300, 0.01) == []
    assert lines(capsys, 2000, 0.05, shown=False) == []
