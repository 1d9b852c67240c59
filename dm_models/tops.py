"""The paper's notation for a whole-image top <-> the layers of that top.

Shen et al., 3.1.4 and Tables 2 and 3. Two forms of one grammar, both read, both printed
back unchanged:

shell form            paper's form                        what it is
512-512-1024x2        [512-512-1024]x2                    two Resnet blocks alike
256x1                 256x1                               two VGG blocks alike
256-256-512x3+...     [256-256-512]x3+[128-128-256]x3     two different blocks
hm+512-512-1024x2     hm+[512-512-1024]x2                 with the heatmap between
hm-pool5-fc64-32      the same                            heatmap, max pooling, two
                                                          FC layers, shortcut

Extensions for the authors' flags: `-noshortcut` at the end of an FC top, and
`+shortcut-pool5` after blocks. A shortcut or FC layers fix the image size.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class TopError(ValueError):
    """A top that cannot be read or built; the message gives the rule."""


@dataclass(frozen=True)
class Block:
    """`[L-M-N] x K` (three depths) or `N x K` (one)."""

    depths: tuple[int, ...]
    repetitions: int

    @property
    def is_resnet(self) -> bool:
        """Whether this is a Resnet block; else a VGG block."""
        return len(self.depths) == 3

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.depths))}x{self.repetitions}"

    @property
    def notation(self) -> str:
        """The paper's form."""
        depths = "-".join(map(str, self.depths))
        return f"{f'[{depths}]' if self.is_resnet else depths}x{self.repetitions}"


@dataclass(frozen=True)
class Top:
    """What stands between the patch net's feature map and the last layer.

    Attributes:
        blocks: Convolutional blocks in order, at least two, or none for an FC top.
        heatmap: The heatmap comes between feature map and blocks.
        pool: Max pooling of the heatmap before FC layers or shortcut; None: neither.
        fc: Units of the FC layers.
        shortcut: From the pooled, flattened heatmap to the output.
    """

    blocks: tuple[Block, ...] = ()
    heatmap: bool = False
    pool: int | None = None
    fc: tuple[int, ...] = ()
    shortcut: bool = False

    def __post_init__(self) -> None:
        if bool(self.blocks) == bool(self.fc):
            raise TopError("a top has either blocks or FC layers")
        if len(self.blocks) == 1:
            raise TopError(
                f"a top has at least two blocks, received only {self.blocks[0]}"
            )
        if (self.pool is not None) != bool(self.fc or self.shortcut):
            raise TopError("the heatmap is max-pooled for FC layers or a shortcut only")
        sizes = [d for b in self.blocks for d in (*b.depths, b.repetitions)]
        if min([*sizes, *self.fc, self.pool or 1]) < 1:
            raise TopError(f"all numbers of a top are at least 1, received {self}")

    @property
    def fixed_size(self) -> bool:
        """Whether nets with this top take one image size only."""
        return self.pool is not None

    @property
    def uses_heatmap(self) -> bool:
        """Whether the patch head is part of nets with this top."""
        return self.heatmap or self.pool is not None

    def __str__(self) -> str:
        return self._text(str)

    @property
    def notation(self) -> str:
        """The paper's form, with brackets around Resnet blocks."""
        return self._text(lambda block: block.notation)

    def _text(self, form: Callable[[Block], str]) -> str:
        if self.fc:
            end = "" if self.shortcut else "-noshortcut"
            return f"hm-pool{self.pool}-fc{'-'.join(map(str, self.fc))}{end}"
        alike = len(self.blocks) == 2 and self.blocks[0] == self.blocks[1]
        parts = ["hm"] if self.heatmap else []
        parts += [form(block) for block in self.blocks[: 1 if alike else None]]
        parts += [f"shortcut-pool{self.pool}"] if self.shortcut else []
        return "+".join(parts)


_FC = re.compile(r"hm-pool(\d+)-fc(\d+(?:-\d+)*)(-noshortcut)?")
_RESNET = re.compile(r"\[?(\d+)-(\d+)-(\d+)\]?x(\d+)")
_VGG = re.compile(r"(\d+)x(\d+)")
_SHORTCUT = re.compile(r"shortcut-pool(\d+)")


def parse_top(text: str) -> Top:
    """Read a top in either form; blanks do not matter.

    Raises:
        TopError: Not in the grammar of the module's docstring.

    Example:
        >>> parse_top("[512-512-1024] x 2").notation
        '[512-512-1024]x2'
    """
    plain = re.sub(r"\s+", "", text).replace("×", "x")
    found = _FC.fullmatch(plain)
    if found:
        fc = tuple(map(int, found[2].split("-")))
        return Top(pool=int(found[1]), fc=fc, shortcut=found[3] is None)
    parts = plain.split("+")
    heatmap = parts[0] == "hm"
    parts = parts[1:] if heatmap else parts
    shortcut = _SHORTCUT.fullmatch(parts[-1]) if parts else None
    blocks = [_parse_block(part, text) for part in (parts[:-1] if shortcut else parts)]
    return Top(
        blocks=tuple(blocks * 2 if len(blocks) == 1 else blocks),
        heatmap=heatmap,
        pool=int(shortcut[1]) if shortcut else None,
        shortcut=shortcut is not None,
    )


