"""Time and peak memory of a training step of the paper's best rows.

    python tests/benchmarks/network_steps.py [--batch 2] [--checkpointing] [RECIPE ...]

Each row runs in a process of its own at 1152 x 896, all layers trained by Adam; memory
is the process's, or the GPU's where there is one, on Keras's TensorFlow or JAX. The
first step, which also traces, is left out. With --checkpointing each row runs plain and
with gradient checkpointing, alternately, and the ratios are printed: absolute times
drift on a shared machine, ratios within one run much less.
"""

import argparse
import json
import subprocess
import sys

ROWS = 8


def best_rows():
    """The eight rows of Tables 2 and 3 with the highest AUC, then augmented AUC."""
    from dm_models.published import IMAGE_ROWS

    known = [row for row in IMAGE_ROWS if row.auc is not None]
    known.sort(key=lambda row: (-row.auc, -(row.augmented_auc or 0)))
    return [row.name for row in known[:ROWS]]


def measure(name, batch, height, width, steps, checkpointing, precision):
    """Seconds a step, and the highest memory of the process or the GPU in GiB."""
    import time

    import keras
    import numpy as np

    from dm_models.backbones import get_backbone
    from dm_models.checkpointing import checkpoint
    from dm_models.patch_classifier import build_patch_classifier
    from dm_models.whole_image import build_whole_image
    from dm_training.estimate import used_bytes

    keras.mixed_precision.set_dtype_policy(precision)
    net, _, top = name.split("-", 2)
    contract = get_backbone(net).contract(height=224, width=224)
    patch_model = build_patch_classifier(net, contract=contract)
    model = build_whole_image(patch_model, contract, top, height=height, width=width)
    if checkpointing:
        checkpoint(model)
    model.compile(
        keras.optimizers.Adam(1e-5),
        "sparse_categorical_crossentropy",
        jit_compile=keras.backend.backend() == "jax",
    )
    levels = np.random.default_rng(0).integers(0, 65536, (batch, height, width, 1))
    images, labels = levels.astype(np.float32), np.arange(batch) % 2
    model.train_on_batch(images, labels)
    began = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(images, labels)
    seconds = (time.perf_counter() - began) / steps
    gib = used_bytes() / 2**30
    return {"seconds": seconds, "gib": gib, "parameters": model.count_params()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", nargs="*")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--height", type=int, default=1152)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--one", choices=("plain", "checkpointed"))
    args = parser.parse_args()
    size = (args.batch, args.height, args.width, args.steps)
    if args.one:
        checkpointed = args.one == "checkpointed"
        found = measure(args.recipe[0], *size, checkpointed, args.precision)
        print("RESULT " + json.dumps(found))
        return
    print(f"batch {args.batch}, {args.height} x {args.width}, {args.steps} steps each")
    ways = ("plain", "checkpointed") if args.checkpointing else ("plain",)
    for name in args.recipe or best_rows():
        found = {way: in_a_process(name, args, way) for way in ways}
        plain = found["plain"]
        line = f"{name:<44} {plain['seconds']:6.2f} s {plain['gib']:6.2f} GiB"
        if args.checkpointing:
            other = found["checkpointed"]
            line += f" | checkpointed {other['seconds']:6.2f} s {other['gib']:6.2f} GiB"
            line += f" | time x {other['seconds'] / plain['seconds']:.2f}"
            line += f", memory x {other['gib'] / plain['gib']:.2f}"
        print(line, flush=True)


def in_a_process(name, args, way):
    command = [
        sys.executable, __file__, name, "--one", way, "--batch", args.batch,
        "--height", args.height, "--width", args.width, "--steps", args.steps,
        "--precision", args.precision,
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=True
    )
    line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


if __name__ == "__main__":
    main()
