"""Damaged files end as one named failure each: no crash, no hang, no memory gone."""

import io
import json
import os
import re
import resource
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

import dm_training
from dm_preprocess import dicom_header
from dm_training.intake import IntakeError, read_intake

HERE = Path(__file__).parent
ROOT = Path(dm_training.__file__).parent.parent
sys.path.insert(0, str(HERE))
import damaged_files as damage  # noqa: E402  (also run as a program of its own)

GIB = 2**30
pytestmark = pytest.mark.filterwarnings("error")


def run_damaged(tmp_path, count, seed, seconds):
    """What became of that many damaged files in a process limited to 4 GiB."""
    done = subprocess.run(
        [sys.executable, str(HERE / "damaged_files.py"), str(count), str(seed),
         str(tmp_path / "work")],
        capture_output=True, text=True, timeout=seconds,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(f["read"] + f["refused"] for f in found["files"].values()) == count
    return found


def test_1000_damaged_files_end_as_one_named_failure_or_as_an_image(tmp_path):
    pytest.importorskip("gdcm")
    found = run_damaged(tmp_path, 1000, 1, 120)
    assert found["peak_bytes"] < 4 * GIB
    assert found["slowest_s"] < 30
    for name, files in found["files"].items():
        assert files["refused"] > 0, name  # damage that is never met tests nothing


@pytest.mark.slow
def test_10000_other_damaged_files_too(tmp_path):
    pytest.importorskip("gdcm")
    found = run_damaged(tmp_path, 10_000, 2, 900)
    print(json.dumps(found))
    assert found["peak_bytes"] < 4 * GIB
    assert found["slowest_s"] < 60


def png(rows, columns, data, *more):
    """A 16-bit grey PNG with a size of one's own choosing."""
    head = struct.pack(">IIBBBBB", columns, rows, 16, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(damage.png_chunk(*one) for one in chunks)


def packed_zeros(count):
    """A zlib stream of that many zeros: a thousandth of the size."""
    press, block = zlib.compressobj(), bytes(2**20)
    return b"".join(press.compress(block) for _ in range(count >> 20)) + press.flush()


def zipped(inner="a.dcm"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(inner, bytes(20 * 2**20))
    return file.getvalue()


def as_bytes(dataset):
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def small_dicom(**tags):
    return as_bytes(damage.mammogram(np.arange(12, dtype="u2").reshape(3, 4), **tags))


def with_elements(raw):
    """A DICOM file whose data set begins with raw explicit little endian elements."""
    whole = small_dicom()
    at = whole.index(b"\x08\x00\x16\x00UI")  # the first element after the file meta
    return whole[:at] + raw + whole[at:]


def words(element, count):
    """An element of group 8 with that many values."""
    value = b"A\\" * count
    return struct.pack("<HH2sHI", 8, element, b"UC", 0, len(value)) + value


def deflated(count):
    """A data set that inflates to one private element of that many zeros."""
    dataset = damage.mammogram(np.arange(12, dtype="u2").reshape(3, 4))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    whole = as_bytes(dataset)
    head = whole[: 144 + struct.unpack("<I", whole[140:144])[0]]
    press = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    start = press.compress(b"\x09\x00\x10\x00OB\0\0" + struct.pack("<I", count))
    body = b"".join(press.compress(bytes(2**20)) for _ in range(count >> 20))
    return head + start + body + press.flush()


def run_length_bomb():
    """RLE segments that grow to 64 times their size, beyond any picture's."""
    from pydicom.encaps import encapsulate

    segment = b"\x81\x00" * (2**20)
    head = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    dataset = damage.mammogram(np.arange(12, dtype="u2").reshape(3, 4))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    dataset.PixelData = encapsulate([head + segment + segment])
    dataset["PixelData"].is_undefined_length = True
    return as_bytes(dataset)


def stream_of_another_size():
    """JPEG data of 64 x 64 in a file that declares 3 x 4."""
    from pydicom.encaps import encapsulate

    jpeg = cv2.imencode(".jpg", np.zeros((64, 64), np.uint8))[1].tobytes()
    dataset = damage.mammogram(np.arange(12, dtype="u1").reshape(3, 4), bits=8)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    dataset.PixelData = encapsulate([jpeg])
    dataset["PixelData"].is_undefined_length = True
    return as_bytes(dataset)


def tiff(*tags):
    """A little-endian TIFF of one directory of LONG values."""
    entries = b"".join(struct.pack("<HHII", name, 4, 1, value) for name, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)


def jpeg(rows, columns, scans=1):
    whole = cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes()
    at = whole.index(b"\xff\xc0")
    size = struct.pack(">HH", rows, columns)
    scan = whole[whole.index(b"\xff\xda") : -2]
    return (
        whole[: at + 5] + size + whole[at + 9 : -2] + scan * (scans - 1) + b"\xff\xd9"
    )


NESTED = b"\x09\x00\x10\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
LONG = 600_000
BOMBS = {
    "PNG of 2**31 x 2**31": (lambda: png(2**31 - 1, 2**31 - 1, b"x"), "100000000 samp"),
    "PNG of 30000 x 30000 zeros": (
        lambda: png(30_000, 30_000, packed_zeros(GIB // 8)), "100000000 samples"),
    "PNG with 128 MB of data behind 4 x 4": (
        lambda: png(4, 4, packed_zeros(GIB // 8)), "^read$"),
    "PNG with a text of 128 MB": (
        lambda: png(2, 2, zlib.compress(bytes(10)),
                    (b"zTXt", b"a\0\0" + packed_zeros(GIB // 8))), "^read$"),
    "PNG chunk beyond the file": (
        lambda: png(4, 4, b"x").replace(b"\0\0\0\x01IDAT", b"\xff\xff\xff\xf0IDAT"),
        "chunk of the PNG reaches beyond"),
    "PNG of a million chunks": (
        lambda: png(2, 2, b"", *[(b"tEXt", b"")] * 300_000), "at most 200000 chunks"),
    "zip": (zipped, "no readable image"),
    "zip called DICOM": (lambda: bytes(128) + b"DICM" + zipped(), "or broken"),
    "JPEG of 65535 x 65535": (lambda: jpeg(65535, 65535), "100000000 samples"),
    "JPEG of 10000 scans": (lambda: jpeg(16, 16, 10_000), "at most 64 scans"),
    "TIFF of 2**31 x 2**31": (
        lambda: tiff((256, 2**31), (257, 2**31)), "100000000 samples"),
    "TIFF of huge tiles": (
        lambda: tiff((256, 64), (257, 64), (322, 2**31), (323, 2**31)), "TIFF's tile"),
    "TIFF of 60000 entries": (
        lambda: struct.pack("<2sHIH", b"II", 42, 8, 60_000), "beyond the end"),
    "PGM of 10**9 x 10**9": (
        lambda: b"P5 999999999 999999999 65535\n", "100000000 samples"),
    "DICOM of 65535 x 65535": (
        lambda: small_dicom(Rows=65535, Columns=65535), "received 65535 x 65535"),
    "DICOM of a million frames": (
        lambda: small_dicom(NumberOfFrames=10**6), "multi-frame"),
    "deflated DICOM of 256 MB": (lambda: deflated(GIB // 4), "grow to at most"),
    "RLE segments of 2 x 64 MB": (run_length_bomb, "cannot be decoded|read"),
    "stream of another size": (stream_of_another_size, "declares 64 x 64"),
    "sequences nested 100000 deep": (
        lambda: with_elements(NESTED * 100_000), "beyond bounds"),
    "600000 elements": (
        lambda: with_elements(b"".join(
            struct.pack("<HH2sH", 9, n % 65536, b"LO", 0) for n in range(LONG))),
        "beyond bounds"),
    "element of 4 GB": (
        lambda: with_elements(b"\x08\x00\x08\x00UT\0\0\xf0\xff\xff\xff"), "beyond bou"),
    "half a million words": (
        lambda: with_elements(words(8, 500_000)), "^read$"),
    "half a million character sets": (
        lambda: with_elements(words(5, 500_000)), "beyond bounds"),
    "nothing": (lambda: b"", "the file is empty"),
    "only the mark": (lambda: bytes(128) + b"DICM", "truncated or broken"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_time_and_memory(name, monkeypatch):
    monkeypatch.setattr(dicom_header, "MAX_INFLATED_BYTES", GIB // 8)
    make, expected = BOMBS[name]
    data = make()
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    said = damage.outcome(read_intake, data)
    assert time.monotonic() - began < 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 1.5 * GIB
    assert re.search(expected, said), said


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path in (tmp_path / "pipe.dcm", "/dev/zero", "/dev/tty"):
        with pytest.raises(OSError, match="regular file|No such"):
            read_intake(path)
    with pytest.raises(OSError, match=r"symbolic links.*loop\.png"):
        read_intake(tmp_path / "loop.png")
    with pytest.raises(IsADirectoryError):
        read_intake(tmp_path)
    with pytest.raises(IntakeError, match="null"):
        read_intake("a\0b.png")


def test_large_file_is_refused_by_its_size_and_tomosynthesis_by_its_frames(tmp_path):
    path = tmp_path / "large.dcm"
    path.write_bytes(small_dicom())
    os.truncate(path, 600 * 2**20)  # a hole: takes no room
    with pytest.raises(IntakeError, match=r"at most 536870912 bytes, received 6291456"):
        read_intake(path)
    path.write_bytes(small_dicom(NumberOfFrames=60))
    os.truncate(path, 600 * 2**20)
    with pytest.raises(
        IntakeError, match=r"multi-frame \(tomosynthesis\).*received 60"
    ):
        read_intake(path)
