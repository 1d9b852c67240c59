"""A set of a hundred thousand images streams: memory does not grow with its pixels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]

STREAM = """
import json, resource, sys
import numpy as np
from dm_training import datasets
from dm_training.samples import read_samples
table, cache, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
samples = read_samples(table, "train", classes=("neg", "pos"))
store = datasets.ImageStore(samples, height=48, width=48, cache=cache)
stream = datasets.make_training_dataset(
    samples, store, batch_size=50, seed=1, balance="sampling")
means = [float(np.mean(images)) for images, _, _ in stream.take(steps)]
scored = sum(len(b) for b in datasets.make_evaluation_dataset(
    samples, store, batch_size=500))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"mib": peak, "images": len(samples), "scored": scored,
                  "mean": float(np.mean(means))}))
"""


def write_many(folder, count):
    (folder / "images").mkdir(parents=True)
    ramp = np.add.outer(np.arange(48), np.arange(48)).astype(np.uint16) * 100
    for number in range(count):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), ramp + number % 50000)
    numbers = np.arange(count)
    pd.DataFrame({
        "image_id": numbers.astype(str), "patient_id": (numbers // 4).astype(str),
        "laterality": "L", "view": "CC", "split": "train", "label": numbers // 4 % 2,
        "path": [f"images/{n}.png" for n in numbers],
    }).to_csv(folder / "images.csv", index=False)  # fmt: skip
    return folder / "images.csv"


def streamed(table, cache, steps):
    env = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, "-c", STREAM, str(table), str(cache), str(steps)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_a_hundred_thousand_images_stream_in_bounded_memory(tmp_path):
    few = streamed(write_many(tmp_path / "few", 2000), tmp_path / "c", 400)
    many = streamed(write_many(tmp_path / "many", 100_000), tmp_path / "c", 2000)
    assert (many["images"], many["scored"]) == (100_000, 100_000)
    pixels_mib = 98_000 * 48 * 48 * 2 / 2**20  # 431: what holding them would take
    rows_mib = 98_000 * 1500 / 2**20  # a row of the table, its ids and its cache key
    assert many["mib"] - few["mib"] < rows_mib < pixels_mib / 2
