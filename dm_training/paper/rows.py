"""Which of the paper's results there are, and which trainings each of them needs.

A part is what `--only` names: a table, a figure, or the ensembles with the two-step
baseline beside them. Every row of Tables 1 to 3 is one recipe.

Source:
    Shen et al. 2018, Tables 1 to 4, Figures 2 and 3, 3.1.4, 3.2.2.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dm_models.published import FOUR_BEST, IMAGE_ROWS, PATCH_ROWS, ImageRow, PatchRow

PARTS = {
    "table1": "Table 1: patch classifiers, test accuracy over five classes",
    "table2": "Table 2: whole images on ResNet50, test AUC per image",
    "table3": "Table 3: whole images on VGG16, test AUC per image",
    "table4": "Table 4: fine-tuning on few women, test AUC per image",
    "figure2": "Figure 2: losses of two VGG tops",
    "figure3": "Figure 3: ROC of the four best models and their mean",
    "ensemble": "Ensembles: mean of the four best, and the two-step baseline",
}
FIGURE_2 = ("vgg16-s10-512x3", "vgg16-s10-512x1")
TWO_STEP_PATCH = "resnet50-s10"
_TABLE = {"Table 2": "table2", "Table 3": "table3"}
_OF_THE_FOUR = ("table4", "figure3", "ensemble")


@dataclass(frozen=True)
class Wanted:
    """What the chosen parts need.

    Attributes:
        patches: Patch classifiers, by their names in Table 1.
        images: Whole-image classifiers, by recipe name.
        tuned: Whole-image classifiers to be fine-tuned on the digital images.
        curves: Those of which the learning curve is wanted.
        ensembles: Whether the means of the four best are.
        forest: Whether the two-step baseline is.
    """

    patches: tuple[str, ...]
    images: tuple[str, ...]
    tuned: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    ensembles: bool = False
    forest: bool = False


def patch_rows() -> tuple[PatchRow, ...]:
    """The rows of Table 1."""
    return PATCH_ROWS


def image_rows(part: str) -> tuple[ImageRow, ...]:
    """The rows of "table2" or "table3"."""
    return tuple(row for row in IMAGE_ROWS if _TABLE.get(row.source) == part)


def patch_of(image_row: str) -> str:
    """The patch classifier that a whole-image recipe stands on.

    Example:
        >>> patch_of("vgg16-s10-256x1+128x1")
        'vgg16-s10'
    """
    return "-".join(image_row.split("-")[:2])


def wanted(parts: Collection[str]) -> Wanted:
    """Everything that some parts need, each training once, in the paper's order."""
    four = tuple(FOUR_BEST.values())
    images = [row.name for part in ("table2", "table3") if part in parts
              for row in image_rows(part)]  # fmt: skip
    images += FIGURE_2 if "figure2" in parts else ()
    of_four = any(part in parts for part in _OF_THE_FOUR)
    images += four if of_four else ()
    patches = [row.name for row in PATCH_ROWS] if "table1" in parts else []
    patches += [patch_of(name) for name in images]
    forest = "ensemble" in parts
    patches += [TWO_STEP_PATCH] if forest else []
    return Wanted(
        patches=tuple(dict.fromkeys(patches)),
        images=tuple(dict.fromkeys(images)),
        tuned=four if of_four else (),
        curves=four if "table4" in parts else (),
        ensembles=bool({"figure3", "ensemble"} & set(parts)),
        forest=forest,
    )
