"""Who may ask, how much, for how long; and what is told of it."""

import asyncio
import json
import re
import threading

import numpy as np
import pytest
import served_support as served

from dm_training.serving.app import make_app
from dm_training.serving.limits import Limits
from dm_training.serving.served_model import ServedModel
from dm_training.serving.service import Service

PREDICT = "/v1/models/m:predict"
TOKEN = "a token of many letters"
BODY = json.dumps({"inputs": np.zeros((1, 64, 48, 1), int).tolist()}).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ServedModel(served.save_export(tmp_path_factory.mktemp("models") / "m"))


@pytest.fixture
def serve(model):
    """Make a client of a service with these limits; the service is its attribute."""
    made = []

    def started(token=None, hosts=None, **limits):
        service = Service(model, Limits(**limits))
        made.append(service)
        client = served.Client(make_app(service, token=token, hosts=hosts))
        client.service = service
        return client

    yield started
    for service in made:
        service.close()


@pytest.fixture
def held(monkeypatch, model):
    """The model waits until this is set."""
    gate, run = threading.Event(), model.run
    monkeypatch.setattr(model, "run", lambda call: gate.wait(20) and run(call))
    yield gate
    gate.set()


@pytest.mark.parametrize("declared", [20_000, None, 5], ids=["yes", "no", "wrongly"])
def test_a_body_too_large_is_413_whether_or_not_it_says_its_size(serve, declared):
    client = serve(max_body=10_000)
    status, head, body = client.send("POST", PREDICT, [b" " * 1000] * 20, declared)
    text = {"error": "a request must not exceed 10000 bytes"}
    assert (status, json.loads(body), head["connection"]) == (413, text, "close")
    assert client.service.admission.held == 0


def test_a_body_that_stalls_or_is_cut_off_is_408(serve):
    client = serve(stall_s=0.05)

    async def silence():
        await asyncio.sleep(20)

    for chunks in ([b"{", silence], [b"{", None]):
        status, head, _ = client.send("POST", PREDICT, [*chunks, b""])
        assert (status, head["connection"]) == (408, "close")
    assert client.service.admission.held == 0


def test_what_takes_too_long_is_504_and_its_place_is_free_again(serve, held):
    client = serve(timeout_s=0.1)
    status, answer = client.post(PREDICT, BODY)
    assert (status, answer) == (504, {"error": "no answer within 0.1 s"})
    assert client.service.admission.held == 0


def test_a_body_that_trickles_ends_with_the_requests_time(serve):
    async def slowly():
        await asyncio.sleep(0.03)

    client = serve(timeout_s=0.1, stall_s=5)
    chunks = [b" ", slowly] * 200
    assert client.send("POST", PREDICT, [*chunks, b""])[0] == 504


def test_more_requests_than_the_queue_holds_are_429_and_none_is_lost(serve, held):
    client = serve(max_queue=3)

    async def ask():
        asked = [
            asyncio.create_task(client.asend("POST", PREDICT, [BODY])) for _ in range(8)
        ]
        refused, waiting = await asyncio.wait(asked, timeout=0.5)
        held.set()
        return [task.result() for task in refused], await asyncio.gather(*waiting)

    refused, answered = asyncio.run(ask())
    assert [status for status, _, _ in refused] == [429] * 5
    assert {head["retry-after"] for _, head, _ in refused} == {"1"}
    assert [status for status, _, _ in answered] == [200] * 3


def test_an_image_of_too_many_pixels_never_reaches_the_net(serve, model, monkeypatch):
    monkeypatch.setattr(model, "most_pixels", 64 * 48)
    wide = json.dumps({"inputs": np.full((1, 64, 49, 1), 9000).tolist()}).encode()
    status, answer = serve().post(PREDICT, wide)
    assert status == 413
    assert "at most 3,072 pixels, received 64 x 49" in answer["error"]


def test_bodies_that_are_too_much_together_are_429_and_their_bytes_are_free_again(
    serve, held
):
    client = serve(max_held=len(BODY) + 10)

    async def ask():
        first = asyncio.create_task(client.asend("POST", PREDICT, [BODY]))
        await asyncio.sleep(0.2)
        second = await client.asend("POST", PREDICT, [BODY])
        held.set()
        return second, await first, await client.asend("POST", PREDICT, [BODY])

    refused, first, third = asyncio.run(ask())
    assert (refused[0], refused[1]["connection"]) == (429, "close")
    assert (first[0], third[0]) == (200, 200)
    assert client.service.admission.held_bytes == 0


