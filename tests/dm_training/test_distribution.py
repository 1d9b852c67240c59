"""Several devices in one process, and several processes on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from dm_training import distribution
from dm_training.distribution import ALONE, DistributionError

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("distributed_worker.py")


def start(kind, out, table, *extra, config=None, program=None):
    env = dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}",
               TF_CPP_MIN_LOG_LEVEL="3", OMP_NUM_THREADS="1")  # fmt: skip
    env.pop("TF_CONFIG", None)
    if config:
        env["TF_CONFIG"] = json.dumps(config)
    command = program or [str(WORKER), kind, str(out), str(table)]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, extra)], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def configs(count=2):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(count)]}
    return [{"cluster": cluster, "task": {"type": "worker", "index": rank}}
            for rank in range(count)]  # fmt: skip


def ended(processes):
    """(status, error output) of each."""
    said = [process.communicate(timeout=240)[1] for process in processes]
    return [(p.returncode, text) for p, text in zip(processes, said, strict=True)]


def trained(kind, out, table, *extra):
    if kind == "hosts":
        running = [start(kind, out, table, *extra, config=c) for c in configs()]
    else:
        running = [start(kind, out, table, *extra)]
    for status, text in ended(running):
        assert status == 0, text
    model = keras.saving.load_model(out / "last.keras", compile=False)
    return model, pd.read_csv(out / "history.csv").drop(columns="seconds")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from tests_support import write_set

    folder = tmp_path_factory.mktemp("set") / "d"
    return write_set(folder, women={"train": 6, "val": 4}, seed=2)


@pytest.fixture(scope="module")
def alone(table, tmp_path_factory):
    return trained("none", tmp_path_factory.mktemp("runs") / "alone", table)


def distance(one, two):
    pairs = zip(one.get_weights(), two.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["devices", "hosts"])
def test_two_replicas_end_with_the_weights_of_one_process(
    kind, table, alone, tmp_path
):
    model, history = trained(kind, tmp_path / "run", table)
    # 9 steps of Adam at 3e-3 move weights by some 0.02; rounding by less than 1e-5
    assert distance(model, alone[0]) < 2e-5
    numbers = ["epoch", "loss", "val_loss", "val_auc", "steps", "learning_rate"]
    for name in numbers:
        np.testing.assert_allclose(history[name], alone[1][name], atol=1e-4)


@pytest.mark.slow
def test_two_hosts_and_two_devices_agree_where_batch_norm_trains(table, tmp_path):
    one, _ = trained("devices", tmp_path / "devices", table, "--norm", "trained")
    two, _ = trained("hosts", tmp_path / "hosts", table, "--norm", "trained")
    assert distance(one, two) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["devices", "hosts"])
def test_a_frozen_batch_norm_changes_nothing(kind, table, tmp_path):
    one, _ = trained("none", tmp_path / "none", table, "--norm", "frozen")
    two, _ = trained(kind, tmp_path / kind, table, "--norm", "frozen")
    assert distance(one, two) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["devices", "hosts"])
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_on_replicas(kind, precision, table, tmp_path):
    extra = ("--precision", precision)
    one, alone_ = trained("none", tmp_path / "none", table, *extra)
    two, history = trained(kind, tmp_path / kind, table, *extra)
    assert distance(one, two) < 0.02
    np.testing.assert_allclose(history["loss"], alone_["loss"], atol=0.05)


@pytest.mark.slow
def test_a_lost_worker_stops_the_others_and_a_resume_goes_on(table, alone, tmp_path):
    out = tmp_path / "run"
    chief, other = (
        start("hosts", out, table, *extra, config=config)
        for config, extra in zip(configs(), ([], ["--die-at", 5]), strict=True)
    )
    (status, text), (killed, _) = ended([chief, other])
    assert killed == -9
    assert status == 1 and "WorkerLost: another process of this" in text
    assert len(pd.read_csv(out / "history.csv")) == 1  # 3 steps an epoch
    model, history = trained("hosts", out, table, "--resume")
    assert distance(model, alone[0]) < 2e-5
    assert history["epoch"].tolist() == [1, 2, 3]


@pytest.mark.slow
def test_a_lost_chief_stops_the_workers(table, tmp_path):
    first, second = configs()
    began = time.monotonic()
    chief = start("hosts", tmp_path / "r", table, "--die-at", 2, config=first)
    other = start("hosts", tmp_path / "r", table, config=second)
    (killed, _), (status, text) = ended([chief, other])
    assert (killed, status) == (-9, 1) and "WorkerLost" in text
    assert time.monotonic() - began < 120


@pytest.mark.slow
def test_processes_with_other_tables_refuse_to_train_together(table, tmp_path):
    from tests_support import write_set

    other = write_set(tmp_path / "o", women={"train": 6, "val": 4, "test": 2}, seed=3)
    common = ["--no-patch-model-state", "--recipe", "squeezenet-s10-8x1",
              "--img-size", "96", "80", "--batch-size", "4", "--out",
              str(tmp_path / "run")]  # fmt: skip
    mine = write_set(tmp_path / "m", women={"train": 6, "val": 4, "test": 2}, seed=2)
    frame = pd.read_csv(other)
    frame.loc[0, "view"] = "ML"
    frame.to_csv(other, index=False)
    running = [
        start("", "", "", config=config, program=[
            "-m", "dm_training.image_clf_train", *[str(source)] * 3, *common])
        for config, source in zip(configs(), (mine, other), strict=True)
    ]  # fmt: skip
    for status, text in ended(running):
        assert status == 2 and "do not agree on the tables" in text


@pytest.mark.slow
def test_the_command_trains_on_two_hosts_and_only_the_chief_writes(tmp_path):
    from tests_support import write_set

    women = {"train": 4, "val": 2, "test": 2}
    source = write_set(tmp_path / "m", women=women, size=(96, 80))
    out = tmp_path / "run"
    command = ["-m", "dm_training.image_clf_train", *[str(source)] * 3, "--recipe",
               "squeezenet-s10-8x1", "--img-size", "96", "80", "--batch-size", "4",
               "--nb-epoch", "1", "--all-layer-epochs", "2", "--out", out]  # fmt: skip
    running = [start("", "", "", config=config, program=list(map(str, command)))
               for config in configs()]  # fmt: skip
    for status, text in ended(running):
        assert status == 0, text
    assert len(pd.read_csv(out / "predictions_test.csv")) == 4
    config = json.loads((out / "config.json").read_text())
    assert (config["processes"], config["replicas"]) == (2, 2)
    assert "the first process scores" in (out / "log_worker1.txt").read_text()


def test_one_process_needs_no_strategy(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.choose("auto") is ALONE and ALONE.replicas == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "TF_CONFIG is not a JSON object"),
        ("[]", "TF_CONFIG is not a JSON object"),
        ('{"cluster": {"worker": ["a:1"]}}', "must name two workers or more"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}',
         "task must be"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", '
         '"index": 2}}', "N below 2"),
    ],
    ids=["broken", "list", "one", "server", "index"],
)  # fmt: skip
def test_a_wrong_cluster_is_refused(config, said, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(DistributionError, match=said):
        distribution.choose("hosts")


def test_a_single_device_cannot_be_spread_over(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(DistributionError, match="there is only one device"):
        distribution.choose("devices")


def test_a_batch_that_replicas_cannot_share_is_refused():
    with pytest.raises(DistributionError, match="must divide by 3.*received 4"):
        distribution.Distribution(replicas=3).check_batch(4)
