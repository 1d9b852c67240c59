"""A report in a real browser: what is drawn, and what keys and clicks do."""

import io
import re

import numpy as np
import pytest
from browser_support import CHROMIUM, Browser
from PIL import Image

from dm_training import report
from dm_training.report import Gallery, GalleryItem, Headline, Picture, Section, Table
from dm_training.report_parts import figure_table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Debian's chromium"),
]

FIGURE = {
    "value": 0.912, "low": 0.858, "high": 0.949, "n": 150, "positives": 75,
    "level": "image", "split": "test",
}  # fmt: skip
DIFFERENCE = {**FIGURE, "value": 0.19, "low": -0.02, "high": 0.3, "p": 0.0301}
# What is asked of the page.
TITLE = "document.querySelector('.title').textContent"
POSITION = "document.querySelector('.position').textContent"
OPEN = "document.querySelector('dialog').open"
NAMES = (
    "[...document.querySelector('.items').querySelectorAll("
    "'.item:not([hidden]) .name')].map(e => e.textContent)"
)
LAID = (  # which overlays are seen, of a part of the page
    "[...document.querySelectorAll('%s [data-overlay]')]"
    ".map(e => getComputedStyle(e).display !== 'none')"
)
OPACITY = (
    "Number(getComputedStyle(document.querySelector('.stage [data-overlay]')).opacity)"
)
BOX = (  # left, top, width, height
    "(r => [r.x, r.y, r.width, r.height])"
    "(document.querySelector('.stage img').getBoundingClientRect())"
)
FOCUSED = "document.activeElement.closest('.item').querySelector('.name').textContent"
GREYS = (
    "['color', 'backgroundColor'].map(name => "
    "Number(getComputedStyle(document.body)[name].match(/\\d+/)[0]))"
)
EVIL = "<img src=x onerror=\"document.title='bad'\"></script><script>"
SCORES = {"a": 0.5, "b": 0.9, "c": None, "d": 0.1}


def png(array):
    held = io.BytesIO()
    Image.fromarray(array).save(held, "PNG")
    return held.getvalue()


