"""Which named stage of a model trains, and how strongly its new layers are penalised.

Freezing is by NAME, never by index. A frozen batch norm runs in inference mode
(Keras's meaning of `trainable = False`): it neither uses nor updates batch statistics.
In the authors' program (Keras 2.0.8) frozen batch norm kept updating, which is had on
request here; and a weight decay changed between stages never took effect: here it does.
"""

from __future__ import annotations

import keras

from dm_models.backbones import BackboneError, backbone_of
from dm_models.patch_classifier import HEAD_LAYER

TOP = "top"
ALL = "all"
FROZEN_NORMS = ("inference", "updating")


def stage_names(model: keras.Model) -> list[str]:
    """Return the stages that `set_trainable_from` knows for this model."""
    backbone = backbone_of(model)
    return [TOP, *(backbone.stages if backbone else ()), ALL]


def set_trainable_from(
    model: keras.Model, stage: str | None, *, frozen_norm: str = "inference"
) -> None:
    """Train a model's layers from a named stage upward, and freeze those below.

    Compile the model afterwards: Keras fixes what trains when it compiles.

    Args:
        model: A patch or whole-image classifier of this project.
        stage: "top" for the new layers only: the whole-image top, or a patch
            classifier's last layer (a heatmap in between is the patch net's head and
            stays frozen then). A stage of the backbone ("fire6", "conv3_block2",
            "block4_conv1") for that stage and all above. "all" or None for everything.
        frozen_norm: "inference": a frozen batch norm neither uses nor updates batch
            statistics. "updating": it does both, only its scale and shift stay, as in
            the authors' program.

    Raises:
        BackboneError: Unknown stage; the message lists the known ones.
        ValueError: Unknown `frozen_norm`.
    """
    if frozen_norm not in FROZEN_NORMS:
        raise ValueError(
            f"frozen_norm must be one of {FROZEN_NORMS}, received {frozen_norm!r}"
        )
    known = stage_names(model)
    stage = stage or ALL
    if stage not in known:
        raise BackboneError(f"unknown stage {stage!r}; known: {', '.join(known)}")
    new = _new_layers(model)
    trained = set(known[known.index(stage) :]) if stage != TOP else set()
    backbone = backbone_of(model)
    for layer in model.layers:
        of_stage = backbone.stage_of(layer.name) if backbone else None
        if stage == ALL or layer in new:
            layer.trainable = True
        elif of_stage is not None:
            layer.trainable = of_stage in trained
        else:
            layer.trainable = stage != TOP and layer.name.startswith("heatmap")
        _free_or_keep_updating(layer, frozen_norm)


def _free_or_keep_updating(layer: keras.layers.Layer, frozen_norm: str) -> None:
    """Freeze a batch norm's scale and shift alone, where it was to be frozen whole.

    Setting a layer trainable that is so already leaves its arrays as they are.
    """
    if not isinstance(layer, keras.layers.BatchNormalization):
        return
    frozen = not layer.trainable
    if frozen and frozen_norm == "updating":
        layer.trainable = True
    for weight in (layer.gamma, layer.beta):
        if weight is not None:
            weight.trainable = not frozen


def trainable_names(model: keras.Model) -> list[str]:
    """Return the names of the layers whose weights training would change."""
    return [layer.name for layer in model.layers if layer.trainable_weights]


def set_weight_decay(model: keras.Model, weight_decay: float) -> list[str]:
    """Change the L2 factor of every kernel that has one, in place.

    The paper's second stage trains with 1e-2 after 1e-3. Compile the model afterwards.

    Returns:
        The names of the layers changed.
    """
    changed = []
    for layer in model.layers:
        penalty = getattr(layer, "kernel_regularizer", None)
        if isinstance(penalty, keras.regularizers.L2):
            penalty.l2 = float(weight_decay)
            changed.append(layer.name)
    return changed


def _new_layers(model: keras.Model) -> list[keras.layers.Layer]:
    top = [layer for layer in model.layers if layer.name.startswith(("top_", "image_"))]
    return top or [layer for layer in model.layers if layer.name == HEAD_LAYER]
