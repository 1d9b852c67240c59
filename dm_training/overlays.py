"""Where a model sees a malignant lesion, drawn over whole images.

    python -m dm_training.overlays PATCH.keras images.csv --out DIR
    python -m dm_training.overlays WHOLE.keras images.csv --kind grad-cam --out DIR

The patch heat map applies the patch net at every position of the image and shows the
probability of the two malignant classes together (Shen et al. 2.1). Grad-CAM shows
where what spoke for a whole-image net's score stands. How they come to the image's
grid stands in `image_maps`; how often they point at a lesion measures `localisation`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from dm_preprocess import images as pixels
from dm_preprocess import tables
from dm_training.image_maps import LABELS, MapError
from dm_training.samples import SamplesError

KINDS = ("patch", "grad-cam")


def write_overlays(
    model, contract, images_csv: Path, out: Path, *, lesions_csv=None,
    number: int = 6, split: str = "test", kind: str = "patch", layer: str | None = None,
) -> list[Path]:  # fmt: skip
    """Draw maps over the first images of each label.

    Args:
        model: A patch classifier, or a whole-image classifier for "grad-cam".
        contract: Its contract; a patch classifier's with the patch size.
        images_csv: Which images.
        out: Folder for the PNGs.
        lesions_csv: Outlined lesions to frame; None for none.
        number: How many images, half of them positive.
        split: Of which split.
        kind: "patch" or "grad-cam".
        layer: Of Grad-CAM; None for the last map.

    Raises:
        SamplesError: No labelled image in that split.
        MapError: A model without such a map, or an image smaller than a patch.
    """
    from dm_training import image_maps, plots
    from dm_training.outlines import Outlines

    mapped = make_mapper(model, contract, kind=kind, layer=layer)
    outlines = Outlines(lesions_csv)
    written = []
    for row in _chosen(images_csv, split, number).itertuples():
        image = pixels.read_png(tables.resolve(row.path, images_csv))
        found = mapped(image)
        heat = image_maps.place_map(found.shown, found.centres, *image.shape)
        boxes = [each.box for each in outlines.of(row.image_id, image.shape)]
        written.append(plots.overlay_heatmap(
            image, heat, out / f"{row.image_id}.png", boxes=boxes,
            title=f"{row.image_id}, {tables.IMAGE_CLASSES[int(row.label)]}",
            label=LABELS[found.kind]))  # fmt: skip
    return written


def make_mapper(model, contract, *, kind: str, layer: str | None = None) -> Callable:
    """`image_maps.patch_mapper` or `image_maps.cam_mapper`, by a kind's name.

    Raises:
        MapError: An unknown kind, a layer for the patch heat map, or as those two.
    """
    from dm_training import image_maps

    if kind not in KINDS:
        raise MapError(f"kind must be one of {', '.join(KINDS)}, received {kind!r}")
    if kind == "grad-cam":
        return image_maps.cam_mapper(model, contract, layer=layer)
    if layer is not None:
        raise MapError(f"a layer is Grad-CAM's to choose, received {layer!r} for patch")
    return image_maps.patch_mapper(model, contract)


def _chosen(images_csv: Path, split: str, number: int):
    import pandas as pd

    frame = tables.read_images(images_csv)
    frame = frame[(frame["split"] == split) & frame["label"].notna()]
    parts = [frame[frame["label"] == k].head(number // 2) for k in (1, 0)]
    chosen = pd.concat(parts)
    if chosen.empty:
        raise SamplesError(f"{images_csv}: no labelled image of split {split!r}")
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "model", help="a patch classifier; a whole-image one for grad-cam (.keras)"
    )
    parser.add_argument("images", type=Path, help="images.csv")
    parser.add_argument(
        "--kind", choices=KINDS, default="patch",
        help="the patch heat map, or Grad-CAM (default: patch)",
    )  # fmt: skip
    parser.add_argument("--layer", help="Grad-CAM's layer (default: the last map)")
    parser.add_argument("--lesions", type=Path, help="lesions.csv, to frame lesions")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--number", type=int, default=6)
    parser.add_argument("--split", default="test", choices=tables.SPLITS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; exit status 0 or 2 (bad input)."""
    options = _parser().parse_args(argv)
    from dm_models.weights import ModelFileError, load_model

    try:
        model, contract = load_model(options.model)
        written = write_overlays(
            model, contract, options.images, options.out, number=options.number,
            lesions_csv=options.lesions, split=options.split, kind=options.kind,
            layer=options.layer)  # fmt: skip
    except MapError as err:
        print(f"error: {options.model}: {err}", file=sys.stderr)
        return 2
    except (ModelFileError, SamplesError, tables.TableError, pixels.ImageError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{len(written)} heat maps -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
