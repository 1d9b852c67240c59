"""The command line of `dm_models.weights`: describe a model file, import an old one.

python -m dm_models.weights describe MODEL.keras
python -m dm_models.weights import FILE.h5 --mean 52.18 --out MODEL.keras
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dm_models.inputs import FULL_SCALE
from dm_models.layer_files import ModelFileError, WeightsError
from dm_models.weights import check_model_ending, read_contract, save_model


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit status 0, or 2 for a file that cannot be used."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (ModelFileError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dm_models.weights", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True)
    describe = commands.add_parser("describe", help="print a model's input contract")
    describe.add_argument("model", type=Path, help="a .keras or .h5 file")
    describe.set_defaults(command=_describe)
    take = commands.add_parser(
        "import", help="wrap a model that Keras 2 saved with its input contract"
    )
    take.set_defaults(command=_import)
    flag = take.add_argument
    flag("file", type=Path, help="a whole model saved by Keras 2; it is only read")
    flag(
        "--mean",
        type=float,
        required=True,
        metavar="M",
        help="the scalar subtracted from its images, on the 0-255 scale",
    )
    flag(
        "--rescale-factor",
        type=float,
        default=FULL_SCALE,
        metavar="F",
        help="16-bit level x F = that scale (default: 255/65535 = 0.003891)",
    )
    flag("--backbone", metavar="NET", help="for the contract (default: recognised)")
    flag(
        "--class-list",
        nargs="+",
        metavar="NAME",
        help="outputs in order (default: neg pos, or the five patch classes)",
    )
    flag("--out", type=Path, required=True, metavar="MODEL.keras")
    flag("--overwrite", action=argparse.BooleanOptionalAction, default=False)
    return parser


def _describe(arguments: argparse.Namespace) -> int:
    print(read_contract(arguments.model).to_json())
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from dm_models.keras2 import import_keras2

    out = arguments.out
    check_model_ending(out)
    if out.exists() and not arguments.overwrite:
        raise ModelFileError(f"{out} exists; give --overwrite to replace it")
    model, contract = import_keras2(
        arguments.file, mean=arguments.mean, scale=arguments.rescale_factor,
        backbone=arguments.backbone, class_names=arguments.class_list,
    )  # fmt: skip
    save_model(model, out, contract)
    frozen = [x.name for x in model.layers if x.weights and not x.trainable]
    held = f"{len(frozen)} layers, {frozen[0]} to {frozen[-1]}" if frozen else "none"
    print(f"input {model.input_shape[1:]}, 16-bit grey levels x {contract.scale:.6f} - "
          f"{contract.mean:.2f}, {contract.channels} channels")  # fmt: skip
    assumed = "" if arguments.class_list else " (assumed: a file holds no names)"
    print(f"outputs {', '.join(contract.class_names)}, in this order{assumed}")
    print(f"{model.count_params():,} weights; frozen in the file: {held}")
    print(f"imported {arguments.file} as {out}")
    return 0
