"""What the paper printed: every row of its Tables 1 to 4 and of its ensembles.

Names are those of the recipes: `NET-SET` for a patch classifier, `NET-SET-random` where
it starts from random weights, and `NET-SET-TOP` for a whole-image classifier.

Source:
    Shen et al. 2018, Tables 1 (test accuracy of patches), 2 and 3 (test AUC per image
    of one model on DDSM, with and without the mean over four flips), 4 (AUC per image
    on INbreast after fine-tuning on so many women); 3.1.4 and 3.2.2 (ensembles, the
    two-step approach).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PatchRow:
    """A row of Table 1.

    Attributes:
        name: `NET-SET` or `NET-SET-random`.
        accuracy: On the test patches, five classes.
        epochs: The epoch of the best validation accuracy.
    """

    name: str
    accuracy: float
    epochs: int


@dataclass(frozen=True)
class ImageRow:
    """A row of Table 2 or 3, or a model that the authors published without one.

    Attributes:
        name: `NET-SET-TOP`.
        source: "Table 2", "Table 3", or where else the model comes from.
        auc: Per test image; None where the paper prints none.
        augmented_auc: The same, mean of four flips.
        epochs: The epoch of the best validation score.
        best: One of the four in the paper's ensemble.
    """

    name: str
    source: str
    auc: float | None = None
    augmented_auc: float | None = None
    epochs: int | None = None
    best: bool = False


@dataclass(frozen=True)
class TransferRow:
    """A row of Table 4: fine-tuned on INbreast, AUC per image of its other 30 %.

    Attributes:
        patients, images: Trained on.
        aucs: One for each model of `FOUR_BEST`, in their order.
        whole: The row of all the training women.
    """

    patients: int
    images: int
    aucs: tuple[float, float, float, float]
    whole: bool = False


@dataclass(frozen=True)
class EnsembleRow:
    """The mean of the four best models' augmented predictions.

    Attributes:
        source: Where the paper says so.
        data: "DDSM" or "INbreast".
        auc: Per image.
        sensitivity, specificity: At the operating point that the paper names; it does
            not say how it was chosen.
    """

    source: str
    data: str
    auc: float
    sensitivity: float
    specificity: float


PATCH_ROWS = (
    PatchRow("resnet50-s1-random", 0.97, 198),
    PatchRow("resnet50-s1", 0.99, 99),
    PatchRow("resnet50-s10-random", 0.63, 24),
    PatchRow("resnet50-s10", 0.89, 39),
    PatchRow("vgg16-s10", 0.84, 25),
)

_RESNET, _VGG = "Table 2", "Table 3"
IMAGE_ROWS = (
    ImageRow("resnet50-s1-512-512-2048x1", _RESNET, 0.63, None, 35),
    ImageRow("resnet50-s10-512-512-2048x1", _RESNET, 0.85, 0.87, 20),
    ImageRow("resnet50-s10-512-512-1024x2", _RESNET, 0.85, 0.87, 34, best=True),
    ImageRow("resnet50-s10-256-256-256x1+128-128-128x1", _RESNET, 0.84, 0.85, 25),
    ImageRow("resnet50-s10-256-256-256x3+128-128-128x3", _RESNET, 0.83, 0.84, 17),
    ImageRow("resnet50-s10-256-256-512x3+128-128-256x3", _RESNET, 0.84, 0.87, 48),
    ImageRow("resnet50-s10-256x1+128x1", _RESNET, 0.87, 0.88, 36, best=True),
    ImageRow("resnet50-s10-hm+512-512-1024x2", _RESNET, 0.80, None, 47),
    ImageRow("resnet50-s10-hm+64-64-256x2+128-128-512x2", _RESNET, 0.81, None, 41),
    ImageRow("resnet50-s10-hm-pool5-fc64-32", _RESNET, 0.73, None, 28),
    ImageRow("resnet50-s10-hm-pool2-fc512-256", _RESNET, 0.72, None, 47),
    ImageRow("resnet50-s10-hm-pool1-fc2048-1024", _RESNET, 0.65, None, 43),
    ImageRow("vgg16-s10-512x3", _VGG, 0.81, 0.82, 91),
    ImageRow("vgg16-s10-512x1", _VGG, 0.83, 0.86, 98),
    ImageRow("vgg16-s10-256x3+128x3", _VGG, 0.83, 0.85, 51),
    ImageRow("vgg16-s10-256x1+128x1", _VGG, 0.85, 0.86, 61, best=True),
    ImageRow("vgg16-s10-128x1+64x1", _VGG, 0.84, 0.85, 142),
    ImageRow("vgg16-s10-512-512-1024x2", _VGG, 0.85, 0.88, 165, best=True),
    ImageRow("vgg16-s10-hm-pool5-fc64-32", _VGG, 0.71, None, 26),
    ImageRow("vgg16-s10-hm-pool2-fc512-256", _VGG, 0.68, None, 27),
    ImageRow("vgg16-s10-hm-pool1-fc2048-1024", _VGG, 0.69, None, 50),
    ImageRow("yaroslav-s10-hm-pool5-fc16-8", "published model"),
)

# The paper's names for the four best, by patch net and top, in Table 4's order.
FOUR_BEST = {
    "Resnet-Resnet": "resnet50-s10-512-512-1024x2",
    "Resnet-VGG": "resnet50-s10-256x1+128x1",
    "VGG-VGG": "vgg16-s10-256x1+128x1",
    "VGG-Resnet": "vgg16-s10-512-512-1024x2",
}

TRANSFER_ROWS = (
    TransferRow(20, 79, (0.92, 0.88, 0.87, 0.89)),
    TransferRow(30, 117, (0.93, 0.94, 0.93, 0.90)),
    TransferRow(40, 159, (0.93, 0.95, 0.93, 0.93)),
    TransferRow(50, 199, (0.94, 0.95, 0.94, 0.93)),
    TransferRow(60, 239, (0.95, 0.95, 0.95, 0.94)),
    TransferRow(72, 280, (0.95, 0.95, 0.95, 0.95), whole=True),
)

ENSEMBLE_ROWS = (
    EnsembleRow("3.1.4, Figure 3a", "DDSM", 0.91, 0.861, 0.801),
    EnsembleRow("3.2.2, Figure 3b", "INbreast", 0.98, 0.867, 0.961),
)

TWO_STEP_AUC = 0.73
"""The heatmap, its regions and a random forest, on DDSM (3.1.4)."""


def image_row(name: str) -> ImageRow | None:
    """Return the row of a whole-image recipe; None: the paper has none."""
    return next((row for row in IMAGE_ROWS if row.name == name), None)


def patch_row(name: str) -> PatchRow | None:
    """Return the row of a patch recipe; None: the paper has none."""
    return next((row for row in PATCH_ROWS if row.name == name), None)
