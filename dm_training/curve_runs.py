"""The trainings of a learning curve: who is in each, and how it is started.

A subset is a table like the whole set's in which the other training women belong to
no split; validation and test rows are the same in all. The subsets of one draw are
nested and stratified by a woman's worst label; another draw has another order of
women. "all" women are the same in every draw, so that its draws differ in the
training's seed alone.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dm_preprocess import tables
from dm_preprocess.splits import patient_subsets, training_grey_mean, worst_labels
from dm_training.runs import DEFAULT_SEED, read_json, write_json

FORMAT = 1
ALL = "all"
_OWN_FLAGS = ("--out", "--seed", "--resume", "--overwrite", "--resume-from")
_PATHS = ("model_file", "table", "out")


class CurveError(ValueError):
    """A learning curve cannot be made from this; the message says why."""


@dataclass(frozen=True)
class CurveRun:
    """One training, or (`women` 0) the model scored as it is.

    Attributes:
        name: `draw1_women20`, after the model's name and `/` where it has one.
        model: The model's name for tables and legends.
        model_file: What is fine-tuned.
        women: Training women; 0 where nothing is trained.
        draw: From 1; 0 where nothing is trained.
        seed: Of the draw of women and of the training.
        table: The subset's image table.
        out: The run folder.
        images, positives: Labelled training images, and those with label 1.
        grey_mean: Of the subset's images; None where the flags say what is done.
        flags: Further flags of `dm_training.image_clf_train`.
    """

    name: str
    model: str
    model_file: Path
    women: int
    draw: int
    seed: int
    table: Path
    out: Path
    images: int = 0
    positives: int = 0
    grey_mean: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """What to run; a training that stands half-way goes on."""
        python = [sys.executable, "-m"]
        if not self.women:
            return [*python, "dm_training.predict", str(self.model_file),
                    str(self.table), "--split", "test", "--level", "image", "--out",
                    str(self.out / "predictions_test.csv")]  # fmt: skip
        table = [str(self.table)] * 3
        mean = []
        if self.grey_mean is not None:
            mean = ["--featurewise-mean", f"{self.grey_mean:.4f}"]
        begun = self.out.is_dir() and any(self.out.iterdir())
        return [
            *python, "dm_training.image_clf_train", *table, "--no-patch-model-state",
            "--resume-from", str(self.model_file), "--seed", str(self.seed), *mean,
            "--out", str(self.out), *self.flags, *["--resume"] * begun,
        ]  # fmt: skip

    def done(self) -> bool:
        """Whether its figures stand."""
        last = "metrics.json" if self.women else "predictions_test.csv"
        return (self.out / last).is_file()


def plan_runs(
    models: Mapping[str, str | os.PathLike], images: str | os.PathLike,
    out: str | os.PathLike, *, sizes: Sequence[int | str], draws: int = 3,
    seed: int = DEFAULT_SEED, flags: Sequence[str] = (), before: bool = True,
) -> list[CurveRun]:  # fmt: skip
    """Draw the subsets, write their tables and plan.json; nothing is trained.

    Args:
        models: Name -> file. The name "" (of one model alone) stands in no path.
        images: The image table with its splits.
        out: The curve's folder. An earlier plan in it may be extended by sizes, draws
            and models.
        sizes: Training women, and "all".
        draws: How many orders of women.
        seed: Of the first draw; the next ones follow.
        flags: For `dm_training.image_clf_train`.
        before: Score each model as it is, too.

    Returns:
        The runs, done or not, small before large.

    Raises:
        CurveError: A size, name, seed or flag cannot be, or the folder holds another
            curve.
        SplitError: A subset would lack a class.
        TableError: The image table breaks a rule.
    """
    flags, out, images = tuple(flags), Path(out).absolute(), Path(images).absolute()
    _check_request(models, flags, draws, seed)
    models = {name: Path(file).absolute() for name, file in models.items()}
    frame = tables.read_images(images)
    tables.check_disjoint_patients(frame, where=str(images))
    facts = _facts(models, images, out, seed, flags, frame)
    earlier = _earlier_plan(out, facts)
    runs = _as_they_are(models, images, out) if before else []
    for draw in range(1, draws + 1):
        drawn = draw_subsets(frame, sizes, seed=seed + draw - 1)
        for women, subset in drawn.items():
            table = out / "subsets" / f"draw{draw}_women{women}.csv"
            _write_subset(subset, images, table, keep=bool(earlier))
            runs += _subset_runs(models, subset, table, images, women=women,
                                 draw=draw, seed=seed + draw - 1,
                                 flags=flags)  # fmt: skip
    runs = sorted(runs, key=lambda run: run.women)
    _write_plan(out, facts, runs, earlier)
    return runs


def draw_subsets(
    images: pd.DataFrame, sizes: Sequence[int | str], *, seed: int
) -> dict[int, pd.DataFrame]:
    """Nested subsets of the training women.

    Args:
        images: The image table; who validates and tests stays.
        sizes: Training women, and "all".
        seed: Same seed, same women.

    Returns:
        Women -> the whole table, its split emptied for the training women left out.

    Raises:
        CurveError: There are fewer training women.
        SplitError: A subset would lack a class.
    """
    labels = worst_labels(images[images["split"] == "train"])
    wanted = sorted({len(labels) if size == ALL else int(size) for size in sizes})
    if not wanted or wanted[0] < 1 or wanted[-1] > len(labels):
        raise CurveError(
            f"--sizes must lie in 1..{len(labels)}, the training women with a label; "
            f"received {', '.join(map(str, sizes))}; 'all' takes them all"
        )
    chosen = patient_subsets(labels, wanted, seed=seed)
    train = images["split"] == "train"
    left_out = {
        women: train & ~images["patient_id"].isin(patients)
        for women, patients in chosen.items()
    }
    return {
        women: images.assign(split=images["split"].mask(out, ""))
        for women, out in left_out.items()
    }


def training_women(images: str | os.PathLike) -> int:
    """How many women with a label an image table has in train."""
    frame = tables.read_images(images)
    return len(worst_labels(frame[frame["split"] == "train"]))


def planned_runs(out: str | os.PathLike) -> list[CurveRun]:
    """The runs that plan.json lists, as `collect` needs them (no command).

    Raises:
        RunError: There is no plan.
    """
    out = Path(out)
    return [
        CurveRun(**row | {key: out / row[key] for key in _PATHS})
        for row in read_json(out / "plan.json")["runs"]
    ]


def _check_request(
    models: Mapping, flags: tuple[str, ...], draws: int, seed: int
) -> None:
    if not models or ("" in models and len(models) > 1):
        raise CurveError("several models need a name each: NAME=FILE")
    for name, file in models.items():
        _check_model(name, Path(file))
    if draws < 1:
        raise CurveError(f"--draws must be at least 1, received {draws}")
    if seed < 0:
        raise CurveError(f"--seed must be at least 0, received {seed}")
    own = [flag for flag in flags if flag.split("=")[0] in _OWN_FLAGS]
    if own:
        raise CurveError(f"{', '.join(own)}: set for each run by the curve itself")


def _check_model(name: str, file: Path) -> None:
    """A name is a folder's below runs/, and the file is what it claims to be."""
    if name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in name):
        raise CurveError(
            f"a model's name must be a plain file name, received {name!r}: its runs "
            "stand in runs/NAME"
        )
    if not file.is_file():
        raise CurveError(f"{file}: no such model file")
    if file.suffix == ".keras" and not zipfile.is_zipfile(file):
        raise CurveError(f"{file}: not a .keras file, or truncated: no zip archive")


