import base64
import hashlib
import io
import json
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from dm_training.report import Gallery, GalleryItem, ReportError, Section
from dm_training.report_gallery import render_gallery
from dm_training.report_page import render_page


def png(*shape, value=0):
    held = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(held, "PNG")
    return held.getvalue()


JPEG = b"\xff\xd8\xff\xc0\0\x0b\x08\0\x1e\0\x14"  # 30 x 20, as far as it goes
IMAGE, OTHER, OVERLAY, OUTLINE = (
    png(30, 20, value=9), png(30, 20, value=8), png(30, 20, 4), png(30, 20, 4, value=1),
)  # fmt: skip


def gallery(**more):
    items = [
        GalleryItem("a", "missed", IMAGE, {"CAM": OVERLAY, "outline": OUTLINE},
                    {"score": 0.25, "age": 61, "truth": "cancer"}),
        GalleryItem("b", "right", OTHER, {"outline": OUTLINE},
                    {"score": float("nan"), "truth": "none"}, "two, in words"),
    ]  # fmt: skip
    return Gallery(items, "Both", **more)


def test_every_image_is_held_once():
    page = render_page("T", [Section("S", galleries=[gallery()])])
    for data, count in ((IMAGE, 1), (OTHER, 1), (OVERLAY, 1), (OUTLINE, 2)):
        assert page.count(base64.b64encode(data).decode()) == count  # of two items: 2
    assert page.count("data:image") == 5


def test_items_tell_their_name_kind_facts_and_words():
    found = render_gallery(gallery(), "g")
    assert '<p class="name">a</p><p class="kind">missed</p>' in found
    assert "<dt>score</dt><dd>0.25</dd>" in found
    assert "<dt>score</dt><dd>–</dd>" in found
    assert 'aria-label="Enlarge: a, missed"' in found
    assert 'alt="two, in words"' in found
    assert 'width="20" height="30"' in found


def test_numbers_can_be_sorted_by_and_words_cannot():
    found = render_gallery(gallery(), "g")
    numbers = re.findall(r'data-numbers="([^"]*)"', found)
    assert [json.loads(unescape(n)) for n in numbers] == [[0.25, 61.0], [None, None]]
    assert re.findall(r'<option value="([^"]*)">([^<]*)', found) == [
        ("", "as given"), ("kind", "kind"),
        ("0 up", "score, lowest first"), ("0 down", "score, highest first"),
        ("1 up", "age, lowest first"), ("1 down", "age, highest first"),
        ("", "all (2)"), ("0", "missed (1)"), ("1", "right (1)"),
    ]  # fmt: skip


def test_one_kind_without_numbers_has_nothing_to_sort_or_filter():
    items = [GalleryItem(name, "hit", IMAGE) for name in "ab"]
    found = render_gallery(Gallery(items), "g")
    assert "<select" not in found and "<fieldset" not in found
    assert 'type="range"' not in found


@pytest.mark.parametrize(
    ("shown", "checked"),
    [(None, [True, False]), ([], [False, False]), (["outline"], [False, True])],
    ids=["the first", "none", "named"],
)
def test_the_overlays_that_are_on_at_first_can_be_chosen(shown, checked):
    found = render_gallery(gallery(shown=shown), "g")
    boxes = re.findall(r'data-shows="\d"( checked)?> (CAM|outline)', found)
    assert [(bool(on), name) for on, name in boxes] == [
        (checked[0], "CAM"), (checked[1], "outline"),
    ]  # fmt: skip


def test_an_overlay_is_laid_over_by_its_name_not_its_place():
    found = render_gallery(gallery(), "g")
    laid = re.findall(r'base64,([^"]+)" alt="" data-overlay="(\d)"', found)
    outline = base64.b64encode(OUTLINE).decode()
    assert [place for data, place in laid if data == outline] == ["1", "1"]


def test_only_a_page_with_a_gallery_has_a_script_and_names_it_by_its_hash():
    assert "<script" not in render_page("T", [Section("S")])
    page = render_page("T", [Section("S", galleries=[gallery()])])
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "innerHTML" not in script and "http" not in script


def test_what_comes_from_data_is_escaped_in_a_gallery():
    evil = '</script><img src=x onerror="y">&\'|\n'
    item = GalleryItem(evil, evil, IMAGE, {evil: OVERLAY}, {evil: evil, "n": 1}, evil)
    section = Section("S", galleries=[Gallery([item, item], evil)])
    page = render_page("T", [section])
    assert page.count("</script>") == 1 and "<img src=x" not in page
    assert "onerror=&quot;y&quot;&gt;&amp;&#x27;|\n" in page


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (GalleryItem("a", "k", b"GIF89a"), "item 'a': must be a PNG, JPEG or SVG"),
        (GalleryItem("a", "k", b"<svg/>"), "item 'a': must be a PNG or JPEG"),
        (GalleryItem("a", "k", IMAGE, {"CAM": png(20, 30, 4)}),
         r"'a', overlay 'CAM': must have.* \(30, 20\), received \(20, 30\)"),
        (GalleryItem("a", "k", IMAGE, {"CAM": JPEG}),
         "overlay 'CAM': must be a PNG, received a JPEG"),
    ],
    ids=["kind", "svg", "shape", "jpeg overlay"],
)  # fmt: skip
def test_a_wrong_image_is_named(item, message):
    with pytest.raises(ReportError, match=message):
        render_gallery(Gallery([item]), "g")


def test_an_empty_gallery_and_an_unknown_overlay_are_named():
    with pytest.raises(ReportError, match="'Both': must hold an item, received 0"):
        render_gallery(Gallery([], "Both"), "g")
    with pytest.raises(ReportError, match=r"among.*\['CAM', 'outline'\].*'camm'"):
        render_gallery(gallery(shown=["camm"]), "g")