def test_a_bad_request_among_many_costs_its_own_answer_alone(serve, held):
    client = serve()
    levels = [10000, 70000, 40000, 20000]  # the second is above the rule's 65535

    async def ask(level):
        body = json.dumps({"inputs": np.full((1, 64, 48, 1), level).tolist()})
        return await client.asend("POST", PREDICT, [body.encode()])

    async def all_of_them():
        asked = [asyncio.create_task(ask(level)) for level in levels]
        await asyncio.sleep(0.3)
        held.set()
        return await asyncio.gather(*asked)

    answers = [(s, json.loads(body)) for s, _, body in asyncio.run(all_of_them())]
    assert [status for status, _ in answers] == [200, 400, 200, 200]
    assert answers[1][1] == {"error": served.GREY_RULE}
    for at in (0, 2, 3):
        given = answers[at][1]["outputs"]["probability"][0]
        due = served.probability_of(2 * levels[at])
        assert given == pytest.approx(due, abs=1e-5)


@pytest.mark.parametrize(
    "path", ["/v1/models/m", PREDICT, "/score", "/metrics", "/about", "/nowhere"]
)
@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"]
)
def test_without_the_token_nothing_is_told(serve, path, given):
    client = serve(token=TOKEN)
    headers = {} if given is None else {"Authorization": given}
    status, head, body = client.send("GET", path, headers=headers)
    assert (status, head["www-authenticate"].split()[0]) == (401, "Bearer")
    assert set(json.loads(body)) == {"error"}
    assert TOKEN not in body.decode()


def test_with_the_token_all_is_told_and_health_and_page_without(serve):
    client = serve(token=TOKEN)
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        assert client.get("/v1/models/m", headers=headers)[0] == 200
    assert client.get("/healthz") == (200, {"status": "ok"})
    for path in ("/", "/page.css", "/page.js"):
        assert client.send("GET", path)[0] == 200


def test_the_pages_policy_allows_its_own_files_and_no_more(serve):
    status, head, _ = serve().send("GET", "/")
    given = dict(
        part.split(maxsplit=1) for part in head["content-security-policy"].split("; ")
    )
    assert given["default-src"] == "'none'"
    for name in ("script-src", "style-src", "connect-src"):
        assert given[name] == "'self'"
    for name in ("base-uri", "form-action", "frame-ancestors"):
        assert given[name] == "'none'"
    assert (status, head["x-frame-options"]) == (200, "DENY")


@pytest.mark.parametrize(
    "host, status",
    [("127.0.0.1:8501", 200), ("LOCALHOST", 200), ("[::1]:9", 200), ("proxy.test", 200),
     ("rebound.example", 403), ("127.0.0.1.evil.example", 403), ("[", 403)],
)  # fmt: skip
def test_a_name_rebound_to_loopback_is_refused(serve, host, status):
    client = serve(hosts=("localhost", "127.0.0.1", "::1", "proxy.test"))
    got, body = client.get("/v1/models/m", headers={"Host": host})
    assert got == status
    assert ("own host name" in str(body)) == (status == 403)


def test_pages_of_other_sites_are_refused_and_no_answer_is_shared(serve):
    client = serve()
    own = {"Host": "127.0.0.1:8501", "Origin": "http://127.0.0.1:8501"}
    status, head, _ = client.send("GET", "/v1/models/m", headers=own)
    assert status == 200
    assert not [name for name in head if name.startswith("access-control")]
    assert head["x-content-type-options"] == "nosniff"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:99", "http://[::"):
        answer = client.get("/v1/models/m", headers={**own, "Origin": origin})
        assert answer[0] == 403


def test_metrics_count_by_route_and_status_and_name_nothing_else(serve):
    client = serve()
    client.post(PREDICT, BODY)
    client.post(PREDICT, b"{")
    client.get("/Mrs%20Smith")
    client.get("/v1/models/Mrs_Smith")
    text = client.send("GET", "/metrics")[2].decode()
    assert 'dm_serve_requests_total{route="predict",status="200"} 1.0' in text
    assert 'dm_serve_requests_total{route="predict",status="400"} 1.0' in text
    assert 'dm_serve_requests_total{route="other",status="404"} 1.0' in text
    assert 'dm_serve_request_seconds_count{route="predict"} 2.0' in text
    assert "dm_serve_batch_images_sum 1.0" in text
    assert "dm_serve_queue_length 0.0" in text
    assert re.search(r'dm_serve_model_info\{.*version="0123456789ab"\} 1.0', text)
    assert "Smith" not in text


def test_health_is_503_when_draining_or_when_the_worker_has_ended(serve):
    client = serve()
    client.service.draining = client.service.closing = True
    status, head, body = client.send("GET", "/healthz")
    assert (status, json.loads(body)) == (503, {"status": "draining"})
    assert head["connection"] == "close"
    client.service.draining = False
    client.service.batcher.stop(5)
    assert client.get("/healthz") == (503, {"status": "broken"})


def test_nothing_of_a_request_is_printed(serve, capfd):
    client = serve()
    client.post(PREDICT, b'{"inputs": "Mrs Smith"}')
    client.post("/v1/models/Mrs_Smith:predict", b"{}")
    client.post("/score", b"Mrs Smith")
    assert "Smith" not in "".join(capfd.readouterr())
