"""Train a whole-image classifier on top of a patch classifier, or fine-tune one.

    python -m dm_training.image_clf_train images.csv images.csv images.csv \\
        --patch-model-state runs/patch/best.keras \\
        --recipe resnet50-s10-512-512-1024x2 --out runs/whole

    python -m dm_training.image_clf_train TRAIN VAL TEST --no-patch-model-state \\
        --resume-from runs/whole/best.keras --nb-epoch 0 --all-layer-epochs 50

The patch net is cut before its pooling, convolutional blocks go on its feature map,
and image labels alone train the whole: first the new layers, then all. `--resume-from`
starts from a whole-image model instead; it needs no outlined lesion.

Source:
    Shen et al. 2.1, 3.1.4, 3.2.2, Tables 2 to 4.
"""

from __future__ import annotations

import argparse
import sys
from argparse import BooleanOptionalAction

from dm_preprocess.tables import IMAGE_CLASSES
from dm_training import arguments as flags
from dm_training import recipes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-train-image", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    flags.add_shared(parser)
    flag = parser.add_argument_group("whole-image classifier").add_argument
    flag("--recipe", help="NET-SET-TOP, such as resnet50-s10-512-512-1024x2")
    flags.add_list_recipes(flag)
    flag("--patch-model-state", metavar="FILE", help="the patch classifier to build on")
    flag(
        "--no-patch-model-state",
        dest="patch_model_state",
        action="store_const",
        const=None,
        help="build on ImageNet weights, or on --resume-from",
    )
    flag("--resume-from", metavar="FILE", help="whole-image model to fine-tune")
    flag("--no-resume-from", dest="resume_from", action="store_const", const=None)
    flag("--patch-net", choices=recipes.NETS, help="net without --patch-model-state")
    flag(
        "--match-steps",
        nargs="+",
        default=(),
        metavar="RUN",
        help="lengthen the last stage until this training takes as many steps as "
        "these runs took together (a comparison at equal effort)",
    )
    _add_top(parser)
    return parser


def _add_top(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument_group("top, where no --recipe is given").add_argument
    flag("--block-type", choices=("resnet", "vgg"), default="resnet")
    flag("--top-depths", type=int, nargs="+", default=[512, 512])
    flag("--top-repetitions", type=int, nargs="+", default=[2, 2])
    flag("--bottleneck-enlarge-factor", type=int, default=2, help="N / L")
    flag("--add-heatmap", action=BooleanOptionalAction, default=False)
    flag(
        "--avg-pool-size",
        type=int,
        nargs="+",
        help="heatmap's pooling (default: the patch net's own map)",
    )
    flag("--hm-strides", type=int, nargs="+", default=[1])
    flag(
        "--add-conv",
        action=BooleanOptionalAction,
        default=True,
        help="convolutional blocks; without them FC layers on the heatmap",
    )
    flag(
        "--add-shortcut",
        action=BooleanOptionalAction,
        default=False,
        help="from the pooled heatmap to the output",
    )
    flag("--hm-pool-size", type=int, nargs="+", default=[5])
    flag("--fc-init-units", type=int, default=64)
    flag("--fc-layers", type=int, default=2)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; exit status 0, 1 (training failed) or 2 (bad input)."""
    parsed = _parser().parse_args(argv)
    from dm_training.training import run_command

    return run_command(_train, parsed)


def _train(parsed: argparse.Namespace) -> int:
    from dm_training import starting_models, training

    flags.check_gone(parsed)
    _check_start(parsed)
    recipe = _recipe(parsed)
    ends = [parsed.nb_epoch, parsed.all_layer_epochs]
    stages = flags.stages_of(recipe.stages, parsed, ends)
    session = training.open_session(
        parsed, "whole", default_classes=IMAGE_CLASSES,
        default_size=(recipe.height, recipe.width), default_batch=recipe.batch_size,
    )  # fmt: skip
    with session.run.discarded_if_refused(), session.distribution.scope():
        if parsed.resume_from:
            model, contract = starting_models.resumed_image_model(
                session, parsed.resume_from
            )
        else:
            model, contract = starting_models.new_image_model(session, recipe)
        stages = training.matched_stages(session, stages, parsed.match_steps)
    return training.train_and_report(
        session, model, contract, stages, watch="val_auc", balance="sampling"
    )


def _recipe(parsed) -> recipes.ImageRecipe:
    """The recipe that the flags name; a model to fine-tune brings its own net."""
    if parsed.resume_from:
        from dm_training.starting_models import starting_recipe

        return starting_recipe(parsed.resume_from)
    name = parsed.recipe or f"{parsed.patch_net or 'resnet50'}-s10-{_top(parsed)}"
    recipe = recipes.image_recipe(name)
    if parsed.patch_net and parsed.patch_net != recipe.backbone:
        raise flags.UsageError(
            f"--patch-net {parsed.patch_net} contradicts --recipe {name}"
        )
    return recipe


def _top(parsed: argparse.Namespace) -> str:
    """The authors' flags for a top, in the notation of recipes."""
    from dm_models import tops

    top = tops.top_from_flags(
        block_type=parsed.block_type, depths=parsed.top_depths,
        repetitions=parsed.top_repetitions, enlarge=parsed.bottleneck_enlarge_factor,
        add_heatmap=parsed.add_heatmap, add_conv=parsed.add_conv,
        add_shortcut=parsed.add_shortcut, hm_pool_size=parsed.hm_pool_size[0],
        fc_init_units=parsed.fc_init_units, fc_layers=parsed.fc_layers,
    )  # fmt: skip
    return str(top)


def _check_start(parsed: argparse.Namespace) -> None:
    if parsed.patch_model_state and parsed.resume_from:
        raise flags.UsageError(
            "--patch-model-state and --resume-from: give one; a whole-image model "
            "holds its patch net already"
        )
    if parsed.nb_epoch == 0 and not parsed.resume_from:
        raise flags.UsageError(
            "--nb-epoch 0: stage 1 of zero epochs leaves a fresh top random while all "
            "layers are trained through it, which undoes the patch net; give at least "
            "one epoch, or --resume-from a whole-image model"
        )


if __name__ == "__main__":
    sys.exit(main())
