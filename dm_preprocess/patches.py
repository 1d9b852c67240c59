"""Patches for the patch classifier: drawn in `boxes`, cut and written here.

S1 takes one patch centred on each region and one of background; S10 ten around each
region and ten of background; sN any number, drawn as in S10. Three things differ from
the authors' sampler, which checks background against one region only, lets a fifth of
it be black air, and uses one seed for all images, so that offsets repeat: background
here touches none of the image's regions, lies on the breast, and every image has its
own seed, made of the run's seed and the image's id. So neither the other images of the
table nor who does the work (`--jobs`, `--dask`: see `parallel`) changes an image's
patches.

Source: Shen et al. 3.1.1.

    python -m dm_preprocess.patches split/images.csv data/lesions.csv \\
        --out patches --recipe s10
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import boxes, tables
from dm_preprocess.parallel import (
    Mapped,
    Workers,
    WorkersLost,
    add_worker_arguments,
    cost_line,
    map_in_order,
    open_workers,
)
from dm_preprocess.regions import (
    Image,
    Lesion,
    PatchError,
    list_images,
    missing_masks,
    patch_class,
    read_region,
)

__all__ = [
    "Image", "Lesion", "PatchError", "Recipe", "image_seed", "list_images", "main",
    "missing_masks", "parse_recipe", "patch_class", "sample_image", "sample_images",
]  # fmt: skip
SIZE, SEED = 224, 12345


@dataclass(frozen=True)
class Recipe:
    """What is taken from an image.

    Attributes:
        per_region: Patches of each region, and of background for each region.
        size: Side of a patch in working pixels.
        seed: The run's seed.
        normal_background: Patches of background from an image without a lesion.
        allow_missing_masks: Skip lesions without a mask instead of raising.
    """

    per_region: int = 10
    size: int = SIZE
    seed: int = SEED
    normal_background: int = 0
    allow_missing_masks: bool = False


def parse_recipe(name: str) -> int:
    """Patches a region of "s1", "s10" or any "sN"; ValueError for other text."""
    found = re.fullmatch(r"[sS]([1-9]\d*)", name)
    if not found:
        raise ValueError(f"recipe must be s1, s10 or sN with N > 0, received {name!r}")
    return int(found[1])


def image_seed(seed: int, image_id: str) -> int:
    """An image's own seed: the same wherever and beside whatever it is sampled."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def sample_image(image: Image, recipe: Recipe, folder: Path) -> list[dict]:
    """Draw, cut and write the patches of one image.

    Args:
        image: The image and its lesions.
        recipe: What to take.
        folder: Gets `<split>/<class>/<patch_id>.png`.

    Returns:
        Rows of `patches.csv`. A lesion whose place is not known gives none, and its
        image no background either, which might show that lesion.

    Raises:
        PatchError: A mask of another size, an empty one, or an image smaller than a
            patch; image and file are named.
    """
    from dm_preprocess.images import breast_mask, read_png

    if not image.lesions and not recipe.normal_background:
        return []
    pixels = read_png(image.path)
    masks = [read_region(image, lesion, pixels.shape) for lesion in image.lesions]
    breast = breast_mask(pixels)
    rng = np.random.default_rng(image_seed(recipe.seed, image.image_id))
    try:
        rows = _region_rows(image, breast, masks, recipe, rng)
        if all(mask is not None for mask in masks):
            rows += _background_rows(image, breast, masks, recipe, rng)
    except boxes.BoxError as err:
        raise PatchError(f"image {image.image_id} ({image.path}): {err}") from err
    for row in rows:
        _cut(pixels, row, recipe.size, folder)
    return rows


def sample_images(
    images: list[Image], recipe: Recipe, folder: Path, workers: Workers | None = None
) -> tuple[pd.DataFrame, Mapped]:
    """`sample_image` for all images: the rows in table order, and what it took.

    Args:
        images: Of `list_images`.
        recipe: What to take.
        folder: Gets the patches.
        workers: Who does the work (`parallel.open_workers`); None for all cores.

    Raises:
        PatchError: As `sample_image`, or no image gives a patch.
        WorkersLost: The work was broken off.
    """
    work = partial(sample_image, recipe=recipe, folder=folder.absolute())
    mapped = map_in_order(work, images, workers or Workers(), what="patches")
    rows = [row for part in mapped.results for row in part]
    if not rows:
        raise PatchError("no patch could be taken: no image in a split has a lesion")
    return pd.DataFrame(rows), mapped


