import json
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest

from dm_models.backbones import get_backbone
from dm_models.weights import load_model
from dm_training import datasets, stages
from dm_training.recipes import Stage
from dm_training.runs import Run, RunError

CONTRACT = get_backbone("squeezenet").contract(
    class_names=("neg", "pos"), height=8, width=8
)


def small_model():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1), name="grey")
    x = keras.layers.Rescaling(1 / 65535)(inputs)
    x = keras.layers.Conv2D(2, 3, name="conv1", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(
        2, activation="softmax", name="image_prediction",
        kernel_regularizer=keras.regularizers.L2(0.0),
    )(x)  # fmt: skip
    return keras.Model(inputs, outputs)


def batches(start_epoch, steps=4):
    import tensorflow as tf

    def at(number):
        rng = np.random.default_rng([9, int(number)])
        labels = rng.integers(0, 2, 4)
        images = rng.uniform(0, 20000, (4, 8, 8, 1))
        images += 40000.0 * labels.reshape(4, 1, 1, 1)
        return images.astype("float32"), labels, np.ones(4, "float32")

    def batch(number):
        images, labels, weights = tf.numpy_function(
            at, [number], (tf.float32, tf.int64, tf.float32)
        )
        images.set_shape((4, 8, 8, 1))
        labels.set_shape((4,))
        weights.set_shape((4,))
        return images, labels, weights

    first = start_epoch * steps
    return tf.data.Dataset.range(first, 10**6).map(batch)


def plan(watch=None, stages_=None, **options):
    values = iter(watch) if watch else None

    def score(model):
        if values is not None:
            return {"val_auc": next(values)}
        return {"val_auc": float(np.abs(model.get_weights()[0]).sum())}

    two = (Stage("top", "top", 1e-2, 2), Stage("all", "all", 1e-2, 3))
    return stages.Plan(stages_ or two, 4, batches, score, "val_auc", **options)


def run_in(folder, **options):
    return Run(folder, {"x": 1}, **options)


def test_stage_one_leaves_the_backbone_bit_for_bit_and_stage_two_moves_it(tmp_path):
    model = small_model()
    before = model.get_layer("conv1").get_weights()[0]
    one = (Stage("top", "top", 1e-2, 2),)
    model, _ = stages.train(model, CONTRACT, plan(stages_=one), run_in(tmp_path / "a"))
    np.testing.assert_array_equal(model.get_layer("conv1").get_weights()[0], before)
    two = (Stage("all", "all", 1e-2, 1),)
    model, _ = stages.train(model, CONTRACT, plan(stages_=two), run_in(tmp_path / "b"))
    assert np.abs(model.get_layer("conv1").get_weights()[0] - before).max() > 0


@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_killed_training_resumes_to_the_same_weights_and_history(
    tmp_path, killed_after
):
    whole, _ = stages.train(small_model(), CONTRACT, plan(), run_in(tmp_path / "whole"))

    class Killed(BaseException):
        pass

    done = 0
    dying = plan()

    def score(model):
        nonlocal done
        done += 1
        if done > killed_after:
            raise Killed
        return plan().score(model)

    object.__setattr__(dying, "score", score)
    with pytest.raises(Killed):
        stages.train(small_model(), CONTRACT, dying, run_in(tmp_path / "part"))
    part = run_in(tmp_path / "part", resume=True)
    resumed, state = stages.train(small_model(), CONTRACT, plan(), part, resume=True)
    assert state.epoch == 5
    for one, two in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    histories = [pd.read_csv(tmp_path / f / "history.csv").drop(columns="seconds")
                 for f in ("whole", "part")]  # fmt: skip
    pd.testing.assert_frame_equal(*histories)


def test_the_model_with_the_best_score_is_kept(tmp_path):
    run = run_in(tmp_path / "r")
    _, state = stages.train(
        small_model(), CONTRACT, plan([0.5, 0.9, 0.7, 0.8, 0.6]), run
    )
    assert (state.best, state.best_epoch) == (0.9, 2)
    best, _ = load_model(run.path("best.keras"))
    last, _ = load_model(run.path("last.keras"))
    pairs = zip(best.get_weights(), last.get_weights(), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_a_stage_ends_after_epochs_without_improvement(tmp_path):
    _, state = stages.train(
        small_model(), CONTRACT, plan([0.9, 0.5, 0.5, 0.5, 0.5], es_patience=1),
        run_in(tmp_path / "r"),
    )  # fmt: skip
    # stage 1: best at once, then one without; stage 2: its first is one without
    assert [row["stage"] for row in state.history] == ["top", "top", "all"]


def test_the_rate_is_cut_after_its_patience(tmp_path):
    one = (Stage("all", "all", 1e-2, 4),)
    _, state = stages.train(
        small_model(), CONTRACT,
        plan([0.9, 0.5, 0.5, 0.5], stages_=one, lr_patience=2), run_in(tmp_path / "r"),
    )  # fmt: skip
    rates = [row["learning_rate"] for row in state.history]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-2, 1e-3], rtol=1e-5)


def test_a_non_finite_loss_stops_with_epoch_and_step(tmp_path):
    import tensorflow as tf

    def broken(start_epoch):
        nan = tf.constant(np.nan, "float32")
        return batches(0).map(lambda x, y, w: (x, y, w * nan))

    failing = plan()
    object.__setattr__(failing, "stream", broken)
    with pytest.raises(stages.NonFiniteLoss, match="epoch 1, step 1"):
        stages.train(small_model(), CONTRACT, failing, run_in(tmp_path / "r"))


