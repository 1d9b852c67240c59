"""The page, in a real browser: drop or choose a file, look at the result."""

import functools
import json

import browser_support
import cv2
import numpy as np
import pytest
import served_support as served

from dm_training.intake import Intake, IntakeError
from dm_training.serving import score
from dm_training.serving.limits import Limits
from dm_training.serving.served_model import ServedModel
from dm_training.serving.service import Service
from dm_training.shown_share import shown_share

pytestmark = pytest.mark.skipif(
    browser_support.CHROMIUM is None, reason="no chromium on this machine"
)
TOKEN = "0123456789abcdef"
UNSUITABLE = "it is a magnification view"


class Address(str):
    """An address where the browser's driver expects a path."""

    def as_uri(self):
        return str(self)


def read(data, voi):
    """The uploads' PNGs; one that is all black is said to be unsuitable."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise IntakeError("neither DICOM nor an image")
    unsuitable = () if found.any() else (UNSUITABLE,)
    return Intake(found, "", "L", "CC", ("a note on it",), unsuitable)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browser_support.Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ServedModel(served.save_export(tmp_path_factory.mktemp("models") / "m"))


@pytest.fixture
def page(model, browser, monkeypatch, request):
    """Open the page of a server with these options; gives what drives it."""
    monkeypatch.setattr(score, "read_intake", read)
    monkeypatch.setattr(score, "warnings_of", lambda *_: ["darker than usual"])
    options = getattr(request, "param", {})
    service = Service(model, Limits(max_body=200_000))
    hosts = ("127.0.0.1",)
    with served.running(service, hosts=hosts, **options) as (_, (host, port)):
        browser.open(Address(f"http://{host}:{port}/"), width=1000)
        yield browser


@pytest.fixture
def files(tmp_path):
    """Files to choose: bright, black, no image, too large."""
    made = {"bright": served.png_of(65535, (128, 96)), "none": b"Mrs Smith",
            "black": served.png_of(0), "large": b"x" * 300_000}  # fmt: skip
    for name, data in made.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    return {name: str(tmp_path / f"{name}.png") for name in made}


def choose(browser, *paths):
    """As the browser's own file dialog does."""
    found = browser.call("Runtime.evaluate", expression="document.all.file")
    browser.call(
        "DOM.setFileInputFiles", files=list(paths), objectId=found["result"]["objectId"]
    )


def drop(browser, *paths):
    """Drag files over the page and let them fall."""
    data = {"items": [], "files": list(paths), "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)


def seen(browser, selector):
    """The text of an element, waited for until it is shown."""
    found = f"document.querySelector({json.dumps(selector)})"
    served.wait_until(lambda: browser.get(f"{found}.checkVisibility()"))
    return browser.get(f"{found}.innerText")


@pytest.mark.parametrize("give", [choose, drop], ids=["chosen", "dropped"])
def test_a_file_is_scored_and_shown(page, files, give):
    named = "Model m, version 0123456789ab"
    served.wait_until(lambda: seen(page, "#model") == named)
    give(page, files["bright"])
    text = seen(page, "#result")
    assert f"{served.probability_of(65535):.4f}" in text
    digits = [page.get(f"inDigits({p})") for p in (0, 0.00123, 0.9985, 0.99996, 1)]
    assert digits == ["< 0.0001", "0.0012", "0.9985", "> 0.9999", "> 0.9999"]
    assert digits == [shown_share(p) for p in (0, 0.00123, 0.9985, 0.99996, 1)]
    assert "cancer" not in text
    for part in ("positive", "threshold 0.5000", "left, CC", "a note on it",
                 "darker than usual", "128 × 96 pixels", "research only",
                 "bright.png"):  # fmt: skip
        assert part.lower() in text.lower()
    assert page.get("document.activeElement.id") == "result"
    loaded = "document.all.picture.complete && document.all.picture.naturalWidth > 96"
    served.wait_until(functools.partial(page.get, loaded))
    assert page.complaints == []
    assert not [url for url in page.requests if "bright" in url]


def test_nothing_but_the_server_is_asked(page, files):
    choose(page, files["bright"])
    seen(page, "#result")
    own = page.get("location.origin")
    assert all(url.startswith((own, "data:", f"blob:{own}")) for url in page.requests)
    assert len(page.requests) >= 5


def test_what_is_no_image_is_said_in_words(page, files):
    choose(page, files["bright"])
    seen(page, "#result")
    choose(page, files["none"])
    text = seen(page, "#error")
    assert text.strip() == "Not readable: neither DICOM nor an image."
    assert page.get("document.all.result.hidden")  # no score of another file stays
    choose(page, files["large"])
    served.wait_until(lambda: "larger than" in seen(page, "#error"))
    drop(page, files["bright"], files["none"])
    assert "One file at a time: 2 were given." in seen(page, "#error")


def test_unsuitable_images_are_scored_on_demand(page, files):
    choose(page, files["black"])
    assert UNSUITABLE in seen(page, "#error")
    page.click("#anyway")
    assert f"judged although: {UNSUITABLE}" in seen(page, "#result")
    assert page.get("document.all.error.hidden")


def test_the_keyboard_alone_reaches_everything(page, files):
    order = []
    for _ in range(3):
        page.press("Tab")
        order.append(page.get("document.activeElement.id"))
    assert order[:2] == ["file", "tta"]
    choose(page, files["black"])
    seen(page, "#anyway")
    page.press("Tab")
    page.get("document.all.anyway.focus()")
    page.press("Enter")
    seen(page, "#result")
    page.press("Tab")
    assert page.get("document.activeElement.id") == "full"


@pytest.mark.parametrize("page", [{"token": TOKEN}], indirect=True, ids=["token"])
def test_a_token_is_asked_for_and_sent(page, files):
    assert "asks for a token" in seen(page, "#token-form")
    for given, shown in (("wrong" * 4, "#error"), (TOKEN, "#model")):
        page.get(f"document.all.token.value = '{given}'")
        page.click("#token-form button")
        seen(page, shown)
    served.wait_until(lambda: seen(page, "#model").startswith("Model m"))
    assert page.get("document.all['token-form'].hidden && document.all.error.hidden")
    choose(page, files["bright"])
    assert "positive" in seen(page, "#result")


def test_a_narrow_screen_needs_no_scrolling_sideways(page, files):
    page.size(320)
    choose(page, files["bright"])
    seen(page, "#result")
    assert page.get("document.documentElement.scrollWidth") <= 320


def test_the_page_may_talk_to_no_one_else(page):
    tried = "fetch('https://example.test/').then(() => 'sent', () => 'blocked')"
    assert page.get(tried) == "blocked"
    page.settle()
    assert [c for c in page.complaints if "Content Security Policy" in str(c)]
    script = "document.createElement('script').src = 'https://example.test/x.js'"
    with pytest.raises(AssertionError, match="TrustedScriptURL"):
        page.get(script)


@pytest.mark.parametrize(("name", "sent"), [
    ("Smith_Mary_LEFT_CC.dcm", "x_LEFT_CC"), ("exam_R-MLO.png", "x_R_MLO"),
    ("2_Smith_MG_L_ML_ANON.dcm", "x_L_MLO"), ("Smith.png", "x"),
    ("a_L_ML.png", "x_L_ML"),
    ("P_L_CCX.png", "x"),
])  # fmt: skip
def test_of_a_name_side_and_view_alone_leave_the_browser(page, name, sent):
    asked = f"formOf(new File(['a'], {json.dumps(name)})).get('file').name"
    assert page.get(asked) == sent
