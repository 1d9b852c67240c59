import json
import os
from pathlib import Path

import numpy as np
import pytest

from dm_preprocess.images import write_png
from dm_training import pixel_cache
from dm_training.pixel_cache import PixelCache, PixelCacheError


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(4)
    for n in range(7):
        image = rng.integers(0, 65536, (6, 5)).astype(np.uint16)
        write_png(tmp_path / "images" / f"{n}.png", image)
    return [str(tmp_path / "images" / f"{n}.png") for n in range(7)]


class Decoder:
    """Counts how often a file is decoded; dies at one if told to."""

    def __init__(self, dies_at=None):
        self.seen, self.dies_at = [], dies_at

    def __call__(self, path):
        from dm_preprocess.images import read_png

        if path == self.dies_at:
            raise RuntimeError("killed")
        self.seen.append(path)
        return read_png(path)


def cache_of(folder, paths, decode=None, **options):
    options = {"height": 6, "width": 5, "fit": "squash", **options}
    return PixelCache(folder, paths, decode or Decoder(), **options)


def test_every_image_is_read_back_as_it_was_decoded(tmp_path, paths, monkeypatch):
    monkeypatch.setattr(pixel_cache, "_SHARD_IMAGES", 3)
    cache, plain = cache_of(tmp_path / "c", paths), Decoder()
    for index, path in enumerate(paths):
        np.testing.assert_array_equal(cache.read(index), plain(path))
    assert len(list((tmp_path / "c").rglob("*.u16"))) == 3  # 3 + 3 + 1 images


def test_nothing_is_decoded_twice_whatever_the_split(tmp_path, paths):
    assert cache_of(tmp_path / "c", paths[:5]).decoded == 5
    later = Decoder()
    cache = cache_of(tmp_path / "c", paths[::-1], later)
    assert sorted(later.seen) == paths[5:] and cache.decoded == 2
    np.testing.assert_array_equal(cache.read(0), Decoder()(paths[6]))
    np.testing.assert_array_equal(cache.read(6), Decoder()(paths[0]))


def test_a_file_twice_in_the_table_is_decoded_once(tmp_path, paths):
    cache = cache_of(tmp_path / "c", [paths[0], paths[1], paths[0]])
    assert cache.decoded == 2
    np.testing.assert_array_equal(cache.read(0), cache.read(2))


def test_an_image_converted_anew_is_decoded_anew(tmp_path, paths):
    cache_of(tmp_path / "c", paths)
    changed = np.full((6, 5), 321, np.uint16)
    write_png(paths[2], changed)
    cache = cache_of(tmp_path / "c", paths)
    assert cache.decoded == 1
    np.testing.assert_array_equal(cache.read(2), changed)


def test_a_file_of_the_same_size_and_another_time_is_decoded_anew(tmp_path, paths):
    cache_of(tmp_path / "c", paths)
    os.utime(paths[3], ns=(1, 1))
    assert cache_of(tmp_path / "c", paths).decoded == 1


def test_files_of_one_name_in_two_folders_do_not_mix(tmp_path, paths):
    twin = tmp_path / "other" / "0.png"
    twin.parent.mkdir()
    state = os.stat(paths[0])
    twin.write_bytes(Path(paths[0]).read_bytes())
    os.utime(twin, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert cache_of(tmp_path / "c", [paths[0], str(twin)]).decoded == 2


def test_another_fit_is_decoded_anew(tmp_path, paths):
    cache_of(tmp_path / "c", paths)
    assert cache_of(tmp_path / "c", paths, fit="pad").decoded == 7


def test_a_decoder_that_gives_another_shape_is_refused(tmp_path, paths):
    with pytest.raises(ValueError, match=r"decoded an image of \(5, 6\)"):
        cache_of(tmp_path / "c", paths, lambda path: np.zeros((5, 6), np.uint16))


@pytest.mark.parametrize("call", [1, 2])
def test_no_list_is_there_before_its_pixels(tmp_path, paths, monkeypatch, call):
    calls, replace = iter((1, 2)), os.replace

    def killed(*names):
        if next(calls) == call:
            raise OSError("killed")
        replace(*names)

    monkeypatch.setattr(pixel_cache.os, "replace", killed)
    with pytest.raises(OSError, match="killed"):
        cache_of(tmp_path / "c", paths)
    monkeypatch.undo()
    for path in (tmp_path / "c").rglob("*.json"):
        assert path.with_suffix(".u16").exists()
    np.testing.assert_array_equal(cache_of(tmp_path / "c", paths).read(0),
                                  Decoder()(paths[0]))  # fmt: skip


def test_sizes_do_not_mix(tmp_path, paths):
    cache_of(tmp_path / "c", paths)
    flat = cache_of(
        tmp_path / "c", paths, lambda path: np.zeros((2, 2), np.uint16),
        height=2, width=2,
    )  # fmt: skip
    assert flat.decoded == 7 and flat.read(0).shape == (2, 2)


def test_a_killed_build_keeps_its_whole_shards(tmp_path, paths, monkeypatch):
    monkeypatch.setattr(pixel_cache, "_SHARD_IMAGES", 3)
    with pytest.raises(RuntimeError, match="killed"):
        cache_of(tmp_path / "c", paths, Decoder(dies_at=paths[4]))
    assert not list((tmp_path / "c").rglob("*.part"))
    assert cache_of(tmp_path / "c", paths).decoded == 4


def test_a_shard_without_its_list_is_not_used(tmp_path, paths):
    cache_of(tmp_path / "c", paths)
    for path in (tmp_path / "c").rglob("*.json"):
        path.unlink()  # killed between the two renames
    assert cache_of(tmp_path / "c", paths).decoded == 7


def test_a_later_format_is_left_alone(tmp_path, paths):
    cache_of(tmp_path / "c", paths)
    for path in (tmp_path / "c").rglob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    assert cache_of(tmp_path / "c", paths).decoded == 7


def test_a_truncated_shard_is_named(tmp_path, paths):
    cache = cache_of(tmp_path / "c", paths)
    (shard,) = (tmp_path / "c").rglob("*.u16")
    with open(shard, "r+b") as file:
        file.truncate(3 * cache.image_bytes + 1)
    np.testing.assert_array_equal(cache.read(2), Decoder()(paths[2]))
    with pytest.raises(PixelCacheError, match="ends early; delete"):
        cache.read(3)


def test_too_small_a_disk_is_said_before_anything_is_decoded(
    tmp_path, paths, monkeypatch
):
    free = type("Usage", (), {"free": 100})
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda folder: free)
    decoder = Decoder()
    with pytest.raises(PixelCacheError, match="decoded pixels need .* are free"):
        cache_of(tmp_path / "c", paths, decoder)
    assert decoder.seen == []
