import time

import cv2
import numpy as np
import pytest
import tensorflow as tf

from dm_preprocess.tables import IMAGE_CLASSES
from dm_training import augment, datasets
from dm_training.samples import read_samples


@pytest.fixture
def train(image_set):
    return read_samples(image_set, "train", classes=IMAGE_CLASSES)


@pytest.fixture
def store(train):
    return datasets.ImageStore(train, height=48, width=40)


def first_batches(train, store, count, **options):
    options = {"batch_size": 3, "seed": 5, **options}
    data = datasets.make_training_dataset(train, store, **options)
    return [tuple(np.asarray(part) for part in batch) for batch in data.take(count)]


def test_same_seed_gives_the_same_batches_on_any_number_of_threads(train, store):
    one = first_batches(train, store, 5)
    data = datasets.make_training_dataset(train, store, batch_size=3, seed=5)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    for batch, again in zip(one, data.with_options(options).take(5), strict=True):
        for part, other in zip(batch, again, strict=True):
            np.testing.assert_array_equal(part, other)


def test_another_seed_gives_other_batches(train, store):
    one, two = (first_batches(train, store, 1, seed=s)[0][0] for s in (5, 6))
    assert not np.array_equal(one, two)


def test_a_resumed_stream_goes_on_where_the_first_would_have_been(train, store):
    steps = datasets.steps_per_epoch(train, 3)
    whole = first_batches(train, store, 2 * steps)
    resumed = first_batches(train, store, steps, start_epoch=1)
    for batch, again in zip(whole[steps:], resumed, strict=True):
        np.testing.assert_array_equal(batch[0], again[0])


def test_evaluation_sees_every_image_once_and_the_short_last_batch(train, store):
    data = datasets.make_evaluation_dataset(train, store, batch_size=3)
    sizes = [len(batch) for batch in data]
    assert sizes == [3, 3, 2]  # 8 images
    seen = np.concatenate([np.asarray(batch) for batch in data])[..., 0]
    for image, path in zip(seen, train.paths, strict=True):
        np.testing.assert_array_equal(image, cv2.imread(path, cv2.IMREAD_UNCHANGED))


def test_every_sample_is_drawn_once_an_epoch():
    order = datasets.epoch_order(np.zeros(10, int), seed=1, epoch=3, length=10)
    assert sorted(order) == list(range(10))


def test_sampling_gives_a_rare_class_its_equal_share():
    labels = np.array([0] * 18 + [1] * 2)
    order = datasets.epoch_order(labels, seed=1, epoch=0, length=20, balance="sampling")
    assert (labels[order] == 1).sum() == 10
    # both of the rare class are used alike, and no common one twice
    assert sorted(np.bincount(order, minlength=20)[18:]) == [5, 5]
    assert np.bincount(order, minlength=20)[:18].max() == 1


