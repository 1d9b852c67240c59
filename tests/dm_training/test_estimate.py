"""Memory and time said before a long run, and a clear word when memory is out."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from dm_models import checkpointing
from dm_models.backbones import get_backbone
from dm_models.freezing import set_trainable_from
from dm_models.patch_classifier import build_patch_classifier
from dm_models.whole_image import build_whole_image
from dm_training import estimate
from dm_training.estimate import StepMeter, StepSize, step_bytes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def resnet():
    contract = get_backbone("resnet50").contract(height=224, width=224)
    patch_model = build_patch_classifier("resnet50", contract=contract)
    return build_whole_image(patch_model, contract, "512-512-1024x2",
                             height=1152, width=896)  # fmt: skip


def test_the_reckoning_is_near_what_was_measured(resnet):
    # 5.7 GiB plain, 3.9 GiB with checkpoints: batch 2 at 1152 x 896, all layers
    plain = step_bytes(resnet, StepSize(2, 1152, 896)) / 2**30
    kept = step_bytes(resnet, StepSize(2, 1152, 896, checkpointed=True)) / 2**30
    assert plain == pytest.approx(5.7, rel=0.1)
    assert kept == pytest.approx(3.9, rel=0.35)


def test_memory_grows_with_batch_and_size_and_shrinks_in_half_precision(resnet):
    base = step_bytes(resnet, StepSize(2, 1152, 896))
    fixed = step_bytes(resnet, StepSize(0, 1152, 896))
    twice = step_bytes(resnet, StepSize(4, 1152, 896))
    assert twice - fixed == pytest.approx(2 * (base - fixed))
    large = step_bytes(resnet, StepSize(2, 2304, 1792))
    assert large - fixed == pytest.approx(4 * (base - fixed), rel=0.02)
    half = step_bytes(resnet, StepSize(2, 1152, 896, half=True))
    assert half - fixed == pytest.approx((base - fixed) / 2)


def test_frozen_layers_hold_nothing(resnet):
    all_layers = step_bytes(resnet, StepSize(2, 1152, 896))
    set_trainable_from(resnet, "top")
    top = step_bytes(resnet, StepSize(2, 1152, 896))
    set_trainable_from(resnet, "all")
    assert top < 0.4 * all_layers


def test_a_model_that_cannot_be_cut_is_held_whole():
    inputs = keras.Input((8, 8, 1))
    flat = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    assert checkpointing.held_share(flat) == 1.0


def test_what_fits_is_said_without_alarm(resnet, monkeypatch):
    monkeypatch.setattr(estimate, "device_bytes", lambda: 64 * 2**30)
    said = []
    estimate.check(resnet, StepSize(2, 1152, 896), said.append)
    assert len(said) == 1 and said[0].endswith("of 64.0 GiB of memory")


def test_what_does_not_fit_is_said_with_what_would(resnet, monkeypatch):
    monkeypatch.setattr(estimate, "device_bytes", lambda: 4 * 2**30)
    said = []
    estimate.check(resnet, StepSize(8, 1152, 896), said.append)
    assert said[0].startswith("warning: a step should need about")
    for way in ("there are 4.0 GiB", "--gradient-checkpointing: ", "--precision mixed",
                "a training batch of 1: ", "--img-size 576 448: "):  # fmt: skip
        assert way in said[0]


def test_the_meter_says_how_long_the_stage_takes(monkeypatch):
    clock = iter([10.0, 16.0])  # after steps 1 and 4
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))
    said = []
    meter = StepMeter(steps=100, epochs=30, say=said.append)
    for batch in range(8):
        meter.on_train_batch_end(batch)
    assert meter.seconds == 2.0  # three steps in six seconds
    assert len(said) == 1 and said[0].startswith("a step takes 2 s, memory so far")
    assert "about 1.7 hours for 30 epochs of 100 steps" in said[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(20.0, "about 20 s"), (600.0, "about 10 minutes"), (7200.0, "about 2.0 hours")],
)
def test_durations_are_said_in_their_unit(seconds, text):
    assert estimate._duration(seconds) == text


def test_only_an_exhausted_memory_is_taken_for_one():
    import tensorflow as tf

    exhausted = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
    assert estimate.out_of_memory(exhausted)
    assert estimate.out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert estimate.out_of_memory(MemoryError())
    mkl = "Operation received an exception:Status: 1, message: could not create"
    assert estimate.out_of_memory(tf.errors.AbortedError(None, None, mkl))
    assert not estimate.out_of_memory(ValueError("shape"))
    assert not estimate.out_of_memory(tf.errors.AbortedError(None, None, "peer left"))


STARVED = """
import resource, sys
import tensorflow as tf
from dm_training import estimate, image_clf_train
tf.zeros(1)
real = estimate.check
def starve(*args):
    real(*args)
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 1200 * 2**20,) * 2)
estimate.check = starve
sys.exit(image_clf_train.main(sys.argv[1:]))
"""


def test_a_step_that_does_not_fit_ends_in_a_word_not_a_trace(tmp_path):
    from tests_support import write_set

    women = {"train": 4, "val": 2, "test": 2}
    table = write_set(tmp_path / "set", women=women, size=(1152, 896))
    command = [sys.executable, "-c", STARVED, *[str(table)] * 3,
               "--recipe", "squeezenet-s10-8x1", "--batch-size", "512",
               "--img-size", "1152", "896", "--nb-epoch", "1",
               "--out", str(tmp_path / "run")]  # fmt: skip
    env = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: memory is out in stage top: a step of 512 images of")
    assert "--gradient-checkpointing" in last and "Traceback" not in done.stderr
