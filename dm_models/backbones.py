"""The convolutional nets under every classifier, on images of any size.

A backbone is flat: its layers stand in the classifier's own graph, so their names are
addresses for freezing and for weight files. `stages` names the points from which a net
can be trained: the paper's second stage (Shen et al., 3.1.2) starts at `conv3_block2`
of ResNet50 and at `block4_conv1` of VGG16; for SqueezeNet, which the paper does not
use, `fire6` is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import keras

from dm_models import backbone_nets
from dm_models.inputs import IMAGENET_BGR_MEANS, InputContract

KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications/"
PLUS_MINUS_ONE = {"divisor": 127.5, "offset": -1.0}
OUR_PREFIXES = ("grey", "patch_", "top_", "image_", "heatmap")


class BackboneError(ValueError):
    """A backbone or a stage that does not exist; the message lists those that do."""


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
        weights_file: File name of its ImageNet weights without the top; None: nobody
            has published any.
        weights_folder: Where Keras itself keeps that file; None: it ships with us.
        weights_md5: Its checksum; None where it ships with us.
        auto_names: What Keras's file calls layers that have names of ours.
        preparation: What its input contract says unlike the paper's scale.
    """

    name: str
    build: Callable
    stride: int
    stages: tuple[str, ...]
    fine_tune_from: str
    map_size: Callable[[int], int]
    weights_file: str | None = None
    weights_folder: str | None = None
    weights_md5: str | None = None
    auto_names: backbone_nets.AutoNames | None = None
    preparation: Mapping[str, object] = field(default_factory=dict)

    def stage_of(self, layer_name: str) -> str | None:
        """Return the stage that a layer belongs to, None for none."""
        found = [s for s in self.stages if f"{layer_name}_".startswith(f"{s}_")]
        return max(found, key=len) if found else None

    def least_size(self) -> int:
        """Return the shortest image side that leaves a feature map."""
        return next(n for n in range(1, 1000) if self.map_size(n) >= 1)

    def contract(self, **fields) -> InputContract:
        """Return this net's own input contract, other fields as given."""
        return InputContract(backbone=self.name, **{**self.preparation, **fields})

    @property
    def weights_url(self) -> str | None:
        """Where Keras itself fetches the ImageNet weights; None: nowhere."""
        if self.weights_folder is None:
            return None
        return f"{KERAS_FILES}{self.weights_folder}/{self.weights_file}"


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


def _inception_map(side: int) -> int:
    """Two strided and two plain unpadded convolutions, two poolings, two reductions."""
    side = (side - 1) // 2 - 2
    side = (side - 1) // 2 - 2
    for _ in range(3):
        side = (side - 1) // 2
    return max(side, 0)


def _xception_map(side: int) -> int:
    """Two unpadded convolutions, the first strided, then four padded poolings.

    71 pixels are the least that Keras's net is meant for.
    """
    return -(-((side - 1) // 2 - 2) // 16) if side >= 71 else 0


def _yaroslav_map(side: int) -> int:
    return side // 64


_RESNET_UNITS = {2: 3, 3: 4, 4: 6, 5: 3}


def _vgg_stages(*convolutions: int) -> tuple[str, ...]:
    return tuple(
        f"block{block}_conv{index + 1}"
        for block, count in enumerate(convolutions, start=1)
        for index in range(count)
    )


_NETS = (
    Backbone(
        name="squeezenet",
        build=backbone_nets.squeezenet,
        stride=16,
        stages=("conv1", *(f"fire{i}" for i in range(2, 10))),
        fine_tune_from="fire6",
        map_size=_squeezenet_map,
        weights_file="squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
        preparation={"channel_means": IMAGENET_BGR_MEANS},
    ),
    Backbone(
        name="vgg16",
        build=backbone_nets.vgg16,
        stride=32,
        stages=_vgg_stages(2, 2, 3, 3, 3),
        fine_tune_from="block4_conv1",
        map_size=_halved_five_times,
        weights_file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_folder="vgg16",
        weights_md5="6d6bbae143d832006294945121d1f1fc",
    ),
    Backbone(
        name="vgg19",
        build=backbone_nets.vgg19,
        stride=32,
        stages=_vgg_stages(2, 2, 4, 4, 4),
        fine_tune_from="block4_conv1",
        map_size=_halved_five_times,
        weights_file="vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_folder="vgg19",
        weights_md5="253f8cb515780f3b799900260a226db6",
    ),
    Backbone(
        name="resnet50",
        build=backbone_nets.resnet50,
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
        weights_folder="resnet",
        weights_md5="4d473c1dd8becc155b73f8504c6f6626",
    ),
    Backbone(
        name="inception_v3",
        build=backbone_nets.inception_v3,
        stride=32,
        stages=tuple(backbone_nets.INCEPTION_CONVS),
        fine_tune_from="mixed3",
        map_size=_inception_map,
        weights_file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_folder="inception_v3",
        weights_md5="bcbd6486424b2319ff4ef7d526e38f63",
        auto_names=backbone_nets.INCEPTION_NAMES,
        preparation=PLUS_MINUS_ONE,
    ),
    Backbone(
        name="xception",
        build=backbone_nets.xception,
        stride=32,
        stages=tuple(f"block{index}" for index in range(1, 15)),
        fine_tune_from="block5",
        map_size=_xception_map,
        weights_file="xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_folder="xception",
        weights_md5="b0042744bf5b25fce3cb969f33bebb97",
        auto_names=backbone_nets.XCEPTION_NAMES,
        preparation=PLUS_MINUS_ONE,
    ),
    Backbone(
        name="yaroslav",
        build=backbone_nets.yaroslav,
        stride=64,
        stages=_vgg_stages(*([2] * len(backbone_nets.YAROSLAV_FILTERS))),
        fine_tune_from="block4_conv1",
        map_size=_yaroslav_map,
        preparation={"channels": 1},
    ),
)
_BACKBONES = {net.name: net for net in _NETS}
