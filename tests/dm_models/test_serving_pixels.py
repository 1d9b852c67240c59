"""Decoding, sizes and refusals in the graph against dm_preprocess and OpenCV."""

import io
import struct
from functools import lru_cache

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from serving_support import mammogram, small_contract

from dm_models import serving_pixels as graph
from dm_preprocess import images as pixels

FILES = tf.TensorSpec((None,), tf.string)
SOURCES = [(301, 203), (64, 48), (20, 300), (300, 20), (38, 30), (1, 1), (500, 3)]


def png(image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def jpeg(image, quality=90) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@lru_cache  # tracing takes a second
def decoder(whole_images=True, **contract):
    """A traced `decoded_batch`: files -> (N, H, W) float32."""
    held = small_contract(**contract)
    call = tf.function(
        lambda given: graph.decoded_batch(given, held, whole_images=whole_images),
        input_signature=[FILES],
        autograph=False,
    )
    return lambda *files: call(tf.constant(list(files))).numpy()[..., 0]


@pytest.mark.parametrize("mode", pixels.FITS)
@pytest.mark.parametrize("size", [(113, 57), (37, 29), (64, 48)], ids=str)
def test_sizes_change_in_the_graph_as_on_disk_to_the_last_level(mode, size):
    fit = tf.function(
        lambda image: graph.fit(image, *size, mode),
        input_signature=[tf.TensorSpec((None, None), tf.uint16)],
        autograph=False,
    )
    for shape in SOURCES:
        image = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
        expected = pixels.fit(image, *size, mode=mode)[0]
        np.testing.assert_array_equal(fit(image), expected, err_msg=str(shape))


def test_files_of_any_size_and_depth_become_one_batch():
    deep, flat = mammogram(90, 70), (mammogram(33, 51, 1) // 257).astype(np.uint8)
    found = decoder()(png(deep), png(flat), jpeg(flat))
    assert found.shape == (3, 40, 32) and found.dtype == np.float32
    decoded = cv2.imdecode(np.frombuffer(jpeg(flat), np.uint8), cv2.IMREAD_UNCHANGED)
    for row, stored in zip(found, (deep, flat, decoded), strict=True):
        whole = stored if stored.dtype == np.uint16 else pixels.to_u16(stored, 8)
        np.testing.assert_array_equal(row, pixels.fit(whole, 40, 32)[0])


@pytest.mark.parametrize("quality", [50, 90, 100])
def test_a_jpeg_is_decoded_as_opencv_does_to_the_last_level(quality):
    noise = np.random.default_rng(0).integers(0, 256, (63, 41)).astype(np.uint8)
    image = np.concatenate([noise, (mammogram(63, 41) // 257).astype(np.uint8)], 1)
    for stored in (image, np.dstack([image] * 3)):
        data = jpeg(stored, quality)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        expected = decoded.reshape(*image.shape, -1)[..., 0] * 257.0
        found = decoder(height=63, width=82)(data)[0]
        np.testing.assert_array_equal(found, expected)


def test_grey_saved_in_colour_or_with_an_opaque_fourth_channel_is_grey():
    image = mammogram(40, 32)
    opaque = np.full_like(image, 65535)
    alpha = io.BytesIO()
    Image.fromarray((image // 257).astype(np.uint8)).convert("LA").save(alpha, "PNG")
    files = [np.dstack([image] * 3), np.dstack([image] * 3 + [opaque])]
    three, four, two = decoder()(*map(png, files), alpha.getvalue())
    np.testing.assert_array_equal(three, image)
    np.testing.assert_array_equal(four, image)
    np.testing.assert_array_equal(two, image // 257 * 257)


def test_auto_level_stretches_each_file_before_it_is_resized():
    image = (mammogram(90, 70) // 9 + 500).astype(np.uint16)
    stretched = pixels.fit(pixels.auto_level(image), 40, 32)[0]
    one_level = np.full((8, 8), 7, np.uint16)  # stays as it is
    found = decoder(grey="auto-level")(png(image), png(one_level))
    np.testing.assert_array_equal(found[0], stretched)
    assert found[0].max() > 2 * decoder()(png(image)).max() and (found[1] == 7).all()


def huge_png(side=60000, colour_type=0) -> bytes:
    """A small file whose header claims side x side pixels."""
    data = bytearray(png(mammogram(8, 8)))
    data[16:24] = struct.pack(">II", side, side)
    data[25] = colour_type
    return bytes(data)


COLOUR = np.dstack([mammogram(8, 8, seed) for seed in range(3)])
CLEAR = np.dstack([mammogram(8, 8)] * 3 + [np.full((8, 8), 9, np.uint16)])
REFUSED = {
    "no picture": (b"GIF89a and more", "file 1 of the batch is neither a PNG nor a JP"),
    "empty": (b"", "neither a PNG nor a JPEG"),
    "no header": (png(mammogram(8, 8))[:20], "file 1 of the batch is a PNG without a"),
    "huge": (huge_png(), "1 to 100000000 samples, received 60000 x 60000 x 1"),
    "huge with its channels": (
        huge_png(6000, 6),
        "file 1 of the batch must .* received 6000 x 6000 x 4",
    ),
    "colour": (png(COLOUR), "file 1 of the batch: a grey .* 3 channels that differ"),
    "transparent": (png(CLEAR), "received 4 channels that differ"),
    "black": (
        png(np.zeros((8, 8), np.uint16)),
        "file 1 of the batch has levels from 0 to 0: raw",
    ),
    "8-bit levels in 16 bits": (png(mammogram(8, 8) // 257), "raw 16-bit grey levels"),
    "half": (png(mammogram(60, 60))[:3000], "PNG"),
    "half of a JPEG": (jpeg(np.tile(np.uint8([0, 90]), (60, 30)))[:-40], "[Jj][Pp]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_grey_mammogram_is_refused_with_a_sentence(name):
    data, sentence = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        decoder()(png(mammogram(50, 50)), data)


def test_a_dark_8_bit_file_and_a_black_patch_are_taken():
    dark = np.full((8, 8), 1, np.uint8)
    np.testing.assert_array_equal(decoder()(png(dark)), np.full((1, 40, 32), 257))
    black = np.zeros((8, 8), np.uint16)
    assert decoder(whole_images=False)(png(black)).max() == 0


def levels(*values) -> np.ndarray:
    return np.reshape(np.asarray(values, np.float32), (1, 1, -1, 1))


CHECKED = {
    "raw": (levels(0, 30000), True, True),
    "dark but raw": (levels(0, 256), True, True),
    "highest": (levels(0, 65535), True, True),
    "in [0, 1]": (levels(0, 0.5, 1), False, False),
    "8 bits": (levels(0, 7, 255), False, True),  # a patch of air has such noise
    "8 bits, resized": (levels(0, 7.25, 255), False, False),
    "black": (levels(0, 0), False, True),
    "negative": (levels(-1, 30000), False, False),
    "too bright": (levels(0, 65536), False, False),
    "not a number": (levels(np.nan, 30000), False, False),
    "infinite": (levels(np.inf, 30000), False, False),
}


@pytest.mark.parametrize("name", CHECKED)
def test_levels_that_cannot_be_raw_ones_are_refused(name):
    image, whole, patch = CHECKED[name]
    batch = np.concatenate([np.full_like(image, 30000), image])
    for whole_images, good in ((True, whole), (False, patch)):
        check = tf.function(
            lambda grey, w=whole_images: graph.check_levels(grey, whole_images=w)
        )
        if good:
            np.testing.assert_array_equal(check(batch), batch)
            continue
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="image 1 of the batch"
        ):
            check(batch)


def test_an_empty_batch_passes_every_check():
    empty = np.zeros((0, 40, 32, 1), np.float32)
    assert graph.check_levels(empty, whole_images=True).shape[0] == 0
