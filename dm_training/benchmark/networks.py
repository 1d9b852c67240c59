"""The whole-image networks that training and inference are measured with."""

from __future__ import annotations

import numpy as np

RECIPE = "squeezenet-s10-128x1"
_CERTAIN = 0.95


def build(height: int, width: int, recipe: str = RECIPE):
    """A recipe's network with random weights.

    Args:
        height, width: Of the images.
        recipe: `NET-SET-TOP`.

    Returns:
        The model and its contract.
    """
    import keras

    from dm_models.backbones import get_backbone
    from dm_models.patch_classifier import build_patch_classifier
    from dm_models.whole_image import build_whole_image, image_contract

    keras.utils.set_random_seed(1)
    net, _, top = recipe.split("-", 2)
    contract = get_backbone(net).contract(height=224, width=224)
    patch_model = build_patch_classifier(net, contract=contract)
    model = build_whole_image(patch_model, contract, top, height=height, width=width)
    return model, image_contract(contract, height=height, width=width)


def soften(model, images: np.ndarray) -> None:
    """Scale the last layer down until no probability is near 0 or 1.

    Random weights can give outputs that round to 0 and 1, and two programs that
    disagree would then seem to agree.
    """
    last = model.layers[-1]
    while model.predict_on_batch(images).max() > _CERTAIN:
        last.set_weights([weights * 0.5 for weights in last.get_weights()])
