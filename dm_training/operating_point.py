"""The operating point: fitted on validation images, measured on others.

A threshold that is read off the images it is reported for flatters itself, so
`fit_operating_point` takes rows of split "val" and nothing else, and no flag changes
that; `operating_figures` measures the decision it gives on any one split.

Order of things: an image's score is calibrated (temperature), the images of a breast or
woman are then put together (mean or maximum of calibrated probabilities), and that is
held against the threshold.

Source:
    Youden 1950. Predictive values at another prevalence: Bayes; their interval from
    those of sensitivity and specificity: Donner and Zou, Stat. Methods Med. Res. 2012.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from dm_models.decision import Decision, DecisionError
from dm_training.calibration import fit_temperature
from dm_training.intervals import accuracy_wilson, share_interval
from dm_training.metrics import figure
from dm_training.prediction_rows import (
    MetricError,
    aggregate,
    check_rows,
    check_scores,
    has_patients,
    require_split,
    texts,
)
from dm_training.resampling import bootstrap, group_codes
from dm_training.roc import roc_points, sensitivity_at, specificity_at

RULES = ("youden", "sensitivity 0.90", "specificity 0.90")
_RULE = re.compile(r"(sensitivity|specificity)\s+(0?\.\d+)")
_FACTS = ("rule", "level", "how", "threshold", "temperature")
# Share -> (what counts as right, among which), in the order in which they are shown.
_SHARES = {
    "sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"),
    "ppv": ("tp", "fp"), "npv": ("tn", "fn"),
}  # fmt: skip


def fit_operating_point(
    rows: pd.DataFrame, *, rule: str = "youden", level: str = "image",
    how: str = "mean", flips: int = 1, temperature: bool = True,
) -> Decision:  # fmt: skip
    """Fit temperature and threshold on validation rows.

    The threshold lies half way between the lowest calibrated score that is called and
    the highest that is not, so that rounding does not turn a call; where all are
    called, half way to 0, where none is, half way to 1.

    Args:
        rows: A prediction table, an image a row; every row of split "val".
        rule: "youden" (most sensitivity + specificity; of equals the most sensitive),
            "sensitivity 0.90" (at least that, then the best specificity) or
            "specificity 0.90"; other shares likewise.
        level: "image", "breast" or "patient": what is called positive.
        how: How images make a breast or woman: "mean" or "max".
        flips: 1 or 4: of which prediction the scores are; a column flips must agree.
        temperature: Whether to calibrate first; else the temperature is 1.

    Returns:
        The decision; `fitted_on` holds split, level, n, positives, women (None where
        the rows name none), and sensitivity and specificity as figures, which flatter
        themselves, for they are of the very rows that chose the threshold.

    Raises:
        MetricError: Rows of another split or none, one class only, all scores equal, an
            image twice, NaN, scores outside [0, 1], or an unknown rule, level, how or
            number of flips.
    """
    require_split(rows, "val", "an operating point")
    wanted = parse_rule(rule)
    try:
        plain = Decision(0.5, level=level, how=how, flips=flips)
    except DecisionError as error:
        raise MetricError(str(error)) from error
    _check_flips(rows, flips)
    if temperature:
        plain = replace(plain, temperature=fit_temperature(rows))
    units = calibrated_units(rows, plain)
    y_true, score = check_scores(units["y_true"], units["y_score"])
    if score.min() == score.max():
        raise MetricError("all scores are equal: no threshold tells the classes apart")
    threshold = _between(score, _chosen(y_true, score, *wanted))
    decision = replace(plain, threshold=threshold, rule=rule.strip())
    found = operating_figures(rows, decision)
    fitted_on = {
        "split": "val", "level": level, "n": len(units), "positives": int(y_true.sum()),
        "women": rows["patient_id"].nunique() if has_patients(rows) else None,
        "sensitivity": found["sensitivity"], "specificity": found["specificity"],
    }  # fmt: skip
    return replace(decision, fitted_on=fitted_on)


def operating_figures(
    rows: pd.DataFrame, decision: Decision, *, prevalence: float | None = None,
    n: int = 2000, seed: int = 0,
) -> dict:  # fmt: skip
    """What a decision does on the rows of one split.

    Args:
        rows: A prediction table with uncalibrated scores, an image a row; one split.
        decision: What `fit_operating_point` gave, on other rows.
        prevalence: Share of positives where it is to be used, in (0, 1); a screening
            round finds about 0.006. A case-control set's own PPV means little there.
        n: Bootstrap draws.
        seed: Of the draws.

    Returns:
        rule, level, how, threshold, temperature, confusion (tp, fp, fn, tn), and as
        figures sensitivity, specificity, ppv and npv; with a prevalence also
        `prevalence`, `ppv_at_prevalence` and `npv_at_prevalence`. A share of nothing
        (no positives, none called) is None in place of a figure.

        Intervals are `share_interval`'s from a bootstrap of women; where the rows name
        none, Wilson's. Simulated as `auc_bootstrap` (25 and 100 women of each class),
        those of sensitivity and both values at a prevalence cover 93-97 %, of a
        specificity of 0.9 97 and 95 %, and of the set's own PPV 96-99 %: the draws
        vary the count of positives, which a set made of cases and controls does not.

    Raises:
        MetricError: No rows, rows of two splits, an image twice, NaN, scores outside
            [0, 1], a missing level, or a prevalence outside (0, 1).
    """
    _check_prevalence(prevalence)
    _check_flips(rows, decision.flips)
    split = _only_split(rows)
    units = calibrated_units(rows, decision)
    y_true, score = check_scores(units["y_true"], units["y_score"], one_class=True)
    cells = _cells(y_true, score >= decision.threshold)
    women = units["patient_id"] if has_patients(units) else None
    shares = _shares(cells, women, n, seed)
    about = {"n": len(units), "positives": y_true.sum()}
    about |= {"level": decision.level, "split": split}
    found = {name: getattr(decision, name) for name in _FACTS}
    found["confusion"] = {name: int(cell.sum()) for name, cell in cells.items()}
    if prevalence is not None:
        shares |= _at_prevalence(shares, prevalence)
        found["prevalence"] = prevalence
    return found | {
        name: None if share is None else figure(*share, **about)
        for name, share in shares.items()
    }


def calibrated_units(rows: pd.DataFrame, decision: Decision) -> pd.DataFrame:
    """Images, breasts or women with calibrated scores, as the decision's level says.

    Raises:
        MetricError: No rows, or as `aggregate`; a score outside [0, 1].
    """
    if not len(rows):
        raise MetricError("no rows: nothing to decide")
    check_rows(rows)
    score = rows["y_score"].to_numpy(float)
    if not ((score >= 0) & (score <= 1)).all():
        raise MetricError(
            "a decision needs probabilities in [0, 1], received scores from "
            f"{score.min():g} to {score.max():g}"
        )
    calibrated = rows.assign(y_score=decision.calibrated(score))
    return aggregate(calibrated, decision.level, how=decision.how)


def ppv_npv(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float | None, float | None]:
    """Predictive values by Bayes.

    Returns:
        (PPV, NPV); None where none would be called positive, or none negative.

    Raises:
        MetricError: A share outside [0, 1], or a prevalence outside (0, 1).
    """
    _check_prevalence(prevalence)
    for name, share in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0 <= share <= 1:
            raise MetricError(f"{name} must lie in [0, 1], received {share!r}")
    tp, fn = sensitivity * prevalence, (1 - sensitivity) * prevalence
    tn, fp = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return tp / (tp + fp) if tp + fp else None, tn / (tn + fn) if tn + fn else None


def parse_rule(rule: str) -> tuple[str, float]:
    """("youden", 0), ("sensitivity", share) or ("specificity", share).

    Raises:
        MetricError: Another text; the rules are listed.
    """
    if rule.strip() == "youden":
        return "youden", 0.0
    match = _RULE.fullmatch(rule.strip())
    if not match or not 0 < float(match[2]) < 1:
        raise MetricError(
            f"rule must be one of {', '.join(RULES)} (or another share in (0, 1)), "
            f"received {rule!r}"
        )
    return match[1], float(match[2])


def _chosen(y_true, score, kind: str, share: float) -> float:
    """The lowest score that is to be called; infinite for none."""
    if kind == "sensitivity":
        return specificity_at(y_true, score, share)[1]
    if kind == "specificity":
        return sensitivity_at(y_true, score, share)[1]
    points = roc_points(y_true, score)
    gain = (points["sensitivity"] + points["specificity"]).round(12)
    return float(points["threshold"][gain == gain.max()].iloc[-1])


def _between(score, lowest_called: float) -> float:
    called, left = score[score >= lowest_called], score[score < lowest_called]
    above = called.min() if len(called) else 1.0
    below = left.max() if len(left) else 0.0
    if not len(called) and below >= 1:
        raise MetricError("the rule calls none, but the highest score is 1 already")
    return float((above + below) / 2)


def _cells(y_true, called) -> dict[str, np.ndarray]:
    return {
        "tp": y_true & called, "fp": ~y_true & called,
        "fn": y_true & ~called, "tn": ~y_true & ~called,
    }  # fmt: skip


def _shares(cells: dict, women, n: int, seed: int) -> dict[str, tuple | None]:
    """Each share as (value, low, high); None where it is a share of nothing."""
    counts = {name: int(cell.sum()) for name, cell in cells.items()}
    codes = draws = None
    if women is not None:
        codes = group_codes(women, len(women))
        table = np.stack(list(cells.values()), axis=1).astype(float)
        drawn = bootstrap(lambda w: w @ table, codes, n, seed)
        draws = dict(zip(cells, drawn.T, strict=True))
    found = {}
    for name, (right, wrong) in _SHARES.items():
        whole = counts[right] + counts[wrong]
        if not whole:
            found[name] = None
        elif codes is None:
            found[name] = accuracy_wilson(counts[right], whole)
        else:
            ratio = _ratio(draws[right], draws[wrong])
            several = len(np.unique(codes[cells[right] | cells[wrong]]))
            value = counts[right] / whole
            ends = share_interval(value, ratio, women=several, images=whole)
            found[name] = value, *ends
    return found


def _ratio(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a draw without such images: NaN
        return right / (right + wrong)


def _at_prevalence(shares: dict, prevalence: float) -> dict[str, tuple | None]:
    """PPV and NPV of another prevalence, by the likelihood ratios' intervals."""
    sensitivity, specificity = shares["sensitivity"], shares["specificity"]
    names = ("ppv_at_prevalence", "npv_at_prevalence")
    if sensitivity is None or specificity is None:
        return dict.fromkeys(names)
    odds = prevalence / (1 - prevalence)
    ppv, npv = ppv_npv(sensitivity[0], specificity[0], prevalence)
    called = _ratio_interval(sensitivity, _complement(specificity))
    left = _ratio_interval(specificity, _complement(sensitivity))
    return dict(zip(names, (
        None if ppv is None else (ppv, *(_to_share(r * odds) for r in called)),
        None if npv is None else (npv, *(_to_share(r / odds) for r in left)),
    ), strict=True))  # fmt: skip


