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

from dm_training.report_bars import common_span, draw_bar, draw_scale
from dm_training.report_gallery import overlay_rules, render_gallery
from dm_training.report_images import data_address, read_picture
from dm_training.report_parts import (
    Headline,
    Picture,
    Section,
    figure_facts,
    interval_parts,
)
from dm_training.report_table import render_table

_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_SIDE = 6  # sections; with more, a wide window lists them at the side
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
    body += [render_table(table) for table in section.tables]
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
        span = common_span([figure])
        drawn = draw_bar(figure, span) + draw_scale(span)
        lines += [f"<dd>{drawn}</dd>"] if drawn else []
    facts = escape(", ".join(figure_facts(figure)))
    lines += [f'<dd class="small">{facts}</dd>'] if facts else []
    return f'<div class="card"><dt>{escape(name)}</dt>{"".join(lines)}</div>'


def _picture(picture: Picture) -> str:
    alt = escape(picture.alt or picture.caption)
    wide = ' class="wide"' if picture.wide else ""
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    image = f'<img src="{data_address(*read_picture(picture))}" alt="{alt}">'
    return f"<figure{wide}>{image}{caption}</figure>"
