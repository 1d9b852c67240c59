"""`dm-decide`: fit, set or show the operating point stored with a model.

    python -m dm_training.decide MODEL.keras predictions_val.csv --rule youden
    python -m dm_training.decide MODEL.keras predictions_val.csv \\
        --rule "sensitivity 0.90" --level patient --how max
    python -m dm_training.decide MODEL.keras --threshold 0.3
    python -m dm_training.decide MODEL.keras --show

A training stores one by itself, fitted on its validation images by Youden's rule, and
another for the mean over four flips; a table's own flips say which one it is for. It
must hold the model's own scores of validation images, each row of split val:
others are refused, for a threshold chosen on test images flatters every figure of them.
What is stored belongs to these weights, and is lost when they are trained on.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from dm_models.decision import Decision

DEFAULT_RULE = "youden"
# By flips: where a run's metrics.json tells of each decision.
METRIC_NAMES = {1: "operating_point", 4: "operating_point_augmented"}
_FIELDS = ("rule", "level", "how", "flips", "threshold", "temperature", "fitted_on")
_SHARES = ("sensitivity", "specificity")


class DecideError(ValueError):
    """The command line asks for what cannot be; the message says why."""


def decide_run(
    model: str | Path, tables: Mapping[tuple[str, int], pd.DataFrame], say: Callable
) -> dict[str, dict]:
    """Fit on a run's validation rows, store in its model, measure on its test rows.

    Args:
        model: RUN/best.keras; what it held before is replaced, or taken away where
            nothing can be fitted.
        tables: (split "val" or "test", flips 1 or 4) -> the run's rows of both.
        say: Takes a line for the log.

    Returns:
        For metrics.json: the fields of each decision, and under `test` what
        `operating_figures` gives, by `METRIC_NAMES`. One that cannot be fitted (one
        class, all scores equal) is said, is no error, and is not there.
    """
    from dm_models.decision import DecisionError, read_decision, store_decision
    from dm_training.operating_point import fit_operating_point, operating_figures
    from dm_training.prediction_rows import MetricError

    fitted = {}
    for flips, name in METRIC_NAMES.items():
        try:
            decision = fit_operating_point(
                tables["val", flips], rule=DEFAULT_RULE, flips=flips
            )
            fitted[name] = decision, operating_figures(tables["test", flips], decision)
        except (MetricError, DecisionError) as err:
            kind = " for four flips" if flips == 4 else ""
            say(f"no operating point{kind} is stored: {err}")
    if any(read_decision(model, flips) for flips in METRIC_NAMES):
        store_decision(model, None)
    for decision, found in fitted.values():
        store_decision(model, decision)
        say(f"operating point: {describe(decision)}")
        for line in share_lines(found):
            say(f"  {line}")
    return {name: _fields(*pair) for name, pair in fitted.items()}


def _fields(decision: Decision, test: dict) -> dict:
    return {name: getattr(decision, name) for name in _FIELDS} | {"test": test}


def describe(decision: Decision) -> str:
    """A decision in one line."""
    over = "" if decision.level == "image" else f" ({decision.how} of images)"
    flips = ", four flips" if decision.flips == 4 else ""
    return (
        f"threshold {decision.threshold:.4g}, temperature {decision.temperature:.4g}"
        f"{_caution(decision.temperature)}, {decision.rule}, {decision.level} level"
        f"{over}{flips}"
    )


def _caution(temperature: float) -> str:
    """What it means that a fitted temperature stands at an end of its range."""
    from dm_training.calibration import TEMPERATURES

    least, most = TEMPERATURES
    if math.isclose(temperature, most):
        return " (the most allowed: the scores say little)"
    if math.isclose(temperature, least):
        return " (the least allowed: it told all apart)"
    return ""


def share_lines(figures: Mapping) -> list[str]:
    """Sensitivity and specificity of `operating_figures`, a line each."""
    from dm_training.report_parts import format_figure

    return [
        format_figure(figures[name], name) if figures.get(name) else f"{name} of none"
        for name in _SHARES
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0, or 2 where the input cannot be used."""
    parsed = _parser().parse_args(argv)
    from dm_models.decision import DecisionError
    from dm_models.layer_files import ModelFileError
    from dm_models.model_paths import model_file
    from dm_preprocess.tables import TableError
    from dm_training.prediction_rows import MetricError

    try:
        _check(parsed)
        parsed.model = model_file(parsed.model)
        return _show(parsed.model) if parsed.show else _store(parsed)
    except (DecideError, DecisionError, ModelFileError, TableError, MetricError,
            OSError) as err:  # fmt: skip
        print(f"error: {err}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-decide", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    flag = parser.add_argument
    flag(
        "model",
        type=Path,
        help="a whole-image .keras or .h5 of this project, or a run folder",
    )
    flag("predictions", type=Path, nargs="?", help="its scores of validation images")
    flag(
        "--rule",
        help='youden (the default), "sensitivity 0.90" or "specificity 0.90": at least '
        "that share on the validation images; any share in (0, 1)",
    )
    flag("--threshold", type=float, metavar="X", help="set by hand, in [0, 1]")
    flag("--temperature", type=float, metavar="T", help="with --threshold (default: 1)")
    flag("--level", choices=("image", "breast", "patient"), default="image")
    flag("--how", choices=("mean", "max"), default="mean", help="of a breast's images")
    flag("--flips", type=int, choices=(1, 4),
         help="of which scores (default: what the table says, else 1)")  # fmt: skip
    flag(
        "--calibrate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fit a temperature too (default: yes)",
    )
    flag("--show", action="store_true", help="print what is stored, and change nothing")
    return parser


def _check(parsed: argparse.Namespace) -> None:
    given = [name for name in ("predictions", "rule", "threshold", "temperature")
             if getattr(parsed, name) is not None]  # fmt: skip
    if parsed.show and given:
        raise DecideError(f"--show changes nothing, but {', '.join(given)} was given")
    if parsed.show:
        return
    if parsed.threshold is None and parsed.predictions is None:
        raise DecideError("a table of validation scores is due, or --threshold, --show")
    if parsed.threshold is not None and parsed.rule is not None:
        raise DecideError("--rule and --threshold: give one")
    if parsed.threshold is None and parsed.temperature is not None:
        raise DecideError("--temperature goes with --threshold; a table fits its own")


def _show(model: Path) -> int:
    from dm_models.decision import read_decision

    held = [read_decision(model, flips) for flips in METRIC_NAMES]
    if not any(held):
        print(f"{model}: no operating point is stored")
    for decision in filter(None, held):
        print(f"{model}: {describe(decision)}")
        fitted = decision.fitted_on
        facts = [f"{k} {v}" for k, v in fitted.items() if not isinstance(v, Mapping)]
        print(f"  fitted on: {', '.join(facts) or 'not recorded'}")
        for line in share_lines(fitted) if fitted else ():
            print(f"  {line}")
    return 0


def _store(parsed: argparse.Namespace) -> int:
    from dm_models.decision import read_decision, store_decision

    _check_whole_image(parsed.model)
    decision, lines = _decided(parsed)
    before = read_decision(parsed.model, decision.flips)
    store_decision(parsed.model, decision)
    print(describe(decision))
    for line in lines:
        print(f"  {line}")
    if before is not None:
        print(f"replaced: {describe(before)}")
    print(f"stored in {parsed.model}")
    return 0


def _decided(parsed: argparse.Namespace) -> tuple[Decision, list[str]]:
    """The decision that the flags ask for, and its figures on the table's rows."""
    from dm_models.decision import Decision
    from dm_training.operating_point import fit_operating_point, operating_figures

    rows = None if parsed.predictions is None else _validation_rows(parsed.predictions)
    meant = {"level": parsed.level, "how": parsed.how, "flips": _flips(parsed, rows)}
    if parsed.threshold is None:
        rule = parsed.rule or DEFAULT_RULE
        decision = fit_operating_point(
            rows, rule=rule, temperature=parsed.calibrate, **meant
        )
    else:
        scale = 1.0 if parsed.temperature is None else parsed.temperature
        decision = Decision(parsed.threshold, temperature=scale, rule="given", **meant)
    if rows is None:
        return decision, []
    return decision, share_lines(operating_figures(rows, decision))


def _flips(parsed: argparse.Namespace, rows: pd.DataFrame | None) -> int:
    from dm_training.evaluation import flips_of

    found = None if rows is None else flips_of(rows)
    return parsed.flips or found or 1


def _validation_rows(path: Path) -> pd.DataFrame:
    """The rows that have a truth; says how many have none.

    Raises:
        DecideError: A row is of another split than val, or says of none.
    """
    from dm_training.score_tables import read_scores

    rows = read_scores(path)
    found = sorted(set(rows["split"].astype(str).str.strip()))
    if found != ["val"]:
        raise DecideError(
            f"{path}: an operating point is fitted on rows of split val alone, "
            f"received {', '.join(name or 'empty' for name in found) or 'no row'}"
        )
    for name, meaning in (("y_true", "truth"), ("y_score", "score")):
        found = rows[rows[name].notna()]
        if len(found) < len(rows):
            lost = len(rows) - len(found)
            print(f"{path}: {lost} row(s) without a {meaning} left out")
        rows = found
    return rows


def _check_whole_image(model: Path) -> None:
    from dm_models.weights import read_contract

    names = tuple(read_contract(model).class_names)
    if names != ("neg", "pos"):
        raise DecideError(
            f"{model}: not a whole-image classifier: its classes are {', '.join(names)}"
        )


if __name__ == "__main__":
    sys.exit(main())
