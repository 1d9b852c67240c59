"""What a quickstart found: summary.json, report.html, and a table on the terminal.

    python -m dm_training.summary demo runs/quickstart
    python -m dm_training.summary mini-mias runs/mini-mias
    python -m dm_training.summary pool fold*/whole/predictions_test.csv --out DIR

Every figure is computed here from the prediction tables of the runs; none is copied
from anywhere else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dm_preprocess import tables
from dm_training import evaluate, metrics, plots, report
from dm_training.runs import RunError, read_json, write_json

_TRAINED = ("patch", "whole", "whole_no_patch", "finetuned", "digital_imagenet")
SYNTHETIC = (
    "Synthetic data: every image here is a phantom. Film stands for CBIS-DDSM and "
    "digital for INbreast in form only, and no figure says anything of real mammograms."
)
_FILM, _DIGITAL = "phantoms as CBIS-DDSM film", "phantoms as INbreast, digital"


def paired_figure(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """The difference of two models' AUCs on the same images, as a figure with `p`.

    Args:
        first: Predictions of the model that is expected to be better.
        second: The other's, of the same images in any order.

    Raises:
        SummaryError: The tables are not about the same images.
    """
    both = first.merge(second, on="image_id", suffixes=("", "_2"), validate="1:1")
    if not len(both) == len(first) == len(second):
        raise SummaryError(
            f"two models were scored on different images: {len(first)} and "
            f"{len(second)} rows, {len(both)} in common"
        )
    value, low, high, p = metrics.paired_auc_difference(
        both["y_true"], both["y_score"], both["y_score_2"], both["patient_id"]
    )
    found = metrics.figure(value, low, high, n=len(both), level="image", split="test",
                           positives=both["y_true"].sum())  # fmt: skip
    return {**found, "p": p}


class SummaryError(ValueError):
    """The runs do not fit together; the message says how."""


def demo_summary(root: Path) -> dict:
    """All figures of the quickstart on phantoms."""
    film = _scores(root / "film_scores/predictions.csv")
    film_4 = _scores(root / "film_scores/predictions_augmented.csv")
    no_patch = _scores(root / "whole_no_patch/predictions_test.csv")
    before = _scores(root / "digital_before/predictions.csv")
    after = _scores(root / "digital_after/predictions.csv")
    imagenet = _scores(root / "digital_imagenet/predictions_test.csv")
    whole, tuned = _metrics(root, "whole"), _metrics(root, "finetuned")
    return {
        "data": {"film": _FILM, "digital": _DIGITAL,
                 "seed": read_json(root / "whole/config.json")["seed"]},
        "patch_test_accuracy": _metrics(root, "patch")["test_accuracy"],
        "whole_image_test_auc": metrics.auc_figure(film),
        "whole_image_test_auc_augmented": metrics.auc_figure(film_4),
        "whole_image_test_auc_last_epoch": whole["test_auc_last_epoch"],
        "whole_image_test_auc_no_patch_training": metrics.auc_figure(no_patch),
        "patch_training_difference": paired_figure(film, no_patch),
        "global_statistics_auc": _baseline(root, "statistics"),
        "thumbnail_auc": _baseline(root, "thumbnail"),
        "inbreast_auc_before_finetune": metrics.auc_figure(before),
        "inbreast_auc_after_finetune": metrics.auc_figure(after),
        "inbreast_auc_after_finetune_last_epoch": tuned["test_auc_last_epoch"],
        "inbreast_auc_imagenet_only": metrics.auc_figure(imagenet),
        "finetune_difference": paired_figure(after, before),
        "film_model_difference": paired_figure(after, imagenet),
        "steps": {name: _metrics(root, name)["steps"] for name in _TRAINED},
        "saved_model": "exported/whole/1",
        "weights_h5": "exported_weights.h5",
        "seconds": _seconds(root),
    }  # fmt: skip


def demo_sections(root: Path, summary: dict) -> list[report.Section]:
    """The report's sections with their pictures: both studies, then the patches."""
    picture, section = report.Picture, report.Section
    sheets = [picture(p, p.stem.replace("contact_", "Class ").replace("_", " "))
              for p in sorted((root / "patches").glob("contact_*.png"))]  # fmt: skip
    results, *rest = report.summary_sections(summary)
    return [
        replace(results, notices=[SYNTHETIC]),
        *_study(root, "Film", film_request(root)),
        *_study(root, "Digital", digital_request(root)),
        section("Patch classifier", pictures=[
            picture(root / "patch/plots/history.png", "Loss and AUC"),
            picture(root / "patch/plots/confusion.png", "Test split"), *sheets,
        ]),
        *rest,
    ]  # fmt: skip


def film_request(root: Path) -> evaluate.Request:
    """The demo's film study: patches first against whole images only."""
    return evaluate.Request(
        [f"patches first={root / 'whole'}",
         f"whole images only={root / 'whole_no_patch'}"],
        images=root / "film_split/images.csv", lesions=root / "film/lesions.csv",
        audit=root / "film_audit", model=root / "whole/best.keras",
        patch_model=root / "patch/best.keras", gallery=4,
    )  # fmt: skip


def digital_request(root: Path) -> evaluate.Request:
    """The demo's digital study: fine-tuned, from ImageNet only, film model as it is."""
    return evaluate.Request(
        [f"fine-tuned={root / 'finetuned'}",
         f"ImageNet only={root / 'digital_imagenet'}",
         f"film model as it is={root / 'digital_before/predictions.csv'}"],
        images=root / "digital_split/images.csv",
        lesions=root / "digital/lesions.csv", model=root / "finetuned/best.keras",
        gallery=4,
    )  # fmt: skip