def test_batch_weights_balance_the_classes_present_and_have_mean_one():
    # counts 3, 1, 0: weights 4 / (3 x 2) and 4 / (1 x 2)
    weights = datasets.batch_weights(np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(weights, [4 / 6, 4 / 6, 4 / 6, 2.0])
    assert weights.mean() == pytest.approx(1.0) and weights.dtype == np.float32


def test_class_weights_multiply_the_loss_of_their_class(train, store):
    _, labels, weights = first_batches(train, store, 1, class_weights={1: 3.0})[0]
    np.testing.assert_array_equal(weights, np.where(labels == 1, 3.0, 1.0))


def test_without_augmentation_a_batch_holds_the_pixels_themselves(train, store):
    images, labels, _ = first_batches(train, store, 1, ranges=augment.NONE)[0]
    known = {cv2.imread(p, -1).tobytes() for p in train.paths}
    assert {im[..., 0].astype(np.uint16).tobytes() for im in images} <= known
    assert images.dtype == np.float32 and labels.dtype == np.int64


def test_memory_cache_and_files_give_the_same_pixels(train, store, tmp_path):
    size = {"height": 48, "width": 40}
    held = datasets.ImageStore(train, **size, in_memory=True)
    cached = datasets.ImageStore(train, **size, cache=tmp_path / "pixels")
    assert [s.kept for s in (store, held, cached)] == ["files", "memory", "cache"]
    for index in range(len(train)):
        np.testing.assert_array_equal(held.read(index), store.read(index))
        np.testing.assert_array_equal(cached.read(index), store.read(index))


@pytest.mark.parametrize("balance", datasets.BALANCES)
def test_the_shares_of_two_processes_make_the_batch_of_one(train, store, balance):
    options = {"batch_size": 4, "balance": balance}
    whole = first_batches(train, store, 3, **options)
    halves = [
        first_batches(train, store, 3, share=datasets.Share(rank, 2), **options)
        for rank in range(2)
    ]
    for batch, left, right in zip(whole, *halves, strict=True):
        for part, one, two in zip(batch, left, right, strict=True):
            np.testing.assert_array_equal(part, np.concatenate([one, two]))


def test_a_batch_that_cannot_be_shared_out_is_refused(train, store):
    with pytest.raises(ValueError, match="batch_size must divide by 2.*received 3"):
        first_batches(train, store, 1, share=datasets.Share(0, 2))


def test_both_routes_agree_to_the_rounding_of_the_resampling(train, store):
    one = first_batches(train, store, 4)
    two = first_batches(train, store, 4, route="tensorflow")
    for (images, *rest), (others, *more) in zip(one, two, strict=True):
        assert np.abs(images - others).max() < 1.0  # of 65535
        for part, other in zip(rest, more, strict=True):
            np.testing.assert_array_equal(part, other)


def test_an_unknown_route_is_refused(train, store):
    with pytest.raises(ValueError, match="route must be one of"):
        first_batches(train, store, 1, route="magic")


def test_an_image_of_another_size_is_brought_to_size(train):
    small = datasets.ImageStore(train, height=24, width=20)
    source = datasets.ImageStore(train, height=None, width=None).read(0)
    blocks = source.reshape(24, 2, 20, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(small.read(0) - blocks).max() <= 0.5


def test_the_stream_weighs_by_batch_and_by_class(train, store):
    options = {"batch_size": 3, "balance": "batch-weights"}
    for _, labels, weights in first_batches(train, store, 4, **options):
        np.testing.assert_array_equal(weights, datasets.batch_weights(labels))
    both = first_batches(train, store, 4, class_weights={1: 3.0}, **options)
    for _, labels, weights in both:
        expected = datasets.batch_weights(labels) * np.where(labels == 1, 3.0, 1.0)
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_a_batch_of_one_class_weighs_one():
    np.testing.assert_array_equal(datasets.batch_weights(np.array([1, 1])), [1, 1])


@pytest.mark.parametrize("other", [{"seed": 6}, {"start_epoch": 1}], ids=str)
def test_order_and_augmentation_each_depend_on_seed_and_epoch(train, store, other):
    def plan(seed=5, start_epoch=0):
        made = datasets._EpochPlan(train, store, 4, seed, "none", {}, augment.PAPER,
                                   datasets.Share())  # fmt: skip
        return made.arrays(start_epoch)

    order, _, _, maps, shifts = plan()
    others, _, _, other_maps, other_shifts = plan(**other)
    assert not np.array_equal(order, others)
    assert not np.array_equal(maps, other_maps)
    assert not np.array_equal(shifts, other_shifts)


def test_evaluation_keeps_the_order_where_the_first_read_is_slow(train, store):
    read = store.read

    def slow(index):
        time.sleep(0.3 * (index == 0))
        return read(index)

    store.read = slow
    seen = np.concatenate(list(datasets.make_evaluation_dataset(
        train, store, batch_size=2)))[..., 0]  # fmt: skip
    for number, image in enumerate(seen):
        np.testing.assert_array_equal(image, read(number))


def test_an_unknown_balance_is_refused(train, store):
    with pytest.raises(ValueError, match="balance must be one of"):
        datasets.make_training_dataset(
            train, store, batch_size=2, seed=0, balance="maybe"
        )
