"""Training by Keras's JAX backend: alone, on two devices and in two processes.

Every training runs in a process of its own, since the backend is chosen at import.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from tests_support import write_set

from dm_models.backbones import get_backbone
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import load_model, save_model
from dm_models.whole_image import build_whole_image
from dm_training import arguments, devices, jax_distribution

ROOT = Path(__file__).parent.parent.parent
SHARE = Path(__file__).with_name("share_of_batches.py")
TRAIN = [
    "-m", "dm_training.image_clf_train", "--img-size", "192", "160", "--seed", "5",
    "--batch-size", "4", "--nb-epoch", "0", "--all-layer-epochs", "1",
    "--optimizer", "sgd", "--init-learningrate", "1e-3", "--all-layer-multiplier", "1",
    "--hidden-dropout2", "0", "--precision", "float32",
]  # fmt: skip

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="jax is not installed: pip install 'dm-mammography[jax]'",
)


def start(*command, backend="jax", cpus=1, **environment):
    """A process of that backend, on so many CPU devices."""
    flag = f"--xla_force_host_platform_device_count={cpus}"
    return subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": flag,
             "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )  # fmt: skip


def finished(process, timeout=300):
    try:
        said, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A file of a model with all that depends on the batch: batch norm, dropout."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1), name="grey")
    x = keras.layers.Rescaling(1 / 65535)(inputs)
    x = keras.layers.Conv2D(2, 3, name="conv1", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    x = keras.layers.Dense(2, activation="softmax", name="image_prediction")(x)
    path = tmp_path_factory.mktemp("start") / "small.keras"
    contract = get_backbone("squeezenet").contract(height=8, width=8)
    save_model(keras.Model(inputs, x), path, contract)
    return path


@pytest.fixture(scope="module")
def on_one_device(small_model):
    """The losses, scores and weights of a training on one device."""
    out = small_model.parent / "one"
    assert "devices 1, process 0 of 1" in finished(start(SHARE, small_model, out))
    return arrays_of(out)


def arrays_of(out):
    with np.load(out / "weights.npz") as found:
        return [found[name] for name in found.files]


def distance(arrays, others):
    pairs = zip(arrays, others, strict=True)
    return np.sqrt(sum(((a - b) ** 2).sum(dtype=np.float64) for a, b in pairs))


def check_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@needs_jax
@pytest.mark.slow
def test_two_devices_end_with_the_weights_of_one(small_model, on_one_device, tmp_path):
    said = finished(start(SHARE, small_model, tmp_path / "two", cpus=2))
    assert "devices 2, process 0 of 1" in said
    check_same(arrays_of(tmp_path / "two"), on_one_device)
    assert not np.array_equal(
        on_one_device[2], load_model(small_model)[0].get_weights()[0]
    )


@needs_jax
@pytest.mark.slow
def test_two_processes_with_half_a_batch_each_end_with_the_weights_of_one(
    small_model, on_one_device, tmp_path
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [
        start(SHARE, small_model, tmp_path / str(number),
              KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
              KERAS_DISTRIBUTION_NUM_PROCESSES="2",
              KERAS_DISTRIBUTION_PROCESS_ID=str(number))
        for number in range(2)
    ]  # fmt: skip
    for number, process in enumerate(both):
        assert f"devices 2, process {number} of 2" in finished(process)
        check_same(arrays_of(tmp_path / str(number)), on_one_device)


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    "tests",
    [
        "dm_training/test_stages.py",  # a killed training resumes to the same weights
        "dm_models/test_checkpointing.py",
        "dm_models/test_grad_cam.py",
        "dm_training/test_overlays.py",
    ],
)
def test_what_holds_on_tensorflow_holds_on_jax(tests):
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", ROOT / "tests" / tests)
    said = finished(start(*command), timeout=600)
    assert "passed" in said and "skipped" not in said


@needs_jax
@pytest.mark.slow
def test_a_training_ends_with_the_same_weights_on_both_backends(tmp_path):
    """The same start, images, order and augmentation; scores of the last model too."""
    keras.utils.set_random_seed(3)
    contract = get_backbone("squeezenet").contract(height=64, width=64)
    patch_model = build_patch_classifier("squeezenet", contract=contract)
    model, begin = build_whole_image(patch_model, contract, "8x1"), tmp_path / "w.keras"
    save_model(model, begin, contract.replace(class_names=("neg", "pos")))
    women = {"train": 4, "val": 2, "test": 2}
    table = write_set(tmp_path / "data", women=women, size=(192, 160))
    for backend in ("tensorflow", "jax"):
        finished(start(
            *TRAIN, table, table, table, "--out", tmp_path / backend,
            "--no-patch-model-state", "--resume-from", begin,
            "--final-model", tmp_path / f"{backend}.keras", backend=backend,
        ))  # fmt: skip
    ours, theirs = (load_model(tmp_path / f"{b}.keras")[0].get_weights()
                    for b in ("tensorflow", "jax"))  # fmt: skip
    moved, apart = distance(ours, model.get_weights()), distance(ours, theirs)
    assert apart < 5e-3 * moved  # 2e-3: ReLUs and maxima decide otherwise near ties
    scores = [pd.read_csv(tmp_path / b / "predictions_test.csv")["y_score"]
              for b in ("tensorflow", "jax")]  # fmt: skip
    np.testing.assert_allclose(*scores, atol=1e-4)
    found = json.loads((tmp_path / "jax" / "versions.json").read_text())["keras"]
    assert found["backend"] == "jax" and found["devices"] == ["cpu"]
    assert found["jax"] and found["jaxlib"]
    export = ["-m", "dm_models.export", tmp_path / "jax.keras", "--out"]
    assert "same scores" in finished(start(*export, tmp_path / "saved_model"))


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_ends_with_the_weights_of_one_device(processes, tmp_path):
    """Two devices in one process, or one in each of two; only the first one writes."""
    women = {"train": 4, "val": 2, "test": 2}
    table = write_set(tmp_path / "data", women=women, size=(96, 80))
    command = ["-m", "dm_training.image_clf_train", table, table, table, "--recipe",
               "squeezenet-s10-8x1", "--img-size", "96", "80", "--batch-size", "4",
               "--nb-epoch", "1", "--all-layer-epochs", "2", "--optimizer", "sgd",
               "--init-learningrate", "1e-3"]  # fmt: skip
    finished(start(*command, "--out", tmp_path / "one", "--distribute", "none"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    hosts = [{} if processes == 1 else {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": str(number)}
        for number in range(processes)]  # fmt: skip
    running = [start(*command, "--out", tmp_path / "two", cpus=3 - processes, **host)
               for host in hosts]  # fmt: skip
    for process in running:
        finished(process)
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert (config["processes"], config["replicas"]) == (processes, 2)
    one, two = (load_model(tmp_path / n / "last.keras")[0] for n in ("one", "two"))
    check_same(two.get_weights(), one.get_weights())
    scores = [pd.read_csv(tmp_path / n / "predictions_test.csv")["y_score"]
              for n in ("one", "two")]  # fmt: skip
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_auto_precision_follows_the_device(monkeypatch):
    for kind, policy in (("gpu", "mixed_float16"), ("tpu", "mixed_bfloat16"),
                         ("cpu", "float32")):  # fmt: skip
        monkeypatch.setattr(devices, "platform", lambda kind=kind: kind)
        assert arguments.set_precision("auto") == policy
        assert keras.mixed_precision.dtype_policy().name == policy


def test_versions_name_the_backend_and_its_devices():
    found = devices.describe()
    assert found["backend"] == "tensorflow" == keras.backend.backend()
    assert len(found["devices"]) >= 1


def test_another_backend_is_not_distributed_and_says_so_when_asked():
    assert jax_distribution.set_up() == 1
    assert keras.distribution.distribution() is None
    with pytest.raises(ValueError, match="needs KERAS_BACKEND=jax, received 'tensor"):
        jax_distribution.set_up(True)


@pytest.mark.parametrize(
    ("count", "number", "message"),
    [
        ("2", None, "_PROCESS_ID must be a whole number, received ''"),
        ("two", "0", "_NUM_PROCESSES must be a whole number, received 'two'"),
        ("2", "2", "counts from 0 and must be less than .*NUM_PROCESSES, 2, received"),
    ],
)
def test_hosts_variables_that_do_not_fit_are_named(monkeypatch, count, number, message):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", count)
    if number is not None:
        monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", number)
    with pytest.raises(jax_distribution.DistributionError, match=message):
        jax_distribution.set_up()
