import numpy as np
import tensorflow as tf

from dm_training.batch_memory import BatchMemory


def address(array):
    return array.ctypes.data


def test_memory_is_lent_again_only_when_nobody_holds_it():
    memory = BatchMemory()
    first = memory.take((4, 3, 2))
    place, view = address(first), first[1:, 0]
    del first
    assert address(memory.take((4, 3, 2))) != place  # the view still holds it
    view[:] = 5.0
    del view
    assert address(memory.take((4, 3, 2))) == place


def test_arrays_begin_where_tensorflow_takes_them_over():
    memory = BatchMemory()
    held = [memory.take(shape) for shape in ((1, 7), (3, 5), (2, 2, 2), (1, 7))]
    assert [address(array) % 64 for array in held] == [0] * 4
    assert len({address(array) for array in held}) == 4
    assert [array.dtype for array in held] == [np.float32] * 4


def test_a_batch_that_is_kept_is_not_written_over():
    memory = BatchMemory()

    def filled(number):
        out = memory.take((64, 64))
        out[:] = number
        return out

    numbers = tf.data.Dataset.range(50)
    data = numbers.map(lambda n: tf.numpy_function(filled, [n], tf.float32),
                       num_parallel_calls=4).prefetch(2)  # fmt: skip
    kept = list(data)
    for number, batch in enumerate(kept):
        assert np.unique(batch.numpy()).tolist() == [number]
    arrays = [batch.numpy() for batch in data]
    assert [float(a.max()) for a in arrays] == list(range(50))


def test_another_size_gets_memory_of_its_own():
    memory = BatchMemory()
    memory.take((2, 3))  # nobody holds it: it is free at once
    other = memory.take((4, 4))
    assert other.shape == (4, 4) and other.nbytes == 64
    assert memory.take((3, 2)).shape == (3, 2)
