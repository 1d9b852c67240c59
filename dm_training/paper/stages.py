"""The reproduction as a list of stages: one command each, to be run by hand as well.

A stage is a script of `bin/` or a module with its arguments, run in the reproduction's
folder, what must be done before it, and what it leaves behind. The list is complete
before anything runs, so that `--dry-run` can print it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dm_models.published import FOUR_BEST, image_row
from dm_training.paper import rows
from dm_training.paper.scales import Scale

SPLITS = ("paper", "official")
_EPOCHS_BEFORE, _MORE, _PATIENCE = 50, 200, 50


@dataclass(frozen=True)
class Settings:
    """What a reproduction is asked for.

    Attributes:
        scale: Its sizes.
        cbis_ddsm, inbreast: Folders of DICOM; None makes phantoms, where the scale
            says how many.
        split: "paper" or "official": of the film images.
        seed: Of phantoms, splits, patches and trainings.
        draws: Subsets of women of each size in Table 4.
        weights: Net -> file of ImageNet weights without top; others as Keras has them.
    """

    scale: Scale
    cbis_ddsm: Path | None = None
    inbreast: Path | None = None
    split: str = "paper"
    seed: int = 12345
    draws: int = 2
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One command of the reproduction.

    Attributes:
        name: `KIND.ROW`, such as "whole.vgg16-s10-512x1".
        command: Words; `bin/...` and `python` are the project's own.
        needs: Names of the stages that must be done before.
        out: What it makes, relative to the reproduction's folder.
        product: The file that is there once it is done.
        again: Words added where `out` exists already: it was killed half-way.
        accepts: Exit statuses of a stage that is done; 1 of a conversion means that
            some files could not be read and are listed.
        grows: Another command may follow the one it was done with, and goes on.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    out: str = ""
    product: str = ""
    again: tuple[str, ...] = ()
    accepts: tuple[int, ...] = (0,)
    grows: bool = False

    def text(self) -> str:
        """The command as a line for a shell."""
        return shlex.join(self.command)


def build_plan(settings: Settings, parts: Collection[str]) -> list[Stage]:
    """Every stage that some parts need, each after those it needs.

    Args:
        settings: See `Settings`.
        parts: Keys of `rows.PARTS`.
    """
    wanted, scale = rows.wanted(parts), settings.scale
    patches = [name for name in wanted.patches if scale.is_trained(name)]
    images = [name for name in wanted.images if scale.is_trained(name)]
    digital = bool(wanted.tuned or wanted.curves)
    plan = _phantoms(settings, film=bool(patches), digital=digital)
    if patches:
        plan += _film(settings, sorted({name.split("-")[1] for name in patches}))
    plan += [_patch(settings, name) for name in patches]
    plan += [_whole(settings, name) for name in images]
    if wanted.forest:
        plan.append(_forest(settings))
    if digital:
        plan += _digital(settings)
    plan += [_tuned(settings, name) for name in wanted.tuned]
    if wanted.ensembles:
        plan += [_ensemble("film", "whole"), _ensemble("digital", "tuned")]
    plan += [_curve(settings, name) for name in wanted.curves]
    if scale.stand_ins:
        plan.append(_rehearsal(settings, [*wanted.patches, *wanted.images]))
    return plan


def _phantoms(settings: Settings, *, film: bool, digital: bool) -> list[Stage]:
    missing = (film and settings.cbis_ddsm is None) or (
        digital and settings.inbreast is None
    )
    if not missing or settings.scale.phantoms is None:
        return []
    women, digital_women = map(str, settings.scale.phantoms)
    return [Stage(
        "phantoms",
        ("bash", "bin/00_make_phantoms.sh", "raw", "--patients", women,
         "--digital-patients", digital_women, "--seed", str(settings.seed)),
        out="raw", product="raw/truth.csv", again=("--overwrite",),
    )]  # fmt: skip


def _film(settings: Settings, patch_sets: Collection[str]) -> list[Stage]:
    scale = settings.scale
    given = settings.cbis_ddsm
    source = "raw/cbis-ddsm" if given is None else str(given)
    convert = Stage(
        "film.convert",
        ("bash", "bin/01_convert_cbis_ddsm.sh", source, "film", "--size",
         str(scale.height), str(scale.width)),
        () if given else ("phantoms",), "film", "film/images.csv", accepts=(0, 1),
    )  # fmt: skip
    scheme = ["--scheme", settings.split, "--val-share", str(scale.film_shares[1])]
    if settings.split == "paper":
        scheme += ["--test-share", str(scale.film_shares[0])]
    split = _split(settings, "film", scheme)
    sampled = (_patches(settings, name) for name in patch_sets)
    return [convert, split, _audit("film"), *sampled]


def _split(settings: Settings, name: str, flags: list[str]) -> Stage:
    return Stage(
        f"{name}.split",
        ("bash", "bin/02_split_patients.sh", name, f"splits/{name}", *flags,
         "--seed", str(settings.seed)),
        (f"{name}.convert",), f"splits/{name}", f"splits/{name}/splits.json",
        ("--overwrite",),
    )  # fmt: skip


def _audit(name: str) -> Stage:
    """What is odd in the data goes into the report; status 1: it found errors."""
    return Stage(
        f"{name}.audit",
        ("python", "-m", "dm_preprocess.audit", f"splits/{name}/images.csv",
         f"{name}/lesions.csv", "--out", f"audit/{name}"),
        (f"{name}.split",), f"audit/{name}", f"audit/{name}/audit.json",
        ("--overwrite",), accepts=(0, 1),
    )  # fmt: skip


def _patches(settings: Settings, patch_set: str) -> Stage:
    scale, folder = settings.scale, f"patches/{patch_set}"
    return Stage(
        f"patches.{patch_set}",
        ("bash", "bin/03_sample_patches.sh", "splits/film", "film", folder,
         "--recipe", scale.sets[patch_set], "--size", str(scale.patch_size),
         "--seed", str(settings.seed), "--allow-missing-masks"),
        ("film.split",), folder, f"{folder}/patches.csv", ("--overwrite",),
    )  # fmt: skip


def _patch(settings: Settings, row: str) -> Stage:
    net, patch_set, *random = row.split("-")
    used, seed = _net_and_seed(settings, net)
    recipe = "-".join((used, settings.scale.sets[patch_set], *random))
    weights = settings.weights.get(net)
    return Stage(
        f"patch.{row}",
        ("bash", "bin/04_train_patch_classifier.sh", f"patches/{patch_set}/patches.csv",
         f"patch/{row}", "--net", used, "--recipe", recipe,
         *(("--weights", weights) if weights and not random else ()),
         "--featurewise-mean", "splits/film/splits.json",
         *_of_training(seed), *settings.scale.patch_flags),
        (f"patches.{patch_set}",), f"patch/{row}", f"patch/{row}/metrics.json",
        ("--resume",),
    )  # fmt: skip


def _whole(settings: Settings, row: str) -> Stage:
    net, patch_set, top = row.split("-", 2)
    used, seed = _net_and_seed(settings, net)
    patch = rows.patch_of(row)
    return Stage(
        f"whole.{row}",
        ("bash", "bin/05_train_whole_image.sh", "splits/film/images.csv",
         f"whole/{row}", "--recipe", f"{used}-{settings.scale.sets[patch_set]}-{top}",
         "--patch-model-state", f"patch/{patch}/best.keras", *_of_training(seed),
         *_more_epochs(settings.scale, row), *settings.scale.image_flags),
        (f"patch.{patch}",), f"whole/{row}", f"whole/{row}/metrics.json", ("--resume",),
    )  # fmt: skip


def _more_epochs(scale: Scale, row: str) -> tuple[str, ...]:
    """Rows whose best epoch lies beyond 50 in the paper were resumed there (3.1.2)."""
    published = image_row(row)
    if not scale.more_epochs or (published.epochs or 0) <= _EPOCHS_BEFORE:
        return ()
    end = str(_EPOCHS_BEFORE + _MORE)
    return "--all-layer-epochs", end, "--es-patience", str(_PATIENCE)


def _forest(settings: Settings) -> Stage:
    row = rows.TWO_STEP_PATCH
    return Stage(
        "forest",
        ("python", "-m", "dm_training.heatmap_forest", f"patch/{row}/best.keras",
         "splits/film/images.csv", "--out", "forest", "--seed", str(settings.seed),
         "--min-samples-split", str(settings.scale.min_samples_split)),
        (f"patch.{row}",), "forest", "forest/metrics.json", ("--overwrite",),
    )  # fmt: skip


def _digital(settings: Settings) -> list[Stage]:
    scale, given = settings.scale, settings.inbreast
    source = "raw/inbreast" if given is None else str(given)
    convert = Stage(
        "digital.convert",
        ("bash", "bin/07_convert_inbreast.sh", source, "digital", "--size",
         str(scale.height), str(scale.width)),
        () if given else ("phantoms",), "digital", "digital/images.csv",
        accepts=(0, 1),
    )  # fmt: skip
    test, val = map(str, scale.digital_shares)
    flags = ["--scheme", "paper", "--test-share", test, "--val-share", val]
    return [convert, _split(settings, "digital", flags), _audit("digital")]


def _tuned(settings: Settings, row: str) -> Stage:
    return Stage(
        f"tuned.{row}",
        ("bash", "bin/08_finetune_inbreast.sh", f"whole/{row}/best.keras",
         "splits/digital/images.csv", f"tuned/{row}",
         *_of_training(settings.seed), *settings.scale.tuning_flags),
        (f"whole.{row}", "digital.split"), f"tuned/{row}", f"tuned/{row}/metrics.json",
        ("--resume",),
    )  # fmt: skip


def _ensemble(data: str, kind: str) -> Stage:
    """The mean of the four best models' augmented predictions, on val and on test."""
    runs = [f"{kind}/{row}" for row in FOUR_BEST.values()]
    return Stage(
        f"ensemble.{data}",
        ("python", "-m", "dm_training.ensemble", *runs, "--split", "val", "test",
         "--out", f"ensemble/{data}.csv"),
        tuple(f"{kind}.{row}" for row in FOUR_BEST.values()), f"ensemble/{data}.csv",
        f"ensemble/{data}.csv", ("--overwrite",),
    )  # fmt: skip


