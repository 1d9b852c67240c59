"""The memory of dm-predict does not grow with the number of files."""

import sys

import pytest
from desk_support import write_images, write_model

from dm_training.benchmark.memory import run_watched

SIZE = (384, 320)  # 2,000 of them held as uint16 would be 470 MiB


@pytest.mark.slow
def test_ten_times_the_files_take_the_same_memory(tmp_path):
    model = write_model(tmp_path / "model.keras", (48, 40))
    sources = write_images(tmp_path / "source", 8, size=SIZE)
    peaks = []
    for count in (200, 2000):
        scans = tmp_path / f"scans{count}"
        scans.mkdir()
        for number in range(count):
            (scans / f"{number:05d}.png").hardlink_to(sources[number % 8])
        out = tmp_path / f"{count}.csv"
        command = ["-m", "dm_training.predict", model, scans, "--out", out]
        watched = run_watched([sys.executable, *map(str, command)])
        peaks.append(watched.peak_bytes / 2**20)
        assert out.read_text().count("\n") == count + 1
    assert peaks[1] < 1.1 * peaks[0] + 20