def main(argv: list[str] | None = None) -> int:
    """Sample patches from a split data set; see `--help`."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except WorkersLost as err:
        print(f"error: {err}; stopped: nothing is written", file=sys.stderr)
        return 1


def _region_rows(image: Image, breast, masks, recipe: Recipe, rng) -> list[dict]:
    rows = []
    for at, (lesion, mask) in enumerate(zip(image.lesions, masks, strict=True)):
        if mask is None:
            continue
        if recipe.per_region == 1:
            drawn, note = boxes.centre_box(mask, recipe.size), ""
        else:
            drawn = boxes.sample_region_boxes(
                mask, recipe.per_region, recipe.size, rng, breast=breast
            )
            note = _relaxed("overlap", drawn.cut_off, boxes.MIN_OVERLAP)
        shares = boxes.overlap_shares(mask, drawn.corners, recipe.size)
        for n, (corner, *pair) in enumerate(zip(drawn.corners, *shares, strict=True)):
            rows.append(_row(image, f"r{at}_{n}", lesion, corner, pair, note))
    return rows


def _background_rows(image: Image, breast, masks, recipe: Recipe, rng) -> list[dict]:
    wanted = recipe.per_region * len(masks) or recipe.normal_background
    regions = np.zeros(breast.shape, bool)
    for mask in masks:
        regions |= mask
    drawn = boxes.sample_background_boxes(regions, breast, wanted, recipe.size, rng)
    note = _relaxed("share of breast", drawn.cut_off, boxes.MIN_ON_BREAST)
    nothing = Lesion("", "background", None)
    return [
        _row(image, f"bg_{n}", nothing, corner, (0.0, 0.0), note)
        for n, corner in enumerate(drawn.corners)
    ]


def _relaxed(what: str, cut_off: float, asked: float) -> str:
    return f"{what} relaxed to {cut_off:g}" if cut_off < asked else ""


def _row(image: Image, tail: str, lesion: Lesion, corner, shares, note: str) -> dict:
    patch_id = f"{image.image_id}_{tail}"
    return {
        "patch_id": patch_id,
        "image_id": image.image_id,
        "patient_id": image.patient_id,
        "lesion_id": lesion.lesion_id,
        "split": image.split,
        "class": lesion.patch_class,
        "row0": int(corner[0]),
        "col0": int(corner[1]),
        "overlap_region": round(float(shares[0]), 4),
        "overlap_patch": round(float(shares[1]), 4),
        "path": f"{image.split}/{lesion.patch_class}/{patch_id}.png",
        "note": note,
    }


def _cut(pixels: np.ndarray, row: dict, size: int, folder: Path) -> None:
    from dm_preprocess.images import write_png

    top, left = row["row0"], row["col0"]
    write_png(folder / row["path"], pixels[top : top + size, left : left + size])


def _run(options: argparse.Namespace) -> int:
    _check_free(options.out, options.overwrite)
    recipe = Recipe(
        parse_recipe(options.recipe), options.size, options.seed,
        options.background_per_normal_image, options.allow_missing_masks,
    )  # fmt: skip
    images = tables.read_images(options.images)
    lesions = tables.read_lesions(options.lesions)
    places = options.images.absolute(), options.lesions.absolute()
    listed = list_images(images, lesions, *places)
    missing = _check_masks(listed, recipe, options.lesions)
    aside = options.out.with_name(options.out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with open_workers(options.jobs, options.dask) as workers:
            aside.mkdir(parents=True)
            workers.check(listed[0].path.parent, options.lesions.parent, aside)
            frame, mapped = sample_images(listed, recipe, aside, workers)
        cost = mapped.cost([bool(rows) for rows in mapped.results])
        _finish(frame, missing, cost, options, aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _put_in_place(aside, options.out)
    print(frame.groupby(["split", "class"]).size().unstack(fill_value=0).to_string())
    print(
        f"wrote {len(frame)} patches and their contact sheets to {options.out}; "
        f"{cost_line(cost)}"
    )
    return 0


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse a folder that is there, and to replace one that is no patch folder."""
    if not out.exists():
        return
    if not overwrite:
        raise PatchError(f"{out} exists already; --overwrite replaces it")
    if not (out / "patches.csv").is_file() and (out.is_file() or any(out.iterdir())):
        raise PatchError(f"{out} holds no patches.csv, so --overwrite leaves it alone")


def _check_masks(images: list[Image], recipe: Recipe, lesions_path) -> list[str]:
    missing = missing_masks(images)
    if missing and not recipe.allow_missing_masks:
        raise PatchError(
            f"{lesions_path}: {len(missing)} lesion(s) have no mask where one is due: "
            f"{'; '.join(missing[:3])}; --allow-missing-masks goes on without them"
        )
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    return missing


def _finish(frame, missing: list[str], cost: dict, options, aside: Path) -> None:
    from dm_preprocess.contact_sheet import write_contact_sheets

    tables.write_table(frame, aside / "patches.csv", "patches")
    write_contact_sheets(frame, aside)
    facts = {
        "format": 1,
        "recipe": options.recipe.lower(),
        "size": options.size,
        "seed": options.seed,
        "background_per_normal_image": options.background_per_normal_image,
        "patches": len(frame),
        "relaxed": int((frame["note"] != "").sum()),
        "lesions_without_mask": missing,
        "cost": cost,
    }
    (aside / "sampling.json").write_text(json.dumps(facts, indent=2) + "\n")


def _put_in_place(aside: Path, out: Path) -> None:
    old = out.with_name(out.name + ".old.part")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(aside, out)
    shutil.rmtree(old, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", type=Path, help="images.csv with its splits, as dm-split writes it")
    add("lesions", type=Path, help="lesions.csv of the converted data set")
    add("--out", type=Path, required=True, help="folder for patches and their table")
    add("--recipe", default="s10", help="s1, s10 or sN (default: %(default)s)")
    add("--size", type=int, default=SIZE, help="side in pixels (default: %(default)s)")
    add("--seed", type=int, default=SEED, help="default: %(default)s")
    add("--background-per-normal-image", type=int, default=0, metavar="N",
        help="background patches of an image with no lesion (default: 0)")  # fmt: skip
    add("--allow-missing-masks", action=argparse.BooleanOptionalAction, default=False,
        help="leave lesions without a mask out instead of stopping")  # fmt: skip
    add_worker_arguments(parser)
    add("--overwrite", action=argparse.BooleanOptionalAction, default=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