def top_from_flags(
    *,
    block_type: str = "resnet",
    depths: Sequence[int] = (512, 512),
    repetitions: Sequence[int] = (3, 3),
    enlarge: int = 4,
    add_heatmap: bool = False,
    add_conv: bool = True,
    add_shortcut: bool = False,
    hm_pool_size: int = 5,
    fc_init_units: int = 64,
    fc_layers: int = 2,
) -> Top:
    """Make a top from the flags of the authors' `image_clf_train.py`.

    Args:
        block_type: "resnet" or "vgg".
        depths: `--top-depths`, one a block: L of [L-L-L*enlarge], or N.
        repetitions: `--top-repetitions`, one a block.
        enlarge: `--bottleneck-enlarge-factor`, N / L.
        add_heatmap: The heatmap before the blocks; always there without blocks.
        add_conv: False for the FC top.
        add_shortcut: From the pooled heatmap to the output.
        hm_pool_size: Its max pooling.
        fc_init_units: Units of the first FC layer; each next has half.
        fc_layers: How many.
    """
    pool = hm_pool_size
    if not add_conv:
        fc = tuple(max(fc_init_units // 2**index, 1) for index in range(fc_layers))
        return Top(pool=pool, fc=fc, shortcut=add_shortcut)
    if block_type not in ("resnet", "vgg"):
        raise TopError(f"block_type must be resnet or vgg, received {block_type!r}")
    if len(depths) != len(repetitions):
        raise TopError(
            f"top-depths and top-repetitions are one number a block each, received "
            f"{list(depths)} and {list(repetitions)}"
        )
    wide = (lambda d: (d, d, d * enlarge)) if block_type == "resnet" else lambda d: (d,)
    blocks = tuple(Block(wide(d), r) for d, r in zip(depths, repetitions, strict=True))
    return Top(blocks, add_heatmap, pool if add_shortcut else None, (), add_shortcut)


def top_map_size(top: Top, side: int, *, heatmap_pool: int, hm_strides: int = 1) -> int:
    """Return the length of the map's side that is left of a feature map's, 0: none.

    Args:
        top: The top.
        side: Rows or columns of the feature map.
        heatmap_pool: Rows or columns of the patch net's own map.
        hm_strides: Step of the heatmap.
    """
    heat = (side - heatmap_pool) // hm_strides + 1 if side >= heatmap_pool else 0
    pooled = heat // top.pool if top.pool else 1
    if top.fc or (top.shortcut and pooled < 1):
        return pooled
    left = heat if top.heatmap else side
    for block in top.blocks:
        left = -(-left // 2) if block.is_resnet else left // 2
    return left


def apply_top(
    features,
    top: Top,
    *,
    heat=None,
    num_classes: int = 2,
    dropout: float = 0.0,
    weight_decay: float = 0.0,
):
    """Apply a top and the last layer.

    Args:
        features: The patch net's feature map (N, h, w, C).
        top: What to build.
        heat: The ReLU heatmap (N, h', w', classes), where `top.uses_heatmap`.
        num_classes: Outputs of the softmax.
        dropout: Rate before the last layer.
        weight_decay: L2 factor on every kernel of the top.

    Returns:
        Probabilities (N, num_classes), float32 under any precision policy.
    """
    import keras

    from dm_models import blocks

    pooled = blocks.pooled_and_flat(heat, top.pool) if top.pool else None
    if top.fc:
        x = blocks.fc_layers(pooled, top.fc, name="top", weight_decay=weight_decay)
    else:
        x = _stacked(heat if top.heatmap else features, top.blocks, weight_decay)
        x = keras.layers.GlobalAveragePooling2D(name="top_pool")(x)
    x = keras.layers.Dropout(dropout, name="top_dropout")(x)
    return blocks.softmax_of(
        [x, pooled] if top.shortcut else [x], num_classes, weight_decay=weight_decay
    )


def _parse_block(part: str, text: str) -> Block:
    found = _RESNET.fullmatch(part) or _VGG.fullmatch(part)
    if not found:
        raise TopError(
            f"top {text!r}: cannot read {part!r}; a top looks like 512-512-1024x2, "
            "[512-512-1024]x2, 256x1+128x1, hm+512-512-1024x2 or hm-pool5-fc64-32"
        )
    *depths, repetitions = map(int, found.groups())
    return Block(tuple(depths), repetitions)


def _stacked(x, stack: Sequence[Block], weight_decay: float):
    from dm_models.blocks import resnet_block, vgg_block

    for index, block in enumerate(stack, start=1):
        apply = resnet_block if block.is_resnet else vgg_block
        x = apply(
            x,
            block.depths if block.is_resnet else block.depths[0],
            repetitions=block.repetitions,
            name=f"top_block{index}",
            weight_decay=weight_decay,
        )
    return x


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of every recipe; see `dm_models.tops_table`."""
    from dm_models import tops_table

    return tops_table.main(argv)


if __name__ == "__main__":
    sys.exit(main())
