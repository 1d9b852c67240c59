"""This project's training stream, as a candidate and as a program of its own.

    python -m dm_training.benchmark.our_stream FOLDER --size H W --cache CACHE

goes once through a folder and prints a line of JSON: how many images, in how long.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Iterator

from dm_training.benchmark.synthetic import CLASSES

VARIANTS = ("memory", "cache", "files")


def make_stream(config: dict):
    """The stream that a training is fed from.

    Args:
        config: `folder` (class folders), `height`, `width`, `batch`, `variant` (one of
            `VARIANTS`) and, for "cache", the folder `cache`.

    Returns:
        The samples and the data set of (images, labels, weights).

    Raises:
        ImportError: This version has no pixel cache.
    """
    from dm_training.datasets import make_training_dataset
    from dm_training.image_store import ImageStore
    from dm_training.samples import read_samples

    samples = read_samples(config["folder"], "train", classes=CLASSES)
    options = {"in_memory": config["variant"] == "memory"}
    if config["variant"] == "cache":
        if "cache" not in inspect.signature(ImageStore).parameters:
            raise ImportError("this version has no pixel cache")
        options["cache"] = config["cache"]
    size = {"height": config["height"], "width": config["width"]}
    store = ImageStore(samples, **size, **options)
    stream = make_training_dataset(samples, store, batch_size=config["batch"], seed=1)
    return samples, stream


def batches(config: dict) -> Iterator:
    """A candidate (`candidates.Candidate`); `config` as for `make_stream`."""
    _, stream = make_stream(config)
    endless = iter(stream)
    first = next(endless)[0]
    yield {"shape": list(first.shape), "dtype": first.dtype.name}
    for images, _, _ in endless:
        yield int(images.shape[0])


def main(argv: list[str] | None = None) -> int:
    """One pass over a folder, the making of the pixel cache included."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, nargs=2, required=True)
    parser.add_argument("--cache", help="folder of the pixel cache")
    parser.add_argument("--batch", type=int, default=8)
    parsed = parser.parse_args(argv)
    began = time.perf_counter()
    samples, stream = make_stream({
        "folder": parsed.folder, "height": parsed.size[0], "width": parsed.size[1],
        "batch": parsed.batch, "cache": parsed.cache,
        "variant": "cache" if parsed.cache else "files",
    })  # fmt: skip
    ready, seen = time.perf_counter(), 0
    for images, _, _ in stream.take(-(-len(samples) // parsed.batch)):
        seen += int(images.shape[0])
    ended = time.perf_counter()
    print(json.dumps({"images": seen, "prepare": ready - began, "read": ended - ready}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
