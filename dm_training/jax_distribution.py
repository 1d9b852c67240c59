"""Training on several devices or hosts by Keras's JAX backend.

`keras.distribution.DataParallel` keeps a copy of the weights on every device and cuts
each batch into as many parts; the compiled step adds up the gradients. Loss, batch norm
and dropout are those of the whole batch, so that the weights are one device's up to
rounding, whatever the number of devices.

Several hosts: each runs the same command with Keras's own three variables set,

    KERAS_DISTRIBUTION_JOB_ADDRESSES=10.0.0.1:8476   (of process 0)
    KERAS_DISTRIBUTION_NUM_PROCESSES=2
    KERAS_DISTRIBUTION_PROCESS_ID=0                  (1 on the other)

and feeds its own rows of each batch, see `process`. Scores are computed by each process
for itself on all images, so that all of them stop, cut rates and keep the best alike.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import keras

_ENVIRONMENT = "KERAS_DISTRIBUTION_"
_NUMBERS = ("NUM_PROCESSES", "PROCESS_ID")


class DistributionError(ValueError):
    """What was asked for cannot be distributed; the message says why."""


def set_up(wanted: bool | None = None) -> int:
    """Distribute every model built from now on, where there is more than one device.

    To be called before a model is built and, on several hosts, before JAX computes
    anything.

    Args:
        wanted: None for where the backend is JAX and there is more than one device;
            False for never; True refuses another backend.

    Returns:
        How many devices share a batch; 1 for none to share with.

    Raises:
        DistributionError: Another backend was to be distributed, or the variables of
            several hosts do not fit.
    """
    on_jax = keras.backend.backend() == "jax"
    if wanted and not on_jax:
        raise DistributionError(
            "keras.distribution needs KERAS_BACKEND=jax, received "
            f"{keras.backend.backend()!r}"
        )
    if wanted is False or not on_jax:
        return 1
    _join_processes()
    devices = keras.distribution.list_devices()
    if len(devices) > 1:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        )
    return len(devices)


def process() -> tuple[int, int]:
    """Return (number of this process from 0, how many there are).

    Process r of n must be fed rows r * B / n to (r + 1) * B / n of each batch of B.
    """
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


@contextlib.contextmanager
def undistributed() -> Iterator[None]:
    """Within, a batch is not cut up: it may be as short as an evaluation's last one."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _join_processes() -> None:
    """Find the other processes by Keras's variables; without them this is alone."""
    given = {name for name in os.environ if name.startswith(_ENVIRONMENT)}
    if not given:
        return
    for name in (_ENVIRONMENT + suffix for suffix in _NUMBERS):
        text = os.environ.get(name, "")
        if not text.isdigit():
            raise DistributionError(f"{name} must be a whole number, received {text!r}")
    count, number = (int(os.environ[_ENVIRONMENT + suffix]) for suffix in _NUMBERS)
    if number >= count:
        raise DistributionError(
            f"{_ENVIRONMENT}PROCESS_ID counts from 0 and must be less than "
            f"{_ENVIRONMENT}NUM_PROCESSES, {count}, received {number}"
        )
    import jax

    if not jax.distributed.is_initialized():
        keras.distribution.initialize()