def _study(root: Path, title: str, request: evaluate.Request) -> list[report.Section]:
    from dm_training.evaluation import Choices
    from dm_training.study import open_study, pictures
    from dm_training.study_sections import study_sections

    found = open_study(request, Choices())
    shown, localised = pictures(found)
    write_json(root / f"evaluation_{title.lower()}.json",
               found.facts(root) | {"localisation": localised})  # fmt: skip
    return study_sections(found, root, prefix=title, pictures=shown)


def mias_summary(root: Path) -> dict:
    """All figures of the quickstart on mini-MIAS: pooled over five folds by woman."""
    network = _scores(root / "network/predictions.csv")
    augmented = _scores(root / "network_augmented/predictions.csv")
    frozen = _scores(root / "frozen_features/predictions.csv")
    return {
        "data": {"films": "mini-MIAS, malignant against the rest, 5 folds by woman"},
        "pooled_auc": metrics.auc_figure(network),
        "pooled_auc_augmented": metrics.auc_figure(augmented),
        "frozen_features_auc": metrics.auc_figure(frozen),
        "network_minus_frozen_features": paired_figure(network, frozen),
        "augmented_minus_frozen_features": paired_figure(augmented, frozen),
        "folds": [_metrics(root, f"fold{k}/whole")["test_auc"] for k in range(5)],
        "seconds": _seconds(root),
    }


def mias_sections(root: Path, summary: dict) -> list[report.Section]:
    """The report's sections for mini-MIAS; none of its films is shown."""
    curves = {
        "network": root / "network/predictions.csv",
        "network, four flips": root / "network_augmented/predictions.csv",
        "frozen features": root / "frozen_features/predictions.csv",
    }
    roc = _roc(curves, root / "plots/roc.png", "Pooled over folds")
    results, *rest = report.summary_sections(summary)
    return [results, report.Section("ROC", pictures=[report.Picture(roc, "Pooled")]),
            *rest]  # fmt: skip


def pool(paths: Sequence[Path], out: Path) -> Path:
    """Join the test predictions of folds into one table, and say who was in which.

    Writes `predictions.csv` and `folds.csv` (image_id, fold).

    Raises:
        SummaryError: An image was tested in two folds.
    """
    frames = [_scores(path).assign(fold=k) for k, path in enumerate(paths)]
    frame = pd.concat(frames, ignore_index=True)
    twice = frame["image_id"][frame["image_id"].duplicated()]
    if len(twice):
        raise SummaryError(f"image {twice.iloc[0]} was tested in more than one fold")
    out.mkdir(parents=True, exist_ok=True)
    frame[["image_id", "fold"]].to_csv(out / "folds.csv", index=False)
    return tables.write_table(frame, out / "predictions.csv", "predictions")


def _scores(path: Path) -> pd.DataFrame:
    frame = tables.read_predictions(path)
    return frame[frame["y_true"].notna()]


def _metrics(root: Path, run: str) -> dict:
    return read_json(root / run / "metrics.json")


def _baseline(root: Path, name: str) -> dict:
    """A baseline's AUC over all images, each scored by a fold that had not seen it."""
    found = metrics.auc_figure(_scores(root / name / "predictions.csv"))
    return found | {"split": "all, in 5 folds"}


def _seconds(root: Path) -> dict[str, float]:
    lines = (root / "seconds.tsv").read_text(encoding="utf-8").split("\n")
    pairs = (line.split("\t") for line in lines if line)
    return {name: float(value) for name, value in pairs}


def _roc(paths: dict[str, Path], out: Path, title: str) -> Path:
    frames = {name: _scores(path) for name, path in paths.items()}
    models = {n: (f["y_true"].to_numpy(), f["y_score"].to_numpy())
              for n, f in frames.items()}  # fmt: skip
    figures = {n: metrics.auc_figure(f) for n, f in frames.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    return plots.plot_roc(models, out, title=title, figures=figures)


def _print(summary: dict) -> None:
    print()
    for name, value in summary.items():
        if report.is_figure(value):
            print(f"  {name:<42} {report.format_figure(value, name='')}")
    total = sum(summary["seconds"].values())
    print(f"  {'all stages':<42} {total / 60:.1f} minutes")


def _finish(root: Path, title: str, lead: str, summary: dict, sections) -> None:
    write_json(root / "summary.json", summary)
    from dm_training.study import footer

    report.write_all(root, title, sections, lead=lead, footer=footer())
    _print(summary)
    print(f"report -> {root}/report.html, figures -> {root}/summary.json")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; exit status 0 or 2 (runs missing or not fitting)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("demo", "mini-mias", "pool"))
    parser.add_argument("paths", nargs="+", type=Path, help="run folder, or tables")
    parser.add_argument("--out", type=Path, help="for pool: the folder to write")
    options = parser.parse_args(argv)
    root = options.paths[0]
    try:
        if options.what == "pool":
            if options.out is None:
                parser.error("pool needs --out")
            print(f"pooled -> {pool(options.paths, options.out)}")
        elif options.what == "demo":
            found = demo_summary(root)
            lead = f"From DICOM to a whole-image AUC on {_FILM} and {_DIGITAL}."
            _finish(root, "Quickstart", lead, found, demo_sections(root, found))
        else:
            found = mias_summary(root)
            lead = "Malignant films against all others, five folds by woman."
            _finish(root, "mini-MIAS", lead, found, mias_sections(root, found))
    except (SummaryError, RunError, tables.TableError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
