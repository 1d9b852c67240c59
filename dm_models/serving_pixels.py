"""Encoded images to a model's grey levels inside a TensorFlow graph.

What `dm_preprocess` does to a PNG or JPEG file, said again in TensorFlow's ops, so that
an export needs none of this project: decoding with 16 bits intact (8 bits times 257),
one channel out of equal ones, and area averaging by two weight matrices in float32,
rounded. Sums run in the order of the NumPy definition, so that both give the same grey
levels. Levels that cannot be raw 16-bit ones are refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from dm_models.inputs import InputContract

U16_MAX = 65535
DIM = 255  # no image on the 16-bit scale is so dark throughout; every 8-bit one is
LARGEST_SAMPLES = 100_000_000  # of all channels: three times the largest mammograms
_CHANNELS = (1, 1, 3, 3, 2, 1, 4)  # of a PNG, by its colour type
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_HEADER = 33  # bytes of a PNG up to the end of its first chunk
# Images of a batch that are decoded at a time: as many are in memory at full size.
_AT_A_TIME = 4
_EXPECTED = (
    "raw 16-bit grey levels, 0 to 65535, are expected (an 8-bit image times 257, one "
    "in [0, 1] times 65535)"
)


def check_size(grey, least: tuple[int, int]):
    """Refuse no images, and images that a net's poolings leave nothing of.

    Either ends in an error of some layer within the net, and the latter can end the
    server.

    Args:
        grey: (N, H, W, 1).
        least: Rows and columns of the smallest image (`receptive_field.least_size`).

    Returns:
        The same tensor, which cannot be had without the check.
    """
    shape = tf.shape(grey)
    count, sides = shape[0], shape[1:3]
    grey = _unless_refused(
        count > 0, lambda: tf.constant("a batch must hold at least one image"), grey
    )

    def refusal():
        rows, cols = (tf.strings.as_string(sides[axis]) for axis in (0, 1))
        expected = f"images must be at least {least[0]} x {least[1]}, received "
        return tf.strings.join([expected, rows, " x ", cols])

    return _unless_refused(tf.reduce_all(sides >= least), refusal, grey)


def check_levels(grey, *, whole_images: bool):
    """Refuse a batch with an image that is not on the 16-bit scale.

    Whole images must reach beyond 255: below lie 8-bit images and those in [0, 1],
    while 255 of 65535 is level 16 of a 12-bit detector, darker than any mammogram. A
    patch may be black or hold a little noise only, so that of patches no more is asked
    than whole numbers where none is above 255.

    Args:
        grey: float32 (N, H, W, 1).
        whole_images: Whether these are whole images.

    Returns:
        The same tensor, which cannot be had without the check.
    """
    within = tf.reduce_all((grey >= 0) & (grey <= U16_MAX), axis=(1, 2, 3))  # not NaN
    bright = tf.reduce_max(grey, axis=(1, 2, 3)) > DIM
    if not whole_images:
        bright |= tf.reduce_all(grey == tf.round(grey), axis=(1, 2, 3))
    good = within & bright

    def refusal():
        row = tf.argmin(tf.cast(good, tf.int32))
        which = tf.strings.join(["image ", tf.strings.as_string(row), " of the batch"])
        return _levels_sentence(which, grey[row])

    return _unless_refused(tf.reduce_all(good), refusal, grey)


def decoded_batch(encoded, contract: InputContract, *, whole_images: bool):
    """Decode PNG or JPEG files and bring them to a model's size.

    Args:
        encoded: string (N,).
        contract: The model's; without a size, all images of a batch must be of one.
        whole_images: As `check_levels`; it holds for 16-bit files, others are spread.

    Returns:
        float32 (N, H, W, 1), raw grey levels.
    """
    auto_level = contract.grey == "auto-level"

    def one(given):
        row, each = given
        which = tf.strings.join(["file ", tf.strings.as_string(row), " of the batch"])
        image, deep = _decoded(each, which)
        scaled = deep if whole_images and not auto_level else tf.constant(False)
        image = _check_file(image, scaled, whole_images, which)
        image = _auto_levelled(image) if auto_level else image
        fitted = fit(image, contract.height, contract.width, contract.fit)
        return tf.cast(fitted, tf.float32)[..., None]

    spec = tf.TensorSpec((contract.height, contract.width, 1), tf.float32)
    return tf.map_fn(
        one,
        (tf.range(tf.size(encoded)), encoded),
        fn_output_signature=spec,
        parallel_iterations=_AT_A_TIME,
    )


def fit(image, height: int | None, width: int | None, mode: str):
    """Bring an image to a size, as `dm_preprocess.images.fit` does.

    Args:
        image: uint16 (H, W).
        height: Rows wanted; None leaves the image as it is.
        width: Columns wanted.
        mode: "squash" or "pad" (black at the right and below).

    Returns:
        uint16 (height, width).
    """
    if height is None or width is None:
        return image
    size = tf.shape(image)
    inner = _inner_size(size, height, width) if mode == "pad" else (height, width)
    same = (size[0] == inner[0]) & (size[1] == inner[1])
    fitted = tf.cond(same, lambda: image, lambda: resized(image, *inner))
    if mode == "pad":
        fitted = tf.pad(fitted, [[0, height - inner[0]], [0, width - inner[1]]])
    return tf.ensure_shape(fitted, (height, width))


def resized(image, height, width):
    """Resize by area averaging, bilinear where an axis grows: round(R @ image @ C.T).

    Args:
        image: uint16 (H, W).
        height: Rows wanted, a number or a tensor.
        width: Columns wanted.

    Returns:
        uint16 (height, width).
    """
    rows = _weighted(image, height)
    grey = tf.transpose(_weighted(tf.transpose(rows), width))
    return tf.cast(tf.round(grey), tf.uint16)


def _weighted(image, n_out):
    """Resize the first axis: float32 (n_out, m).

    The matrix has few entries a row (six at a shrink by five): one sum of gathered
    rows for each is an order faster than a product with its zeros.
    """
    n_in, n_out = tf.shape(image)[0], tf.convert_to_tensor(n_out, tf.int32)
    index, weights = tf.cond(
        n_out <= n_in, lambda: _overlaps(n_in, n_out), lambda: _bilinear(n_in, n_out)
    )
    weights = tf.cast(weights / tf.reduce_sum(weights, 0, keepdims=True), tf.float32)

    def add(number, total):
        taken = tf.cast(tf.gather(image, index[number]), tf.float32)
        return number + 1, total + weights[number][:, None] * taken

    start = tf.zeros((n_out, tf.shape(image)[1]))
    return tf.while_loop(
        lambda number, _: number < tf.shape(index)[0], add, (0, start),
        shape_invariants=(tf.TensorShape(()), tf.TensorShape((None, None))),
    )[1]  # fmt: skip


def _overlaps(n_in, n_out):
    """Input pixels that meet each output pixel and their shares, (entries, n_out)."""
    n_in, n_out = tf.cast(n_in, tf.int64), tf.cast(n_out, tf.int64)
    edges = tf.cast(tf.range(n_out + 1) * n_in, tf.float64) / tf.cast(n_out, tf.float64)
    low, high = edges[:-1], edges[1:]
    pixel = tf.cast(low, tf.int64) + tf.range(n_in // n_out + 2)[:, None]
    start = tf.cast(pixel, tf.float64)
    shared = tf.minimum(high, start + 1) - tf.maximum(low, start)
    shared = tf.where(pixel < n_in, tf.maximum(shared, 0), 0)
    return tf.cast(tf.minimum(pixel, n_in - 1), tf.int32), shared


def _bilinear(n_in, n_out):
    """The two input pixels around each output pixel's centre, (2, n_out)."""
    last = tf.cast(n_in - 1, tf.float64)
    scale = tf.cast(n_in, tf.float64), tf.cast(n_out, tf.float64)
    middle = (tf.cast(tf.range(n_out), tf.float64) + 0.5) * scale[0] / scale[1]
    centre = tf.clip_by_value(middle - 0.5, 0, last)
    low = tf.floor(centre)
    pixels = tf.stack([low, tf.minimum(low + 1, last)])
    return tf.cast(pixels, tf.int32), tf.stack([1 - (centre - low), centre - low])


