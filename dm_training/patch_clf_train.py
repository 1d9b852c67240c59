"""Train a patch classifier in stages.

    python -m dm_training.patch_clf_train patches.csv patches.csv patches.csv \\
        --net resnet50 --out runs/patch

A net (--net lists them) without its top, global average pooling, dropout,
Dense(5, softmax); first the new layer alone, then the upper stages, then all.

Source:
    Shen et al. 3.1.2, Table 1.
"""

from __future__ import annotations

import argparse
import sys

from dm_preprocess.tables import PATCH_CLASSES
from dm_training import arguments as flags
from dm_training import recipes

# The authors' numbers of the layer from which stage 2 trains, and today's names.
_LAYER_NUMBERS = {"resnet50": 46, "vgg16": 11}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-train-patch", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    flags.add_shared(parser)
    flag = parser.add_argument_group("patch classifier").add_argument
    flag("--recipe", help="NET-SET or NET-SET-random, such as resnet50-s10")
    flags.add_list_recipes(flag)
    flag("--net", choices=recipes.NETS, help="without --recipe (default: resnet50)")
    flag("--patch-set", help="which schedule: s1 or s10 (the default)")
    flag(
        "--top-layer-epochs",
        type=int,
        metavar="N",
        help="stage 2 ends after epoch N, counted from the start",
    )
    flag(
        "--top-layer-multiplier",
        type=float,
        metavar="X",
        help="stage 2's rate is stage 1's times this",
    )
    flag(
        "--top-layer-nb",
        default=None,
        metavar="STAGE",
        help="named stage from which stage 2 trains; the authors' numbers for "
        "resnet50 (46) and vgg16 (11) are taken as the stages they meant",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; exit status 0, 1 (training failed) or 2 (bad input)."""
    parsed = _parser().parse_args(argv)
    from dm_training.training import run_command

    return run_command(_train, parsed)


def _train(parsed: argparse.Namespace) -> int:
    from dm_training import starting_models, training

    flags.check_gone(parsed)
    recipe = _recipe(parsed)
    stages = _stages(recipe, parsed)
    session = training.open_session(
        parsed, "patch", default_classes=PATCH_CLASSES,
        default_size=(recipe.size, recipe.size), default_batch=recipe.batch_size,
    )  # fmt: skip
    with session.run.discarded_if_refused(), session.distribution.scope():
        model, contract = starting_models.new_patch_model(
            session, recipe.backbone, recipe.dropout
        )
    return training.train_and_report(
        session, model, contract, stages, watch="val_accuracy", balance="batch-weights"
    )


def _recipe(parsed: argparse.Namespace) -> recipes.PatchRecipe:
    """The recipe that the flags name; a random one turns ImageNet weights off."""
    if parsed.recipe is None:
        return recipes.patch_recipe(
            parsed.net or "resnet50",
            parsed.patch_set or "s10",
            pretrained=parsed.use_pretrained,
        )
    recipe = recipes.parse_patch_recipe(parsed.recipe)
    for flag, given, said in (
        ("--net", parsed.net, recipe.backbone),
        ("--patch-set", parsed.patch_set, recipe.patch_set),
    ):
        if given is not None and given != said:
            raise flags.UsageError(
                f"{flag} {given} contradicts --recipe {parsed.recipe}"
            )
    if not parsed.use_pretrained:
        recipe = recipes.patch_recipe(
            recipe.backbone, recipe.patch_set, pretrained=False
        )
    parsed.use_pretrained = recipe.pretrained
    return recipe


def _stages(recipe: recipes.PatchRecipe, parsed) -> tuple[recipes.Stage, ...]:
    ends = [parsed.nb_epoch, parsed.top_layer_epochs, parsed.all_layer_epochs]
    if parsed.nb_epoch == 0:
        raise flags.UsageError(
            "--nb-epoch 0: stage 1 of zero epochs leaves the new layer random while "
            "the backbone is trained through it; give at least one epoch"
        )
    stages = flags.stages_of(recipe.stages, parsed, ends)
    if parsed.top_layer_nb is not None:
        stages = (stages[0], _from_stage(stages[1], recipe, parsed), stages[2])
    return stages


def _from_stage(stage: recipes.Stage, recipe, parsed) -> recipes.Stage:
    from dataclasses import replace

    name = parsed.top_layer_nb
    if name.isdigit():
        known = _LAYER_NUMBERS.get(recipe.backbone)
        if int(name) != known:
            raise flags.UsageError(
                f"--top-layer-nb {name}: layers are named, not counted, since numbers "
                f"shift with Keras; the authors' {known} is {stage.train_from!r} (the "
                "default); name any stage of the net"
            )
        return stage
    return replace(stage, train_from=name)


if __name__ == "__main__":
    sys.exit(main())
