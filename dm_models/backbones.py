"""The convolutional nets under every classifier, on images of any size.

A backbone is flat: its layers stand in the classifier's own graph, so their names are
addresses for freezing and for weight files. `stages` names the points from which a net
can be trained: the paper's second stage (Shen et al., 3.1.2) starts at `conv3_block2`
of ResNet50 and at `block4_conv1` of VGG16; for SqueezeNet, which the paper does not
use, `fire6` is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from dm_models.inputs import IMAGENET_BGR_MEANS, InputContract
from dm_models.weights import ModelFileError, WeightsError, read_layer_file, set_layers

DATA = Path(__file__).parent / "data"
KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications/"
OUR_PREFIXES = ("grey", "patch_", "top_", "image_", "heatmap")


class BackboneError(ValueError):
    """A backbone or a stage that does not exist; the message lists those that do."""


class BackboneWeightsError(ValueError):
    """ImageNet weights cannot be had or do not fit; the message says what would do."""


@dataclass(frozen=True)
class Backbone:
    """One net.

    Attributes:
        name: As the command line has it.
        build: Prepared tensor (N, H, W, 3) -> feature map.
        stride: Image pixels a step of the feature map.
        stages: Names of stages, first layers first; a layer belongs to a stage when it
            is named so or starts with the name and an underscore.
        fine_tune_from: The stage from which the second of three stages trains.
        map_size: Length of an image's side -> length of the map's side, 0: too small.
        weights_file: File name of its ImageNet weights without the top.
        weights_url: Where Keras itself keeps that file; None: it ships with us.
        weights_md5: Its checksum; None where it ships with us.
        channel_means: BGR means of its own preparation, or None for the paper's scale.
    """

    name: str
    build: Callable
    stride: int
    stages: tuple[str, ...]
    fine_tune_from: str
    map_size: Callable[[int], int]
    weights_file: str
    weights_url: str | None = None
    weights_md5: str | None = None
    channel_means: tuple[float, ...] | None = None

    def stage_of(self, layer_name: str) -> str | None:
        """Return the stage that a layer belongs to, None for none."""
        found = [s for s in self.stages if f"{layer_name}_".startswith(f"{s}_")]
        return max(found, key=len) if found else None

    def least_size(self) -> int:
        """Return the shortest image side that leaves a feature map."""
        return next(n for n in range(1, 1000) if self.map_size(n) >= 1)

    def contract(self, **fields) -> InputContract:
        """Return this net's own input contract, other fields as given."""
        return InputContract(
            backbone=self.name, channel_means=self.channel_means, **fields
        )


def backbone_names() -> list[str]:
    """Return the names that `get_backbone` knows."""
    return sorted(_BACKBONES)


def get_backbone(name: str) -> Backbone:
    """Return a backbone by name.

    Raises:
        BackboneError: Unknown; the message lists the known names.
    """
    if name not in _BACKBONES:
        raise BackboneError(
            f"unknown backbone {name!r}; known: {', '.join(backbone_names())}"
        )
    return _BACKBONES[name]


def build_backbone(name: str, tensor):
    """Apply a backbone with random weights to a prepared tensor.

    Args:
        name: One of `backbone_names()`.
        tensor: (N, H, W, channels), as `inputs.grey_input` prepares it.

    Returns:
        The last feature map, (N, about H / stride, about W / stride, C).
    """
    return get_backbone(name).build(tensor)


def backbone_of(model: keras.Model) -> Backbone | None:
    """Recognise the backbone in a model by its layers' names; None for none of ours."""
    names = [layer.name for layer in model.layers]
    found = [
        backbone
        for backbone in _BACKBONES.values()
        if set(backbone.stages) <= {backbone.stage_of(name) for name in names}
    ]
    return max(found, key=lambda backbone: len(backbone.stages)) if found else None


