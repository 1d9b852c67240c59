"""Where a training keeps its pixels."""

from argparse import Namespace

import numpy as np
import pytest

from dm_training import training
from dm_training.runs import Run
from dm_training.samples import read_samples


def opened(image_set, run, **flags):
    given = {"load_train_ram": None, "load_val_ram": None, "pixel_cache": None,
             "train": str(image_set), **flags}  # fmt: skip
    samples = read_samples(image_set, "train", classes=("neg", "pos"))
    return training._store(Namespace(**given), run, "train", samples, 48, 40)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run", {})


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ({}, "memory"),  # few images
        ({"load_train_ram": True}, "memory"),
        ({"load_train_ram": False}, "cache"),
        ({"load_train_ram": False, "pixel_cache": "none"}, "files"),
    ],
    ids=str,
)
def test_pixels_are_kept_where_the_flags_say(image_set, run, flags, kept):
    store = opened(image_set, run, **flags)
    assert store.kept == kept
    assert (image_set.parent / ".pixels").exists() == (kept == "cache")


def test_many_pixels_go_to_the_cache_unasked(image_set, run, monkeypatch):
    monkeypatch.setattr(training, "_SMALL_BYTES", 1000)
    first, second = (opened(image_set, run) for _ in range(2))
    assert (first.kept, first.decoded, second.decoded) == ("cache", 8, 0)
    np.testing.assert_array_equal(first.read(3), second.read(3))
    assert "0 images decoded now" in (run.out / "log.txt").read_text()


def test_a_cache_that_cannot_be_written_is_said_and_done_without(image_set, run):
    a_file = image_set.parent / "taken"
    a_file.write_text("x")
    store = opened(image_set, run, load_train_ram=False, pixel_cache=str(a_file))
    assert store.kept == "files"
    assert "no pixel cache, files are decoded" in (run.out / "log.txt").read_text()
