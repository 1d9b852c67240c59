"""This project's training stream, as a candidate and as a program of its own.

    python -m dm_training.benchmark.our_stream FOLDER --size H W --cache CACHE

goes once through a folder and prints a line of JSON: seconds an image.
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


def open_store(config: dict):
    """The samples of a folder and the store of their pixels.

    Args:
        config: `folder` (class folders), `height`, `width`, `variant` (one of
            `VARIANTS`) and, for "cache", the folder `cache`.

    Raises:
        ImportError: This version has no pixel cache.
    """
    from dm_training.image_store import ImageStore
    from dm_training.samples import read_samples

    samples = read_samples(config["folder"], "train", classes=CLASSES)
    options = {"in_memory": config["variant"] == "memory"}
    if config["variant"] == "cache":
        if "cache" not in inspect.signature(ImageStore).parameters:
            raise ImportError("this version has no pixel cache")
        options["cache"] = config["cache"]
    size = {"height": config["height"], "width": config["width"]}
    return samples, ImageStore(samples, **size, **options)


def make_stream(samples, store, batch: int):
    """The data set of (images, labels, weights) that a training is fed from."""
    from dm_training.datasets import make_training_dataset

    return make_training_dataset(samples, store, batch_size=batch, seed=1)


def batches(config: dict) -> Iterator:
    """A candidate; `config` as for `open_store`, and `batch`."""
    endless = iter(make_stream(*open_store(config), config["batch"]))
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
    print(json.dumps(_one_pass(parser.parse_args(argv))))
    return 0


def _one_pass(parsed: argparse.Namespace) -> dict:
    """Seconds an image to fill the store and to read it; what happens once is not in.

    That is the import of the libraries, and what the first batch waits for.
    """
    import dm_training.datasets  # noqa: F401 imported before the clock starts

    began = time.perf_counter()
    samples, store = open_store({
        "folder": parsed.folder, "height": parsed.size[0], "width": parsed.size[1],
        "cache": parsed.cache, "variant": "cache" if parsed.cache else "files",
    })  # fmt: skip
    filled = time.perf_counter()
    endless = iter(make_stream(samples, store, parsed.batch))
    next(endless)
    first, seen = time.perf_counter(), 0
    while seen < len(samples):
        seen += int(next(endless)[0].shape[0])
    read = time.perf_counter() - first
    return {"fill": (filled - began) / len(samples), "read": read / seen}


if __name__ == "__main__":
    sys.exit(main())
