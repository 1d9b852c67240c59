"""Where the patch classifier sees a malignant lesion, drawn over whole images.

    python -m dm_training.overlays PATCH.keras images.csv --out DIR

The patch net is applied at every position of the image (Shen et al. 2.1); the map
shows the probability of the two malignant classes together.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dm_preprocess import images as pixels
from dm_preprocess import tables
from dm_training.samples import SamplesError

MALIGNANT = ("calc_mal", "mass_mal")


def malignancy_map(model, contract, image: np.ndarray) -> np.ndarray:
    """The probability of a malignant lesion around each position of an image.

    Args:
        model: `build_heatmap(patch_model, pool=...)`, softmax.
        contract: The patch model's contract.
        image: uint16 (H, W).

    Returns:
        float32 (h, w) in [0, 1], over the whole image on the grid of the feature map;
        where no whole patch fits, the nearest position's value.
    """
    wanted = [contract.class_names.index(name) for name in MALIGNANT]
    grey = image[None, ..., None].astype(np.float32)
    heat = np.asarray(model(grey, training=False))[0][..., wanted].sum(axis=-1)
    rows, cols = _pool_of(model)
    rim = [((n - 1) // 2, n // 2) for n in (rows, cols)]
    return np.clip(np.pad(heat, rim, mode="edge"), 0.0, 1.0)


def write_overlays(
    patch_model, contract, images_csv: Path, out: Path, *, lesions_csv=None,
    number: int = 6, split: str = "test",
) -> list[Path]:  # fmt: skip
    """Draw maps over the first images of each label.

    Args:
        patch_model: A patch classifier.
        contract: Its contract, with the patch size.
        images_csv: Which images.
        out: Folder for the PNGs.
        lesions_csv: Outlined lesions to frame; None for none.
        number: How many images, half of them positive.
        split: Of which split.

    Raises:
        SamplesError: No labelled image in that split.
    """
    from dm_models.backbones import get_backbone
    from dm_models.heatmap import build_heatmap
    from dm_training import plots

    net = get_backbone(contract.backbone)
    side = (net.map_size(contract.height), net.map_size(contract.width))
    model = build_heatmap(patch_model, pool=side)
    written = []
    for row in _chosen(images_csv, split, number).itertuples():
        image = pixels.read_png(tables.resolve(row.path, images_csv))
        written.append(plots.overlay_heatmap(
            image, malignancy_map(model, contract, image),
            out / f"{row.image_id}.png", boxes=_boxes(lesions_csv, row.image_id),
            title=f"{row.image_id}, {tables.IMAGE_CLASSES[int(row.label)]}",
            label="probability of a malignant lesion"))  # fmt: skip
    return written


def _pool_of(model) -> tuple[int, int]:
    return tuple(model.get_layer("heatmap_pool").pool_size)


def _chosen(images_csv: Path, split: str, number: int):
    import pandas as pd

    frame = tables.read_images(images_csv)
    frame = frame[(frame["split"] == split) & frame["label"].notna()]
    parts = [frame[frame["label"] == k].head(number // 2) for k in (1, 0)]
    chosen = pd.concat(parts)
    if chosen.empty:
        raise SamplesError(f"{images_csv}: no labelled image of split {split!r}")
    return chosen


def _boxes(lesions_csv, image_id: str) -> list[tuple]:
    if lesions_csv is None:
        return []
    frame = tables.read_lesions(lesions_csv)
    corners = ["row0", "col0", "row1", "col1"]
    found = frame.loc[frame["image_id"] == image_id, corners].dropna()
    return [tuple(int(v) for v in row) for row in found.to_numpy()]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; exit status 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("patch_model", help="a patch classifier (.keras)")
    parser.add_argument("images", type=Path, help="images.csv")
    parser.add_argument("--lesions", type=Path, help="lesions.csv, to frame lesions")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--number", type=int, default=6)
    parser.add_argument("--split", default="test", choices=tables.SPLITS)
    options = parser.parse_args(argv)
    from dm_models.weights import ModelFileError, load_model

    try:
        model, contract = load_model(options.patch_model)
        if not set(MALIGNANT) <= set(contract.class_names):
            raise ModelFileError(f"{options.patch_model}: not a patch classifier")
        written = write_overlays(
            model, contract, options.images, options.out, number=options.number,
            lesions_csv=options.lesions, split=options.split)  # fmt: skip
    except (ModelFileError, SamplesError, tables.TableError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{len(written)} heat maps -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
