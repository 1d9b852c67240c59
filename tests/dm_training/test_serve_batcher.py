"""Merging changes no answer, and one bad call costs its own request alone."""

import threading

import numpy as np
import pytest

from dm_training.serving.batcher import Batcher
from dm_training.serving.errors import RequestError
from dm_training.serving.served_model import Call, Signature

PLAIN = Signature("plain", None, {}, by_row=True)
WHOLE = Signature("whole", None, {}, by_row=False)


class Model:
    """Doubles its input; waits for the gate, refuses -1, and notes what it was given.

    Attributes:
        given: Rows of every call, in order.
    """

    def __init__(self):
        self.gate, self.entered, self.given = threading.Event(), threading.Event(), []
        self.threads = set()

    def __call__(self, call):
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(20)
        x = call.inputs["x"]
        self.given.append(x[..., 0].ravel().tolist())
        if (x == -1).any():
            raise RequestError("minus one is refused")
        return {"twice": 2 * x, "sum": x.sum(axis=1)}


def call(*rows, width=1, signature=PLAIN):
    return Call(signature, {"x": np.repeat(np.float32(rows)[:, None], width, axis=1)})


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def start(model):
    """Make a batcher whose thread is busy with a first call until the gate opens."""
    made = []

    def started(**limits):
        made.append(Batcher(model, **{"max_batch": 4, "wait_s": 0, **limits}))
        first = made[0].submit(call(0, signature=WHOLE))
        assert model.entered.wait(20)
        return made[0], first

    yield started
    model.gate.set()
    for batcher in made:
        assert batcher.stop(20)


def results(futures):
    return [future.result(20)["twice"][:, 0].tolist() for future in futures]


def test_calls_that_wait_are_merged_and_each_gets_its_own_rows(model, start):
    batcher, _ = start()
    futures = [batcher.submit(c) for c in (call(1), call(2, 3), call(4))]
    assert batcher.waiting == 3
    model.gate.set()
    assert results(futures) == [[2], [4, 6], [8]]
    assert model.given == [[0], [1, 2, 3, 4]]
    assert model.threads == {"model"}


def test_no_batch_is_larger_than_allowed_and_a_longer_call_runs_in_pieces(model, start):
    batcher, _ = start()
    futures = [batcher.submit(c) for c in (call(1, 2, 3), call(4, 5), call(*range(9)))]
    model.gate.set()
    assert results(futures) == [[2, 4, 6], [8, 10], [2 * n for n in range(9)]]
    assert max(map(len, model.given)) <= 4
    assert [n for rows in model.given[1:] for n in rows] == [1, 2, 3, 4, 5, *range(9)]


def test_rows_of_many_pixels_make_smaller_batches(model, start):
    batcher, _ = start(max_pixels=20)
    calls = [call(1, width=9), call(2, width=9), call(3, width=9), call(4, 5, width=50)]
    futures = [batcher.submit(each) for each in calls]
    model.gate.set()
    results(futures)
    # 20 pixels: two rows of 9; a row of 50 runs alone.
    assert model.given[1:] == [[1, 2], [3], [4], [5]]


def test_other_shapes_and_signatures_are_never_merged(model, start):
    batcher, _ = start()
    other = Signature("other", None, {}, by_row=True)
    calls = [call(1), call(2, width=2), call(3, signature=other),
             call(4, signature=WHOLE), call(5, signature=WHOLE), call(6)]  # fmt: skip
    futures = [batcher.submit(each) for each in calls]
    model.gate.set()
    assert results(futures) == [[2], [4], [6], [8], [10], [12]]
    assert model.given == [[0], [1, 6], [2], [3], [4], [5]]


def test_a_bad_call_costs_its_own_request_alone(model, start):
    batcher, _ = start()
    futures = [batcher.submit(c) for c in (call(1), call(-1), call(3))]
    model.gate.set()
    assert results([futures[0], futures[2]]) == [[2], [6]]
    with pytest.raises(RequestError, match="minus one is refused"):
        futures[1].result(20)
    assert model.given == [[0], [1, -1, 3], [1], [-1], [3]]
    assert batcher.alive


def test_a_refusal_within_a_long_call_says_where(model):
    model.gate.set()
    batcher = Batcher(model, max_batch=4, wait_s=0)
    with pytest.raises(RequestError, match="^in images 4 to 5 of the request: minus"):
        batcher.submit(call(0, 1, 2, 3, 4, -1)).result(20)
    assert batcher.stop(20)


def test_outputs_without_a_row_an_image_are_computed_call_by_call():
    def run(given):
        return {"total": given.inputs["x"].sum(keepdims=True)[0]}

    batcher = Batcher(run, max_batch=4, wait_s=0.2)
    futures = [batcher.submit(c) for c in (call(1), call(2), call(*[1] * 6))]
    assert [f.result(20)["total"].tolist() for f in futures] == [[1], [2], [6]]
    assert batcher.stop(20)


def test_the_first_call_waits_for_others_for_the_time_given(model):
    model.gate.set()
    batcher = Batcher(model, max_batch=2, wait_s=20)
    futures = [batcher.submit(call(1)), batcher.submit(call(2))]
    assert results(futures) == [[2], [4]]  # full, so that the 20 s were not waited
    assert model.given == [[1, 2]]
    assert batcher.stop(20)


def test_a_call_given_up_before_its_turn_is_not_run(model, start):
    batcher, _ = start()
    futures = [batcher.submit(c) for c in (call(1), call(2), call(3))]
    assert futures[1].cancel()
    model.gate.set()
    assert results([futures[0], futures[2]]) == [[2], [6]]
    assert model.given == [[0], [1, 3]]


def test_stopping_runs_what_waits_and_takes_nothing_more(model, start):
    batcher, first = start()
    future = batcher.submit(call(1))
    model.gate.set()
    assert batcher.stop(20)
    assert (first.done(), results([future])) == (True, [[2]])
    assert not batcher.alive
    with pytest.raises(RequestError, match="stopping") as refused:
        batcher.submit(call(1))
    assert refused.value.status == 503


def test_batches_are_told_by_their_rows(model):
    rows = []
    model.gate.set()
    batcher = Batcher(model, max_batch=4, wait_s=0, note_batch=rows.append)
    batcher.submit(call(1, 2)).result(20)
    batcher.submit(call(*range(5))).result(20)
    assert rows == [2, 4, 1]
    assert batcher.stop(20)
