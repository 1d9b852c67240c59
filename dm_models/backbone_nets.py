"""The layers of every backbone: prepared tensor (N, H, W, channels) -> feature map.

A net stands flat in the graph of the tensor, and every layer with weights has a name
that does not depend on what was built before it: names address freezing and weight
files. Keras's own InceptionV3 and Xception number some layers by a counter of the
process (`conv2d_17`); those get names here, and `AutoNames` says which is which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras

YAROSLAV_FILTERS = (32, 64, 128, 256, 256, 512)
SQUEEZENET_FIRES = (
    (16, 64), (16, 64), (32, 128), (32, 128),
    (48, 192), (48, 192), (64, 256), (64, 256),
)  # fmt: skip
# Convolutions of each part of InceptionV3, in the order in which Keras makes them.
INCEPTION_CONVS = {
    "stem": 5, "mixed0": 7, "mixed1": 7, "mixed2": 7, "mixed3": 4, "mixed4": 10,
    "mixed5": 10, "mixed6": 10, "mixed7": 10, "mixed8": 6, "mixed9": 9, "mixed10": 9,
}  # fmt: skip
XCEPTION_SHORTCUTS = ("block2", "block3", "block4", "block13")

_POOLINGS = ("average_pooling2d", "max_pooling2d")
_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")


@dataclass(frozen=True)
class AutoNames:
    """Names for the layers that Keras numbers: kind -> names in order of making."""

    conv2d: tuple[str, ...]
    batch_normalization: tuple[str, ...]

    def renamed(self, names: Iterable[str]) -> dict[str, str]:
        """Map names to ours; names that Keras did not number stay.

        Args:
            names: A model's or a file's layers. Their numbers may start anywhere
                (a process that built other nets before counts on), so the lowest of a
                kind is its first.

        Returns:
            Each name -> ours. Where there are more of a kind than there should be, the
            rest keep their names, so that strict loading reports them.
        """
        names = list(names)
        mapping = {name: name for name in names}
        for kind in ("conv2d", "batch_normalization"):
            ours = getattr(self, kind)
            for order, name in _numbered(names, kind).items():
                if order < len(ours):
                    mapping[name] = ours[order]
        return mapping


def squeezenet(x):
    """SqueezeNet v1.1 without its top (Iandola et al. 2016), 722,496 parameters."""
    x = keras.layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for index, (squeeze, expand) in enumerate(SQUEEZENET_FIRES, start=2):
        x = _fire(x, squeeze, expand, f"fire{index}")
        if index in (3, 5):
            x = keras.layers.MaxPooling2D(3, strides=2, name=f"pool{index}")(x)
    return x


def yaroslav(x):
    """The YaroslavNet of the authors' published models, 1 channel, stride 64.

    Six blocks of two 3x3 convolutions, each with bias, batch norm and ReLU, then 2x2
    max pooling; 5,901,792 parameters.
    """
    for index, filters in enumerate(YAROSLAV_FILTERS, start=1):
        for part in (1, 2):
            name = f"block{index}_conv{part}"
            x = keras.layers.Conv2D(
                filters, 3, padding="same", kernel_initializer="he_normal", name=name
            )(x)
            x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{index}_pool")(x)
    return x


def vgg16(x):
    """Keras's VGG16 (Simonyan and Zisserman 2014)."""
    return _application(keras.applications.VGG16, x)


def vgg19(x):
    """Keras's VGG19 (Simonyan and Zisserman 2014)."""
    return _application(keras.applications.VGG19, x)


def resnet50(x):
    """Keras's ResNet50 (He et al. 2015)."""
    return _application(keras.applications.ResNet50, x)


def inception_v3(x):
    """Keras's InceptionV3 (Szegedy et al. 2015)."""
    return _application(keras.applications.InceptionV3, x, INCEPTION_NAMES)


def xception(x):
    """Keras's Xception (Chollet 2017)."""
    return _application(keras.applications.Xception, x, XCEPTION_NAMES)


def _application(build: Callable, x, names: AutoNames | None = None):
    """Keras's own net, standing flat in the graph of `x`."""
    model = build(include_top=False, weights=None, input_tensor=x)
    if names is not None:
        ours = names.renamed(layer.name for layer in model.layers)
        for kind in ("activation", "add", "concatenate", *_POOLINGS):
            for order, name in _numbered(list(ours), kind).items():
                ours[name] = f"{model.name}_{kind}{order + 1}"
        for layer in model.layers:
            layer.name = ours[layer.name]
    return model.output


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


def _numbered(names: list[str], kind: str) -> dict[int, str]:
    """Order of making, from 0 -> name, of `conv2d`, `conv2d_1`, ... of one kind."""
    found = {}
    for name in names:
        stem, number = _NUMBERED.fullmatch(name).groups()
        if stem == kind:
            found[int(number or 0)] = name
    first = min(found, default=0)
    return {number - first: name for number, name in found.items()}


_INCEPTION_CONV_NAMES = tuple(
    f"{part}_conv{index}"
    for part, count in INCEPTION_CONVS.items()
    for index in range(1, count + 1)
)
INCEPTION_NAMES = AutoNames(
    conv2d=_INCEPTION_CONV_NAMES,
    batch_normalization=tuple(f"{name}_bn" for name in _INCEPTION_CONV_NAMES),
)
XCEPTION_NAMES = AutoNames(
    conv2d=tuple(f"{block}_shortcut" for block in XCEPTION_SHORTCUTS),
    batch_normalization=tuple(f"{block}_shortcut_bn" for block in XCEPTION_SHORTCUTS),
)
