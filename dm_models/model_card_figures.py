"""Measured figures out of a metrics.json, as rows of a card's tables.

Whatever metrics.json holds, every figure (value, low, high, n, positives, level, split)
is found and told with its interval; what is no figure is no result. Names come from the
keys, so that a measurement added tomorrow stands on the card without a change here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_FIGURE = ("value", "low", "high")
_WORDS = {"auc": "AUC", "roc": "ROC", "ece": "ECE", "ppv": "PPV", "npv": "NPV",
          "delong": "DeLong", "acr": "ACR"}  # fmt: skip
_TOPICS = {
    "operating_point": "operating", "calibration": "operating", "brier": "operating",
    "ece": "operating", "subgroup": "subgroups",
}  # fmt: skip
_LEVELS = ("image", "breast", "patient")
# Of the run's own key, `test_auc_last_epoch`: what each ending means.
_ENDINGS = {"augmented": "mean of four flips",
            "last_epoch": "the training's last epoch, not this model"}  # fmt: skip
# Of the run's own keys, by `dm_training.decide`.
_NAMED = {"operating_point_augmented": "operating point, mean of four flips"}
# Of an evaluation: figures of, and differences from, models that are not this one.
_OTHERS = {"compared": "AUC of other scores, named",
           "paired_differences": "AUC less that of"}  # fmt: skip

Cut = tuple[float | None, float | None]


@dataclass(frozen=True)
class Measured:
    """One figure and what it is.

    Attributes:
        name: In words.
        figure: value, low, high, and n, positives, level, split where known.
        topic: "metrics", "operating" or "subgroups": the section it belongs to.
        cut: (threshold, temperature) that it was measured at, None for any.
    """

    name: str
    figure: Mapping
    topic: str
    cut: Cut = (None, None)


def measured_figures(metrics: Mapping) -> list[Measured]:
    """Find every figure of a metrics.json, in its order; one told twice stands once.

    A figure that could not be had (NaN) is left out: it was not measured. What a
    threshold does on the very rows that chose it is told with the decision itself.
    """
    found = []
    for keys, value, cut in _walk(metrics):
        if is_figure(value) and math.isfinite(float(value["value"])):
            measured = Measured(figure_name(keys), value, _topic(keys), cut)
            found += [measured] * (measured not in found)
    return found


def confusions(metrics: Mapping) -> list[Measured]:
    """Find every confusion of a metrics.json: counts by name, such as tp."""
    return [
        Measured(figure_name(keys), value, _topic(keys), cut)
        for keys, value, cut in _walk(metrics)
        if keys[-1] == "confusion"
    ]


def subgroup_remarks(metrics: Mapping) -> list[str]:
    """What an evaluation says of its subgroups: too few positives, no AUC."""
    return [
        f"{_group(each)}: {each['warning']}"
        for each in metrics.get("subgroups") or ()
        if isinstance(each, Mapping) and each.get("warning")
    ]


def _walk(thing: Mapping, keys: tuple[str, ...] = (), cut: Cut = (None, None)):
    """Figures and confusions in nested mappings and lists of them: (keys, it, cut)."""
    threshold, temperature = thing.get("threshold"), thing.get("temperature")
    if isinstance(threshold, int | float):
        cut = threshold, 1.0 if temperature is None else temperature
    for key, value in thing.items():
        if isinstance(value, list):
            value = {_group(each): each for each in value if isinstance(each, Mapping)}
        if not isinstance(value, Mapping) or key == "fitted_on":
            continue
        at = (None, temperature) if key == "after_temperature" else cut
        if is_figure(value) or key == "confusion":
            yield (*keys, str(key)), value, at
        else:
            yield from _walk(value, (*keys, str(key)), at)


def _group(each: Mapping) -> str:
    return f"{each.get('column', '')} {each.get('group', '')}".strip()


def is_figure(thing) -> bool:
    """Whether something is a mapping with the numbers value, low and high."""
    return isinstance(thing, Mapping) and all(
        isinstance(thing.get(name), int | float) for name in _FIGURE
    )


def figure_name(keys: Sequence[str]) -> str:
    """A figure's keys in words: ("partial_auc", "breast") -> "partial AUC"."""
    # The level has a column of its own.
    keys = [keys[0], *(key for key in keys[1:] if key not in _LEVELS)]
    if keys[0] == "levels" and len(keys) > 1:
        keys = keys[1:]
    first, rest = keys[0], [words(key) for key in keys[1:]]
    own = re.fullmatch(r"(?:train|val|test)_(auc|accuracy)(?:_(.+))?", first)
    if own:
        ending = own[2] and _ENDINGS.get(own[2], words(own[2]))
        return ", ".join(filter(None, [words(own[1]), ending, *rest]))
    if first in _OTHERS:
        return " ".join([_OTHERS[first], *rest])
    return ", ".join([_NAMED.get(first) or words(first), *rest])


def words(key: str) -> str:
    """A key as words; of a path only its last part is told."""
    text = key.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return " ".join(_WORDS.get(word, word) for word in text.split("_"))


def interval(figure: Mapping) -> str:
    """`0.91 (0.86–0.95)`; a difference (a `p` or a negative end) with signs and p."""
    value, low, high = (float(figure[name]) for name in _FIGURE)
    p = figure.get("p")
    if p is None and not min(value, low, high) < 0:
        return f"{_number(value)} ({_number(low)}–{_number(high)})"
    shown = "" if p is None else ", p < 0.001" if p < 0.001 else f", p = {p:.3f}"
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f}){shown}".replace("-", "−")


def figure_table(rows: Iterable[tuple[str, Mapping, str]]) -> list[str]:
    """A Markdown table of (name, figure, where it is from)."""
    header = ("figure", "value (95 % interval)", "n", "positive", "level", "split",
              "measured in")  # fmt: skip
    return table(header, [
        [name, interval(figure), figure.get("n"), figure.get("positives"),
         figure.get("level"), figure.get("split"), where]
        for name, figure, where in rows
    ])  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence]) -> list[str]:
    """The lines of a Markdown table; None is a dash, a header may be empty."""
    head = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return [*head, *("| " + " | ".join(map(cell, row)) + " |" for row in rows)]


def cell(value) -> str:
    """A value as a table's cell: one line, no bar that would end it."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return _number(value)
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")


def _topic(keys: Sequence[str]) -> str:
    for key in keys:
        for word, topic in _TOPICS.items():
            if re.search(rf"(^|_){word}", key.lower()):
                return topic
    return "metrics"


def _number(value: float) -> str:
    """Two decimals, three for what is small: a calibration error of 0.034."""
    if not math.isfinite(value):
        return "not measured"
    return f"{value:.3f}" if 0.0005 <= abs(value) < 0.095 else f"{value:.2f}"
