"""Intervals drawn: a dot with its reach on a scale that is the same down a column.

What is no difference is drawn over 0 to 1. Differences are small, so their scale is the
narrowest of a few, the same to both sides of 0, that holds them all; its ends are
written above the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dm_training.report_parts import is_difference

_WIDTH, _EDGE = 120, 10  # pixels
_REACHES = (0.1, 0.2, 0.5, 1.0)
_TINY = 1e-9

Span = tuple[float, float]


def common_span(figures: Sequence[Mapping]) -> Span | None:
    """The scale on which figures are drawn together.

    Returns:
        (start, end); None where there is no figure, where some are differences and
        some are not, and where one leaves 0 to 1 (a difference -1 to 1) or is no
        number.
    """
    kinds = {is_difference(figure) for figure in figures}
    if len(kinds) != 1:
        return None
    spans = [(-reach, reach) for reach in _REACHES] if kinds.pop() else [(0.0, 1.0)]
    return next((s for s in spans if all(_holds(s, f) for f in figures)), None)


def draw_bar(figure: Mapping, span: Span | None = None) -> str:
    """A figure's interval as SVG, with a tick in the middle of the scale.

    Args:
        figure: Value, low and high.
        span: The scale's ends; None for 0 to 1, of a difference -1 to 1.

    Returns:
        "" where the figure leaves its scale or is no number.
    """
    span = span or ((-1.0, 1.0) if is_difference(figure) else (0.0, 1.0))
    if not _holds(span, figure):
        return ""
    value, low, high = (_place(figure[name], span) for name in ("value", "low", "high"))
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH} 16" width="{_WIDTH}" height="16" '
        f'aria-hidden="true"><path class="axis" d="M{_EDGE} 8H{_WIDTH - _EDGE}'
        f'M{_WIDTH // 2} 2V14"/><path class="reach" d="M{low:.1f} 8H{high:.1f}'
        f'M{low:.1f} 4.5V11.5M{high:.1f} 4.5V11.5"/>'
        f'<circle cx="{value:.1f}" cy="8" r="3"/></svg>'
    )


def draw_scale(span: Span | None) -> str:
    """The ends and the middle of a scale as SVG; "" for None."""
    if span is None:
        return ""
    texts = "".join(
        f'<text x="{_place(at, span):g}" y="11">{f"{at:g}".replace("-", "−")}</text>'
        for at in (span[0], sum(span) / 2, span[1])
    )
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH} 14" width="{_WIDTH}" height="14" '
        f'aria-hidden="true">{texts}</svg>'
    )


def _place(number: float, span: Span) -> float:
    share = (float(number) - span[0]) / (span[1] - span[0])
    return _EDGE + (_WIDTH - 2 * _EDGE) * share


def _holds(span: Span, figure: Mapping) -> bool:
    ends = (float(figure[name]) for name in ("value", "low", "high"))
    return all(span[0] - _TINY <= at <= span[1] + _TINY for at in ends)  # NaN: False
