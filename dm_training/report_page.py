"""How a report looks: one HTML file with its style, script and pictures within.

Legible without colour, in light and dark, on paper, and with a keyboard: wide tables
scroll in regions that take the focus, and every picture has its words. Galleries alone
bring a script. The page names by a Content-Security-Policy what it may use, so that a
browser refuses every request and every other script, whatever a report's text holds.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from dm_training.report_gallery import overlay_rules, render_gallery
from dm_training.report_images import data_address, read_picture
from dm_training.report_parts import (
    Bar,
    Headline,
    Picture,
    Section,
    Table,
    check_table,
    figure_facts,
    format_cell,
    interval_parts,
    is_difference,
    is_figure,
    is_number,
)

_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_SIDE = 6  # sections; with more, a wide window lists them at the side
_FIGURE = ("value", "low", "high")
_WIDTH, _EDGE = 112, 4  # of a drawn interval, pixels
_TINY = 1e-9
_CLASS = {False: "", True: ' class="number"'}
_SIGN = (
    '<svg viewBox="0 0 16 14" width="16" height="14" aria-hidden="true"><path '
    'd="M8 1L15 13H1ZM8 5V9M8 10.4V11.6" fill="none" stroke="currentColor" '
    'stroke-width="1.4" stroke-linejoin="round"/></svg>'
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body$kind>
<a class="skip" href="#main">Skip to the results</a>
<header><h1>$title</h1>$lead</header>
<nav aria-label="Sections"><ol>$links</ol></nav>
<main id="main">
$body
</main>
$footer
$script
</body>
</html>
"""


def render_page(
    title: str, sections: Sequence[Section], *, lead: str = "", footer: str = ""
) -> str:
    """The whole page as text; arguments as `report.write_report`."""
    numbered = list(enumerate(sections, 1))
    galleries = [gallery for section in sections for gallery in section.galleries]
    script = _SCRIPT if galleries else ""
    return Template(_PAGE).substitute(
        policy=_policy(script),
        style=_STYLE + overlay_rules(galleries),
        title=escape(title),
        kind=' class="long"' if len(sections) > _SIDE else "",
        lead=f'<p class="lead">{escape(lead)}</p>' if lead else "",
        links="".join(
            f'<li><a href="#part-{k}">{escape(s.title)}</a></li>' for k, s in numbered
        ),
        body="\n".join(_section(f"part-{k}", s) for k, s in numbered),
        footer=f"<footer>{escape(footer)}</footer>" if footer else "",
        script=f"<script>{script}</script>" if script else "",
    )


