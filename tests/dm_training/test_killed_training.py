"""A training that SIGKILL ends at any moment and --resume ends, against a whole one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

WORKER = Path(__file__).with_name("distributed_worker.py")
ROOT = Path(__file__).parents[2]
# The dropout's masks and Adam's moments must come back, too.
OPTIONS = ("--dropout", "0.3", "--norm", "trained")


def start(out, table, *extra):
    env = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, str(WORKER), "none", str(out), str(table), *OPTIONS]
    return subprocess.Popen(
        [*command, *extra], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finished(process):
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()[-2000:]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from tests_support import write_set

    folder = tmp_path_factory.mktemp("set") / "d"
    return write_set(folder, women={"train": 6, "val": 4}, seed=2)


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """The uninterrupted run, and the seconds from its run folder to its end."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    process = start(out, table)
    while not out.exists() and process.poll() is None:
        time.sleep(0.01)
    began = time.monotonic()
    finished(process)
    return out, time.monotonic() - began


def assert_same_outcome(one, two):
    histories = [pd.read_csv(out / "history.csv").drop(columns="seconds")
                 for out in (one, two)]  # fmt: skip
    pd.testing.assert_frame_equal(*histories)
    for name in ("last.keras", "best.keras"):
        first, second = (keras.saving.load_model(out / name, compile=False)
                         for out in (one, two))  # fmt: skip
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def killed_and_resumed(out, table, delays):
    """Kill after each delay, counted from the first line of the log; then let run."""
    for number, delay in enumerate(delays):
        resume = ["--resume"] if (out / "config.json").exists() else []
        log = out / "log.txt"
        before = log.stat().st_mtime_ns if log.exists() else 0
        process = start(out, table, *resume)
        while process.poll() is None and (
            not log.exists() or log.stat().st_mtime_ns == before
        ):
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (out / "config.json").exists(), f"kill {number} left no run folder"
    finished(start(out, table, "--resume"))


def test_killed_once_in_the_middle_it_ends_as_if_it_had_not_been(
    whole, table, tmp_path
):
    out, seconds = whole
    killed_and_resumed(tmp_path / "run", table, [0.6 * seconds])
    assert_same_outcome(out, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(
    seed, whole, table, tmp_path
):
    out, seconds = whole
    delays = np.random.default_rng(seed).uniform(0, seconds, 2)
    killed_and_resumed(tmp_path / "run", table, delays.tolist())
    assert_same_outcome(out, tmp_path / "run")


@pytest.mark.slow
def test_killed_as_a_checkpoint_is_written_it_ends_as_if_it_had_not_been(
    whole, table, tmp_path
):
    out, run = whole[0], tmp_path / "run"
    process = start(run, table)
    aside = run / "last.part.keras"  # written aside, before it takes its name
    while process.poll() is None and not aside.exists():
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished(start(run, table, "--resume"))
    assert_same_outcome(out, run)
    assert not aside.exists()
