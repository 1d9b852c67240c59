"""The load test itself, briefly: nothing is lost, also when the server is stopped."""

import json

import pytest
import served_support as served

from dm_training.benchmark import serving_load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return served.save_export(tmp_path_factory.mktemp("models") / "m")


def run(folder, capsys, *options):
    status = serving_load.main([str(folder), "--clients", "8", *options])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_every_request_is_answered(folder, capsys):
    status, found = run(folder, capsys, "--seconds", "2", "--rounds", "2")
    assert (status, found["lost"], found["connections_refused"]) == (0, 0, 0)
    assert found["answered"] == {"200": found["sent"]}
    assert found["sent"] > 16
    assert 0 < found["p50_s"] <= found["p99_s"] <= found["longest_s"] < 20
    assert len(found["images_per_s"]) == len(found["ratio"]["rounds"]) == 2


def test_stopping_loses_nothing_that_was_accepted(folder, capsys):
    status, found = run(folder, capsys, "--seconds", "3", "--stop-after", "1")
    assert (status, found["lost"], found["server_exit"]) == (0, 0, 0)
    assert found["connections_refused"] == 8  # each client found the port closed
    assert found["answered"] == {"200": found["sent"]}


def test_what_gets_no_answer_is_counted_as_lost():
    tally = serving_load.Tally()
    tally.unanswered(was_sent=True)
    tally.unanswered(was_sent=False)
    tally.answered(200, 0.5)
    tally.answered(504, 0.5)
    assert (tally.sent, tally.lost, tally.refused) == (3, 1, 1)
    assert (tally.statuses, tally.seconds) == ({200: 1, 504: 1}, [0.5])