def _policy(script: str) -> str:
    """Nothing is loaded; the page's own script alone runs, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest())
    allowed = f"'sha256-{digest.decode('ascii')}'" if script else "'none'"
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


def _section(name: str, section: Section) -> str:
    body = [f"<p>{escape(text)}</p>" for text in section.paragraphs]
    body += [_notice(text) for text in section.notices]
    body += [_headline(headline) for headline in section.headlines]
    body += [_table(table) for table in section.tables]
    if section.pictures:
        shown = "".join(_picture(picture) for picture in section.pictures)
        body.append(f'<div class="pictures">{shown}</div>')
    body += [
        render_gallery(gallery, f"{name}-gallery-{number}")
        for number, gallery in enumerate(section.galleries, 1)
    ]
    heading = f'<h2 id="{name}-h">{escape(section.title)}</h2>'
    return (
        f'<section id="{name}" aria-labelledby="{name}-h">{heading}{"".join(body)}'
        "</section>"
    )


def _notice(text: str) -> str:
    return (
        f'<p class="notice" role="note">{_SIGN} <strong>Caution</strong> '
        f"{escape(text)}</p>"
    )


def _headline(headline: Headline) -> str:
    caption = f"<p>{escape(headline.caption)}</p>" if headline.caption else ""
    cards = "".join(_card(name, fig) for name, fig in headline.figures.items())
    return f'{caption}<dl class="cards">{cards}</dl>'


def _card(name: str, figure: Mapping) -> str:
    value, interval = interval_parts(figure)
    lines = [f'<dd class="value">{escape(value)}</dd>']
    if interval:
        lines.append(f'<dd class="interval">95 % interval {escape(interval)}</dd>')
        lines.append(f"<dd>{_bar_svg(figure)}</dd>")
    facts = escape(", ".join(figure_facts(figure)))
    lines += [f'<dd class="small">{facts}</dd>'] if facts else []
    return f'<div class="card"><dt>{escape(name)}</dt>{"".join(lines)}</div>'


def _table(table: Table) -> str:
    check_table(table)
    cells = [[row[k] for row in table.rows] for k in range(len(table.columns))]
    right = [any(map(is_number, c)) and not any(map(_is_text, c)) for c in cells]
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(
        f'<th scope="col"{_CLASS[right[k]]}>{escape(name) or _scale(cells[k])}</th>'
        for k, name in enumerate(table.columns)
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    body = "".join(_row(row, right) for row in table.rows)
    label = escape(table.caption or "table")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
        f"{caption}{head}<tbody>{body}</tbody></table></div>"
    )


def _is_text(cell) -> bool:
    return cell is not None and not is_number(cell)


def _row(row: Sequence, right: Sequence[bool]) -> str:
    first = f'<th scope="row"{_CLASS[right[0]]}>{_cell(row[0])}</th>' if row else ""
    rest = (
        f'<td class="figure">{_cell(cell)}</td>' if is_figure(cell)
        else f"<td{_CLASS[number]}>{_cell(cell)}</td>"
        for cell, number in zip(row[1:], right[1:], strict=True)
    )  # fmt: skip
    return f"<tr>{first}{''.join(rest)}</tr>"


def _cell(cell) -> str:
    if isinstance(cell, Bar):
        return _bar_svg(cell.figure)
    return escape(format_cell(cell))


def _scale(cells: Sequence) -> str:
    """The ends and the middle of a column of bars, where all have the same scale."""
    spans = {_span(cell.figure) for cell in cells if isinstance(cell, Bar)}
    if len(spans) != 1 or None in spans:
        return ""
    start, end = spans.pop()
    marks = ((_EDGE, start), (_WIDTH / 2, (start + end) / 2), (_WIDTH - _EDGE, end))
    texts = "".join(
        f'<text x="{x:g}" y="11">{f"{at:g}".replace("-", "−")}</text>'
        for x, at in marks
    )
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH} 14" width="{_WIDTH}" height="14" '
        f'aria-hidden="true">{texts}</svg>'
    )


def _span(figure: Mapping) -> tuple[float, float] | None:
    """The scale: 0 to 1, of a difference -1 to 1; None where a figure leaves it."""
    start, end = (-1.0, 1.0) if is_difference(figure) else (0.0, 1.0)
    ends = [float(figure[name]) for name in _FIGURE]
    inside = all(start - _TINY <= at <= end + _TINY for at in ends)  # False for NaN
    return (start, end) if inside else None


def _bar_svg(figure: Mapping) -> str:
    """The interval over its scale, with a tick in the middle; "" without a scale."""
    span = _span(figure)
    if span is None:
        return ""
    length = (_WIDTH - 2 * _EDGE) / (span[1] - span[0])
    value, low, high = (
        _EDGE + length * (float(figure[name]) - span[0]) for name in _FIGURE
    )
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH} 16" width="{_WIDTH}" height="16" '
        f'aria-hidden="true"><path class="axis" d="M{_EDGE} 8H{_WIDTH - _EDGE}'
        f'M{_WIDTH // 2} 2V14"/><path class="reach" d="M{low:.1f} 8H{high:.1f}'
        f'M{low:.1f} 5V11M{high:.1f} 5V11"/><circle cx="{value:.1f}" cy="8" r="3.4"/>'
        "</svg>"
    )


def _picture(picture: Picture) -> str:
    alt = escape(picture.alt or picture.caption)
    wide = ' class="wide"' if picture.wide else ""
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    image = f'<img src="{data_address(*read_picture(picture))}" alt="{alt}">'
    return f"<figure{wide}>{image}{caption}</figure>"
