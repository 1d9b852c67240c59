"""Training on several devices and hosts, by `tf.distribute` or Keras's JAX backend.

Every process runs the same command and makes the same stream of global batches; each
takes its share of every batch (`datasets.Share`), so that the images, their draws and
their order are those of one process. Losses are summed over a replica's images and
divided by the GLOBAL batch, gradients are added up over replicas: where batch norm is
frozen or absent, the weights are those of one process to rounding. Elsewhere each
replica normalises by its own images' statistics, and the moving statistics are averaged
over replicas after every epoch.

The first process, the chief, writes the run folder, which all must see; the others read
`last.keras` there when they resume and write a log of their own. Where a process dies,
the others stop with `WorkerLost`, and the same command with --resume goes on.

`Model.fit` of Keras 3 on TensorFlow cannot run on several hosts: `distributed_fit` is a
loop of our own with Keras's callbacks. On JAX plain `fit` does it all, whole-batch
statistics included: `jax_distribution`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from dm_training.datasets import Share
from dm_training.estimate import out_of_memory

CHOICES = ("auto", "none", "devices", "hosts")
_GONE = ("UnavailableError", "AbortedError", "CancelledError", "InternalError",
         "FailedPreconditionError", "DeadlineExceededError")  # fmt: skip


class DistributionError(ValueError):
    """The processes or devices cannot train together; the message says why."""


class WorkerLost(RuntimeError):
    """Another process of the training is gone; this one has stopped, too."""


@dataclass(frozen=True)
class Distribution:
    """How a training is spread, as one of its processes sees it.

    Attributes:
        strategy: The `tf.distribute` strategy; None for one device, and on JAX.
        rank: This process's number, 0 for the chief.
        processes: How many there are.
        replicas: Devices that train, over all processes.
    """

    strategy: object = None
    rank: int = 0
    processes: int = 1
    replicas: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """This process's part of every global batch."""
        return Share(self.rank, self.processes)

    def scope(self):
        """Where models, optimizers and their variables are made."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def check_batch(self, batch_size: int) -> None:
        """Refuse a batch that replicas cannot share alike.

        Raises:
            DistributionError: It does not divide.
        """
        if batch_size % self.replicas:
            raise DistributionError(
                f"the training batch must divide by {self.replicas}, the number of "
                f"devices that share it, received {batch_size}"
            )

    def agree(self, facts: dict[str, object]) -> None:
        """Wait for all processes, and refuse to go on where their facts differ.

        Args:
            facts: Name -> what should be the same everywhere (any JSON-able value).

        Raises:
            DistributionError: Naming the facts that differ.
            WorkerLost: A process is gone.
        """
        if self.processes == 1:
            return
        own = np.array([_digest(value) for value in facts.values()], np.int32)
        found = self._gathered(own[None])
        wrong = [n for n, column in zip(facts, found.T, strict=True)
                 if len(set(column.tolist())) > 1]  # fmt: skip
        if wrong:
            raise DistributionError(
                f"the processes do not agree on {', '.join(wrong)}: all need the same "
                "command, the same tables and images, and one run folder that all see"
            )

    @contextlib.contextmanager
    def chief_first(self, what: str) -> Iterator[None]:
        """Do something in the chief, then in the others, which find what it wrote."""
        if not self.is_chief:
            self.agree({what: 1})
        yield
        if self.is_chief:
            self.agree({what: 1})

    def assign_each(self, variable: keras.Variable, values: np.ndarray) -> None:
        """Give each replica's copy of a variable its own row of `values`."""
        import tensorflow as tf

        def own():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            variable.value.assign(tf.gather(values, number))

        self.strategy.run(own)

    def apart(self):
        """Within, this process saves, loads and scores by itself, on one device."""
        if keras.backend.backend() != "jax":
            return contextlib.nullcontext()
        from dm_training.jax_distribution import undistributed

        return undistributed()

    def _gathered(self, rows: np.ndarray) -> np.ndarray:
        if self.strategy is None:
            from jax.experimental import multihost_utils

            return np.asarray(multihost_utils.process_allgather(rows[0]))
        import tensorflow as tf

        with lost_workers():
            each = self.strategy.run(lambda: tf.constant(rows))
            return np.asarray(self.strategy.gather(each, axis=0))


ALONE = Distribution()


def choose(name: str = "auto") -> Distribution:
    """Set up what `--distribute` asks for; before anything else uses TensorFlow.

    Args:
        name: "none"; "devices" for all of this machine's; "hosts" for the cluster of
            `TF_CONFIG`; "auto" for hosts where `TF_CONFIG` names several, devices
            where there are several GPUs, else none.

    Raises:
        DistributionError: There is nothing to spread over, or the backend is another.
    """
    if name not in CHOICES:
        raise DistributionError(f"distribute must be one of {CHOICES}, got {name!r}")
    if keras.backend.backend() == "jax":
        return _jax(name)
    workers = _cluster_workers()
    if name == "hosts" or (name == "auto" and len(workers) > 1):
        return _hosts(workers)
    if name == "none":
        return ALONE
    return _devices(name == "devices")


def _jax(name: str) -> Distribution:
    from dm_training import jax_distribution

    replicas = jax_distribution.set_up(False if name == "none" else None)
    if replicas == 1 and name in ("devices", "hosts"):
        raise DistributionError(f"--distribute {name}: there is only one device")
    rank, processes = jax_distribution.process()
    if processes == 1 and name == "hosts":
        raise DistributionError(
            "--distribute hosts: on JAX, set Keras's KERAS_DISTRIBUTION_* variables "
            "(see dm_training/jax_distribution.py)"
        )
    return Distribution(None, rank, processes, replicas)


def _devices(asked: bool) -> Distribution:
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    count = len(tf.config.list_logical_devices(kind))
    devices = [f"{kind}:{at}" for at in range(count)]
    if len(devices) < 2 or (kind == "CPU" and not asked):
        if asked:
            raise DistributionError("--distribute devices: there is only one device")
        return ALONE
    strategy = tf.distribute.MirroredStrategy(devices)
    return Distribution(strategy, replicas=strategy.num_replicas_in_sync)


def _hosts(workers: Sequence[str]) -> Distribution:
    if len(workers) < 2:
        raise DistributionError(
            "--distribute hosts: TF_CONFIG must name two workers or more, as in "
            '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
            '"task": {"type": "worker", "index": 0}}'
        )
    task = json.loads(os.environ["TF_CONFIG"]).get("task", {})
    rank = task.get("index")
    if task.get("type") != "worker" or rank not in range(len(workers)):
        raise DistributionError(
            f'TF_CONFIG\'s task must be {{"type": "worker", "index": N}} with N below '
            f"{len(workers)}, received {task}"
        )
    import tensorflow as tf

    with lost_workers():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return Distribution(strategy, rank, len(workers), strategy.num_replicas_in_sync)


def _cluster_workers() -> Sequence[str]:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return ()
    try:
        return json.loads(text).get("cluster", {}).get("worker", ())
    except (ValueError, AttributeError) as err:
        raise DistributionError(f"TF_CONFIG is not a JSON object: {err}") from err


def _digest(value) -> int:
    text = json.dumps(value, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@contextlib.contextmanager
def lost_workers():
    """Turn what TensorFlow raises when a peer is gone into `WorkerLost`."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as err:
        if type(err).__name__ not in _GONE or out_of_memory(err):
            raise
        raise WorkerLost(
            "another process of this training is gone, so this one stops; its own "
            "output says why. Once that is mended, start all again, with --resume if "
            f"an epoch was done ({type(err).__name__})"
        ) from err