def _facts(models, images: Path, out: Path, seed: int, flags, frame) -> dict:
    """What all runs of a curve share; paths are seen from plan.json."""
    rows = frame[frame["label"].notna()]
    splits = {name: rows[rows["split"] == name] for name in tables.SPLITS}
    return {
        "format": FORMAT, "images": os.path.relpath(images, out), "seed": seed,
        "flags": list(flags),
        "models": {name: os.path.relpath(file, out) for name, file in models.items()},
        "women": {name: int(r["patient_id"].nunique()) for name, r in splits.items()},
    }  # fmt: skip


def _earlier_plan(out: Path, facts: dict) -> dict:
    """The plan that runs in the folder follow; runs differ in women and draws only."""
    if not (out / "plan.json").is_file() or not (out / "runs").is_dir():
        return {}
    earlier = read_json(out / "plan.json")
    both = set(earlier["models"]) & set(facts["models"])
    differ = [
        f"{key} ({earlier[key]!r} before, {facts[key]!r} now)"
        for key in ("images", "seed", "flags") if earlier[key] != facts[key]
    ]  # fmt: skip
    differ += [
        f"model {name}" for name in sorted(both)
        if earlier["models"][name] != facts["models"][name]
    ]  # fmt: skip
    if differ:
        raise CurveError(
            f"{out}: holds runs of other {'; '.join(differ)}; use another --out"
        )
    return earlier


