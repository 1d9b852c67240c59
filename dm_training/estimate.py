"""Whether a training fits and how long it will take: said before hours are spent.

Memory is reckoned from the network before the first step: what a step holds is every
layer's output from the first one that learns until its gradient is due (an activation
keeps none of its own), some copies of the largest, and four numbers a weight (itself,
its gradient, Adam's two). On ResNet50 and VGG16 at 1152 x 896 on a CPU this came within
a tenth of what was measured. Time is measured on the first steps of the training itself
and needs no trial run.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from dataclasses import dataclass, replace

import keras

from dm_models import checkpointing

_BASE_BYTES = 0.7 * 2**30  # the libraries themselves
_COPIES_OF_LARGEST = 2.5
_FREE_OF_CHARGE = (
    keras.layers.Activation, keras.layers.ReLU, keras.layers.Dropout,
    keras.layers.Flatten, keras.layers.InputLayer,
)  # fmt: skip
# TensorFlow's and JAX's words, and oneDNN's dnnl_out_of_memory.
_OUT = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OOM when", "MemoryError",
        "exception:Status: 1,")  # fmt: skip
_FIRST, _LAST = 1, 4  # steps between which a step is timed; the first one is traced


class OutOfMemory(RuntimeError):
    """A step did not fit the memory; the message says what would."""


@dataclass(frozen=True)
class StepSize:
    """What one training step is made of.

    Attributes:
        batch: Images a step on one device.
        height, width: Of an image.
        half: Whether layers compute in 16 bits.
        checkpointed: Whether activations are computed again.
    """

    batch: int
    height: int
    width: int
    half: bool = False
    checkpointed: bool = False

    def __str__(self) -> str:
        return f"{self.batch} images of {self.height} x {self.width}"


def step_bytes(model: keras.Model, size: StepSize) -> float:
    """Memory that training needs, reckoned from the network.

    Args:
        model: With the layers that are to learn set trainable.
        size: Of a step.

    Returns:
        Bytes, of one device.
    """
    outputs = keras.Model(model.input, [layer.output for layer in model.layers])
    shapes = outputs.compute_output_shape((1, size.height, size.width, 1))
    learning, held, largest = False, 0, 0
    for layer, shape in zip(model.layers, shapes, strict=True):
        learning = learning or bool(layer.trainable_weights)
        numbers = math.prod(shape[1:])
        largest = max(largest, numbers)
        if learning and not isinstance(layer, _FREE_OF_CHARGE):
            held += numbers
    if size.checkpointed:
        held *= checkpointing.held_share(model)
    live = (held + _COPIES_OF_LARGEST * largest) * size.batch * (2 if size.half else 4)
    trained = sum(math.prod(w.shape) for w in model.trainable_weights)
    return _BASE_BYTES + live + 4 * model.count_params() + 12 * trained


def device_bytes() -> int | None:
    """Memory of the first GPU, or what this machine has left; None if unknown."""
    if keras.backend.backend() == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats()
        if stats and "bytes_limit" in stats:
            return stats["bytes_limit"]
    elif _tensorflow_gpus():
        from tensorflow.python.client import device_lib

        limits = [d.memory_limit for d in device_lib.list_local_devices()
                  if d.device_type == "GPU"]  # fmt: skip
        return limits[0]
    return _free_memory()


def used_bytes() -> int:
    """The highest memory used so far: of the first GPU, or of this process."""
    if keras.backend.backend() == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats()
        if stats and "peak_bytes_in_use" in stats:
            return stats["peak_bytes_in_use"]
    elif _tensorflow_gpus():
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def what_would_fit(model: keras.Model, size: StepSize, limit: int | None) -> str:
    """The ways to make a step smaller, with the memory that each would need."""
    ways = []
    if not size.checkpointed:
        ways.append(("--gradient-checkpointing", replace(size, checkpointed=True)))
    if not size.half:
        ways.append(("--precision mixed_float16 (on a GPU)", replace(size, half=True)))
    if size.batch > 1:
        batch = _largest_batch(model, size, limit)
        ways.append((f"a training batch of {batch}", replace(size, batch=batch)))
        if not size.checkpointed:
            both = replace(size, batch=batch, checkpointed=True)
            ways.append(("both of these", both))
    smaller = replace(size, height=size.height // 2, width=size.width // 2)
    ways.append((f"--img-size {smaller.height} {smaller.width}", smaller))
    said = [f"{name}: {_gib(step_bytes(model, way))}" for name, way in ways]
    return "; ".join(said)


def check(model: keras.Model, size: StepSize, say) -> None:
    """Say before a stage how much memory its steps should need, and if it is too much.

    Args:
        model: As it will be trained.
        size: Of a step.
        say: Takes a line of text.
    """
    needed, limit = step_bytes(model, size), device_bytes()
    if limit is None or needed <= limit:
        known = "" if limit is None else f" of {_gib(limit)}"
        say(f"a step should need about {_gib(needed)}{known} of memory")
        return
    say(
        f"warning: a step should need about {_gib(needed)} of memory, there are "
        f"{_gib(limit)}; what takes less: {what_would_fit(model, size, limit)}"
    )


def out_of_memory(err: BaseException) -> bool:
    """Whether an exception of TensorFlow, JAX or Python says that memory is out."""
    text = f"{type(err).__name__}: {err}"
    return isinstance(err, MemoryError) or any(word in text for word in _OUT)


class StepMeter(keras.callbacks.Callback):
    """Measures a training's first steps and says how long its stage will take.

    Args:
        steps: Steps of an epoch.
        epochs: Epochs of the stage.
        say: Takes a line of text.
    """

    def __init__(self, steps: int, epochs: int, say):
        super().__init__()
        self.steps, self.epochs, self.say = steps, epochs, say
        self.seconds: float | None = None
        self._seen, self._from = 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        if self.seconds is not None:
            return
        self._seen += 1
        if self._seen == _FIRST:
            self._from, self._batch = time.perf_counter(), batch
        elif self._seen == _LAST:
            now = time.perf_counter()
            self.seconds = (now - self._from) / max(1, batch - self._batch)
            self.say(self._text())

    def _text(self) -> str:
        total = self.seconds * self.steps * self.epochs
        return (
            f"a step takes {self.seconds:.3g} s, memory so far {_gib(used_bytes())}: "
            f"{_duration(total)} for {self.epochs} epochs of {self.steps} steps, "
            "scoring apart"
        )


def _largest_batch(model, size: StepSize, limit: int | None) -> int:
    batch = size.batch // 2
    while batch > 1 and limit and step_bytes(model, replace(size, batch=batch)) > limit:
        batch //= 2
    return max(1, batch)


def _tensorflow_gpus() -> list:
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def _free_memory() -> int | None:
    """What the kernel, the container and the process's own limit leave."""
    limits = []
    if os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo", encoding="ascii") as file:
            found = dict(line.split(":") for line in file)
        limits.append(int(found["MemAvailable"].split()[0]) * 1024)
    group = "/sys/fs/cgroup/memory.max"
    if os.path.exists(group):
        with open(group, encoding="ascii") as file:
            text = file.read().strip()
        limits += [int(text)] if text.isdigit() else []
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits += [soft] if soft != resource.RLIM_INFINITY else []
    return min(limits, default=None)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
