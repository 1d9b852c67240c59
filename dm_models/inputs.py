"""The input contract: what a network was fed, stored with it and applied inside it.

Every network of this package takes RAW 16-bit grey levels, 0..65535, as float32 of
shape (N, H, W, 1), and brings them to its backbone's scale and channels itself. The
layers are stock Keras layers, so a saved model needs none of our code to load, and they
compute in float32 under any precision policy: 65535 is infinite in float16.

The paper's scale is 0-255 minus ONE scalar, the training images' mean (Shen et al.,
3.1.2); SqueezeNet's published weights expect BGR minus three means instead.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

CONTRACT_FORMAT = 2
# Format 1 had no word on how images are made from files: it meant these.
PREPARATION = {"crop_breast": False, "grey": "full-range", "voi": False}
GREYS = ("full-range", "auto-level")
_READ_FORMATS = (1, 2)
FULL_SCALE = 255 / 65535
IMAGENET_BGR_MEANS = (103.939, 116.779, 123.68)
INPUT_NAME = "grey"
SCALE_LAYER = "grey_scale"
CHANNELS_LAYER = "grey_channels"
MEANS_LAYER = "grey_channel_means"


class ContractError(ValueError):
    """An input contract is malformed or does not fit; the message says where."""


@dataclass(frozen=True)
class InputContract:
    """How raw grey levels become a backbone's input, and what its outputs mean.

    The network sees `(grey * scale - mean) / divisor + offset`, repeated to `channels`,
    minus `channel_means`.

    Attributes:
        backbone: A name of `dm_models.backbones`, or a free word for other files.
        scale: Factor on the 16-bit level; 255/65535 gives the 0-255 scale.
        mean: One scalar on the 0-255 scale: the training images' mean grey level.
            Nets with their own scaling (`uses_mean` is False) keep it at 0.
        channel_means: BGR means subtracted after the repetition; None for none.
        divisor: 127.5 for nets on [-1, 1], else 1.
        offset: -1 for nets on [-1, 1], else 0.
        channels: 3, or 1 for nets of one channel.
        height: Rows of the images trained on; None where unknown or mixed.
        width: Columns of the images trained on; None where unknown or mixed.
        class_names: Names of the outputs, in order.
        fit: How images were brought to that size: "squash" or "pad".
        polarity: "MONOCHROME2": dense tissue is bright.
        grey_stats: Where the mean was measured (split, images, value), or None.
        crop_breast: Whether images are cut to the breast before they are fitted.
        grey: "full-range" of the stored bits, or "auto-level": each image's own range
            is stretched over all levels, before it is cut.
        voi: Whether a DICOM file's modality and VOI LUT or window are applied.
    """

    backbone: str
    scale: float = FULL_SCALE
    mean: float = 0.0
    channel_means: tuple[float, ...] | None = None
    divisor: float = 1.0
    offset: float = 0.0
    channels: int = 3
    height: int | None = None
    width: int | None = None
    class_names: tuple[str, ...] = ()
    fit: str = "squash"
    polarity: str = "MONOCHROME2"
    grey_stats: dict | None = None
    crop_breast: bool = PREPARATION["crop_breast"]
    grey: str = PREPARATION["grey"]
    voi: bool = PREPARATION["voi"]

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ContractError(f"channels must be 1 or 3, received {self.channels!r}")
        if self.channel_means and len(self.channel_means) != self.channels:
            raise ContractError(
                f"channel_means must hold {self.channels} numbers, one a channel, "
                f"received {self.channel_means!r}"
            )
        if not self.scale > 0:
            raise ContractError(f"scale must be positive, received {self.scale!r}")
        if self.grey not in GREYS:
            raise ContractError(
                f"grey must be one of {', '.join(GREYS)}, received {self.grey!r}"
            )
        for name in ("crop_breast", "voi"):
            if not isinstance(getattr(self, name), bool):
                raise ContractError(
                    f"{name} must be true or false, received {getattr(self, name)!r}"
                )

    @property
    def uses_mean(self) -> bool:
        """Whether the scalar mean is part of this backbone's preparation."""
        return self.channel_means is None and self.divisor == 1.0

    def replace(self, **changes) -> InputContract:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Return the contract as JSON text, with its format number."""
        fields = {"format": CONTRACT_FORMAT, **dataclasses.asdict(self)}
        return json.dumps(fields, indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> InputContract:
        """Read what `to_json` wrote.

        Raises:
            ContractError: No JSON object, a later format, or fields that are unknown or
                cannot be.
        """
        return cls(**_checked_fields(_parsed(text)))


def grey_input(
    contract: InputContract, *, height: int | None = None, width: int | None = None
):
    """Open a network: raw grey levels in, the backbone's scale and channels out.

    Args:
        contract: The preparation to build in.
        height: Rows, or None for any.
        width: Columns, or None for any.

    Returns:
        (input tensor (N, H, W, 1), prepared tensor (N, H, W, contract.channels)), both
        float32 whatever the global precision policy is.
    """
    import keras

    inputs = keras.Input((height, width, 1), dtype="float32", name=INPUT_NAME)
    prepared = keras.layers.Rescaling(
        contract.scale / contract.divisor,
        offset=_scalar_offset(contract),
        dtype="float32",
        name=SCALE_LAYER,
    )(inputs)
    if contract.channels == 3:
        prepared = keras.layers.Concatenate(dtype="float32", name=CHANNELS_LAYER)(
            [prepared] * 3
        )
    if contract.channel_means is not None:
        prepared = keras.layers.Rescaling(
            1.0,
            offset=[-mean for mean in contract.channel_means],
            dtype="float32",
            name=MEANS_LAYER,
        )(prepared)
    return inputs, prepared


def set_mean(model: keras.Model, contract: InputContract, mean: float) -> InputContract:
    """Change the scalar mean that a built model subtracts, in place.

    For fine-tuning on another machine's images, whose mean differs (52.18 on DDSM,
    44.33 on INbreast in the authors' scripts).

    Args:
        model: A model opened by `grey_input`.
        contract: Its contract.
        mean: The new mean, on the 0-255 scale.

    Returns:
        The contract with the new mean. A backbone that uses no scalar mean keeps its
        layers and gets its contract back unchanged: compare, and tell the user.

    Raises:
        ContractError: The model has no scale layer of ours.
    """
    if not contract.uses_mean:
        return contract
    names = [layer.name for layer in model.layers]
    if SCALE_LAYER not in names:
        raise ContractError(
            f"model {model.name!r} has no layer {SCALE_LAYER!r}: its mean is not ours "
            "to change"
        )
    changed = contract.replace(mean=float(mean))
    model.get_layer(SCALE_LAYER).offset = _scalar_offset(changed)
    _forget_traces(model)
    return changed


def _scalar_offset(contract: InputContract) -> float:
    return contract.offset - contract.mean / contract.divisor


def _forget_traces(model: keras.Model) -> None:
    """Compiled functions hold the old constant; the next call traces anew."""
    model.train_function = None
    model.test_function = None
    model.predict_function = None


def _parsed(text: str | bytes) -> Mapping:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ContractError(f"the input contract is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ContractError(
            "the input contract must be a JSON object, received "
            f"{type(fields).__name__}"
        )
    return fields


def _checked_fields(fields: Mapping) -> dict:
    received = fields.get("format")
    if received not in _READ_FORMATS:
        raise ContractError(
            f"input contract format {received!r} is not known; this version reads "
            f"{' and '.join(map(str, _READ_FORMATS))}"
        )
    known = {field.name for field in dataclasses.fields(InputContract)}
    unknown = sorted(set(fields) - known - {"format"})
    if unknown or "backbone" not in fields:
        raise ContractError(
            f"input contract fields must be among {sorted(known)} with 'backbone'; "
            f"unknown: {unknown}"
        )
    kept = {name: value for name, value in fields.items() if name in known}
    for name in ("channel_means", "class_names"):
        if kept.get(name) is not None:
            kept[name] = tuple(kept[name])
    return kept
