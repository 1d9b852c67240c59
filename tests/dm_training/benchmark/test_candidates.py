"""Candidates: processes that work in slices and stand still between them."""

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from dm_training import augment
from dm_training.benchmark import synthetic
from dm_training.benchmark.candidates import (
    Candidate,
    CandidateError,
    measure,
    started,
)

OPENCV = "dm_training.benchmark.opencv_workers:batches"
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def config(tmp_path):
    paths = synthetic.write_class_folders(tmp_path / "images", 3, 40, 30)
    return {
        "paths": paths, "height": 40, "width": 30, "batch": 2, "workers": 2,
        "ranges": asdict(augment.PAPER), "hold": "memory",
    }  # fmt: skip


def group_states(pid):
    """The states of all processes of a process group, such as T: stopped."""
    states = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            stat = (entry / "stat").read_text()  # "pid (name) state parent group ..."
            state, _, group = stat.rpartition(")")[2].split()[:3]
            if int(group) == pid:
                states.append(state)
    return states


@needs_proc
def test_it_works_in_its_slice_and_stands_still_after_it(config):
    candidate = Candidate("opencv", OPENCV, config)
    pid = candidate._process.pid
    with started({"opencv": candidate}) as missing:
        assert missing == {}
        assert candidate.facts == {"shape": [2, 1, 40, 30], "dtype": "float32"}
        for _ in range(2):
            assert candidate.run(0.1) > 0
            time.sleep(0.1)
            assert group_states(pid) == ["T"] * 3  # itself and two workers
    assert group_states(pid) == []


def test_candidates_are_measured_in_turns(config):
    made = {
        hold: Candidate(hold, OPENCV, config | {"hold": hold})
        for hold in ("memory", "files")
    }
    with started(made):
        seconds = dict.fromkeys(made, 0.05)
        rates = measure(made, seconds=seconds, rounds=2, warm=0.05)
    assert [len(rate) for rate in rates.values()] == [2, 2]
    assert all(value > 0 for rate in rates.values() for value in rate)


def test_a_package_that_is_not_there_is_missing_and_said():
    candidate = Candidate("other", "no_such_package_here:batches", {})
    with started({"other": candidate}) as missing:
        assert "other: No module named 'no_such_package_here'" in missing["other"]


def test_a_candidate_that_fails_says_why():
    candidate = Candidate("opencv", OPENCV, {})
    with (
        pytest.raises(CandidateError, match="(?s)opencv: Traceback.*KeyError"),
        started({"opencv": candidate}),
    ):
        pass


def test_a_worker_that_fails_says_why(config):
    broken = config | {"paths": ["no_such_file.png"]}
    candidate = Candidate("opencv", OPENCV, broken)
    with pytest.raises(CandidateError, match="RuntimeError"), started({"o": candidate}):
        pass


@needs_proc
def test_a_candidate_that_is_killed_is_an_error_and_no_wait(config):
    candidate = Candidate("opencv", OPENCV, config)
    with started({"opencv": candidate}):
        os.killpg(candidate._process.pid, 9)
        with pytest.raises(CandidateError, match="opencv: ended with status -9"):
            candidate.run(0.1)
