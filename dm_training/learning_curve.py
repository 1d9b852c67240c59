"""How many women's images it takes to fine-tune a model: a learning curve.

    python -m dm_training.learning_curve runs/whole/best.keras data/images.csv \\
        --out runs/curve --sizes 20 30 40 50 60 all --draws 3 -- --all-layer-epochs 50
    python -m dm_training.learning_curve resnet=a.keras vgg=b.keras images.csv \\
        --out runs/curve --sizes 20 40 all

Each model is fine-tuned on nested subsets of the training women, in several draws, and
scored on the same test images. The women of `val` choose the epoch in every run, so
that 20 training women stand for 20 + val women with a label; the score after the last
epoch, which nobody chose, stands beside it. A subset's grey mean is measured on that
subset. What follows `--` goes to `dm_training.image_clf_train`.

A run that is done is not done again and one that was killed goes on; more sizes, draws
or models may be asked for later. OUT gets subsets/, runs/, curve.csv, curve.json and
plots/learning_curve.png.

Source:
    Shen et al. 3.2.2, Table 4: 20, 30, 40, 50, 60 and all 72 women of INbreast, one
    draw, four models. There the scored images chose the epoch, too; here they do not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from argparse import BooleanOptionalAction
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from dm_preprocess.tables import TableError, read_predictions
from dm_training import curve_runs
from dm_training.curve_runs import CurveError, CurveRun, plan_runs, planned_runs
from dm_training.runs import DEFAULT_SEED, RunError, read_json, write_json

__all__ = ["CurveError", "CurveRun", "collect", "main", "plan_runs", "planned_runs",
           "train_all", "write_curve"]  # fmt: skip
SIZES = (20, 30, 40, 50, 60, curve_runs.ALL)


def train_all(runs: Sequence[CurveRun]) -> list[str]:
    """Do every run that is not done, one after the other.

    Returns:
        The names of those that failed.

    Raises:
        CurveError: A run was refused (exit status 2), as the others would be.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        head = f"[{number}/{len(runs)}] {run.name}"
        if run.done():
            print(f"{head}: done already", flush=True)
            continue
        what = f"{run.women} women, {run.images} images ({run.positives} positive)"
        print(f"{head}: {what if run.women else 'the model as it is'}", flush=True)
        run.out.parent.mkdir(parents=True, exist_ok=True)
        with _child_dies_too():
            status = subprocess.run(run.command, check=False).returncode
        if status == 2:
            raise CurveError(f"{run.name}: refused, see above")
        if status:
            print(f"{head}: failed with status {status}", file=sys.stderr)
            failed.append(run.name)
    return failed


