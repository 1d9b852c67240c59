"""Pictures that nobody vouches for: only the picture is decoded, within bounds."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from dm_preprocess import image_files
from dm_preprocess.codestreams import declared_size
from dm_preprocess.file_bytes import FileTooLarge, read_head, read_source
from dm_preprocess.image_files import ImageError, read_gray
from dm_preprocess.image_headers import bare_png, picture_size
from dm_preprocess.images import to_u16

IMAGE = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) * 32


def encoded(suffix, image=IMAGE):
    return cv2.imencode(suffix, image)[1].tobytes()


def with_chunk(data, kind, content):
    """A PNG with one more chunk behind its header."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + struct.pack(">I", len(content)) + kind + content + check + (
        data[33:]
    )  # fmt: skip


@pytest.mark.parametrize("suffix,kind", [
    (".png", "PNG"), (".tiff", "TIFF"), (".pgm", "PGM"), (".jpg", "JPEG"),
])  # fmt: skip
@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_declared_size_is_that_of_the_picture(suffix, kind, colour):
    image = (IMAGE // 256).astype(np.uint8)
    written = ".ppm" if colour and suffix == ".pgm" else suffix
    data = encoded(written, np.dstack([image] * 3) if colour else image)
    assert picture_size(data)[:4] == (kind, 40, 50, 3 if colour else 1)


def test_jpeg_2000_declares_its_size_with_and_without_a_box():
    jp2 = encoded(".jp2")
    stream = jp2[jp2.index(b"\xff\x4f\xff\x51") :]
    assert declared_size(jp2) == declared_size(stream) == (40, 50, 1, 16)
    assert declared_size(stream[:30]) is None
    assert declared_size(b"") is None


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_bytes_are_read_as_a_file_is(tmp_path, suffix):
    (tmp_path / "a").write_bytes(encoded(suffix))
    for source in (tmp_path / "a", encoded(suffix)):
        found, bits = read_gray(source)
        np.testing.assert_array_equal(found, IMAGE)
        assert bits == 16


@pytest.mark.parametrize("kind,white", [
    ("P5", 4095), ("P5", 16383), ("P5", 15), ("P5", 100), ("P2", 4095), ("P2", 15),
])  # fmt: skip
def test_pgm_is_as_white_as_it_declares(kind, white):
    values = np.linspace(0, white, 12).astype(int)
    if kind == "P2":
        raster = " ".join([*map(str, values), ""]).encode()
    else:
        raster = values.astype(">u2" if white > 255 else "u1").tobytes()
    stored, bits = read_gray(
        b"%s\n# ours\n4 3\n%d\n%s" % (kind.encode(), white, raster)
    )
    due = np.round(values.reshape(3, 4) * (65535 / white))
    np.testing.assert_array_equal(to_u16(stored, bits), due)


def test_pgm_with_a_value_above_its_white_is_named():
    data = np.array([1, 2, 3, 4096], ">u2").tobytes()
    with pytest.raises(ImageError, match="not be above the 4095 .*, received 4096"):
        read_gray(b"P5\n2 2\n4095\n" + data)


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_whose_zero_is_white_is_turned(bits):
    image = (IMAGE >> (16 - bits)).astype(f"u{bits // 8}")
    data = encoded(".tiff", image)
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8  # its photometric tag's value
    white = data[:at] + b"\0\0" + data[at + 2 :]
    np.testing.assert_array_equal(read_gray(data)[0], image)
    np.testing.assert_array_equal(read_gray(white)[0], 2**bits - 1 - image)


def test_png_loses_what_is_no_picture_and_keeps_every_level():
    data = encoded(".png")
    more = with_chunk(data, b"tEXt", b"Author\0Jane Doe")
    more = with_chunk(more, b"iCCP", b"Jane Doe\0\0" + zlib.compress(bytes(10**6)))
    assert bare_png(more) == data
    assert bare_png(data) is data
    np.testing.assert_array_equal(read_gray(more)[0], IMAGE)


@pytest.mark.parametrize("suffix", [".bmp", ".jp2", ".webp"])
def test_other_formats_are_not_given_to_a_decoder(suffix):
    data = encoded(suffix, (IMAGE // 256).astype(np.uint8))
    with pytest.raises(ImageError, match=r"the upload: no readable image"):
        read_gray(data)


def test_bound_is_on_rows_times_columns_times_channels(monkeypatch):
    monkeypatch.setattr(image_files, "MAX_SAMPLES", 40 * 50)
    assert read_gray(encoded(".png"))[0].shape == (40, 50)
    monkeypatch.setattr(image_files, "MAX_SAMPLES", 40 * 50 - 1)
    with pytest.raises(ImageError, match=r"received 40 rows x 50 columns x 1 channels"):
        read_gray(encoded(".png"))


def test_decoders_print_nothing_that_a_file_says(capfd):
    rng = np.random.default_rng(0)
    for suffix in (".png", ".tiff", ".jpg"):
        data = np.frombuffer(encoded(suffix, (IMAGE // 256).astype(np.uint8)), "u1")
        for at in rng.integers(len(data) // 4, len(data), 30):
            broken = data.copy()
            broken[at] ^= 0x5A
            try:
                read_gray(with_chunk(broken.tobytes(), b"iCCP", b"Jane Doe\0\0bad")
                          if suffix == ".png" else broken.tobytes())  # fmt: skip
            except ImageError as err:
                assert "Jane" not in str(err)
    said = "".join(capfd.readouterr())
    assert "libpng" in said  # it does print, so that the next line looks at something
    assert "Jane" not in said and "OpenCV" not in said


def test_size_of_a_file_is_bounded_before_it_is_read(tmp_path):
    (tmp_path / "a").write_bytes(bytes(11))
    assert read_source(tmp_path / "a", limit=11) == bytes(11)
    assert read_head(tmp_path / "a", 500) == bytes(11)
    for source in (tmp_path / "a", bytes(11)):
        with pytest.raises(FileTooLarge, match="at most 10 bytes, received 11"):
            read_source(source, limit=10)