def _complement(share: tuple) -> tuple[float, float, float]:
    value, low, high = share
    return 1 - value, 1 - high, 1 - low


def _to_share(odds: float) -> float:
    return 1.0 if np.isinf(odds) else float(odds / (1 + odds))


def _ratio_interval(top: tuple, bottom: tuple) -> tuple[float, float]:
    """Limits of a ratio of two shares from the limits of each (Donner and Zou)."""
    (a, a_low, a_high), (b, b_low, b_high) = top, bottom
    product = a * b

    def root(a_end: float, b_end: float) -> float:
        inside = product**2 - a_end * (2 * a - a_end) * b_end * (2 * b - b_end)
        return float(np.sqrt(max(inside, 0.0)))

    # The lower limit with its fraction turned over, which stands where b_high is 2 b.
    low = a_low * (2 * a - a_low) / (product + root(a_low, b_high)) if a_low else 0.0
    if b_low <= 0:
        return low, np.inf
    return low, (product + root(a_high, b_low)) / (b_low * (2 * b - b_low))


def _check_prevalence(prevalence: float | None) -> None:
    if prevalence is not None and not 0 < prevalence < 1:
        raise MetricError(f"prevalence must lie in (0, 1), received {prevalence!r}")


def _check_flips(rows: pd.DataFrame, flips: int) -> None:
    if "flips" not in rows:
        return
    given = pd.to_numeric(rows["flips"], errors="coerce").dropna()
    if (given != flips).any():
        raise MetricError(
            f"the decision is for flips {flips}, the rows hold scores of flips "
            f"{', '.join(f'{value:g}' for value in sorted(set(given)))}"
        )


def _only_split(rows: pd.DataFrame) -> str:
    if "split" not in rows:
        return ""
    found = sorted(set(texts(rows["split"])))
    if len(found) > 1:
        named = ", ".join(name or "empty" for name in found)
        raise MetricError(f"figures speak of one split; the rows are of {named}")
    return found[0] if found else ""
