"""The model that a training starts from: built anew, or somebody's file.

A new patch classifier stands on ImageNet or random weights, a new whole-image one on a
trained patch net; a file may be one of ours or a whole model that Keras 2 saved, such
as the authors'. Either way it leaves here with its input contract.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_models import weights
from dm_models.backbones import get_backbone
from dm_models.imagenet import load_imagenet
from dm_models.inputs import FULL_SCALE, InputContract, set_mean
from dm_models.keras2 import import_keras2
from dm_models.keras2_files import is_keras2_model, read_keras2
from dm_models.patch_classifier import build_patch_classifier
from dm_models.whole_image import build_whole_image, image_contract
from dm_training import arguments as flags
from dm_training import grey_stats, recipes
from dm_training.preparation import say_new_preparation, with_preparation
from dm_training.recipes import ImageRecipe
from dm_training.samples import Samples

if TYPE_CHECKING:
    from dm_training.training import Session

_STATISTICS_IMAGES = 200


def starting_recipe(path: str) -> ImageRecipe:
    """The schedule and image size for fine-tuning a whole-image model.

    Raises:
        ModelFileError: The file cannot be used.
    """
    if is_keras2_model(path):
        backbone, (height, width, _) = "resnet50", read_keras2(Path(path))[0].shape
    else:
        contract = weights.read_contract(path)
        backbone, height, width = contract.backbone, contract.height, contract.width
    net = backbone if backbone in recipes.NETS else recipes.NETS[0]
    recipe = recipes.fine_tuned(recipes.image_recipe(f"{net}-s10-as-saved"))
    if height is None or width is None:
        return recipe
    return replace(recipe, height=height, width=width)


def load_starting_model(path: str, parsed, *, backbone: str | None = None):
    """Load a model to train on: one of ours, or one that Keras 2 saved whole.

    Args:
        path: `.keras` or `.h5`.
        parsed: The flags; a Keras 2 file holds no mean, so they must give it.
        backbone: What the net of a Keras 2 file is to be taken for.

    Returns:
        (model, contract).

    Raises:
        UsageError: A Keras 2 file without `--featurewise-mean`.
        ModelFileError, WeightsError: The file cannot be used.
    """
    if not is_keras2_model(path):
        return weights.load_model(path)
    mean = flags.featurewise_mean(parsed)
    if mean is None:
        raise flags.UsageError(
            f"{path} was saved by Keras 2 and does not say which mean its images were "
            "centred on: give --featurewise-mean (the authors': 52.18 on DDSM, 44.33 "
            "on INbreast)"
        )
    return import_keras2(
        path, mean=mean, scale=parsed.rescale_factor or FULL_SCALE, backbone=backbone
    )


def new_patch_model(session: Session, net: str, dropout: float):
    """A patch classifier on ImageNet or random weights, as the flags say.

    Returns:
        (model, contract).
    """
    contract = get_backbone(net).contract(
        class_names=session.samples["train"].classes,
        height=session.height, width=session.width,
    )  # fmt: skip
    contract = with_preparation(contract, session.samples, session.run.say)
    contract = _with_mean(session, contract)
    given = session.parsed.hidden_dropout
    model = build_patch_classifier(
        net, contract=contract, num_classes=len(contract.class_names),
        dropout=dropout if given is None else given,
        weight_decay=session.parsed.weight_decay or 0.0,
    )  # fmt: skip
    _start_from(session, model, net)
    return model, contract


def new_image_model(session: Session, recipe: ImageRecipe):
    """A whole-image classifier on a trained patch net, or on ImageNet weights.

    Returns:
        (model, contract).

    Raises:
        UsageError: The patch model is of another net than the recipe.
    """
    parsed, run = session.parsed, session.run
    if parsed.patch_model_state:
        patch_model, contract = load_starting_model(
            parsed.patch_model_state, parsed, backbone=recipe.backbone
        )
        if contract.backbone != recipe.backbone:
            raise flags.UsageError(
                f"{parsed.patch_model_state} is a {contract.backbone}, the recipe "
                f"{recipe.name} wants a {recipe.backbone}"
            )
        run.say(f"patch net from {parsed.patch_model_state}")
        if parsed.featurewise_mean is not None or not parsed.featurewise_center:
            contract = _new_mean(session, patch_model, contract)
    else:
        patch_model, contract = new_patch_model(session, recipe.backbone, 0.0)
        contract = contract.replace(height=None, width=None)
    pool = parsed.avg_pool_size
    model = build_whole_image(
        patch_model, contract, recipe.top, dropout=recipe.dropout,
        num_classes=len(session.samples["train"].classes),
        height=session.height, width=session.width,
        patch_map=pool[0] if pool else None, hm_strides=parsed.hm_strides[0],
    )  # fmt: skip
    contract = image_contract(contract, height=session.height, width=session.width)
    contract = _with_statistics(session, contract)
    run.say(f"top {recipe.top} on {recipe.backbone}: {model.count_params():,} weights")
    return model, contract


def resumed_image_model(session: Session, path: str):
    """A whole-image model of this project, to be fine-tuned.

    Returns:
        (model, contract): the contract with the new mean where the flags give one.
    """
    model, contract = load_starting_model(path, session.parsed)
    classes = session.samples["train"].classes
    if tuple(contract.class_names) != classes:
        raise flags.UsageError(
            f"--resume-from {path}: its classes are {', '.join(contract.class_names)}, "
            f"the data's are {', '.join(classes)}"
        )
    fixed = model.input_shape[1:3]
    if fixed != (None, None) and fixed != (session.height, session.width):
        raise flags.UsageError(
            f"--resume-from {path} takes images of {fixed[0]} x {fixed[1]} only, "
            f"--img-size says {session.height} x {session.width}"
        )
    given = session.parsed.featurewise_mean is not None
    if given or not session.parsed.featurewise_center:
        contract = _new_mean(session, model, contract)
    session.run.say(f"whole-image model from {path}")
    contract = contract.replace(height=session.height, width=session.width)
    tuned = _with_statistics(session, contract)
    say_new_preparation(contract, tuned, session.run.say)
    return model, tuned


def _start_from(session: Session, model, net: str) -> None:
    if not session.parsed.use_pretrained:
        session.run.say(f"{net} from random weights")
        return
    path = load_imagenet(model, net, source=session.parsed.weights)
    session.run.say(f"{net} from ImageNet weights, {Path(path).name}")


def _with_mean(session: Session, contract: InputContract) -> InputContract:
    """The contract of a new network, its mean given by a flag or measured."""
    if session.parsed.rescale_factor is not None:
        contract = contract.replace(scale=session.parsed.rescale_factor)
    mean, source = flags.featurewise_mean(session.parsed), "given"
    if not contract.uses_mean:
        session.run.say(f"{contract.backbone} centres on its own channel means")
        return contract
    if mean is None:
        store = session.stores["train"]
        levels = [store.read(i).mean(dtype=np.float64) for i in range(len(store.paths))]
        mean, source = float(np.mean(levels)) * flags.FULL_SCALE, "training images"
    session.run.say(f"mean grey level {mean:.2f} of 255 ({source})")
    return contract.replace(mean=mean, grey_stats={"mean": mean, "source": source})


def _with_statistics(session: Session, contract: InputContract) -> InputContract:
    """How the training images were made, and what they look like, for dm-check."""
    contract = with_preparation(contract, session.samples, session.run.say)
    store = session.stores["train"]
    measured = grey_stats.measure(store.read(i) for i in _spread(len(store.paths)))
    return contract.replace(
        fit=_fit_of(session.samples["train"]),
        grey_stats={**(contract.grey_stats or {}), **measured},
    )


def _spread(count: int) -> list[int]:
    """Which images to measure: every other one of a table may be of one view alone."""
    drawn = np.random.default_rng(0).permutation(count)[:_STATISTICS_IMAGES]
    return sorted(int(i) for i in drawn)


def _fit_of(samples: Samples) -> str:
    """How the converter brought the images to size, as their table's scales tell."""
    if not {"row_scale", "col_scale"} <= set(samples.frame):
        return "squash"
    ratio = samples.frame["row_scale"] / samples.frame["col_scale"]
    offset = samples.frame[["row_offset", "col_offset"]].abs().to_numpy()
    kept = bool((ratio - 1.0).abs().lt(0.01).all() and np.nanmax(offset) > 0)
    return "pad" if kept else "squash"


def _new_mean(session: Session, model, contract: InputContract) -> InputContract:
    mean = flags.featurewise_mean(session.parsed)
    if not contract.uses_mean:
        session.run.say(
            f"--featurewise-mean {mean:.2f} is not used: {contract.backbone} centres "
            "on its own channel means"
        )
        return contract
    session.run.say(f"mean grey level {contract.mean:.2f} -> {mean:.2f} of 255")
    return set_mean(model, contract, mean)