def test_a_loss_that_breaks_in_the_last_step_is_not_saved(tmp_path):
    import tensorflow as tf

    def broken(start_epoch):
        nan = tf.constant(np.nan, "float32")
        spoil = lambda n, batch: (*batch[:2], tf.where(n == 3, nan, batch[2]))  # noqa: E731
        return batches(0).enumerate().map(spoil)

    failing = plan()
    object.__setattr__(failing, "stream", broken)
    with pytest.raises(stages.NonFiniteLoss, match="epoch 1, step 4"):
        stages.train(small_model(), CONTRACT, failing, run_in(tmp_path / "r"))
    assert not (tmp_path / "r" / "last.keras").exists()


def test_dropout_differs_between_seeds_and_epochs():
    model, seen = small_model(), []
    states = [v for v in model.variables if "seed_generator" in v.path]
    for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0)):
        stages.seed_dropout(model, seed, epoch)
        seen.append(tuple(np.asarray(states[0].value).tolist()))
    assert seen[0] == seen[3] and len(set(seen)) == 3


def test_an_equal_score_is_no_better_one(tmp_path):
    one = (Stage("all", "all", 1e-2, 2),)
    todo = plan([0.9, 0.9], stages_=one)
    _, state = stages.train(small_model(), CONTRACT, todo, run_in(tmp_path / "r"))
    assert (state.best_epoch, state.since_best) == (1, 1)


def test_patience_starts_anew_with_each_stage(tmp_path):
    todo = plan([0.9, 0.5, 0.5, 0.95, 0.5], es_patience=2)
    _, state = stages.train(small_model(), CONTRACT, todo, run_in(tmp_path / "r"))
    # one stale epoch ends stage 1 of two; one more in stage 2 must not end that
    assert [row["stage"] for row in state.history] == ["top"] * 2 + ["all"] * 3


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_counters_come_back_with_a_resume(tmp_path, killed_after):
    scores = [0.9, 0.5, 0.6, 0.95, 0.4]
    options = {"lr_patience": 2, "es_patience": 4}
    whole = plan(list(scores), **options)
    _, expected = stages.train(small_model(), CONTRACT, whole, run_in(tmp_path / "w"))

    class Killed(BaseException):
        pass

    def dying():
        yield from scores[:killed_after]
        raise Killed

    part = tmp_path / "part"
    with pytest.raises(Killed):
        stages.train(small_model(), CONTRACT, plan(dying(), **options), run_in(part))
    rest = plan(scores[killed_after:], **options)
    run = run_in(part, resume=True)
    _, state = stages.train(small_model(), CONTRACT, rest, run, resume=True)
    for name, value in vars(expected).items():
        if name not in ("history", "step_seconds"):
            assert getattr(state, name) == value, name


def test_weight_decay_enters_the_loss_of_its_stage(tmp_path):
    def loss(decay):
        one = (Stage("top", "top", 0.0, 1, decay),)
        name = tmp_path / f"r{decay}"
        todo = plan(stages_=one)
        _, state = stages.train(small_model(), CONTRACT, todo, run_in(name))
        return state.history[0]["loss"]

    kernel = small_model().get_layer("image_prediction").get_weights()[0]
    extra = 0.5 * float((kernel**2).sum())
    assert loss(0.5) - loss(0.0) == pytest.approx(extra, rel=0.05)


def test_the_state_lies_inside_the_one_file_that_is_renamed(tmp_path):
    run = run_in(tmp_path / "r")
    stages.train(small_model(), CONTRACT, plan(), run)
    with zipfile.ZipFile(run.path("last.keras")) as archive:
        assert json.loads(archive.read("training_state.json"))["epoch"] == 5
    assert not list(run.out.glob("*part*"))


def test_a_run_folder_is_not_overwritten_unasked(tmp_path):
    run_in(tmp_path / "r")
    with pytest.raises(RunError, match="exists already; --overwrite"):
        run_in(tmp_path / "r")


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(RunError, match="it is no run folder"):
        run_in(tmp_path, overwrite=True)
    assert (tmp_path / "precious.txt").exists()


def test_steps_of_an_epoch_are_rounded_up(image_set):
    from dm_training.samples import read_samples

    samples = read_samples(image_set, "train", classes=("neg", "pos"))
    assert datasets.steps_per_epoch(samples, 3) == 3  # 8 images


def test_several_steps_a_call_change_neither_weights_nor_history(tmp_path):
    results = []
    for wanted in (1, 3):  # of 4 steps an epoch, 2 at a time are the most that divide
        run = run_in(tmp_path / f"r{wanted}")
        todo = plan(steps_per_execution=wanted)
        results.append(stages.train(small_model(), CONTRACT, todo, run))
    (one, first), (two, second) = results
    assert two.steps_per_execution == 2
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for row, other in zip(first.history, second.history, strict=True):
        row.pop("seconds"), other.pop("seconds")
        assert row == pytest.approx(other)


def test_a_history_that_a_kill_left_short_is_made_whole(tmp_path):
    run = run_in(tmp_path / "r")
    stages.train(small_model(), CONTRACT, plan(), run)
    path = run.path("history.csv")
    pd.read_csv(path).iloc[:-1].to_csv(path, index=False)
    again = run_in(tmp_path / "r", resume=True)
    stages.train(small_model(), CONTRACT, plan(), again, resume=True)
    assert pd.read_csv(path)["epoch"].tolist() == [1, 2, 3, 4, 5]