@contextlib.contextmanager
def _child_dies_too() -> Iterator[None]:
    """SIGTERM ends this program by an exception, on which `subprocess` kills its child.

    A training left behind would write into the folder of the one that resumes it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set a handler
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def collect(out: str | os.PathLike) -> pd.DataFrame:
    """The figures of all runs that are done.

    Args:
        out: The curve's folder.

    Returns:
        One row a run: model, women, images and positives of its training (0 for the
        model as it is), draw, seed, auc with low and high on the test images, n and
        n_positives of these, auc_augmented (mean over four flips), auc_last_epoch,
        epochs, best_epoch, seconds, run (its name). NaN where a run has none.

    Raises:
        RunError: There is no plan.
        MetricError: Test images have one class only.
    """
    rows = [_figures(run) for run in planned_runs(out) if run.done()]
    columns = ("model", "women", "images", "positives", "draw", "seed", "auc", "low",
               "high", "n", "n_positives", "auc_augmented", "auc_last_epoch", "epochs",
               "best_epoch", "seconds", "run")  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    order = {model: at for at, model in enumerate(dict.fromkeys(frame["model"]))}
    return frame.sort_values(
        ["model", "women", "draw"], ignore_index=True,
        key=lambda c: c.map(order) if c.name == "model" else c,
    )  # fmt: skip


def write_curve(out: str | os.PathLike) -> pd.DataFrame:
    """Write curve.csv, curve.json and, of what was trained, the plot.

    Returns:
        What `collect` does.
    """
    out, frame = Path(out), collect(out)
    missing = [run.name for run in planned_runs(out) if not run.done()]
    aside = out / "curve.csv.part"
    frame.to_csv(aside, index=False, float_format="%.6g")
    os.replace(aside, out / "curve.csv")
    plan = read_json(out / "plan.json")
    write_json(out / "curve.json", {
        "format": curve_runs.FORMAT, "level": "image", "split": "test",
        "women": plan["women"], "missing": missing,
        "models": {name: _model_facts(rows)
                   for name, rows in frame.groupby("model", sort=False)},
    })  # fmt: skip
    if _is_trained(frame):
        from dm_training.plots_results import plot_learning_curve

        plot_learning_curve(frame, out / "plots" / "learning_curve.png")
    return frame


def _is_trained(frame: pd.DataFrame) -> bool:
    return bool((frame["women"] > 0).any())


def _figures(run: CurveRun) -> dict:
    row = {key: getattr(run, key) for key in
           ("model", "women", "images", "positives", "draw", "seed")}  # fmt: skip
    row["run"] = run.name
    if not run.women:
        from dm_training import metrics

        frame = read_predictions(run.out / "predictions_test.csv")
        return row | _flat(metrics.auc_figure(frame[frame["y_true"].notna()]))
    found = read_json(run.out / "metrics.json")
    single = {key: found[key] for key in ("epochs", "best_epoch", "seconds")}
    for key in ("augmented", "last_epoch"):
        single[f"auc_{key}"] = found[f"test_auc_{key}"]["value"]
    return row | single | _flat(found["test_auc"])


def _flat(figure: dict) -> dict:
    return {"auc": figure["value"], "low": figure["low"], "high": figure["high"],
            "n": figure["n"], "n_positives": figure["positives"]}  # fmt: skip


def _model_facts(rows: pd.DataFrame) -> dict:
    """One model's figures by size: every draw's, their mean and their range."""
    before = rows[rows["women"] == 0]
    sizes = [
        {
            "women": int(women), "images": same["images"].tolist(),
            "positives": same["positives"].tolist(), "draws": len(same),
            "auc": {"mean": same["auc"].mean(), "lowest": same["auc"].min(),
                    "highest": same["auc"].max()},
            "figures": {row.run: _figure(row) for row in same.itertuples()},
        }
        for women, same in rows[rows["women"] > 0].groupby("women")
    ]  # fmt: skip
    first = _figure(next(before.itertuples())) if len(before) else None
    return {"before": first, "sizes": sizes}


def _figure(row) -> dict:
    from dm_training import metrics

    return metrics.figure(row.auc, row.low, row.high, n=row.n, level="image",
                          positives=row.n_positives, split="test")  # fmt: skip


def _words(frame: pd.DataFrame) -> str:
    """The curve as a table for the terminal."""
    lines = [f"{'model':<24}{'women':>7}{'images':>9}{'draws':>7}  test AUC (range)"]
    for (model, women), rows in frame.groupby(["model", "women"], sort=False):
        low, high = rows["auc"].min(), rows["auc"].max()
        span = f" ({low:.3f}–{high:.3f})" if len(rows) > 1 else ""
        images = round(rows["images"].mean())
        count = f"{women:>7}{images:>9}{len(rows):>7}" if women else f"{'as it is':>23}"
        lines.append(f"{model:<24}{count}  {rows['auc'].mean():.3f}{span}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0, 1 (runs failed) or 2 (bad input)."""
    given = list(sys.argv[1:] if argv is None else argv)
    at = given.index("--") if "--" in given else len(given)
    args = _parser().parse_args(given[:at])
    from dm_preprocess.patient_draws import SplitError
    from dm_training.prediction_rows import MetricError

    try:
        runs = plan_runs(
            _models(args.models), args.images, args.out, sizes=_sizes(args),
            draws=args.draws, seed=args.seed, flags=given[at + 1 :],
            before=args.before,
        )  # fmt: skip
        if args.list:
            todo = [shlex.join(run.command) for run in runs if not run.done()]
            print("\n".join(todo))
            return 0
        failed = [] if args.collect else train_all(runs)
        frame = write_curve(args.out)
    except (CurveError, SplitError, TableError, MetricError, RunError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    if len(frame):
        print(_words(frame))
    done = f"{len(frame)} of {len(planned_runs(args.out))} runs"
    plot = ", plots/learning_curve.png" * _is_trained(frame)
    print(f"{done} -> curve.csv, curve.json{plot} in {args.out}")
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _sizes(args) -> list[int | str]:
    """The sizes asked for; with `--skip-larger` only those that there are women for."""
    if not args.skip_larger:
        return args.sizes
    women = curve_runs.training_women(args.images)
    left = [s for s in args.sizes if s != curve_runs.ALL and s > women]
    if left:
        print(f"left out: {', '.join(map(str, left))}; there are {women} women to "
              "train on", file=sys.stderr)  # fmt: skip
    return [size for size in args.sizes if size not in left]


def _models(given: Sequence[str]) -> dict[str, str]:
    """`NAME=FILE` or, of one model, `FILE`."""
    named = [text.partition("=") if "=" in text else ("", "", text) for text in given]
    models = {name: file for name, _, file in named}
    if len(models) < len(given) or ("" in models and len(given) > 1):
        raise CurveError(
            f"several models need names that differ, NAME=FILE; received "
            f"{', '.join(given)}"
        )
    return models


def _size(text: str) -> int | str:
    if text == curve_runs.ALL:
        return text
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'all'")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s MODEL|NAME=FILE... IMAGES.csv --out OUT [options] [-- FLAGS]",
    )  # fmt: skip
    flag = parser.add_argument
    flag("models", nargs="+", metavar="MODEL",
         help="whole-image model, or several as NAME=FILE")  # fmt: skip
    flag("images", metavar="IMAGES.csv", help="image table with its splits")
    flag("--out", required=True, help="the curve's folder")
    flag("--sizes", nargs="+", type=_size, default=SIZES, metavar="N",
         help="training women, and 'all' (default: 20 30 40 50 60 all)")  # fmt: skip
    flag("--skip-larger", action="store_true",
         help="leave out sizes of more women than there are")  # fmt: skip
    flag("--draws", type=int, default=3, help="orders of women (default: 3)")
    flag("--seed", type=int, default=DEFAULT_SEED,
         help=f"of the first draw (default: {DEFAULT_SEED})")  # fmt: skip
    flag("--before", action=BooleanOptionalAction, default=True,
         help="score each model as it is, too")  # fmt: skip
    flag("--list", action="store_true",
         help="print the commands that are due, to be run elsewhere")  # fmt: skip
    flag("--collect", action="store_true", help="train nothing: collect what is done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