def _inner_size(size, height: int, width: int):
    """Rows and columns of an image within a padded one."""
    sides = tf.cast(size, tf.float64)
    scale = tf.minimum(height / sides[0], width / sides[1])
    rows, cols = (
        tf.clip_by_value(tf.cast(tf.round(sides[axis] * scale), tf.int32), 1, limit)
        for axis, limit in enumerate((height, width))
    )
    return rows, cols


def _auto_levelled(image):
    """An image's own range stretched to all of 16 bits; a constant one as it is."""
    low, high = (
        tf.cast(end(image), tf.float64)
        for end in (lambda x: tf.reduce_min(tf.cast(x, tf.int32)),
                    lambda x: tf.reduce_max(tf.cast(x, tf.int32)))
    )  # fmt: skip

    def stretched():
        levels = (tf.cast(image, tf.float64) - low) * (U16_MAX / (high - low))
        return tf.cast(tf.round(levels), tf.uint16)

    return tf.cond(low < high, stretched, lambda: image)


def _decoded(encoded, which):
    """One file -> (uint16 (H, W), whether it holds 16 bits)."""
    is_png = tf.strings.substr(encoded, 0, len(_PNG)) == _PNG
    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG)) == _JPEG
    encoded = _unless_refused(
        is_png | is_jpeg,
        lambda: tf.strings.join([which, " is neither a PNG nor a JPEG"]), encoded,
    )  # fmt: skip
    image, deep = tf.cond(
        is_png, lambda: _png(encoded, which), lambda: _jpeg(encoded, which)
    )
    channels = tf.shape(image)[2]
    image = tf.cond(channels == 1, lambda: image, lambda: _one_channel(image, which))
    return image[..., 0], deep


