"""Images on disk, the grey levels and the geometry of resizing."""

import errno
import os

import cv2
import numpy as np
import pytest
from scipy.sparse import csr_array

from dm_preprocess import images
from dm_preprocess.images import (
    ImageError,
    area_weights,
    auto_level,
    breast_box,
    breast_mask,
    fit,
    mask_box,
    read_gray,
    read_mask_png,
    read_png,
    resize_area,
    resize_nearest,
    to_u16,
    write_mask_png,
    write_png,
)


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)


def test_png_keeps_every_one_of_16_bits(tmp_path):
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = write_png(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(read_png(path), image)
    assert read_gray(path)[1] == 16
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_8_bit_png_is_multiplied_by_257(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 1, 255]], np.uint8))
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), [[0, 257, 65535]])


def test_mask_comes_back_as_it_was(tmp_path):
    mask = np.array([[True, False, False], [False, True, True]])
    path = write_mask_png(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(read_mask_png(path), mask)
    assert set(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))) == {0, 255}


def test_mask_of_0_and_1_is_read_and_an_empty_one_stays_empty(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[0, 1]], np.uint8))
    np.testing.assert_array_equal(read_mask_png(tmp_path / "m.png"), [[False, True]])
    cv2.imwrite(str(tmp_path / "e.png"), np.zeros((1, 2), np.uint8))
    assert not read_mask_png(tmp_path / "e.png").any()


@pytest.mark.parametrize("suffix", ["png", "pgm", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8-bit", "16-bit"])
def test_read_gray_keeps_depth_and_values(tmp_path, suffix, dtype):
    image = np.array([[0, 1, 2], [100, 254, np.iinfo(dtype).max]], dtype)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), image)
    found, bits = read_gray(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(found, image)
    assert (found.dtype, bits) == (dtype, 8 * np.dtype(dtype).itemsize)


def test_colour_picture_with_equal_channels_is_read_as_grey(tmp_path):
    image = np.array([[0, 70, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), np.stack([image] * 3, axis=-1))
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png")[0], image)


def test_colour_picture_is_refused_by_name(tmp_path):
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0, 1] = 9
    cv2.imwrite(str(tmp_path / "red.png"), image)
    with pytest.raises(ImageError, match=r"red\.png: a grey image is needed"):
        read_gray(tmp_path / "red.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_file_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    cv2.imwrite(str(path), (_noise(64, 64) // 256).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=rf"cut\.{suffix}: the file is truncated"):
        read_gray(path)


@pytest.mark.parametrize("suffix", ["pgm", "tiff"])
def test_short_or_empty_raster_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    cv2.imwrite(str(path), _noise(64, 64))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ImageError, match=rf"cut\.{suffix}: no readable image"):
        read_gray(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"0 bytes"):
        read_gray(path)


def test_write_png_refuses_other_arrays(tmp_path):
    with pytest.raises(ImageError, match=r"uint16 \(H, W\), received float64"):
        write_png(tmp_path / "a.png", np.zeros((2, 2)))
    with pytest.raises(ImageError, match=r"bool \(H, W\), received uint8"):
        write_mask_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))


def test_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(images.os, "replace", full)
    with pytest.raises(OSError, match=r"No space left.*a\.png") as caught:
        write_png(tmp_path / "a.png", _noise(4, 4))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14, 16])
