"""What is trained how: the paper's networks and schedules by name.

A recipe's name says its network, its patch set and its top: `NET-SET-TOP`, such as
`resnet50-s10-512-512-1024x2`. A name that is not listed is still a recipe when its
parts parse: it gets the paper's schedule.

Source:
    Shen et al. 3.1.2, 3.1.4, Tables 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stage:
    """One stretch of a training in which the same layers learn at the same rate.

    Attributes:
        name: For logs and histories.
        train_from: "top" (new layers), "all", or the backbone's stage from which
            the layers upward are trained.
        learning_rate: Adam's.
        epochs: How many at the most.
        weight_decay: L2 on the kernels of the layers put on the backbone.
        dropout: Rate before the last layer; None keeps the network's own.
    """

    name: str
    train_from: str
    learning_rate: float
    epochs: int
    weight_decay: float = 0.0
    dropout: float | None = None


@dataclass(frozen=True)
class PatchRecipe:
    """How a patch classifier is trained."""

    backbone: str
    patch_set: str
    stages: tuple[Stage, ...]
    size: int = 224
    batch_size: int = 32
    dropout: float = 0.0


@dataclass(frozen=True)
class ImageRecipe:
    """How a whole-image classifier is trained on top of a patch classifier.

    Attributes:
        top: In the shell-safe notation, such as "512-512-1024x2".
        height, width: Rows and columns of the images.
        published_auc: The paper's single-model test AUC on DDSM, None where there
            is none.
    """

    name: str
    backbone: str
    patch_set: str
    top: str
    stages: tuple[Stage, ...]
    height: int = 1152
    width: int = 896
    batch_size: int = 2
    dropout: float = 0.0
    published_auc: float | None = None


NETS = ("resnet50", "vgg16", "squeezenet")
SETS = ("s1", "s10")

# Recipe -> the paper's AUC of one model on the DDSM test set (Tables 2 and 3).
PUBLISHED_AUC = {
    "resnet50-s1-512-512-2048x1": 0.63,
    "resnet50-s10-512-512-2048x1": 0.85,
    "resnet50-s10-512-512-1024x2": 0.85,
    "resnet50-s10-256-256-256x1+128-128-128x1": 0.84,
    "resnet50-s10-256-256-256x3+128-128-128x3": 0.83,
    "resnet50-s10-256-256-512x3+128-128-256x3": 0.84,
    "resnet50-s10-256x1+128x1": 0.87,
    "resnet50-s10-hm+512-512-1024x2": 0.80,
    "resnet50-s10-hm+64-64-256x2+128-128-512x2": 0.81,
    "resnet50-s10-hm-pool5-fc64-32": 0.73,
    "resnet50-s10-hm-pool2-fc512-256": 0.72,
    "resnet50-s10-hm-pool1-fc2048-1024": 0.65,
    "vgg16-s10-512x3": 0.81,
    "vgg16-s10-512x1": 0.83,
    "vgg16-s10-256x3+128x3": 0.83,
    "vgg16-s10-256x1+128x1": 0.85,
    "vgg16-s10-128x1+64x1": 0.84,
    "vgg16-s10-512-512-1024x2": 0.85,
    "vgg16-s10-hm-pool5-fc64-32": 0.71,
    "vgg16-s10-hm-pool2-fc512-256": 0.68,
    "vgg16-s10-hm-pool1-fc2048-1024": 0.69,
}

# The demo's network learns at rates of its own: SqueezeNet has no batch norm, and
# 1e-3 on all of its layers destroys what ImageNet taught it.
_SMALL_RATES = {"new": 1e-3, "patches": 6e-4, "polish": 1e-4, "all": 1e-5}


class RecipeError(ValueError):
    """A recipe name cannot be read; the message lists what is known."""


def patch_recipe(backbone: str, patch_set: str = "s10") -> PatchRecipe:
    """The paper's schedule for a patch classifier (Shen et al. 3.1.2).

    Args:
        backbone: One of `NETS`.
        patch_set: "s1", "s10" or any "sN".

    Raises:
        RecipeError: The backbone is not known.
    """
    _check_net(backbone)
    if backbone == "squeezenet":
        stages = (
            Stage("head", "top", _SMALL_RATES["new"], 1),
            Stage("upper", "all", _SMALL_RATES["patches"], 2),
            Stage("all", "all", _SMALL_RATES["polish"], 1),
        )
        return PatchRecipe(backbone, patch_set, stages, size=64, batch_size=256)
    from dm_models.backbones import get_backbone

    upper = get_backbone(backbone).fine_tune_from
    if patch_set == "s1":
        epochs = (3, 10, 187)
    else:
        epochs = (3, 10, 37)
    stages = (
        Stage("head", "top", 1e-3, epochs[0]),
        Stage("upper", upper, 1e-4, epochs[1]),
        Stage("all", "all", 1e-5, epochs[2]),
    )
    return PatchRecipe(backbone, patch_set, stages)


def image_recipe(name: str) -> ImageRecipe:
    """A whole-image recipe by name (Shen et al. 3.1.4).

    Args:
        name: `NET-SET-TOP`, such as "vgg16-s10-256x1+128x1".

    Raises:
        RecipeError: The name does not parse; the top's own notation is checked when
            the network is built.

    Example:
        >>> image_recipe("resnet50-s10-512-512-1024x2").top
        '512-512-1024x2'
    """
    parts = name.split("-", 2)
    if len(parts) != 3 or not parts[1].startswith("s"):
        raise RecipeError(
            f"recipe {name!r} is not NET-SET-TOP, such as "
            f"resnet50-s10-512-512-1024x2; nets: {', '.join(NETS)}; sets: s1, s10"
        )
    backbone, patch_set, top = parts
    _check_net(backbone)
    stages = (
        Stage("top", "top", 1e-4, 30, 1e-3),
        Stage("all", "all", 1e-5, 20, 1e-2),
    )
    recipe = ImageRecipe(name, backbone, patch_set, top, stages,
                         published_auc=PUBLISHED_AUC.get(name))  # fmt: skip
    if backbone == "squeezenet":
        return _small(recipe)
    return recipe


def fine_tuned(recipe: ImageRecipe) -> ImageRecipe:
    """The schedule for a whole-image model on another data set (Shen et al. 3.2.2).

    All layers learn from the start; stage 1 is kept, at zero epochs, so that the
    authors' epoch flags keep their meaning.
    """
    rate, epochs, decay = 1e-5, 200, 1e-2
    if recipe.backbone == "squeezenet":
        rate, epochs, decay = _SMALL_RATES["polish"], 8, 1e-4
    stages = (
        Stage("top", "top", 1e-4, 0, 1e-3),
        Stage("all", "all", rate, epochs, decay),
    )
    return replace(recipe, stages=stages)


def _small(recipe: ImageRecipe) -> ImageRecipe:
    stages = (
        Stage("top", "top", _SMALL_RATES["new"], 3, 1e-4),
        Stage("all", "all", _SMALL_RATES["all"], 2, 1e-4),
    )
    return replace(recipe, stages=stages, height=384, width=288, batch_size=8)


def _check_net(backbone: str) -> None:
    if backbone not in NETS:
        raise RecipeError(f"unknown net {backbone!r}; known: {', '.join(NETS)}")
