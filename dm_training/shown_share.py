"""How a probability is written wherever people read it: four digits, never certain."""

from __future__ import annotations

_CERTAIN = 0.0001


def shown_share(share: float) -> str:
    """Four digits, but never 0 or 1: no probability of a model is certain.

    The page of `dm-serve` does the same (`inDigits` in page.js). Tables and JSON hold
    figures, not this.

    Example:
        >>> shown_share(0.41234), shown_share(0.99999999)
        ('0.4123', '> 0.9999')
    """
    if share < _CERTAIN:
        return f"< {_CERTAIN}"
    if share > 1 - _CERTAIN:
        return f"> {1 - _CERTAIN}"
    return f"{share:.4f}"
