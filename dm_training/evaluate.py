"""`dm-evaluate`: from tables of scores to figures with intervals, and a report.

Works on `predictions.csv` of this project, on its run folders, and on any CSV from
elsewhere whose columns are named by flags. Image, breast and patient level stand side
by side; intervals come from resampling women, and where a table names none the output
says so. A threshold and a temperature come from validation rows (a run's own, those of
the same table, or `--fit-on`) or from the model (`--decision`); sensitivities at a
given specificity describe the curve of these very images and are no operating point.

Example:
    dm-evaluate predictions.csv --out scores --compare other.csv
    dm-evaluate runs/whole --compare runs/b --ensemble --out both --images images.csv
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FORMAT = 1
COLUMN_FLAGS = {
    "score": "y_score", "truth": "y_true", "id": "image_id", "patient": "patient_id",
    "laterality": "laterality", "view": "view", "density": "density", "age": "age",
    "vendor": "vendor", "split": "split",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What to evaluate, and what the report may draw on; paths, None for none.

    Attributes:
        sources: CSV files or run folders, `NAME=` before one names it; the first is
            what the report is about.
        split: Of which rows.
        columns: Our name -> the name in a plain table.
        augmented: Of run folders take the mean of four flips.
        ensemble: Add the mean of all.
        fit_on: Tables of validation rows for the threshold: one, or of an ensemble
            one for each member.
        decision: A model or JSON with a stored threshold. Else the one that a run's
            own model holds is used, unless `fit_on`, `rule` or `augmented` say to fit.
        rule: How a threshold is fitted; None for Youden's.
        images: Image table: pictures, and view, density, age, vendor of the rows.
        lesions: Lesion table: outlines, and subgroups by lesion.
        audit: An audit.json, or its folder.
        model, patch_model: For overlays.
        learning_curve: Folder of a learning curve.
        gallery: Images of each kind in the gallery; 0 for none.
        localisation: Whether to measure where maps point, if lesions are given.
        title: The report's.
        notes: What stands on top of the report, such as whose images these are.
    """

    sources: Sequence[str | os.PathLike]
    split: str = "test"
    columns: Mapping[str, str] = field(default_factory=dict)
    augmented: bool = False
    ensemble: bool = False
    fit_on: Sequence[Path] = ()
    decision: Path | None = None
    rule: str | None = None
    images: Path | None = None
    lesions: Path | None = None
    audit: Path | None = None
    model: Path | None = None
    patch_model: Path | None = None
    learning_curve: Path | None = None
    gallery: int = 6
    localisation: bool = True
    title: str = ""
    notes: Sequence[str] = ()


def evaluate(request: Request, out: str | os.PathLike, choices=None) -> dict:
    """Score tables into a folder, with a report.

    Args:
        request: What to evaluate.
        out: Gets metrics.json, roc.csv, plots/, report.html, report.md, report.json.
        choices: `evaluation.Choices`: draws, seed, prevalence, how.

    Returns:
        What metrics.json holds.

    Raises:
        TableError, MetricError, ModelFileError: As `scored.read_scored`,
            `evaluation.choose_decision`; nothing is written then.
    """
    from dm_training import evaluation, study
    from dm_training.report import write_all
    from dm_training.study_sections import study_sections

    choices = choices or evaluation.Choices(split=request.split)
    found, out = study.open_study(request, choices), Path(out)
    pictures, localised = study.pictures(found)
    facts = {"format": FORMAT, **found.facts(out), "localisation": localised}
    with _written_aside(out) as aside:
        sections = study_sections(found, aside, pictures=pictures)
        found.roc_points().to_csv(aside / "roc.csv", index=False, float_format="%.8g")
        write_all(aside, request.title or f"Evaluation of {found.name}", sections,
                  lead=found.lead(), footer=study.footer())  # fmt: skip
        text = json.dumps(facts, indent=2) + "\n"
        (aside / "metrics.json").write_text(text, encoding="utf-8")
    return facts


