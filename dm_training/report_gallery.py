"""The galleries of a report as HTML: thumbnails with overlays, and a viewer.

Each image and each overlay is held once: the viewer shows the same addresses again.
Which overlays are on is told by checkboxes and followed by the style, so that switching
them works without the script too (and on paper); enlarging, sorting and filtering need
`report_page.js`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape

from dm_training.report_images import data_address, image_kind, image_size
from dm_training.report_parts import (
    Gallery,
    GalleryItem,
    ReportError,
    format_cell,
    is_number,
)

_VIEWER = """<dialog class="viewer" aria-labelledby="{name}-title">
<header><h3 id="{name}-title" class="title" aria-live="polite"></h3>
<button type="button" class="close" aria-keyshortcuts="Escape">Close</button></header>
<div class="stage" tabindex="0" role="group" aria-label="image"></div>
<div class="side">
<div class="walk">
<button type="button" class="previous" aria-keyshortcuts="ArrowLeft">← Previous</button>
<span class="position"></span>
<button type="button" class="next" aria-keyshortcuts="ArrowRight">Next →</button>
</div>
<div class="slot"></div>
{strength}
<button type="button" class="size" aria-pressed="false" aria-keyshortcuts="z">Full size
</button>
<div class="told"></div>
<p class="keys"><kbd>←</kbd> <kbd>→</kbd> images{key} · <kbd>Z</kbd> full size ·
<kbd>Esc</kbd> close</p>
</div>
</dialog>"""

_STRENGTH = """<label class="strength">Strength of the overlay
<input type="range" min="0" max="100" step="5" value="100"></label>"""


def render_gallery(gallery: Gallery, name: str) -> str:
    """A gallery as HTML.

    Args:
        gallery: At least one item.
        name: An id on the page, of letters, digits and hyphens.

    Raises:
        ReportError: No item; an image that is no PNG or JPEG; an overlay that is no PNG
            of its image's height and width; an overlay to be shown that no item has.
    """
    if not gallery.items:
        raise ReportError(f"gallery {gallery.caption!r}: must hold an item, received 0")
    overlays, kinds = _overlays(gallery), _first_seen(i.kind for i in gallery.items)
    numbers = _numeric_facts(gallery)
    items = "".join(
        _item(item, overlays, kinds.index(item.kind), numbers)
        for item in gallery.items
    )
    caption = f"<p>{escape(gallery.caption)}</p>" if gallery.caption else ""
    label = escape(gallery.caption or "gallery")
    viewer = _VIEWER.format(
        name=name, strength=_STRENGTH if overlays else "",
        key=" · <kbd>O</kbd> overlay" if overlays else "",
    )  # fmt: skip
    return (
        f'<div class="gallery" role="group" aria-label="{label}">{caption}'
        f'<div class="controls">{_switches(gallery, overlays)}'
        f"{_sorting(numbers, len(kinds))}{_filter(gallery, kinds)}</div>"
        f'<ul class="items" role="list">{items}</ul>{viewer}</div>'
    )


def overlay_rules(galleries: Sequence[Gallery]) -> str:
    """The style by which a checked box shows its overlay, for the most of them."""
    most = max((len(_overlays(gallery)) for gallery in galleries), default=0)
    return "".join(
        f'.gallery:has([data-shows="{k}"]:checked) [data-overlay="{k}"]'
        "{display:block}\n"
        for k in range(most)
    )


def _switches(gallery: Gallery, overlays: Sequence[str]) -> str:
    shown = overlays[:1] if gallery.shown is None else gallery.shown
    unknown = [name for name in shown if name not in overlays]
    if unknown:
        raise ReportError(
            f"gallery {gallery.caption!r}: shown must be among its overlays "
            f"{overlays}, received {unknown[0]!r}"
        )
    if not overlays:
        return ""
    boxes = "".join(
        f'<label><input type="checkbox" autocomplete="off" data-shows="{k}"'
        f"{' checked' if name in shown else ''}> {escape(name)}</label>"
        for k, name in enumerate(overlays)
    )
    return f'<fieldset class="overlays"><legend>Overlay</legend>{boxes}</fieldset>'


def _sorting(numbers: Sequence[str], kinds: int) -> str:
    choices = [("", "as given")] + ([("kind", "kind")] if kinds > 1 else [])
    for k, name in enumerate(numbers):
        choices += [(f"{k} up", f"{name}, lowest first")]
        choices += [(f"{k} down", f"{name}, highest first")]
    return _select("sort", "Order", choices) if len(choices) > 1 else ""


def _filter(gallery: Gallery, kinds: Sequence[str]) -> str:
    count = [sum(item.kind == kind for item in gallery.items) for kind in kinds]
    choices = [("", f"all ({len(gallery.items)})")]
    choices += [(str(k), f"{kind} ({count[k]})") for k, kind in enumerate(kinds)]
    return _select("filter", "Show", choices) if len(kinds) > 1 else ""


def _select(name: str, label: str, choices: Sequence[tuple[str, str]]) -> str:
    options = "".join(f'<option value="{v}">{escape(t)}</option>' for v, t in choices)
    return (
        f'<label class="needs-script" hidden>{label} <select class="{name}" '
        f'autocomplete="off">{options}</select></label>'
    )


def _item(
    item: GalleryItem, overlays: Sequence[str], kind: int, numbers: Sequence[str]
) -> str:
    values = [item.facts.get(name) for name in numbers]
    values = [float(v) if is_number(v) and math.isfinite(v) else None for v in values]
    alt = escape(item.alt or f"{item.name}, {item.kind}")
    return (
        f'<li class="item" data-kind="{kind}" data-numbers="{json.dumps(values)}">'
        f'<button type="button" class="thumb" disabled aria-label="Enlarge: {alt}">'
        f"{_stack(item, overlays, alt)}</button>"
        f'<p class="name">{escape(item.name)}</p><p class="kind">{escape(item.kind)}'
        f"</p>{_facts(item.facts)}</li>"
    )


def _stack(item: GalleryItem, overlays: Sequence[str], alt: str) -> str:
    """The image and, in the same box, its overlays."""
    where = f"gallery item {item.name!r}"
    height, width = image_size(item.image, where)
    address = data_address(item.image, image_kind(item.image, where))
    parts = [f'<img src="{address}" width="{width}" height="{height}" alt="{alt}">']
    for name, data in item.overlays.items():
        _check_overlay(data, (height, width), f"{where}, overlay {name!r}")
        parts.append(
            f'<img src="{data_address(data, "image/png")}" alt="" '
            f'data-overlay="{overlays.index(name)}">'
        )
    return f'<span class="stack">{"".join(parts)}</span>'


def _check_overlay(data: bytes, size: tuple[int, int], where: str) -> None:
    found = image_size(data, where)
    if image_kind(data, where) != "image/png":
        raise ReportError(f"{where}: must be a PNG, received a JPEG")
    if found != size:
        raise ReportError(
            f"{where}: must have its image's height and width {size}, received {found}"
        )


def _facts(facts: Mapping) -> str:
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(format_cell(value, 3))}</dd></div>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{pairs}</dl>' if pairs else ""


def _overlays(gallery: Gallery) -> list[str]:
    return _first_seen(name for item in gallery.items for name in item.overlays)


def _numeric_facts(gallery: Gallery) -> list[str]:
    facts = [pair for item in gallery.items for pair in item.facts.items()]
    return _first_seen(name for name, value in facts if is_number(value))


def _first_seen(names) -> list[str]:
    return list(dict.fromkeys(names))
