"""The results as a table of text."""

from __future__ import annotations

_SIGNS = {"x": "x", "images/s": "/s"}


def table(record: dict) -> str:
    """All figures, ratios with their targets.

    Args:
        record: What `main` writes.

    Returns:
        Lines of text: a part's name and setting, then a figure a line.
    """
    lines = [_machine_line(record["machine"])]
    if record["quick"]:
        lines.append("quick: this shows that it works, not how fast it is")
    for name, part in record["parts"].items():
        lines += ["", f"{name} ({part['setting']}; {part['seconds']:.0f} s)"]
        widest = max((len(key) for key in part["figures"]), default=0)
        for key, figure in part["figures"].items():
            lines.append(f"  {key:<{widest}}  {_numbers(figure)}{_verdict(figure)}")
        lines += [f"  skipped: {why}" for why in part["skipped"].values()]
    lines += [f"\nfailed: {name}" for name in record["failed"]]
    return "\n".join(lines)


def shown(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def target_text(figure: dict) -> str:
    """The target in words; empty where there is none."""
    if "target" not in figure:
        return ""
    return f"{'at most' if figure['at_most'] else 'at least'} {shown(figure['target'])}"


def _numbers(figure: dict) -> str:
    text = f"{shown(figure['value']):>7} {_SIGNS.get(figure['unit'], figure['unit'])}"
    if figure["low"] == figure["high"]:
        return text
    return f"{text} ({shown(figure['low'])} to {shown(figure['high'])})"


def _verdict(figure: dict) -> str:
    if "target" not in figure:
        return ""
    verdict = "reached" if figure["reached"] else "NOT reached"
    return f"  {target_text(figure)}: {verdict}"


def _machine_line(machine: dict) -> str:
    cards = f", {', '.join(machine['gpus'])}" if machine["gpus"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
        f"{cards}; Python {machine['python']}"
    )