@contextlib.contextmanager
def _written_aside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, whose contents move into it if all went well.

    What an earlier evaluation left is taken away first, its metrics.json before all
    else and the new one last: a folder with metrics.json holds one evaluation whole.
    """
    out.mkdir(parents=True, exist_ok=True)
    aside = out / ".evaluation.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for name in ("metrics.json", "plots", "report_files"):
            _remove(out / name)
        made = sorted(aside.iterdir(), key=lambda path: path.name == "metrics.json")
        for path in made:
            path.rename(out / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            out.rmdir()  # only where nothing is in it


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = _parser().parse_args(argv)
    from dm_models.layer_files import ModelFileError
    from dm_preprocess.tables import TableError
    from dm_training.evaluation import Choices
    from dm_training.metrics import MetricError
    from dm_training.report import ReportError
    from dm_training.runs import RunError

    wrong = _wrong(args)
    if wrong:
        return _refused(wrong)
    try:
        choices = Choices(split=args.split, how=args.how, draws=args.draws,
                          seed=args.seed, prevalence=args.prevalence)  # fmt: skip
        found = evaluate(_request(args), args.out, choices)
    except (TableError, MetricError, ModelFileError, ReportError, RunError,
            OSError) as error:  # fmt: skip
        return _refused(str(error))
    print(_table(found))
    print(f"Wrote report.html, report.md, metrics.json and roc.csv to {args.out}")
    return 0


def _wrong(args: argparse.Namespace) -> str:
    """What is wrong with the command line, before a table is read."""
    if not args.out:
        return "--out must name a folder, received an empty text"
    if (Path(args.out) / "metrics.json").exists() and not args.overwrite:
        return f"{args.out}: holds a metrics.json; --overwrite replaces it"
    if args.decision and (args.fit_on or args.rule):
        return "--decision brings a threshold; --fit-on and --rule fit one: give either"
    if args.decision and args.ensemble and args.decision.suffix != ".json":
        return "--decision of one model is not that of a mean: --ensemble takes a JSON"
    if (args.model or args.patch_model) and not args.images:
        return "--model and --patch-model draw maps over images: give --images too"
    return ""


def _request(args: argparse.Namespace) -> Request:
    given = {flag: getattr(args, f"{flag}_column") for flag in COLUMN_FLAGS}
    columns = {COLUMN_FLAGS[flag]: name for flag, name in given.items() if name}
    names = ("augmented", "ensemble", "fit_on", "decision", "rule", "images", "lesions",
             "audit", "model", "patch_model", "learning_curve", "gallery",
             "localisation", "title", "notes", "split")  # fmt: skip
    return Request(sources=[args.predictions, *args.compare], columns=columns,
                   **{name: getattr(args, name) for name in names})  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-evaluate", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("predictions", help="CSV with a truth and a score a row, or a run folder")
    add("--out", required=True, help="folder for the results")
    add("--split", default="test", choices=("train", "val", "test"),
        help="rows to use (default: test)")  # fmt: skip
    add("--compare", nargs="+", default=[], metavar="[NAME=]CSV_OR_RUN",
        help="other models on the same images")  # fmt: skip
    add("--ensemble", action=switch, default=False,
        help="add the mean of all models")  # fmt: skip
    add("--augmented", action=switch, default=False,
        help="of run folders, take the mean of four flips")  # fmt: skip
    add("--how", choices=("mean", "max"), default="mean",
        help="images to a breast or woman (default: mean)")  # fmt: skip
    add("--draws", type=_positive, default=2000,
        help="bootstrap draws of women (default: 2000)")  # fmt: skip
    add("--seed", type=_whole, default=0)
    add("--overwrite", action=switch, default=False, help="replace an earlier result")
    _add_threshold(parser)
    _add_report(parser)
    columns = parser.add_argument_group("columns of a table from elsewhere")
    for flag, ours in COLUMN_FLAGS.items():
        columns.add_argument(
            f"--{flag}-column", metavar="NAME", help=f"default: {ours}"
        )
    return parser


def _add_threshold(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("operating point, from validation only")
    add = group.add_argument
    add("--fit-on", type=Path, nargs="+", default=(), metavar="CSV",
        help="rows of split val; with --ensemble a table a model")  # fmt: skip
    add("--decision", type=Path, metavar="FILE",
        help="model (.keras), export or JSON that holds one")  # fmt: skip
    add("--rule", help='fit by it: youden (default), "sensitivity 0.90" or '
        '"specificity 0.90"')  # fmt: skip
    add("--prevalence", type=float,
        help="of cancer where it is to be used, for PPV and NPV")  # fmt: skip


def _add_report(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what the report may draw on").add_argument
    add("--title")
    add("--note", action="append", default=[], dest="notes", metavar="TEXT",
        help="stands on top of the report; may be repeated")  # fmt: skip
    add("--images", type=Path, help="images.csv: pictures, view, density, age, vendor")
    add("--lesions", type=Path, help="lesions.csv: outlines, subgroups by lesion")
    add("--audit", type=Path, help="audit.json of dm-audit, or its folder")
    add("--model", type=Path, help="the whole-image model, for Grad-CAM")
    add("--patch-model", type=Path, help="the patch classifier, for its heat map")
    add("--learning-curve", type=Path, help="folder of 09_learning_curve.sh")
    add("--gallery", type=_whole, default=6, metavar="N",
        help="images of each kind, 0 for none (default: 6)")  # fmt: skip
    add("--localisation", action=argparse.BooleanOptionalAction, default=True,
        help="how often maps point at a lesion, where --lesions are given: a pass of "
        "the nets over all positive images")  # fmt: skip


def _positive(text: str) -> int:
    if int(text) < 100:
        raise argparse.ArgumentTypeError("at least 100 draws make an interval")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _table(found: dict) -> str:
    from dm_training.report import format_interval

    lines = [(f"AUC, {level} level", figure) for level, figure in found["auc"].items()]
    lines.append(("partial AUC, specificity 0.80 to 1", found["partial_auc"]))
    for name, of in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
        lines += [(f"{name} at {of} {at}", figure)
                  for at, figure in found[f"{name}_at_{of}"].items()]  # fmt: skip
    point = found["operating_point"]
    lines += [(f"{name} at the operating point", point[name])
              for name in ("sensitivity", "specificity", "ppv", "npv")
              if point.get(name)]  # fmt: skip
    lines += [(f"{name} at prevalence {point['prevalence']:g}", figure)
              for name in ("ppv", "npv")
              if (figure := point.get(f"{name}_at_prevalence"))]  # fmt: skip
    lines += [(f"AUC of {name}", figure) for name, figure in found["compared"].items()]
    lines += [
        (f"AUC less that of {name}", figure)
        for name, figure in found["paired_differences"].items()
    ]
    width = max(len(label) for label, _ in lines)
    split = f"split {found['split']}"
    if not found["split_given"]:
        split = f"split not given, taken as {found['split']}"
    text = [f"{found['model']}, {split}; {found['interval']}"]
    text += [f"  {label:<{width}}  {format_interval(figure)}, n = {figure['n']}, "
             f"{figure['positives']} positive{_p_text(figure)}"
             for label, figure in lines]  # fmt: skip
    if "not_measured" in point:
        text.append(f"  operating point: not measured, {point['not_measured']}")
    left = found["left_out"]
    text.append(
        f"  left out: {left['no_truth']} row(s) without a truth, "
        f"{left['other_split']} of other splits"
        + (f", {left['no_score']} without a score" if left.get("no_score") else "")
    )
    return "\n".join(text)


def _p_text(figure: dict) -> str:
    if "p" not in figure:
        return ""
    return f", p = {figure['p']:.3g} (Holm {figure['p_holm']:.3g})"


def _refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