def backbone_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers with weights that are not ours: the backbone's."""
    return [
        layer
        for layer in model.layers
        if layer.weights and not layer.name.startswith(OUR_PREFIXES)
    ]


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
        renamed = {layer.replace("/", "_"): found for layer, found in arrays.items()}
        set_layers(backbone_layers(model), renamed, path)
    except (ModelFileError, WeightsError) as error:
        raise BackboneWeightsError(
            f"{name} needs {backbone.weights_file} or a file of its layout: {error}"
        ) from error
    return path


def _packaged_or_downloaded(backbone: Backbone, source: str | Path) -> Path:
    if str(source) != "imagenet":
        path = Path(source)
        if not path.is_file():
            raise BackboneWeightsError(
                f"{path}: no such file of {backbone.name} weights"
            )
        return path
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
            "--imagenet-weights FILE, or train from random weights with "
            "--no-use-pretrained"
        ) from error


def _squeezenet(x):
    """SqueezeNet v1.1 without its top (Iandola et al. 2016), 722,496 parameters."""
    x = keras.layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for index, (squeeze, expand) in enumerate(_FIRES, start=2):
        x = _fire(x, squeeze, expand, f"fire{index}")
        if index in (3, 5):
            x = keras.layers.MaxPooling2D(3, strides=2, name=f"pool{index}")(x)
    return x


def _fire(x, squeeze: int, expand: int, name: str):
    def conv(tensor, filters, kernel, part):
        return keras.layers.Conv2D(
            filters, kernel, padding="same", activation="relu", name=f"{name}_{part}"
        )(tensor)

    squeezed = conv(x, squeeze, 1, "squeeze1x1")
    ways = [
        conv(squeezed, expand, 1, "expand1x1"),
        conv(squeezed, expand, 3, "expand3x3"),
    ]
    return keras.layers.Concatenate(name=f"{name}_concat")(ways)


def _vgg16(x):
    return _application(keras.applications.VGG16, x)


def _resnet50(x):
    return _application(keras.applications.ResNet50, x)


def _application(build: Callable, x):
    """Keras's own net, standing flat in the graph of `x`."""
    return build(include_top=False, weights=None, input_tensor=x).output


def _squeezenet_map(side: int) -> int:
    # One convolution and three poolings, each 3 wide, stride 2, without padding.
    for _ in range(4):
        side = max((side - 1) // 2, 0)
    return side


def _halved_five_times(side: int) -> int:
    return side // 32


def _resnet_map(side: int) -> int:
    """Halves rounding up; below one stride Keras's nets are not meant to run."""
    return -(-side // 32) if side >= 32 else 0


_FIRES = (
    (16, 64), (16, 64), (32, 128), (32, 128),
    (48, 192), (48, 192), (64, 256), (64, 256),
)  # fmt: skip
_RESNET_UNITS = {2: 3, 3: 4, 4: 6, 5: 3}
_VGG16_CONVS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}

_BACKBONES = {
    "squeezenet": Backbone(
        name="squeezenet",
        build=_squeezenet,
        stride=16,
        stages=("conv1", *(f"fire{i}" for i in range(2, 10))),
        fine_tune_from="fire6",
        map_size=_squeezenet_map,
        weights_file="squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
        channel_means=IMAGENET_BGR_MEANS,
    ),
    "vgg16": Backbone(
        name="vgg16",
        build=_vgg16,
        stride=32,
        stages=tuple(
            f"block{b}_conv{c + 1}" for b, n in _VGG16_CONVS.items() for c in range(n)
        ),
        fine_tune_from="block4_conv1",
        map_size=_halved_five_times,
        weights_file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_url=KERAS_FILES
        + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_md5="6d6bbae143d832006294945121d1f1fc",
    ),
    "resnet50": Backbone(
        name="resnet50",
        build=_resnet50,
        stride=32,
        stages=(
            "conv1",
            *(
                f"conv{s}_block{u + 1}"
                for s, n in _RESNET_UNITS.items()
                for u in range(n)
            ),
        ),
        fine_tune_from="conv3_block2",
        map_size=_resnet_map,
        weights_file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_url=KERAS_FILES
        + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_md5="4d473c1dd8becc155b73f8504c6f6626",
    ),
}
