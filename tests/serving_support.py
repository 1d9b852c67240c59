"""A small whole-image model and its export, which several tests of exports share."""

import keras
import numpy as np

from dm_models.decision import Decision, store_decision
from dm_models.export import main
from dm_models.inputs import InputContract, grey_input
from dm_models.weights import save_model

SIZE = (40, 32)
DECISIONS = {
    1: Decision(0.5, temperature=1.7, rule="youden"),
    4: Decision(0.4, temperature=0.6, rule="youden", flips=4),
}


def small_contract(**changes) -> InputContract:
    """A whole-image contract of 40 x 32."""
    given = {"mean": 40.0, "height": SIZE[0], "width": SIZE[1],
             "class_names": ("neg", "pos"), "grey_stats": {"mean": 40.0}}  # fmt: skip
    return InputContract("resnet50", **{**given, **changes})


def small_model(contract: InputContract, *, seed: int = 3) -> keras.Model:
    """Two convolutions, an averaged map, one Dense; scores that differ by image."""
    keras.utils.set_random_seed(seed)
    inputs, x = grey_input(contract)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="c1")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="c2")(x)
    x = keras.layers.GlobalAveragePooling2D(name="averaged")(x)
    count = max(len(contract.class_names), 1)
    scores = keras.layers.Dense(count, activation="softmax", name="top")(x)
    model = keras.Model(inputs, scores, name="small")
    top = model.get_layer("top")
    top.set_weights([top.get_weights()[0] / 4, np.linspace(2.0, -2.0, count)])
    return model


def save_small(folder, contract=None, decisions=DECISIONS):
    """Write small.keras with its decisions; returns its path."""
    contract = contract or small_contract()
    path = save_model(small_model(contract), folder / "small.keras", contract)
    for decision in decisions.values():
        store_decision(path, decision)
    return path


def export_small(folder, *options, **saved):
    """Export a small model; returns (.keras, folder of versions)."""
    path, out = save_small(folder, **saved), folder / "models" / "small"
    assert main([str(path), "--out", str(out), *map(str, options)]) == 0
    return path, out


def mammogram(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint16 (H, W): tissue with noise, darker by seed; black air at the right."""
    random = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    breast = np.clip(1 - cols / width * 1.4, 0, 1) * (1 + 0.3 * np.sin(rows / 5))
    noise = random.integers(0, 6000, (height, width))
    grey = breast * 40000 / (seed % 3 + 1) + noise
    return np.where(breast > 0, grey, 0).astype(np.uint16)
