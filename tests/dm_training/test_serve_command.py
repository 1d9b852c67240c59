"""The process: how it starts, what it refuses to start with, and how it ends."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
import served_support as served

from dm_training.serve import main
from dm_training.serving import server as serving_server
from dm_training.serving.limits import Limits
from dm_training.serving.served_model import ServedModel
from dm_training.serving.server import is_loopback, read_token
from dm_training.serving.service import Service

PREDICT = "/v1/models/m:predict"
BODY = json.dumps({"inputs": np.zeros((1, 64, 48, 1), int).tolist()}).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return served.save_export(tmp_path_factory.mktemp("models") / "m")


@pytest.fixture(scope="module")
def model(folder):
    return ServedModel(folder)


@pytest.fixture
def gate(monkeypatch, model):
    """The model waits until this is set."""
    made, run = threading.Event(), model.run
    monkeypatch.setattr(model, "run", lambda call: made.wait(20) and run(call))
    yield made
    made.set()


def ask(address, method="POST", path=PREDICT, body=BODY, kept=None):
    """(status, headers, body), over a connection of its own or one that is kept."""
    connection = kept or http.client.HTTPConnection(*address, timeout=20)
    connection.request(method, path, body)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    if kept is None:
        connection.close()
    return found


def in_threads(address, number):
    """Ask that often at a time; (threads, list that fills with the statuses)."""
    found = []

    def one():
        try:
            found.append(ask(address)[0])
        except OSError as err:
            found.append(type(err).__name__)

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads, found


@pytest.mark.parametrize(
    "host, is_own",
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("host.test", False),
     ("", False)],
)  # fmt: skip
def test_what_others_can_reach_is_no_loopback(host, is_own):
    assert is_loopback(host) is is_own


def test_beyond_loopback_nothing_starts_without_a_token(folder, monkeypatch, capsys):
    monkeypatch.delenv("DM_SERVE_TOKEN", raising=False)
    assert main([str(folder), "--host", "0.0.0.0", "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "a token is due: --token-file FILE, or DM_SERVE_TOKEN" in told


def test_tokens_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("DM_SERVE_TOKEN", raising=False)
    assert read_token(None, "127.0.0.1") is None
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    assert read_token(str(file), "0.0.0.0") == "0123456789abcdef"
    monkeypatch.setenv("DM_SERVE_TOKEN", "fedcba9876543210")
    assert read_token(None, "127.0.0.1") == "fedcba9876543210"
    file.write_text("secret")
    with pytest.raises(serving_server.ServeError, match="at least 16 .* received 6"):
        read_token(str(file), "127.0.0.1")
    with pytest.raises(serving_server.ServeError, match="FileNotFoundError"):
        read_token(str(tmp_path / "none"), "127.0.0.1")
    monkeypatch.setenv("DM_SERVE_TOKEN", "")
    with pytest.raises(serving_server.ServeError, match="received 0"):
        read_token(None, "127.0.0.1")


def test_what_is_no_model_or_no_port_is_status_2(folder, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "neither a SavedModel" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(folder), "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
    assert main([str(folder), "--port", "99999"]) == 2
    assert main([str(folder), "--max-batch", "0"]) == 2
    assert "--max-batch must be positive, received 0" in capsys.readouterr().err


def test_told_to_stop_it_answers_what_it_holds_and_then_ends(model, gate):
    service = Service(model, Limits(drain_s=20))
    with served.running(service) as (server, address):
        kept = http.client.HTTPConnection(*address, timeout=20)
        assert ask(address, "GET", "/healthz", None, kept)[0] == 200
        threads, statuses = in_threads(address, 6)
        served.wait_until(lambda: service.admission.held == 6)
        server.should_exit = True
        served.wait_until(lambda: service.closing)
        status, head, _ = ask(address, "GET", "/healthz", None, kept)
        assert (status, head["connection"]) == (503, "close")
        served.wait_until(lambda: not server.servers[0].is_serving())
        with pytest.raises(ConnectionRefusedError):
            ask(address)
        gate.set()
        for thread in threads:
            thread.join(20)
    assert statuses == [200] * 6
    assert service.cut_off == 0


def test_what_is_not_done_when_the_time_is_over_gets_503_and_is_counted(model, gate):
    service = Service(model, Limits(drain_s=0.3))
    with served.running(service) as (server, address):
        threads, statuses = in_threads(address, 3)
        served.wait_until(lambda: service.admission.held == 3)
        server.should_exit = True
        for thread in threads:
            thread.join(20)
    assert statuses == [503] * 3
    assert service.cut_off == 3


def test_connections_without_a_whole_head_are_ended(model, monkeypatch):
    monkeypatch.setattr(serving_server.Protocol, "idle_s", 0.1)
    with served.running(Service(model)) as (_, address):
        for begun in (b"", b"GET / HTT", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGE"):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(begun)
                found = b""
                with contextlib.suppress(ConnectionResetError):
                    while received := connection.recv(65536):
                        found += received
                assert found.startswith(b"HTTP/1.1 200" if begun[-2:] == b"GE" else b"")


def test_a_body_too_large_is_refused_before_it_is_sent(model):
    with served.running(Service(model, Limits(max_body=1000))) as (_, address):
        with socket.create_connection(address, timeout=10) as connection:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n"
            connection.sendall(head.encode() + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_fault_reaches_no_log_of_the_web_server(model, monkeypatch, capfd):
    def broken(call):
        raise KeyError("Mrs Smith")

    monkeypatch.setattr(model, "run", broken)
    with served.running(Service(model)) as (_, address):
        assert ask(address)[0] == 500
    told = "".join(capfd.readouterr())
    assert "KeyError" in told
    assert "Smith" not in told
    assert "Traceback" not in told


def test_the_command_serves_on_loopback_until_it_is_told_to_stop(folder):
    command = [sys.executable, "-m", "dm_training.serve", str(folder), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "DM_SERVE_TOKEN": "0123456789abcdef"},
    )  # fmt: skip
    with process:
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/v1/models/m$", line)[0]
        request = urllib.request.Request(
            url + ":predict", BODY, {"Authorization": "Bearer 0123456789abcdef"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert "probability" in json.load(answer)["outputs"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        told = process.stdout.read()
    assert f"page {url.removesuffix('v1/models/m')} " in line
    assert told == "stopped; 0 requests ended unanswered\n"
