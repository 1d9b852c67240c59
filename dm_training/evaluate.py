"""`dm-evaluate`: from a table of scores to figures with intervals.

Works on `predictions.csv` of this project and on any CSV from elsewhere whose columns
are named by flags. Image, breast and patient level stand side by side, each with its
own count; the interval comes from resampling women, and where the table names none the
output says so. Sensitivities at a given specificity describe the curve of these very
images; they are no operating point, which is chosen on validation images.

Example:
    python -m dm_training.evaluate predictions.csv --out scores --compare other.csv
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SPECIFICITIES = (0.8, 0.9, 0.95)
FORMAT = 1
COLUMN_FLAGS = {
    "score": "y_score", "truth": "y_true", "id": "image_id", "patient": "patient_id",
    "laterality": "laterality", "split": "split",
}  # fmt: skip


def evaluate_rows(
    rows, split: str = "test", *, how: str = "mean", n: int = 2000, seed: int = 0
) -> dict:
    """All figures of one model's rows.

    Args:
        rows: What `select_rows` gives.
        split: Goes into each figure.
        how: How images make a breast or a woman: "mean" or "max".
        n: Bootstrap draws.
        seed: Of the draws.

    Returns:
        `auc` by level (those that the table's ids allow), `auc_delong`, and
        `sensitivity_at_specificity`.

    Raises:
        MetricError: One class only, an image twice, NaN, some rows without a patient.
    """
    from dm_training import metrics

    levels = ["image"]
    if metrics.has_patients(rows):
        sided = (rows["laterality"].fillna("").astype(str) != "").all()
        levels += ["breast", "patient"] if sided else ["patient"]
    found = {
        level: metrics.auc_figure(rows, level, split, how=how, n=n, seed=seed)
        for level in levels
    }
    counts = {"n": found["image"]["n"], "positives": found["image"]["positives"]}
    delong = metrics.auc_delong(rows["y_true"], rows["y_score"])
    return {
        "auc": found,
        "auc_delong": metrics.figure(*delong, **counts, level="image", split=split),
        "sensitivity_at_specificity": _sensitivities(rows, split, counts, n, seed),
    }


def paired_difference(
    a, b, split: str = "test", *, n: int = 2000, seed: int = 0
) -> dict:
    """AUC(a) - AUC(b) over the same images, image level.

    Args:
        a: Rows of one model, as `select_rows` gives.
        b: Rows of the other; the same images in any order.

    Returns:
        A figure with `p` of the bootstrap of women and `p_delong` beside it; where
        there are no women, DeLong's interval and p.

    Raises:
        MetricError: The tables do not hold the same images and truths.
    """
    from dm_training import metrics

    rows = metrics.join_predictions(a, b)
    scores = rows["y_true"], rows["y_score"], rows["y_score_b"]
    *interval, p = independent = metrics.delong_paired(*scores)
    if metrics.has_patients(rows):
        *interval, p = metrics.paired_auc_difference(
            *scores, rows["patient_id"], n=n, seed=seed
        )
    positives = rows["y_true"].sum()
    counts = {"n": len(rows), "positives": positives, "level": "image", "split": split}
    return metrics.figure(*interval, **counts) | {"p": p, "p_delong": independent[3]}


def evaluate(
    path: str | os.PathLike, out: str | os.PathLike, *, split: str = "test",
    compare: Sequence[str | os.PathLike] = (),
    columns: Mapping[str, str] | None = None, how: str = "mean", n: int = 2000,
    seed: int = 0,
) -> dict:  # fmt: skip
    """Score one table, and others beside it, into a folder.

    Args:
        path: The table of scores.
        out: Gets metrics.json, roc.csv and plots/roc.png.
        compare: Other models' tables on the same images, with the same columns.

    Returns:
        What metrics.json holds.

    Raises:
        TableError, MetricError: As `read_scores`, `evaluate_rows`,
            `paired_difference`; nothing is written then.
    """
    from dm_training import metrics
    from dm_training.prediction_rows import read_scores, select_rows

    tables = [path, *compare]
    names = _names(tables)
    models, left_out = {}, {}
    for name, table in zip(names, tables, strict=True):
        rows, left = select_rows(read_scores(table, columns), split, where=str(table))
        models[name], left_out[name] = rows, left
    first = models[names[0]]
    found = {"format": FORMAT, "model": names[0], "split": split}
    found["predictions"] = os.path.relpath(path, out)
    found["left_out"] = left_out[names[0]]
    found["interval"] = _interval_text(metrics.has_patients(first), n, seed)
    found |= evaluate_rows(first, split, how=how, n=n, seed=seed)
    others = {name: models[name] for name in names[1:]}
    found["compared"] = {
        name: metrics.auc_figure(rows, "image", split, n=n, seed=seed)
        for name, rows in others.items()
    }
    found["paired_differences"] = {
        name: paired_difference(first, rows, split, n=n, seed=seed)
        for name, rows in others.items()
    }
    _write(found, models, Path(out))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = _parser().parse_args(argv)
    from dm_preprocess.tables import TableError
    from dm_training.metrics import MetricError

    given = {flag: getattr(args, f"{flag}_column") for flag in COLUMN_FLAGS}
    columns = {COLUMN_FLAGS[flag]: name for flag, name in given.items() if name}
    if (Path(args.out) / "metrics.json").exists() and not args.overwrite:
        return _refused(f"{args.out}: holds a metrics.json; --overwrite replaces it")
    try:
        found = evaluate(
            args.predictions, args.out, split=args.split, compare=args.compare,
            columns=columns, how=args.how, n=args.draws, seed=args.seed,
        )  # fmt: skip
    except (TableError, MetricError, OSError) as error:
        return _refused(str(error))
    print(_table(found))
    print(f"Wrote metrics.json, roc.csv and plots/roc.png to {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-evaluate", description=__doc__.split("\n\n")[0],
        epilog="Works on any CSV; --score-column and its like name the columns.",
    )  # fmt: skip
    parser.add_argument("predictions", help="CSV with a truth and a score a row")
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--split", default="test",
                        choices=("train", "val", "test"),
                        help="rows to use (default: test)")  # fmt: skip
    parser.add_argument("--compare", nargs="+", default=[], metavar="CSV",
                        help="other models' tables on the same images")  # fmt: skip
    parser.add_argument("--how", choices=("mean", "max"), default="mean",
                        help="images to a breast or woman (default: mean)")  # fmt: skip
    parser.add_argument("--draws", type=_positive, default=2000,
                        help="bootstrap draws of women (default: 2000)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action=argparse.BooleanOptionalAction,
                        default=False, help="replace an earlier result")  # fmt: skip
    for flag, ours in COLUMN_FLAGS.items():
        parser.add_argument(f"--{flag}-column", metavar="NAME",
                            help=f"default: {ours}")  # fmt: skip
    return parser


def _positive(text: str) -> int:
    if int(text) < 100:
        raise argparse.ArgumentTypeError("at least 100 draws make an interval")
    return int(text)


def _sensitivities(rows, split: str, counts: dict, n: int, seed: int) -> dict:
    from dm_training import metrics

    women = "patient_id" if metrics.has_patients(rows) else "image_id"
    scores = rows["y_true"], rows["y_score"], rows[women]
    return {
        f"{at:.2f}": metrics.figure(
            *metrics.sensitivity_bootstrap(*scores, at, n=n, seed=seed),
            **counts, level="image", split=split,
        )
        for at in SPECIFICITIES
    }  # fmt: skip


def _names(tables: Sequence) -> list[str]:
    """File names without suffix, or as much of the paths as tells them apart."""
    paths = [Path(table) for table in tables]
    for names in (
        [path.stem for path in paths],
        [f"{path.parent.name}/{path.stem}" for path in paths],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, 1)]


def _interval_text(women: bool, n: int, seed: int) -> str:
    if not women:
        return "intervals assume independent images (the table names no patients)"
    return f"95 %, {n} bootstrap draws of women, seed {seed}"


def _write(found: dict, models: Mapping, out: Path) -> None:
    from dm_training import metrics, plots

    first = models[found["model"]]
    figures = {found["model"]: found["auc"]["image"], **found["compared"]}
    scores = {name: (rows["y_true"], rows["y_score"]) for name, rows in models.items()}
    out.mkdir(parents=True, exist_ok=True)
    points = metrics.roc_points(first["y_true"], first["y_score"])
    _replace(out / "roc.csv", points.to_csv(index=False, float_format="%.8g"))
    title = f"ROC, image level, {found['split']}"
    plots.plot_roc(scores, out / "plots" / "roc.png", title=title, figures=figures)
    _replace(out / "metrics.json", json.dumps(found, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _table(found: dict) -> str:
    from dm_training.report import format_interval

    lines = [(f"AUC, {level} level", figure) for level, figure in found["auc"].items()]
    lines += [
        (f"sensitivity at specificity {at}", figure)
        for at, figure in found["sensitivity_at_specificity"].items()
    ]
    lines += [(f"AUC of {name}", figure) for name, figure in found["compared"].items()]
    lines += [
        (f"AUC less that of {name}", figure)
        for name, figure in found["paired_differences"].items()
    ]
    width = max(len(label) for label, _ in lines)
    text = [f"{found['model']}, split {found['split']}; {found['interval']}"]
    for label, figure in lines:
        p = f", p = {figure['p']:.3g}" if "p" in figure else ""
        text.append(
            f"  {label:<{width}}  {format_interval(figure)}, n = {figure['n']}, "
            f"{figure['positives']} positive{p}"
        )
    left = found["left_out"]
    text.append(
        f"  left out: {left['no_truth']} row(s) without a truth, "
        f"{left['other_split']} of other splits"
    )
    return "\n".join(text)


def _refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