def _png(encoded, which):
    known = (tf.strings.length(encoded) >= _HEADER) & (
        tf.strings.substr(encoded, 0, 16)
        == tf.constant(_PNG + b"\0\0\0\rIHDR")
    )  # fmt: skip
    encoded = _unless_refused(
        known, lambda: tf.strings.join([which, " is a PNG without a header"]), encoded
    )
    sides = tf.io.decode_raw(
        tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False
    )
    after = tf.io.decode_raw(tf.strings.substr(encoded, 24, 2), tf.uint8)
    bits, kind = tf.unstack(tf.cast(after, tf.int32), 2)
    channels = tf.gather(_CHANNELS, tf.minimum(kind, len(_CHANNELS) - 1))
    encoded = _check_size(encoded, which, sides[1], sides[0], channels)
    image = tf.io.decode_png(encoded, channels=0, dtype=tf.uint16)
    return image, bits == 16


def _jpeg(encoded, which):
    # TensorFlow's own choice of inverse transform differs by up to 81 of 255 from the
    # accurate one, which OpenCV takes.
    shape = tf.image.extract_jpeg_shape(encoded)
    encoded = _check_size(encoded, which, *tf.unstack(shape, 3))
    image = tf.io.decode_jpeg(encoded, channels=0, dct_method="INTEGER_ACCURATE")
    return tf.cast(image, tf.uint16) * tf.constant(257, tf.uint16), tf.constant(False)


def _check_size(encoded, which, rows, cols, channels):
    """Refuse before decoding what would fill the memory."""
    rows, cols, channels = (tf.cast(n, tf.int64) for n in (rows, cols, channels))
    good = (rows > 0) & (cols > 0) & (rows * cols * channels <= LARGEST_SAMPLES)

    def refusal():
        sizes = [tf.strings.as_string(n) for n in (rows, cols, channels)]
        rule = f" must declare 1 to {LARGEST_SAMPLES} samples, received "
        return tf.strings.join([which, rule, tf.strings.join(sizes, " x ")])

    return _unless_refused(good, refusal, encoded)


def _one_channel(image, which):
    """The one plane of a picture saved in colour; a further channel must be opaque."""
    channels = tf.shape(image)[2]
    colours = tf.where(channels >= 3, 3, 1)
    colour, alpha = image[..., :colours], image[..., colours:]
    opaque = tf.reduce_all(tf.cast(alpha, tf.int32) == U16_MAX)
    good = tf.reduce_all(colour == colour[..., :1]) & opaque

    def refusal():
        return tf.strings.join(
            [which, ": a grey image is needed, received ",
             tf.strings.as_string(channels),
             " channels that differ; a colour or transparent picture is no mammogram"]
        )  # fmt: skip

    return _unless_refused(good, refusal, image)[..., :1]


def _check_file(image, scaled, whole_images: bool, which):
    """Refuse a black whole image, and a 16-bit file that holds an 8-bit one."""
    if not whole_images:
        return image
    top = tf.reduce_max(tf.cast(image, tf.int32))
    good = (top > 0) & (~scaled | (top > DIM))
    return _unless_refused(good, lambda: _levels_sentence(which, image), image)


def _levels_sentence(which, grey):
    """What came, and what is expected."""
    grey = tf.cast(grey, tf.float32)
    low, high = (
        tf.strings.as_string(end(grey), shortest=True)
        for end in (tf.reduce_min, tf.reduce_max)
    )
    came = tf.where(
        tf.reduce_all(tf.math.is_finite(grey)),
        tf.strings.join([" has levels from ", low, " to ", high, ": "]),
        " has levels that are not finite: ",
    )
    return tf.strings.join([which, came, _EXPECTED])


def _unless_refused(good, sentence: Callable, tensor):
    """A tensor behind an assertion, whose sentence is made only when it is due."""

    def refuse():
        with tf.control_dependencies([tf.debugging.Assert(False, [sentence()])]):
            return tf.constant(False)

    passed = tf.cond(good, lambda: tf.constant(True), refuse)
    with tf.control_dependencies([passed]):
        return tf.identity(tensor)
