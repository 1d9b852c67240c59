"""Images a second of a training against the bare compiled step, and XLA against none.

A stage is run as `dm_training.stages` runs it: `fit` over the training stream, with
the callback that checks each step's loss, scores and saves, and TensorBoard's. The bare
step is the same compiled function on a batch that is in memory already; it has its turn
where a training scores its validation set, between two epochs. What lies between the
two is what feeding and looking after a training costs.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from dm_training.benchmark import networks, our_stream, synthetic
from dm_training.benchmark.timing import figure, ratio, take_turns

_TARGET = 0.97
FIT, BARE, XLA = "training (fit)", "bare step", "bare step with XLA"


def run(folder: Path, *, quick: bool, cores: int) -> dict:
    """Measure.

    Args:
        folder: Empty; for the images and the run folder.
        quick: Small images and few steps.
        cores: Not used: TensorFlow takes all.

    Returns:
        The part of the results.
    """
    height, width, batch = (96, 80, 8) if quick else (1152, 896, 2)
    synthetic.write_class_folders(folder / "images", 16, height, width)
    config = {"folder": str(folder / "images"), "height": height, "width": width,
              "batch": batch, "variant": "memory"}  # fmt: skip
    seconds = 0.2 if quick else 8.0
    stream = our_stream.make_stream(*our_stream.open_store(config), batch)
    bare = _BareStep(config, stream, seconds, jit_compile=False)
    fitted = _fit(bare, stream, folder / "run", rounds=3 if quick else 4)
    xla = _BareStep(config, stream, seconds, jit_compile=True)
    bare.rate()  # not counted: after `fit` it traces again
    beside = take_turns({BARE: bare.rate, XLA: xla.rate}, 3)
    figures = {name: figure(fitted[name], "images/s") for name in (FIT, BARE)}
    figures[f"{FIT} / {BARE}"] = ratio(fitted[FIT], fitted[BARE], BARE, target=_TARGET)
    figures[XLA] = figure(beside[XLA], "images/s")
    figures[f"{XLA} / {BARE}"] = ratio(beside[XLA], beside[BARE], BARE)
    return {
        "setting": f"{networks.RECIPE}, {height} x {width}, batches of {batch}, "
                   f"{bare.steps} steps a round",
        "skipped": {}, "figures": figures,
    }  # fmt: skip


class _BareStep:
    """A compiled network and slices of its training step on one batch in memory."""

    def __init__(self, config: dict, stream, seconds: float, *, jit_compile: bool):
        import tensorflow as tf

        from dm_training import stages

        self.images_a_step = config["batch"]
        self.model, self.contract = networks.build(config["height"], config["width"])
        self.stage = stages.Stage("benchmark", "all", 1e-5, 1)
        plan = _plan(self.stage, None, lambda model: {}, jit_compile)
        stages.prepare(self.model, self.stage, plan, stages.State())
        self.batch = tuple(tf.identity(tensor) for tensor in next(iter(stream)))
        self.steps = 2
        self.rate()  # traces
        step_seconds = self.images_a_step / self.rate()
        self.steps = int(np.clip(seconds / step_seconds, 3, 1000))

    def rate(self) -> float:
        """Images a second over `steps` steps."""
        if self.model.train_function is None:
            self.model.train_on_batch(*self.batch)
        began = time.perf_counter()
        for _ in range(self.steps):
            logs = self.model.train_function(iter((self.batch,)))
        float(logs["loss"])  # wait until the last step is done
        return self.steps * self.images_a_step / (time.perf_counter() - began)


def _fit(
    bare: _BareStep, stream, run_folder: Path, *, rounds: int
) -> dict[str, list[float]]:
    """Rates of `fit` and, after each epoch, of the bare step.

    The stream fills its buffers while the bare step runs; an epoch's first steps, which
    empty them, are not counted.
    """
    import keras

    from dm_training import stages
    from dm_training.runs import Run

    emptying = max(2, bare.steps // 4)
    rates = {FIT: [], BARE: []}

    def score(model) -> dict[str, float]:
        counted = bare.steps * bare.images_a_step
        rates[FIT].append(counted / (time.perf_counter() - timer.began))
        time.sleep(min(1.0, counted / rates[FIT][-1]))  # for the buffers to fill
        rates[BARE].append(bare.rate())
        return {"val_auc": 0.0}

    timer = _make_timer(emptying)
    run = Run(run_folder, {"kind": "benchmark"})
    plan = _plan(bare.stage, stream, score, False)
    keeper = stages.Keeper(bare.contract, bare.stage, plan, run, stages.State())
    board = keras.callbacks.TensorBoard(run.path("tensorboard"), write_graph=False)
    # One epoch more than rounds: in the first, `fit` traces.
    bare.model.fit(
        stream, steps_per_epoch=emptying + bare.steps, epochs=rounds + 1, verbose=0,
        shuffle=False, callbacks=[keeper, board, timer],
    )  # fmt: skip
    return {name: found[1:] for name, found in rates.items()}


def _plan(stage, stream, score, jit_compile: bool):
    from dm_training import stages

    return stages.Plan(
        stages=(stage,), steps_per_epoch=1, stream=lambda epoch: stream, score=score,
        watch="val_auc", jit_compile=jit_compile,
    )  # fmt: skip


def _make_timer(emptying: int):
    import keras

    class Timer(keras.callbacks.Callback):
        """Notes when the counted steps of an epoch begin."""

        def on_train_batch_end(self, batch, logs=None):
            if batch == emptying - 1:
                self.began = time.perf_counter()

    return Timer()