def _curve(settings: Settings, row: str) -> Stage:
    sizes = map(str, settings.scale.curve_sizes)
    return Stage(
        f"curve.{row}",
        ("python", "-m", "dm_training.learning_curve", f"whole/{row}/best.keras",
         "splits/digital/images.csv", "--out", f"curve/{row}", "--sizes", *sizes,
         "--skip-larger", "--draws", str(settings.draws), "--seed", str(settings.seed),
         "--", "--distribute", "none", *settings.scale.tuning_flags),
        (f"whole.{row}", "digital.split"), f"curve/{row}", f"curve/{row}/curve.json",
        grows=True,
    )  # fmt: skip


def _rehearsal(settings: Settings, names: list[str]) -> Stage:
    scale = settings.scale
    return Stage(
        "rehearsal",
        ("python", "-m", "dm_training.paper.rehearsal", *names, "--out", "rehearsal",
         "--size", str(scale.height), str(scale.width), "--patch-size",
         str(scale.patch_size), "--seed", str(settings.seed)),
        (), "rehearsal", "rehearsal/rehearsal.json", grows=True,
    )  # fmt: skip


def _net_and_seed(settings: Settings, net: str) -> tuple[str, int]:
    standing = settings.scale.stand_ins.get(net)
    if standing is None:
        return net, settings.seed
    return standing.net, settings.seed + standing.seed_offset


def _of_training(seed: int) -> tuple[str, ...]:
    """One row trains on one device: the paper's batch of two must not be shared out."""
    return "--seed", str(seed), "--distribute", "none"