def test_to_u16_maps_the_full_range_and_stays_monotone(bits):
    stored = np.arange(2**bits)
    grey = to_u16(stored, bits)
    assert (grey[0], grey[-1], grey.dtype) == (0, 65535, np.uint16)
    assert (np.diff(grey.astype(int)) > 0).all()
    exact = [round(int(v) * 65535 / (2**bits - 1)) for v in stored[:: 2**bits // 2]]
    np.testing.assert_array_equal(grey[:: 2**bits // 2], exact)


def test_to_u16_is_times_257_for_8_bits_and_nothing_for_16():
    np.testing.assert_array_equal(to_u16(np.arange(256), 8), np.arange(256) * 257)
    np.testing.assert_array_equal(to_u16(_noise(9), 16), _noise(9))


def test_to_u16_refuses_values_above_its_bits():
    with pytest.raises(ImageError, match=r"0 and 4095 \(12 bits\), received 0 to 4096"):
        to_u16(np.array([0, 4096]), 12)


def test_auto_level_stretches_to_all_of_16_bits_but_not_a_constant_image():
    found = auto_level(np.array([[100, 200, 300]], np.uint16))
    np.testing.assert_array_equal(found, [[0, 32768, 65535]])
    np.testing.assert_array_equal(auto_level(np.full((2, 2), 7, np.uint16)), 7)


@pytest.mark.parametrize("size", [(1, 1), (63, 9), (64, 40), (65, 200), (200, 64)])
def test_bands_of_rows_change_no_pixel_of_the_two_products(size):
    image = np.random.default_rng(3).integers(0, 65536, (301, 190)).astype(np.uint16)
    rows, columns = (
        csr_array(area_weights(*axis)) for axis in zip(image.shape, size, strict=True)
    )
    whole = columns @ np.ascontiguousarray((rows @ image.astype(np.float32)).T)
    expected = np.clip(np.round(whole.T), 0, 65535).astype(np.uint16)
    np.testing.assert_array_equal(resize_area(image, *size), expected)


@pytest.mark.parametrize("n_in,n_out", [(10, 4), (7, 7), (5295, 1152), (3, 1), (2, 9)])
def test_area_weights_add_up_to_one_and_treat_pixels_alike(n_in, n_out):
    weights = area_weights(n_in, n_out)
    assert (weights.shape, weights.dtype) == ((n_out, n_in), np.float32)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    if n_out <= n_in:  # each source pixel has the same weight in the whole
        np.testing.assert_allclose(weights.sum(axis=0), n_out / n_in, rtol=1e-4)


def test_area_weights_of_three_to_two_are_as_counted_by_hand():
    # an output pixel covers 1.5: a whole one and half of the middle one
    np.testing.assert_allclose(
        area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]
    )


def test_area_weights_enlarge_bilinearly():
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_allclose(area_weights(2, 4), expected)


def test_resize_area_of_whole_factors_is_the_block_mean():
    image = _noise(12, 20)
    blocks = image.reshape(4, 3, 5, 4).astype(float).mean(axis=(1, 3))
    assert np.abs(resize_area(image, 4, 5) - blocks).max() <= 0.51


def test_resize_area_is_the_product_of_its_two_matrices():
    image = _noise(301, 207)
    rows, cols = area_weights(301, 64), area_weights(207, 50)
    exact = rows.astype(float) @ image @ cols.T.astype(float)
    assert (
        np.abs(resize_area(image, 64, 50) - exact).max() < 0.6
    )  # rounding and float32


def test_resize_area_keeps_a_constant_and_never_wraps():
    np.testing.assert_array_equal(
        resize_area(np.full((7, 5), 65535, np.uint16), 3, 2), 65535
    )
    assert resize_area(_noise(30, 30), 100, 7).shape == (100, 7)


def test_resize_commutes_with_a_mirror():
    image = _noise(57, 91)
    flipped = resize_area(image[:, ::-1], 16, 24)[:, ::-1]
    difference = flipped.astype(int) - resize_area(image, 16, 24)
    assert np.abs(difference).max() <= 1


def test_resize_nearest_takes_pixel_centres():
    mask = np.eye(4, dtype=bool)
    np.testing.assert_array_equal(
        resize_nearest(mask, 8, 8), np.kron(mask, np.ones((2, 2)))
    )
    np.testing.assert_array_equal(
        resize_nearest(resize_nearest(mask, 8, 8), 4, 4), mask
    )


@pytest.mark.parametrize("mode", ["squash", "pad"])
@pytest.mark.parametrize("shape", [(200, 100), (100, 200), (50, 40)])
def test_fit_maps_a_bright_square_where_its_geometry_says(mode, shape):
    image = np.zeros(shape, np.uint16)
    image[20:40, 10:30] = 65535
    working, geometry = fit(image, 128, 96, mode)
    assert working.shape == (128, 96)
    row0, col0, row1, col1 = mask_box(working > 32767)
    due = (20 * geometry.row_scale, 10 * geometry.col_scale,
           40 * geometry.row_scale, 30 * geometry.col_scale)  # fmt: skip
    np.testing.assert_allclose((row0, col0, row1, col1), due, atol=0.75)


def test_pad_keeps_the_aspect_and_squash_fills():
    image = np.full((100, 20), 65535, np.uint16)
    padded, geometry = fit(image, 50, 50, "pad")
    assert geometry.row_scale == geometry.col_scale == 0.5
    assert (padded[:, :10] == 65535).all() and (padded[:, 10:] == 0).all()
    assert (fit(image, 50, 50, "squash")[0] == 65535).all()


def test_fit_refuses_an_unknown_mode():
    with pytest.raises(ImageError, match="squash, pad, received 'crop'"):
        fit(_noise(4, 4), 2, 2, "crop")


def _film():
    """A half disc of tissue at the left edge and a bright label in the air."""
    rows, cols = np.mgrid[:400, :300]
    tissue = (rows - 200) ** 2 + cols**2 < 150**2
    image = np.full((400, 300), 900, np.uint16) + _noise(400, 300) // 128
    image[tissue] += 25000
    image[20:60, 240:280] = 65000
    return image, tissue


def test_breast_mask_finds_the_tissue_and_leaves_the_label_out():
    image, tissue = _film()
    mask = breast_mask(image)
    overlap = (mask & tissue).sum() / (mask | tissue).sum()
    assert overlap > 0.95
    assert not mask[20:60, 240:280].any()
    np.testing.assert_allclose(breast_box(image), (50, 0, 350, 150), atol=6)


@pytest.mark.parametrize("level", [0, 500, 65535])
def test_breast_mask_of_a_constant_image_is_empty_and_its_box_the_image(level):
    image = np.full((30, 20), level, np.uint16)
    assert not breast_mask(image).any()
    assert breast_box(image) == (0, 0, 30, 20)


def test_mask_box_is_half_open_and_none_where_empty():
    mask = np.zeros((5, 6), bool)
    assert mask_box(mask) is None
    mask[1:3, 4] = True
    assert mask_box(mask) == (1, 4, 3, 5)


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    # centres of the wanted pixels, in old pixels: 1, 3, 5 (the edge counts upward);
    # 0.83, 2.5, 4.17
    [(6, 3, [1, 3, 5]), (5, 3, [0, 2, 4])],
)
def test_a_mask_takes_the_pixel_under_the_centre(count, wanted, expected):
    mask = np.arange(count)[None, :].repeat(2, axis=0)
    np.testing.assert_array_equal(images.resize_nearest(mask, 2, wanted)[0], expected)