def _as_they_are(models: Mapping, images: Path, out: Path) -> list[CurveRun]:
    """Each model's run without training; one that Keras 2 saved holds no mean."""
    from dm_models.keras2_files import is_keras2_model

    return [
        CurveRun("/".join(filter(None, (name, "as_it_is"))), _label(name, file),
                 file, 0, 0, 0, images, out / "runs" / name / "as_it_is")
        for name, file in models.items() if not is_keras2_model(file)
    ]  # fmt: skip


def _subset_runs(
    models: Mapping, subset: pd.DataFrame, table: Path, images: Path, *, women: int,
    draw: int, seed: int, flags: tuple[str, ...],
) -> list[CurveRun]:  # fmt: skip
    """Each model's training on one subset."""
    rows = subset[(subset["split"] == "train") & subset["label"].notna()]
    mean = None
    if not any("featurewise" in flag for flag in flags):
        mean = training_grey_mean(rows, images, jobs=1)[0]
    if not any(flag.split("=")[0] == "--pixel-cache" for flag in flags):
        flags = ("--pixel-cache", str(images.parent / ".pixels"), *flags)
    folder = table.parent.parent / "runs"
    return [
        CurveRun(
            "/".join(filter(None, (model, table.stem))), _label(model, file),
            file, women, draw, seed, table, folder / model / table.stem,
            len(rows), int((rows["label"] == 1).sum()), mean, flags,
        )
        for model, file in models.items()
    ]  # fmt: skip


def _label(name: str, file: Path) -> str:
    return name or (file.parent.name if file.stem == "best" else file.stem)


def _write_subset(
    subset: pd.DataFrame, images: Path, table: Path, *, keep: bool
) -> None:
    """Write a subset's table; one to `keep` must be the same."""
    if keep and table.is_file():
        there = tables.read_images(table)
        same = there["image_id"].tolist() == subset["image_id"].tolist()
        if not same or there["split"].tolist() != subset["split"].tolist():
            raise CurveError(
                f"{table}: holds other women than {images} and the seed give; a curve "
                "of other images or another seed needs another --out"
            )
        return
    moved = {
        name: [tables.rebase(cell, images, table) for cell in subset[name]]
        for name in ("path", "source_path")
    }
    tables.write_table(subset.assign(**moved), table, "images")


def _write_plan(out: Path, facts: dict, runs: Sequence[CurveRun], earlier: dict):
    rows = {row["name"]: row for row in earlier.get("runs", [])}
    rows |= {run.name: _row(run, out) for run in runs}
    facts["models"] = earlier.get("models", {}) | facts["models"]
    write_json(out / "plan.json", {**facts, "runs": [*rows.values()]})


def _row(run: CurveRun, out: Path) -> dict:
    kept = ("name", "model", "women", "draw", "seed", "images", "positives")
    paths = {key: os.path.relpath(getattr(run, key), out) for key in _PATHS}
    return {key: getattr(run, key) for key in kept} | paths
