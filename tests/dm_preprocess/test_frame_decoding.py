"""Compressed frames are decoded apart, by a process that may die."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder

from dm_preprocess import frame_decoding
from dm_preprocess.frame_decoding import FrameError, decode_frame

RLE = "1.2.840.10008.1.2.5"
RAMP = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
OPTIONS = {
    "rows": 20, "columns": 30, "bits_allocated": 16, "bits_stored": 12,
    "pixel_representation": 0, "photometric_interpretation": "MONOCHROME2",
}  # fmt: skip


@pytest.fixture
def stream():
    coded = RLELosslessEncoder.encode(
        RAMP.tobytes(),
        samples_per_pixel=1,
        number_of_frames=1,
        **OPTIONS,
        encoding_plugin="pydicom",
    )
    return encapsulate([coded])


@pytest.fixture(autouse=True)
def no_workers():
    frame_decoding._close_all()
    yield
    frame_decoding._close_all()


def test_one_process_decodes_one_frame_after_another(stream):
    np.testing.assert_array_equal(decode_frame(stream, RLE, OPTIONS), RAMP)
    (worker,) = frame_decoding._idle
    np.testing.assert_array_equal(decode_frame(stream, RLE, OPTIONS), RAMP)
    assert frame_decoding._idle == [worker]


def test_broken_stream_is_refused_and_the_process_stays(stream):
    with pytest.raises(FrameError, match="Unable to decode"):
        decode_frame(encapsulate([b"\1" * 80]), RLE, OPTIONS)
    (worker,) = frame_decoding._idle
    decode_frame(stream, RLE, OPTIONS)
    assert frame_decoding._idle == [worker]


def test_process_that_died_while_idle_is_replaced(stream):
    decode_frame(stream, RLE, OPTIONS)
    process = frame_decoding._idle[0]._process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    np.testing.assert_array_equal(decode_frame(stream, RLE, OPTIONS), RAMP)


def test_process_that_dies_of_a_frame_is_an_error_and_is_replaced(stream, monkeypatch):
    exchange = frame_decoding._Worker._exchange

    def dying(self, *request):
        os.kill(self._process.pid, signal.SIGABRT)
        return exchange(self, *request)

    with monkeypatch.context() as patched:
        patched.setattr(frame_decoding._Worker, "_exchange", dying)
        with pytest.raises(FrameError, match=r"its decoder died of it \(signal 6\)"):
            decode_frame(stream, RLE, OPTIONS)
    assert frame_decoding._idle == []
    np.testing.assert_array_equal(decode_frame(stream, RLE, OPTIONS), RAMP)


def test_process_that_takes_too_long_is_ended(stream, monkeypatch):
    decode_frame(stream, RLE, OPTIONS)
    os.kill(frame_decoding._idle[0]._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(frame_decoding, "SECONDS", 0.3)
    with pytest.raises(FrameError, match=r"took more than 0\.3 s"):
        decode_frame(stream, RLE, OPTIONS)
    assert frame_decoding._idle == []


def test_threads_do_not_share_a_process_at_a_time(stream):
    start = threading.Barrier(3)

    def several(_):
        start.wait()
        return [decode_frame(stream, RLE, OPTIONS) for _ in range(5)]

    with ThreadPoolExecutor(3) as pool:
        for values in pool.map(several, range(3)):
            assert all(np.array_equal(one, RAMP) for one in values)
    assert 1 <= len(frame_decoding._idle) <= 3


def test_memory_of_the_process_is_bounded(stream):
    huge = OPTIONS | {"rows": 60_000, "columns": 60_000}  # 7 GB
    with pytest.raises(FrameError, match="MemoryError|Unable to decode"):
        decode_frame(stream, RLE, huge)


def test_a_forked_process_starts_its_own(stream):
    decode_frame(stream, RLE, OPTIONS)
    child = os.fork()
    if not child:
        os._exit(len(frame_decoding._idle))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
