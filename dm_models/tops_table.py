"""The table of every recipe: weights, map sizes, receptive field, published AUC.

    python -m dm_models.tops [--height 1152 --width 896] [RECIPE ...]

Every network is built, none is trained; nothing is written in but the paper's AUC.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dm_models.published import IMAGE_ROWS, ImageRow

COLUMNS = (
    "recipe", "parameters", "backbone map", "heatmap", "last map", "field", "AUC",
    "A-AUC",
)  # fmt: skip


@dataclass(frozen=True)
class TopRow:
    """What was counted on one built network.

    Attributes:
        name: The recipe.
        parameters: All weights, batch norm's moving statistics included.
        backbone_map: Rows, columns and channels of the patch net's feature map.
        heatmap: Rows, columns and classes of the heatmap; None where there is none.
        last_map: Rows, columns and channels of the last map before pooling or FC.
        field: Pixels of the image's side that one cell of the last map sees.
        published: The paper's figures.
    """

    name: str
    parameters: int
    backbone_map: tuple[int, int, int]
    heatmap: tuple[int, int, int] | None
    last_map: tuple[int, int, int]
    field: int
    published: ImageRow


def rows(
    names: Sequence[str] | None = None, *, height: int = 1152, width: int = 896,
    patch_size: int = 224,
) -> Iterator[TopRow]:  # fmt: skip
    """Build recipes in turn and count.

    Args:
        names: `NET-SET-TOP` each; None for every row of the paper.
        height: Rows of the images.
        width: Columns of the images.
        patch_size: Side of the patches that the patch net was trained on, which gives
            the heatmap's pooling.

    Raises:
        ValueError: A name that does not parse, or an image too small.
    """
    known = {row.name: row for row in IMAGE_ROWS}
    for name in names or known:
        yield _counted(known.get(name, ImageRow(name, "")), height, width, patch_size)


def _counted(published: ImageRow, height: int, width: int, patch_size: int) -> TopRow:
    import keras

    from dm_models.backbones import get_backbone
    from dm_models.heatmap import patch_features
    from dm_models.patch_classifier import build_patch_classifier
    from dm_models.receptive_field import last_map, receptive_field
    from dm_models.whole_image import build_whole_image

    keras.backend.clear_session()
    parts = published.name.split("-", 2)
    if len(parts) != 3:
        raise ValueError(f"recipe {published.name!r} is not NET-SET-TOP")
    contract = get_backbone(parts[0]).contract(height=patch_size, width=patch_size)
    patch_model = build_patch_classifier(parts[0], contract=contract)
    model = build_whole_image(
        patch_model, contract, parts[2], height=height, width=width
    )
    features = keras.Model(patch_model.input, patch_features(patch_model))
    maps = {layer.name: layer for layer in model.layers}
    heat = maps.get("heatmap")
    sized = (1, height, width, 1)
    last = last_map(model)
    return TopRow(
        name=published.name,
        parameters=model.count_params(),
        backbone_map=tuple(features.compute_output_shape(sized)[1:]),
        heatmap=_map_of(model, heat, sized) if heat else None,
        last_map=_map_of(model, last, sized),
        field=receptive_field(model, last)[0],
        published=published,
    )


def _map_of(model, layer, sized: tuple[int, ...]) -> tuple[int, int, int]:
    import keras

    return tuple(keras.Model(model.input, layer.output).compute_output_shape(sized)[1:])


def formatted(row: TopRow) -> tuple[str, ...]:
    """Return a row's cells as text, in the order of `COLUMNS`."""

    def size(shape) -> str:
        return "-" if shape is None else " x ".join(map(str, shape))

    def auc(value) -> str:
        return "-" if value is None else f"{value:.2f}"

    return (
        row.name, f"{row.parameters:,}", size(row.backbone_map), size(row.heatmap),
        size(row.last_map), str(row.field), auc(row.published.auc),
        auc(row.published.augmented_auc),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit status 0, or 2 for a recipe that cannot be built."""
    parser = argparse.ArgumentParser(
        prog="python -m dm_models.tops", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("recipe", nargs="*", help="NET-SET-TOP (default: the paper's)")
    parser.add_argument("--height", type=int, default=1152)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--patch-size", type=int, default=224)
    arguments = parser.parse_args(argv)
    try:
        cells = [COLUMNS]
        for row in rows(
            arguments.recipe,
            height=arguments.height,
            width=arguments.width,
            patch_size=arguments.patch_size,
        ):
            cells.append(formatted(row))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *rest = zip(line, widths, strict=True)
        print(f"{first[0]:<{first[1]}}", *(f"{text:>{size}}" for text, size in rest))
    return 0