def item(name, number):
    """A grey image of 300 x 200 and a red box on rows 60-120, columns 40-100."""
    box = np.zeros((300, 200, 4), np.uint8)
    box[60:120, 40:100] = (255, 0, 0, 255)
    ring = np.zeros((300, 200, 4), np.uint8)
    ring[200:220, 40:100] = (0, 0, 255, 255)
    grey = np.full((300, 200), 60 + number, np.uint8)
    facts = {} if SCORES[name] is None else {"score": SCORES[name]}
    overlays = {"heat": png(box), "outline": png(ring)}
    kind = "odd" if number % 2 else "even"
    return GalleryItem(name, kind, png(grey), overlays, facts)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    plot = png(np.full((300, 900), 200, np.uint8))
    figures = {"a model": FIGURE, "a model with a rather long name": FIGURE,
               "the one less the other": DIFFERENCE}  # fmt: skip
    wide = Table(["x"] + [f"threshold {k}" for k in range(12)], [["y", *range(12)]])
    items = [item(name, number) for number, name in enumerate(SCORES)]
    sections = [
        Section("Results", ["text"], [figure_table(figures, "AUCs"), wide],
                [Picture(plot, "plot", wide=True)],
                headlines=[Headline(figures)], notices=["few positives"]),
        Section("Images", galleries=[Gallery(items, "Four")]),
        Section(EVIL, galleries=[Gallery([GalleryItem(EVIL, EVIL, items[0].image,
                                                      facts={EVIL: EVIL})])]),
        *[Section(f"Further {number}") for number in range(6)],
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("report")
    return report.write_all(folder, "Title", sections, lead="lead", footer="end")[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def opened(browser, page):
    browser.open(page, width=1280)
    return browser


def shot(browser, tmp_path):
    with Image.open(browser.shot(tmp_path / "shot.png", whole=False)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def is_red(seen):
    return (seen[..., 0] > 200) & (seen[..., 1] < 60) & (seen[..., 2] < 60)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 900, 480])
def test_the_page_fits_its_window_and_asks_for_nothing(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    browser.get("Promise.all([...document.images].map(image => image.decode()))")
    assert browser.get("document.documentElement.scrollWidth") <= width
    sizes = browser.get("[...document.images].map(i => [i.naturalWidth, i.complete])")
    assert len(sizes) == 14 and all(width and done for width, done in sizes)
    asked = {address.partition(",")[0] for address in browser.requests}
    assert asked == {page.as_uri(), "data:image/png;base64"}
    assert browser.complaints == []
    ink, paper = browser.get(GREYS)
    assert (ink > 200 and paper < 50) if dark else (ink < 50 and paper > 200)


@pytest.mark.parametrize(
    ("width", "scrolls"), [(1280, False), (900, False), (480, True)]
)
def test_a_table_of_figures_is_whole_or_scrolls_within_its_region(
    browser, page, width, scrolls
):
    browser.open(page, width=width)
    inside, outside = browser.get(
        "(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.scroll'))"
    )
    assert (inside > outside) is scrolls
    last = "document.querySelector('thead th:last-child')"
    browser.get(f"{last}.scrollIntoView({{inline: 'end'}})")
    assert browser.get(f"{last}.getBoundingClientRect().right") <= width
    assert browser.get(f"{last}.textContent") == "split"


def test_a_click_enlarges_and_keys_walk_and_close(opened):
    opened.click(".item:nth-child(2) .thumb")
    assert opened.get(OPEN) and opened.get(TITLE) == "b"
    assert opened.get(POSITION) == "2 of 4"
    opened.press("ArrowRight")
    assert opened.get(TITLE) == "c"
    for _ in range(3):
        opened.press("ArrowLeft")
    assert opened.get(TITLE) == "d"  # before the first comes the last
    assert opened.get(POSITION) == "4 of 4"
    opened.press("Escape")
    assert not opened.get(OPEN)
    assert opened.get(FOCUSED) == "d"  # where one had got to
    assert opened.complaints == []


def test_enter_opens_and_buttons_do_what_keys_do(opened):
    opened.get("document.querySelector('.thumb').focus()")
    opened.press("Enter")
    assert opened.get(OPEN) and opened.get(TITLE) == "a"
    opened.click(".next")
    assert opened.get(TITLE) == "b"
    opened.click(".previous")
    assert opened.get(TITLE) == "a"
    opened.click(".close")
    assert not opened.get(OPEN)
    assert opened.get("document.activeElement.className") == "thumb"


def test_a_click_beside_the_viewer_closes_it_and_one_inside_does_not(opened):
    opened.click(".thumb")
    opened.click(".title")
    assert opened.get(OPEN)
    for kind in ("mousePressed", "mouseReleased"):
        opened.call("Input.dispatchMouseEvent", type=kind, x=5, y=5, button="left",
                    clickCount=1)  # fmt: skip
    opened.settle()
    assert not opened.get(OPEN)


@pytest.mark.parametrize("width", [1280, 480])
def test_the_overlay_lies_where_it_belongs_and_o_takes_it_off(
    browser, page, tmp_path, width
):
    browser.open(page, width=width)
    browser.click(".thumb")
    seen = shot(browser, tmp_path)
    left, top, wide, high = browser.get(BOX)
    scale = min(wide / 200, high / 300)  # contained, in the middle
    left, top = left + (wide - 200 * scale) / 2, top + (high - 300 * scale) / 2
    rows, cols = np.nonzero(is_red(seen))
    box = np.array([rows.min(), rows.max() + 1, cols.min(), cols.max() + 1])
    placed = np.array([top, top, left, left]) + scale * np.array([60, 120, 40, 100])
    assert np.abs(box - placed).max() < 2.5
    browser.press("o")
    assert not is_red(shot(browser, tmp_path)).any()
    browser.press("o")
    assert is_red(shot(browser, tmp_path)).sum() > 0.9 * (60 * scale) ** 2


def test_overlays_are_chosen_one_by_one_and_o_brings_back_the_choice(opened):
    laid = LAID % ".stage"
    opened.click(".thumb")
    assert opened.get(laid) == [True, False]
    opened.click(".slot [data-shows='1']")
    assert opened.get(laid) == [True, True]
    opened.click(".slot [data-shows='0']")
    assert opened.get(laid) == [False, True]
    opened.press("o")
    assert opened.get(laid) == [False, False]
    opened.press("ArrowRight")
    opened.press("o")
    assert opened.get(laid) == [False, True]
    opened.press("Escape")
    thumbs = LAID % ".items"
    assert opened.get(thumbs) == [False, True] * 4  # the page follows the viewer
    opened.click(".controls [data-shows='1']")
    assert opened.get(thumbs) == [False, False] * 4


def test_the_strength_is_set_by_keys_that_do_not_walk(opened, tmp_path):
    opened.click(".thumb")
    opened.get("document.querySelector('.strength input').focus()")
    opened.press("Home")
    assert not is_red(shot(opened, tmp_path)).any()
    opened.press("ArrowRight")
    assert opened.get(TITLE) == "a"
    assert opened.get(OPACITY) == pytest.approx(0.05)


def test_full_size_shows_a_pixel_of_the_image_as_one_of_the_window(opened):
    opened.size(700, 400)  # too low for 300 rows
    opened.click(".thumb")
    assert opened.get(BOX)[3] < 300
    opened.press("z")
    assert opened.get(BOX)[2:] == [200, 300]
    stage = "document.querySelector('.stage')"
    assert opened.get(f"{stage}.scrollHeight > {stage}.clientHeight")
    opened.press("z")
    assert opened.get(BOX)[3] < 300


def test_items_are_sorted_and_filtered_and_the_viewer_follows(opened):
    assert opened.get(NAMES) == ["a", "b", "c", "d"]
    opened.choose(".sort", "0 up")
    assert opened.get(NAMES) == ["d", "a", "b", "c"]  # c has no score: last
    opened.choose(".sort", "0 down")
    assert opened.get(NAMES) == ["b", "a", "d", "c"]
    opened.choose(".sort", "kind")
    assert opened.get(NAMES) == ["a", "c", "b", "d"]
    opened.choose(".filter", "1")
    opened.choose(".sort", "0 up")
    assert opened.get(NAMES) == ["d", "b"]
    opened.click(".item:not([hidden]) .thumb")
    assert opened.get(TITLE) == "d"
    opened.press("ArrowRight")
    assert opened.get(TITLE) == "b"
    assert opened.get(POSITION) == "2 of 2"
    opened.press("ArrowRight")
    assert opened.get(TITLE) == "d"
    opened.press("Escape")
    opened.choose(".filter", "")
    opened.choose(".sort", "")
    assert opened.get(NAMES) == ["a", "b", "c", "d"]


def test_the_viewer_holds_no_second_copy_of_an_image(opened):
    opened.click(".thumb")
    addresses = "['.item', '.stage'].map(s => document.querySelector(`${s} img`).src)"
    of_item, of_viewer = opened.get(addresses)
    assert of_item == of_viewer and of_item.startswith("data:image/png;base64,")
    opened.press("Escape")
    assert opened.get("document.querySelectorAll('dialog img').length") == 0


def test_hostile_names_are_words_in_the_viewer_too(opened):
    opened.click("section:nth-of-type(3) .thumb")
    viewer = "document.querySelector('dialog[open]')"
    assert opened.get(f"{viewer}.querySelector('.title').textContent") == EVIL
    assert EVIL in opened.get(f"{viewer}.querySelector('.told').textContent")
    assert opened.get("document.title") == "Title"
    assert opened.get("document.querySelectorAll('script').length") == 1


@pytest.fixture
def scriptless(browser, page):
    browser.allow_scripts(False)
    browser.open(page, width=1280)
    yield browser
    browser.allow_scripts(True)


def test_without_its_script_images_overlays_and_facts_are_still_there(scriptless):
    assert scriptless.get("document.querySelector('.thumb').disabled")
    assert scriptless.get("document.querySelector('.sort').offsetWidth") == 0
    assert scriptless.get("document.querySelector('.facts').offsetHeight") > 0
    assert scriptless.get(LAID % ".items") == [True, False] * 4
    scriptless.click(".controls [data-shows='0']")
    assert scriptless.get(LAID % ".items") == [False, False] * 4


def test_what_is_smuggled_into_a_page_neither_runs_nor_is_asked_for(
    browser, page, tmp_path
):
    text = page.read_text(encoding="utf-8")
    more = ("<script>window.bad = 1</script><img src='x' onerror='window.bad = 2'>"
            "<img src='https://host.invalid/a.png'>")  # fmt: skip
    changed = tmp_path / "changed.html"
    changed.write_text(text.replace("</main>", f"{more}</main>"), encoding="utf-8")
    browser.open(changed, width=1280)
    assert browser.get("window.bad ?? null") is None
    complaints = [entry["text"] for entry in browser.complaints]
    assert len(complaints) == 4 and all("Content Security" in c for c in complaints)


def test_paper_shows_images_with_the_chosen_overlay_and_no_controls(opened, tmp_path):
    opened.click(".thumb")  # a viewer that is open is not printed
    opened.call("Emulation.setEmulatedMedia", media="print")
    hidden = "['dialog', 'nav', '.sort', '.skip'].map(s => document.querySelector(s)"
    assert opened.get(f"{hidden}.offsetHeight)") == [0, 0, 0, 0]
    opened.size(700)  # about A4 between its margins
    edges = "['.items', 'table'].map(s => document.querySelector(s)"
    assert max(opened.get(f"{edges}.getBoundingClientRect().right)")) <= 700
    assert opened.get(LAID % ".items") == [True, False] * 4
    printed = opened.pdf(tmp_path / "page.pdf").read_bytes()
    opened.call("Emulation.setEmulatedMedia", media="")
    assert len(re.findall(rb"/Type /Page\b", printed)) >= 1
    assert len(re.findall(rb"/Subtype /Image\b", printed)) >= 4


def test_every_control_is_reached_by_tab_and_shows_its_focus(opened):
    reached = []
    for _ in range(30):
        opened.press("Tab")
        reached.append(opened.get("document.activeElement.className || "
                                  "document.activeElement.tagName"))  # fmt: skip
    assert reached[0] == "skip"
    assert {"A", "scroll", "INPUT", "sort", "filter", "thumb"} <= set(reached)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert opened.get(outline) == "solid"
