"""How often a map's hottest place lies in an outlined lesion, against chance.

    python -m dm_training.localisation --patch-model PATCH.keras --model WHOLE.keras \\
        images.csv lesions.csv --split test --out DIR

The measure is the pointing game (Zhang et al.): of each positive image with an outlined
lesion, the pixel at which the map's hottest cell looks is a hit where it lies in a
lesion's mask (its box, where it has no mask). Chance is what a pixel drawn at random
from the image's breast would hit: the lesions' share of the breast's area. No margin is
given, so a coarse map pays for its coarseness: where a lesion is smaller than the step
from cell to cell, no cell may look into it. The step stands beside the figures, and
how far the hottest pixel was from the nearest lesion stands in the table.

A map that is the same everywhere has no hottest place and counts as a miss.

Source:
    Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018.
    The interval: Rao and Scott, A simple method for the analysis of clustered binary
    data, Biometrics 1992, on Wilson's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import images as pixels
from dm_preprocess import tables
from dm_training.image_maps import ImageMap, MapError
from dm_training.outlines import Outline, Outlines

FORMAT = 1
LESIONS = ("any", "malignant")
_Z = 1.959963984540054


class LocalisationError(ValueError):
    """Nothing can be measured here; the message says why."""


def localise(
    image_map: ImageMap, outlines: Sequence[Outline], breast: np.ndarray
) -> dict:
    """Look where one image's map points.

    Args:
        image_map: The map.
        outlines: The image's lesions, at least one.
        breast: bool (H, W), `dm_preprocess.images.breast_mask`; where it is empty, the
            whole image counts as breast.

    Returns:
        `map`, the hottest pixel (`row`, `col`; None without one), `step_rows` and
        `step_cols`; then of all lesions and of malignant ones, `hit_any`, `chance_any`,
        `distance_any` (pixels to the nearest lesion's edge, 0 within) and so on; None
        where the image has no malignant outline.
    """
    place = image_map.hottest(*breast.shape)
    row, col = place or (None, None)
    (_, down), (_, across) = image_map.centres
    found = {"map": image_map.kind, "row": row, "col": col,
             "step_rows": down, "step_cols": across}  # fmt: skip
    for name in LESIONS:
        masks = [each.mask for each in outlines if each.malignant or name == "any"]
        lesions = np.any(masks, axis=0) if masks else None
        found |= {
            f"hit_{name}": None if lesions is None else bool(place and lesions[place]),
            f"chance_{name}": None if lesions is None else _share(lesions, breast),
            f"distance_{name}": _distance(lesions, place),
        }
    return found


def localisation(rows: pd.DataFrame, *, split: str = "test") -> dict:
    """Figures of each map over its images.

    Args:
        rows: A row an image and map: `patient_id` and what `localise` gives.
        split: Goes into the figures.

    Returns:
        Map -> {"any": figure, "any_chance": mean chance of the same images,
        "malignant": ..., "malignant_chance": ..., "step": [rows, columns] (of the first
        image), "without_maximum": images}; None for both where no image has such a
        lesion.
    """
    found = {}
    for kind, of_kind in rows.groupby("map", sort=False):
        first = of_kind.iloc[0]
        found[kind] = {
            "step": [float(first["step_rows"]), float(first["step_cols"])],
            "without_maximum": int(of_kind["row"].isna().sum()),
        }
        for name in LESIONS:
            counted = of_kind[of_kind[f"hit_{name}"].notna()]
            found[kind][name] = _figure(counted, f"hit_{name}", split)
            chance = counted[f"chance_{name}"].astype(float).mean()
            found[kind][f"{name}_chance"] = float(chance) if len(counted) else None
    return found


def clustered_share(hits, groups) -> tuple[float, float, float]:
    """A share of images that come in groups, with a 95 % interval.

    The images of one woman resemble each other, so that n images are worth fewer. Rao
    and Scott's design effect says how many fewer, and Wilson's interval is taken for
    the images that are left; where all or none hit, or there are fewer women than two,
    the design effect cannot be seen, and each woman counts as one image. Simulated
    (one, two or four images a woman, alike by 0, 0.5 and 1, share 0.1 to 0.9) it covers
    92-97 % with 40 or 100 women, and 89-98 % with 15.

    Args:
        hits: (N,) bool.
        groups: (N,) the woman of each image; None takes the images as independent.

    Returns:
        (value, low, high).

    Raises:
        LocalisationError: No image.
    """
    hits = np.asarray(hits, bool)
    if not hits.size:
        raise LocalisationError("a share of no images was asked for")
    value, n = float(hits.mean()), float(hits.size)
    if groups is not None:
        n /= _design_effect(hits, np.asarray(groups))
    centre, spread = value + _Z**2 / (2 * n), value * (1 - value) / n
    half = _Z * np.sqrt(spread + _Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + _Z**2 / n), (centre + half) / (1 + _Z**2 / n)
    return value, float(max(low, 0.0)), float(min(high, 1.0))


def localise_images(
    mappers: Sequence[Callable[[np.ndarray], ImageMap]], images_csv: Path,
    lesions_csv: Path, *, split: str = "test",
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[pd.DataFrame, dict]:  # fmt: skip
    """Localise the positive images of a split.

    Args:
        mappers: What `image_maps.patch_mapper` and `cam_mapper` make.
        images_csv: The images.
        lesions_csv: Their lesions.
        split: Which images.
        progress: Is told what is done, now and then.

    Returns:
        (rows for `localisation`, what was left out: `not_positive` and `no_outline`
        as counts, `failed` as {image_id: reason}).

    Raises:
        LocalisationError: No positive image of the split has an outlined lesion.
        TableError: A table that breaks a rule.
    """
    frame, outlines = tables.read_images(images_csv), Outlines(lesions_csv)
    frame = frame[frame["split"] == split]
    positive = frame[frame["label"] == 1]
    left_out = {"not_positive": len(frame) - len(positive), "no_outline": 0}
    rows, failed = [], {}
    for number, row in enumerate(positive.itertuples(), start=1):
        try:
            image = pixels.read_png(tables.resolve(row.path, images_csv))
            lesions = outlines.of(row.image_id, image.shape)
            found = _rows_of(mappers, image, lesions) if lesions else []
        except (OSError, pixels.ImageError, MapError) as err:
            failed[row.image_id] = str(err)
            continue
        left_out["no_outline"] += not lesions
        ids = {"image_id": row.image_id, "patient_id": row.patient_id}
        rows += [ids | each for each in found]
        if number % 20 == 0:
            progress(f"{number} of {len(positive)} images")
    if not rows:
        raise LocalisationError(
            f"{images_csv}: no positive image of split {split!r} has an outlined lesion"
            f" that can be used ({len(positive)} positive, {len(failed)} unreadable)"
        )
    return pd.DataFrame(rows), left_out | {"failed": failed}


def write_localisation(
    rows: pd.DataFrame, left_out: Mapping, out: Path, *, split: str = "test"
) -> dict:
    """Write localisation.json and localisation.csv; return what the JSON holds."""
    found = {
        "format": FORMAT, "split": split,
        "definition": "hit: the pixel at which the map's hottest cell looks lies in a "
        "lesion's mask (box without one); chance: the lesions' share of the breast",
        "interval": "95 %, Wilson, images of a woman by Rao and Scott's design effect",
        "left_out": dict(left_out), "maps": localisation(rows, split=split),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    _renamed(out / "localisation.csv", rows.to_csv(index=False))
    _renamed(out / "localisation.json", json.dumps(found, indent=2) + "\n")
    return found


def _rows_of(mappers, image: np.ndarray, lesions: Sequence[Outline]) -> list[dict]:
    breast = pixels.breast_mask(image)
    return [localise(mapped(image), lesions, breast) for mapped in mappers]


def _share(lesions: np.ndarray, breast: np.ndarray) -> float:
    breast = breast if breast.any() else np.ones_like(lesions)
    return float((lesions & breast).sum() / breast.sum())


def _distance(lesions: np.ndarray | None, place) -> float | None:
    if lesions is None or place is None:
        return None
    return float(np.hypot(*(np.argwhere(lesions) - place).T).min())


def _figure(counted: pd.DataFrame, column: str, split: str) -> dict | None:
    from dm_training import metrics

    if not len(counted):
        return None
    women = counted["patient_id"] if (counted["patient_id"] != "").all() else None
    share = clustered_share(counted[column].astype(bool), women)
    n = len(counted)
    return metrics.figure(*share, n=n, positives=n, level="image", split=split)


def _design_effect(hits: np.ndarray, groups: np.ndarray) -> float:
    """How many times the variance of a share of independent images this one has."""
    _, codes = np.unique(groups, return_inverse=True)
    sizes, sums = np.bincount(codes), np.bincount(codes, weights=hits)
    women, n, value = len(sizes), len(hits), hits.mean()
    if women < 2 or value in (0.0, 1.0):
        return n / women
    apart = ((sums - value * sizes) ** 2).sum() * women / (women - 1)
    return max(1.0, apart / (n * value * (1 - value)))


def _renamed(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0, 1 (some images failed) or 2 (bad input)."""
    options = _parser().parse_args(argv)
    from dm_models.weights import ModelFileError

    out = options.out / "localisation.json"
    if out.exists() and not options.overwrite:
        return _refused(f"{out}: exists already; --overwrite replaces it")
    if not (options.patch_model or options.model):
        return _refused("give --patch-model, --model, or both")
    try:
        rows, left_out = localise_images(
            _mappers(options), options.images, options.lesions, split=options.split,
            progress=lambda text: print(text, file=sys.stderr),
        )  # fmt: skip
        found = write_localisation(rows, left_out, options.out, split=options.split)
    except (LocalisationError, MapError, ModelFileError, tables.TableError) as err:
        return _refused(str(err))
    for image_id, reason in left_out["failed"].items():
        print(f"failed: {image_id}: {reason}", file=sys.stderr)
    print("\n".join(_lines(found)))
    print(f"Wrote localisation.json and localisation.csv to {options.out}")
    return 1 if left_out["failed"] else 0


def _mappers(options) -> list[Callable]:
    from dm_models.weights import load_model
    from dm_training.overlays import make_mapper

    mappers = []
    for path, kind in ((options.patch_model, "patch"), (options.model, "grad-cam")):
        if path is None:
            continue
        layer = options.layer if kind == "grad-cam" else None
        try:
            mappers.append(make_mapper(*load_model(path), kind=kind, layer=layer))
        except MapError as err:
            raise MapError(f"{path}: {err}") from err
    return mappers


def _lines(found: Mapping) -> list[str]:
    from dm_training.report_parts import format_figure

    lines = []
    for kind, of_kind in found["maps"].items():
        for name in LESIONS:
            if of_kind[name] is not None:
                shown = format_figure(of_kind[name], "")
                lesions = "a lesion" if name == "any" else "a malignant lesion"
                lines.append(f"{kind} hits {lesions}: {shown}; "
                             f"chance {of_kind[name + '_chance']:.2f}")  # fmt: skip
    return lines


def _refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("images", type=Path, help="images.csv")
    parser.add_argument("lesions", type=Path, help="lesions.csv, outlines of lesions")
    parser.add_argument("--patch-model", help="a patch classifier: its heat map")
    parser.add_argument("--model", help="a whole-image classifier: its Grad-CAM")
    parser.add_argument("--layer", help="Grad-CAM's layer (default: the last map)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--split", default="test", choices=tables.SPLITS)
    parser.add_argument(
        "--overwrite", action=argparse.BooleanOptionalAction, default=False
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
