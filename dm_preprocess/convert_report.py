"""What a conversion met: `index.json`, `oddities.csv`, `failed.csv` and `report.md`.

Nothing odd is passed over silently: every oddity is a row of `oddities.csv`, and the
report groups them by kind with the first examples of each.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dm_preprocess.convert_image import write_text

_EXAMPLES = 20

Rows = Sequence[tuple[str, str, str]]


def write_index(out: Path, source: str, facts: Mapping, oddities: Rows, failed: int):
    """Write `index.json`: what the source's tables hold, and counts of oddities."""
    kinds = dict(sorted(Counter(kind for kind, _, _ in oddities).items()))
    record = {"source": source, **facts, "oddities": kinds, "failed": failed}
    write_text(out / "index.json", json.dumps(record, indent=2, default=str) + "\n")


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a small CSV aside and rename it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_report(
    out: Path, source: str, *, counts: Mapping, settings: Mapping, oddities: Rows,
    failed: Rows,
) -> None:  # fmt: skip
    """Write `report.md` and `oddities.csv`, and `failed.csv` only if any failed.

    Args:
        out: The converted data folder.
        source: The data set's name.
        counts: Names and numbers for the head of the report.
        settings: How it was converted; empty for `--index-only`.
        oddities: (kind, where, detail).
        failed: (image_id, path, reason).
    """
    write_rows(out / "oddities.csv", ("kind", "where", "detail"), oddities)
    if failed:
        write_rows(out / "failed.csv", ("image_id", "path", "reason"), failed)
    else:
        (out / "failed.csv").unlink(missing_ok=True)
    lines = [f"# Conversion of {source}", ""]
    lines += [f"- {name}: {value}" for name, value in counts.items()]
    if settings:
        lines += ["", "## Settings", ""]
        lines += [f"- {name}: {value}" for name, value in settings.items()]
    lines += _failed_lines(failed) + _oddity_lines(oddities)
    write_text(out / "report.md", "\n".join(lines) + "\n")


def _failed_lines(failed: Rows) -> list[str]:
    if not failed:
        return ["", "## Failed", "", "None."]
    lines = ["", f"## Failed: {len(failed)}, all in failed.csv", ""]
    for image_id, path, reason in failed[:_EXAMPLES]:
        shown = reason if path and path in reason else f"{path}: {reason}"
        lines.append(f"- {image_id}: {shown}")
    return lines + _more(len(failed))


def _oddity_lines(oddities: Rows) -> list[str]:
    lines = ["", f"## Odd things met: {len(oddities)}, all in oddities.csv"]
    groups = defaultdict(list)
    for kind, where, detail in oddities:
        groups[kind].append(f"- {where}: {detail}")
    for kind, found in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines += ["", f"### {kind}: {len(found)}", "", *found[:_EXAMPLES]]
        lines += _more(len(found))
    return lines


def _more(count: int) -> list[str]:
    return [f"- and {count - _EXAMPLES} more"] if count > _EXAMPLES else []
