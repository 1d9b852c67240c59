"""Figures and ratios out of rounds in which the candidates took turns.

A shared machine's speed drifts by tens of per cent within minutes, so that times taken
one after another cannot be compared. Candidates therefore alternate, A B C A B C, and
a ratio is taken within each round; the median over the rounds is reported with the
lowest and the highest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def figure(values: Sequence[float], unit: str, against: str = "") -> dict:
    """The median of some rounds with its spread.

    Args:
        values: One number a round.
        unit: Such as "images/s"; "x" for a ratio.
        against: What it is measured against; empty for an absolute figure.

    Raises:
        ValueError: There is no round.
    """
    if not values:
        raise ValueError("values must hold a number a round, received none")
    return {
        "value": statistics.median(values), "low": min(values), "high": max(values),
        "unit": unit, "against": against,
    }  # fmt: skip


def ratio(
    ours: Sequence[float], theirs: Sequence[float], against: str, *,
    target: float | None = None, at_most: bool = False,
) -> dict:  # fmt: skip
    """How many times theirs ours is, round by round.

    Args:
        ours: One number a round.
        theirs: The other candidate's, of the same rounds.
        against: Who the other is.
        target: What the ratio should reach; None where nothing is aimed at.
        at_most: The target is a ceiling and not a floor.

    Returns:
        A figure of unit "x"; with a target also `target`, `at_most` and `reached`.

    Raises:
        ValueError: The two have not the same number of rounds.
    """
    if len(ours) != len(theirs):
        raise ValueError(
            f"theirs must have as many rounds as ours, {len(ours)}, received "
            f"{len(theirs)}"
        )
    found = figure([a / b for a, b in zip(ours, theirs, strict=True)], "x", against)
    if target is None:
        return found
    reached = found["value"] <= target if at_most else found["value"] >= target
    return found | {"target": target, "at_most": at_most, "reached": reached}


def take_turns(
    candidates: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Let candidates take turns.

    Args:
        candidates: Name -> what runs one slice and returns its figure.
        rounds: How often each has its turn.

    Returns:
        Name -> one figure a round.
    """
    found = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run_slice in candidates.items():
            found[name].append(run_slice())
    return found


def rate_of(step: Callable[[], int], seconds: float) -> float:
    """Run steps for some seconds, one at least.

    Args:
        step: Does some work and returns how many items it did.
        seconds: When to stop.

    Returns:
        Items a second.
    """
    items, began = 0, time.perf_counter()
    while True:
        items += step()
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return items / elapsed
