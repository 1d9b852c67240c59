"""What is trained how: the paper's networks and schedules by name.

A recipe's name says its network, its patch set and its top: `NET-SET-TOP`, such as
`resnet50-s10-512-512-1024x2`. A name that is not listed is still a recipe when its
parts parse: it gets the paper's schedule.

Source:
    Shen et al. 3.1.2, 3.1.4, Tables 2 and 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dm_models.published import IMAGE_ROWS, PATCH_ROWS, image_row


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
    pretrained: bool = True
    size: int = 224
    batch_size: int = 32
    dropout: float = 0.0

    @property
    def name(self) -> str:
        """`NET-SET`, or `NET-SET-random` from random weights."""
        random = "" if self.pretrained else "-random"
        return f"{self.backbone}-{self.patch_set}{random}"


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


NETS = (
    "resnet50", "vgg16", "vgg19", "inception_v3", "xception", "squeezenet", "yaroslav",
)  # fmt: skip
SETS = ("s1", "s10")

# The demo's network learns at rates of its own: SqueezeNet has no batch norm, and
# 1e-3 on all of its layers destroys what ImageNet taught it.
_SMALL_RATES = {"new": 1e-3, "patches": 6e-4, "polish": 1e-4, "all": 1e-5}


class RecipeError(ValueError):
    """A recipe name cannot be read; the message lists what is known."""


def patch_recipe(
    backbone: str, patch_set: str = "s10", *, pretrained: bool = True
) -> PatchRecipe:
    """The paper's schedule for a patch classifier (Shen et al. 3.1.2).

    Args:
        backbone: One of `NETS`.
        patch_set: "s1", "s10" or any "sN".
        pretrained: From ImageNet weights in three stages; else all layers at 1e-3 for
            as many epochs.

    Raises:
        RecipeError: The backbone is not known.
    """
    _check_net(backbone)
    if backbone == "squeezenet":
        return _small_patches(patch_set, pretrained)
    from dm_models.backbones import get_backbone

    epochs = (3, 10, 187) if patch_set == "s1" else (3, 10, 37)
    rates = (1e-3, 1e-4, 1e-5) if pretrained else (1e-3,) * 3
    upper = get_backbone(backbone).fine_tune_from
    stages = tuple(
        Stage(name, train_from if pretrained else "all", rate, count)
        for name, train_from, rate, count in zip(
            ("head", "upper", "all"), ("top", upper, "all"), rates, epochs, strict=True
        )
    )
    return PatchRecipe(backbone, patch_set, stages, pretrained)


def parse_patch_recipe(name: str) -> PatchRecipe:
    """A patch recipe by its name in Table 1: `NET-SET` or `NET-SET-random`.

    Raises:
        RecipeError: The name does not parse.

    Example:
        >>> parse_patch_recipe("resnet50-s10-random").pretrained
        False
    """
    parts = name.split("-")
    random = parts[2:] == ["random"]
    if len(parts) != 2 + random or not re.fullmatch(r"s[1-9]\d*", parts[1]):
        raise RecipeError(
            f"patch recipe {name!r} is not NET-SET or NET-SET-random, such as "
            f"resnet50-s10; nets: {', '.join(NETS)}; sets: s1, s10"
        )
    return patch_recipe(parts[0], parts[1], pretrained=not random)


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
    row = image_row(name)
    recipe = ImageRecipe(name, backbone, patch_set, top, stages,
                         published_auc=row.auc if row else None)  # fmt: skip
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


def list_recipes() -> str:
    """Return every recipe of the paper as text: schedule and published figures."""
    lines = ["patch classifiers (Table 1: accuracy over five classes)"]
    for row in PATCH_ROWS:
        recipe = parse_patch_recipe(row.name)
        lines.append(f"  {row.name:<44} {row.accuracy:.2f}  {_schedule(recipe)}")
    lines.append(
        "whole-image classifiers (Tables 2 and 3: AUC of one model, DDSM test)"
    )
    for row in IMAGE_ROWS:
        recipe = image_recipe(row.name)
        auc = "   -" if row.auc is None else f"{row.auc:.2f}"
        lines.append(f"  {row.name:<44} {auc}  {_schedule(recipe)}")
    lines.append(f"nets: {', '.join(NETS)}; any NET-SET and NET-SET-TOP that parses is")
    lines.append("a recipe too, at the paper's schedule; squeezenet has its own")
    return "\n".join(lines)


def _schedule(recipe: PatchRecipe | ImageRecipe) -> str:
    stages = (f"{s.epochs} x {s.train_from} {s.learning_rate:g}" for s in recipe.stages)
    return f"batch {recipe.batch_size}: {', '.join(stages)}"


def _small_patches(patch_set: str, pretrained: bool) -> PatchRecipe:
    stages = (
        Stage("head", "top", _SMALL_RATES["new"], 1),
        Stage("upper", "all", _SMALL_RATES["patches"], 2),
        Stage("all", "all", _SMALL_RATES["polish"], 1),
    )
    if not pretrained:
        stages = (replace(stages[0], train_from="all"), *stages[1:])
    return PatchRecipe(
        "squeezenet", patch_set, stages, pretrained, size=64, batch_size=256
    )


def _small(recipe: ImageRecipe) -> ImageRecipe:
    stages = (
        Stage("top", "top", _SMALL_RATES["new"], 3, 1e-4),
        Stage("all", "all", _SMALL_RATES["all"], 2, 1e-4),
    )
    return replace(recipe, stages=stages, height=384, width=288, batch_size=8)


def _check_net(backbone: str) -> None:
    if backbone not in NETS:
        raise RecipeError(f"unknown net {backbone!r}; known: {', '.join(NETS)}")
