"""ImageNet weights for a backbone: packaged, downloaded by Keras, or from a file.

SqueezeNet's ship with the package; the others are the files that Keras itself keeps.
They go in strictly by name; layers that Keras numbers are known by `AutoNames`.
"""

from __future__ import annotations

from pathlib import Path

import keras

from dm_models.backbones import Backbone, backbone_layers, get_backbone
from dm_models.layer_files import (
    LayerArrays,
    ModelFileError,
    WeightsError,
    read_layer_file,
    set_layers,
)

DATA = Path(__file__).parent / "data"


class BackboneWeightsError(ValueError):
    """ImageNet weights cannot be had or do not fit; the message says what would do."""


def load_imagenet(
    model: keras.Model, name: str, *, source: str | Path = "imagenet"
) -> Path:
    """Load ImageNet weights into the backbone layers of a model, strictly by name.

    Args:
        model: A model whose backbone is `name`; its other layers are left alone.
        name: One of `backbone_names()`.
        source: "imagenet" (the file that ships with us, else Keras's own download, kept
            in its cache) or the path of such a file.

    Returns:
        The file that was read.

    Raises:
        BackboneWeightsError: The file cannot be had, or a layer is missing, surplus or
            wrongly shaped; nothing was loaded then.
    """
    backbone = get_backbone(name)
    path = _packaged_or_downloaded(backbone, source)
    try:
        arrays = read_layer_file(path)
        renamed = _as_ours(backbone, arrays)
        set_layers(backbone_layers(model), renamed, path)
    except (ModelFileError, WeightsError) as error:
        raise BackboneWeightsError(
            f"{name} needs {backbone.weights_file} or a file of its layout: {error}"
        ) from error
    return path


def _as_ours(backbone: Backbone, arrays: LayerArrays) -> LayerArrays:
    """The arrays of a published file under the names that our layers have."""
    if backbone.auto_names is not None:
        names = backbone.auto_names.renamed(arrays)
        return {names[layer]: found for layer, found in arrays.items()}
    return {layer.replace("/", "_"): found for layer, found in arrays.items()}


def _packaged_or_downloaded(backbone: Backbone, source: str | Path) -> Path:
    if str(source) != "imagenet":
        path = Path(source)
        if not path.is_file():
            raise BackboneWeightsError(
                f"{path}: no such file of {backbone.name} weights"
            )
        return path
    if backbone.weights_file is None:
        raise BackboneWeightsError(
            f"nobody has published ImageNet weights of {backbone.name}: train from "
            "random weights with --no-use-pretrained"
        )
    if backbone.weights_url is None:
        return DATA / backbone.weights_file
    return _downloaded(backbone)


def _downloaded(backbone: Backbone) -> Path:
    try:
        return Path(
            keras.utils.get_file(
                backbone.weights_file,
                backbone.weights_url,
                cache_subdir="models",
                file_hash=backbone.weights_md5,
            )
        )
    except Exception as error:  # Keras raises plain Exception when it cannot fetch
        raise BackboneWeightsError(
            f"ImageNet weights of {backbone.name}: {backbone.weights_file} is not in "
            f"Keras's cache and {backbone.weights_url} cannot be reached ({error}). "
            "Fetch that file where there is a network and give its path with "
            "--weights FILE, or train from random weights with "
            "--no-use-pretrained"
        ) from error
