"""The images of those we are compared with are ours: the same work is timed."""

from dataclasses import asdict
from math import degrees

import numpy as np
import pytest
import tensorflow as tf

from dm_training import augment
from dm_training.benchmark import old_generator, opencv_workers, synthetic

STILL = {
    "rotation": 0.0, "shear": 0.0, "zoom_rows": 1.0, "zoom_cols": 1.0, "shift": 0.0,
    "flip_rows": 1.0, "flip_cols": 1.0,
}  # fmt: skip
ALONE = [
    {"rotation": 0.4}, {"shear": -0.2}, {"zoom_rows": 0.8}, {"zoom_cols": 1.2},
    {"shift": 4000.0}, {"shift": -4000.0}, {"flip_rows": -1.0}, {"flip_cols": -1.0},
]  # fmt: skip


def both(image, parameters):
    out = np.empty(image.shape, np.float32)
    opencv_workers.augment_into(out, image, parameters)
    drawn = {name: np.array([value], np.float32) for name, value in parameters.items()}
    maps = augment.transforms(drawn, *image.shape)
    images = tf.constant(image[None, ..., None], tf.float32)
    return out, augment.apply(images, maps, drawn["shift"]).numpy()[0, ..., 0]


@pytest.mark.parametrize("change", ALONE, ids=str)
def test_each_parameter_means_the_same(change):
    theirs, ours = both(synthetic.breast_image(96, 64, 0), STILL | change)
    # OpenCV rounds to whole grey levels: 0.5, and a little for the coordinates.
    np.testing.assert_allclose(theirs, ours, atol=1.0)


@pytest.mark.parametrize("seed", range(6))
def test_all_parameters_together_mean_the_same(seed):
    image = synthetic.breast_image(90, 70, seed)
    drawn = opencv_workers.draw(np.random.default_rng(seed), asdict(augment.PAPER))
    theirs, ours = both(image, drawn)
    np.testing.assert_allclose(theirs, ours, atol=1.0)
    assert np.abs(theirs - image).max() > 1000  # it did something


def test_draws_fill_the_ranges_of_the_paper():
    rng = np.random.default_rng(0)
    drawn = [opencv_workers.draw(rng, asdict(augment.PAPER)) for _ in range(3000)]
    most = {name: max(d[name] for d in drawn) for name in drawn[0]}
    assert most["rotation"] == pytest.approx(np.radians(25), rel=0.01)
    assert most["shear"] == pytest.approx(0.2, rel=0.01)
    assert most["zoom_rows"] == pytest.approx(1.2, rel=0.01)
    assert most["shift"] == pytest.approx(20 * 65535 / 255, rel=0.01)
    assert np.mean([d["flip_cols"] for d in drawn]) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("hold", ["memory", "files"])
def test_a_worker_fills_a_whole_batch(tmp_path, hold):
    config = {"paths": synthetic.write_class_folders(tmp_path / "images", 2, 40, 30),
              "ranges": asdict(augment.PAPER), "hold": hold}  # fmt: skip
    batch = np.full((3, 1, 40, 30), np.nan, np.float32)
    opencv_workers.make_fill(config, 0)(batch)
    assert np.isfinite(batch).all()
    assert 0 <= batch.min() and batch.max() <= 65535
    assert not np.array_equal(batch[0], batch[1])


def test_the_old_generator_has_the_same_ranges_on_three_channels(tmp_path):
    pytest.importorskip("tf_keras")
    generator = old_generator.make_generator(asdict(augment.PAPER))
    assert generator.rotation_range == 25
    assert generator.shear_range == pytest.approx(degrees(0.2))
    assert list(generator.zoom_range) == [0.8, 1.2]
    assert generator.channel_shift_range == pytest.approx(20 * 65535 / 255)
    assert generator.horizontal_flip and generator.vertical_flip
    image = np.repeat(synthetic.breast_image(40, 30, 0)[..., None], 3, axis=2)
    moved = generator.random_transform(image.astype(np.float32))
    assert (moved.shape, moved.dtype) == ((40, 30, 3), np.float32)
