"""How a report looks: HTML with its style and pictures within, and no script.

Legible without colour, in light and dark, on paper, and with a keyboard: wide tables
scroll in regions that take the focus, and every picture has its words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from dm_training.report_images import data_address, read_picture
from dm_training.report_parts import (
    Bar,
    Picture,
    Section,
    Table,
    check_table,
    format_cell,
    is_difference,
)

_FIGURE = ("value", "low", "high")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header><h1>$title</h1>$lead<nav aria-label="Sections"><ol>$links</ol></nav></header>
<main id="main">
$body
</main>
$footer
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0;
  --paper: #fff; --panel: #f6f7f9; --accent: #0b5fa5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a3abb3;
  --line: #3a4047; --paper: #16191d; --panel: #1f2329; --accent: #7ab8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 68rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 2px solid var(--line); }
p { max-width: 44rem; margin: .5rem 0; }
.lead { color: var(--soft); font-size: 1.05rem; }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none;
  margin: 1rem 0 0; padding: 0; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .95rem; }
caption { text-align: left; color: var(--soft); padding: .25rem 0 .5rem; }
th, td { text-align: left; padding: .4rem 1.1rem .4rem 0; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 600; min-width: 9rem; }
td { white-space: nowrap; }
.bar { vertical-align: middle; }
.bar .axis { stroke: var(--line); stroke-width: 1.5; fill: none; }
.bar .reach { stroke: var(--ink); stroke-width: 1.8; fill: none; }
.bar circle { fill: var(--accent); stroke: var(--paper); }
.pictures { display: grid; gap: 1.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
figure { margin: 0; }
figure.wide { grid-column: 1 / -1; max-width: 52rem; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .35rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; background: #fff;
  color: #000; } nav, .skip { display: none; } .scroll { overflow: visible; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def render_page(
    title: str, sections: Sequence[Section], *, lead: str = "", footer: str = ""
) -> str:
    """The whole page as text; arguments as `report.write_report`."""
    ids = [f"part-{number}" for number in range(1, len(sections) + 1)]
    parts = zip(ids, sections, strict=True)
    links = zip(ids, sections, strict=True)
    return Template(_PAGE).substitute(
        style=_STYLE,
        title=escape(title),
        lead=f'<p class="lead">{escape(lead)}</p>' if lead else "",
        links="".join(f'<li><a href="#{i}">{escape(s.title)}</a>' for i, s in links),
        body="\n".join(_section(i, s) for i, s in parts),
        footer=f"<footer>{escape(footer)}</footer>" if footer else "",
    )


def _section(name: str, section: Section) -> str:
    body = [f"<p>{escape(text)}</p>" for text in section.paragraphs]
    body += [_table(table) for table in section.tables]
    if section.pictures:
        shown = "".join(_picture(picture) for picture in section.pictures)
        body.append(f'<div class="pictures">{shown}</div>')
    heading = f'<h2 id="{name}-h">{escape(section.title)}</h2>'
    return (
        f'<section id="{name}" aria-labelledby="{name}-h">{heading}{"".join(body)}'
        "</section>"
    )


def _table(table: Table) -> str:
    check_table(table)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    head = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    body = "".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    label = escape(table.caption or "table", quote=True)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
        f"{caption}{head}<tbody>{body}</tbody></table></div>"
    )


def _cell(cell) -> str:
    if isinstance(cell, Bar):
        return _bar_svg(cell.figure)
    return escape(format_cell(cell))


def _bar_svg(figure: Mapping) -> str:
    """The interval over 0 to 1 with a tick at 0.5; a difference over -1 to 1, at 0."""
    start, end = (-1.0, 1.0) if is_difference(figure) else (0.0, 1.0)
    ends = [float(figure[name]) for name in _FIGURE]
    if not all(map(math.isfinite, ends)):
        return ""
    value, low, high = (
        4 + 132 * (min(max(end_, start), end) - start) / (end - start) for end_ in ends
    )
    return (
        '<svg class="bar" viewBox="0 0 140 16" width="140" height="16" '
        'aria-hidden="true"><path class="axis" d="M4 8H136M70 2V14"/>'
        f'<path class="reach" d="M{low:.1f} 8H{high:.1f}M{low:.1f} 5V11M{high:.1f} '
        f'5V11"/><circle cx="{value:.1f}" cy="8" r="3.4"/></svg>'
    )


def _picture(picture: Picture) -> str:
    alt = escape(picture.alt or picture.caption)
    wide = ' class="wide"' if picture.wide else ""
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    image = f'<img src="{data_address(*read_picture(picture))}" alt="{alt}">'
    return f"<figure{wide}>{image}{caption}</figure>"
