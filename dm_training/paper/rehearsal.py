"""Builds the real network of each row and takes one training step with it.

    python -m dm_training.paper.rehearsal ROW ... --out DIR --size 384 288

What a demo does not train it does at least build: ResNet50 or VGG16 with the row's own
top, from random weights, on noise, all layers learning at the rate of the recipe's last
stage. That the loss is finite and the first convolution moves says that the row can be
trained here; it says nothing of its AUC.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FILE = "rehearsal.json"
FORMAT = 1
_BATCH = 2
_FULL_SCALE, _MEAN = 65535.0, 52.18


def rehearse(row: str, *, size: tuple[int, int], patch_size: int, seed: int) -> dict:
    """Build a row's network and take one step.

    Args:
        row: `NET-SET`, `NET-SET-random` or `NET-SET-TOP`.
        size: Rows and columns of whole images.
        patch_size: Side of a patch.
        seed: Of weights and noise.

    Returns:
        `net`, `weights` (how many numbers), `input` (rows, columns), `loss`, `finite`,
        `moved` (the first convolution changed) and `seconds`.
    """
    import keras
    import numpy as np

    keras.utils.set_random_seed(seed)
    began = time.perf_counter()
    model, rate, classes = _build(row, size, patch_size)
    model.compile(
        optimizer=keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy",
        run_eagerly=keras.backend.backend() == "tensorflow", jit_compile="auto",
    )  # fmt: skip
    height, width = (size if classes == 2 else (patch_size, patch_size))
    rng = np.random.default_rng(seed)
    grey = rng.uniform(0, _FULL_SCALE, (_BATCH, height, width, 1)).astype(np.float32)
    first = next(w for w in model.trainable_weights if len(w.shape) == 4)
    before = keras.ops.convert_to_numpy(first.value).copy()
    loss = float(model.train_on_batch(grey, np.arange(_BATCH) % classes))
    moved = bool((keras.ops.convert_to_numpy(first.value) != before).any())
    return {
        "net": row.split("-")[0], "weights": int(model.count_params()),
        "input": [height, width], "loss": loss, "finite": bool(np.isfinite(loss)),
        "moved": moved, "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def _build(row: str, size: tuple[int, int], patch_size: int):
    """(network, learning rate, number of classes) of a row."""
    from dm_models.patch_classifier import build_patch_classifier
    from dm_models.published import patch_row
    from dm_models.whole_image import build_whole_image
    from dm_training import recipes

    is_patch = patch_row(row) is not None
    if is_patch:
        recipe = recipes.parse_patch_recipe(row)
    else:
        recipe = recipes.image_recipe(row)
    contract = _contract(recipe.backbone, patch_size)
    model = build_patch_classifier(
        recipe.backbone, contract=contract, num_classes=len(contract.class_names)
    )
    rate = recipe.stages[-1].learning_rate
    if is_patch:
        return model, rate, len(contract.class_names)
    whole = build_whole_image(
        model, contract, recipe.top, num_classes=2, height=size[0], width=size[1]
    )
    return whole, rate, 2


def _contract(net: str, patch_size: int):
    from dm_models.backbones import get_backbone
    from dm_preprocess.tables import PATCH_CLASSES

    contract = get_backbone(net).contract(
        class_names=PATCH_CLASSES, height=patch_size, width=patch_size
    )
    return contract.replace(mean=_MEAN) if contract.uses_mean else contract


def rehearse_all(
    names: Sequence[str], out: Path, *, size: tuple[int, int], patch_size: int,
    seed: int = 0,
) -> dict[str, dict]:  # fmt: skip
    """Rehearse rows, each once: what the folder holds already is kept.

    Args:
        names: Rows.
        out: Gets rehearsal.json, written anew after each row.

    Returns:
        Row -> what `rehearse` found.
    """
    import keras

    from dm_training.runs import read_json, write_json

    path = out / FILE
    found = read_json(path)["rows"] if path.is_file() else {}
    for name in names:
        if name in found:
            continue
        found[name] = rehearse(name, size=size, patch_size=patch_size, seed=seed)
        keras.backend.clear_session()
        write_json(path, {"format": FORMAT, "rows": found})
        print(_words(name, found[name]), flush=True)
    return found


def _words(name: str, one: dict) -> str:
    return (
        f"{name}: {one['weights']:,} weights, one step on {one['input'][0]} x "
        f"{one['input'][1]}, loss {one['loss']:.3f}, {one['seconds']:.1f} s"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 where a loss is no number or nothing was learned."""
    parser = argparse.ArgumentParser(
        prog="python -m dm_training.paper.rehearsal", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    flag = parser.add_argument
    flag("rows", nargs="+", help="rows of Tables 1 to 3, by recipe name")
    flag("--out", type=Path, required=True)
    flag("--size", type=int, nargs=2, default=(384, 288), metavar=("H", "W"))
    flag("--patch-size", type=int, default=64)
    flag("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    found = rehearse_all(
        options.rows, options.out, size=tuple(options.size),
        patch_size=options.patch_size, seed=options.seed,
    )  # fmt: skip
    bad = [n for n in options.rows if not (found[n]["finite"] and found[n]["moved"])]
    for name in bad:
        print(f"error: {name}: {_words(name, found[name])}: cannot be trained",
              file=sys.stderr)  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
