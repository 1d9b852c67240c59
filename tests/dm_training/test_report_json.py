import json

import numpy as np

from dm_training.report import Gallery, GalleryItem, Headline, Picture, Section, Table
from dm_training.report_json import render_json
from dm_training.report_parts import Bar, figure_table

FIGURE = {
    "value": 0.912, "low": 0.858, "high": 0.949, "n": 150, "positives": 75,
    "level": "image", "split": "test",
}  # fmt: skip


def read(*sections, **more):
    return json.loads(render_json("Title", sections, **more))


def test_what_a_report_says_is_there():
    section = Section(
        "One", ["text"], pictures=[Picture(b"unread", "caption", "alt")],
        headlines=[Headline({"AUC": FIGURE}, "in short")], notices=["few"],
    )  # fmt: skip
    assert read(section, lead="lead", footer="end") == {
        "format": 1, "title": "Title", "lead": "lead", "footer": "end",
        "sections": [{
            "title": "One", "paragraphs": ["text"], "notices": ["few"],
            "headlines": [{"caption": "in short", "figures": {"AUC": FIGURE}}],
            "tables": [], "pictures": [{"caption": "caption", "alt": "alt"}],
            "galleries": [],
        }],
    }  # fmt: skip


def test_figures_stay_figures_and_are_not_said_twice():
    found = read(Section("S", tables=[figure_table({"film": FIGURE}, "AUCs")]))
    assert found["sections"][0]["tables"] == [{
        "caption": "AUCs",
        "columns": ["", "value (95 % interval)", "n", "positive", "level", "split"],
        "rows": [["film", FIGURE, 150, 75, "image", "test"]],
    }]  # fmt: skip


def test_a_bar_that_stands_alone_is_its_figure():
    table = Table(["", "drawn"], [["film", Bar(FIGURE)], ["digital", None]])
    rows = read(Section("S", tables=[table]))["sections"][0]["tables"][0]["rows"]
    assert rows == [["film", FIGURE], ["digital", None]]


def test_what_is_no_number_is_null_and_numpy_is_plain():
    row = [float("nan"), np.inf, np.float32(0.5), np.int64(3), np.bool_(True), True]
    table = Table(list("abcdef"), [row])
    rows = read(Section("S", tables=[table]))["sections"][0]["tables"][0]["rows"]
    assert rows == [[None, None, 0.5, 3, True, True]]
    void = {**FIGURE, "low": float("nan")}
    headline = read(Section("S", headlines=[Headline({"AUC": void})]))
    assert headline["sections"][0]["headlines"][0]["figures"]["AUC"]["low"] is None


def test_a_gallery_gives_names_kinds_and_facts_but_no_image():
    item = GalleryItem("a", "missed", b"image", {"CAM": b"o"}, {"score": 0.2}, "alt")
    text = render_json("T", [Section("S", galleries=[Gallery([item], "Both")])])
    assert json.loads(text)["sections"][0]["galleries"] == [{
        "caption": "Both",
        "items": [{"name": "a", "kind": "missed", "alt": "alt", "overlays": ["CAM"],
                   "facts": {"score": 0.2}}],
    }]  # fmt: skip


def test_hostile_text_comes_back_as_it_was():
    evil = '"}\n</script>|\\ é'
    found = read(Section(evil, [evil], [Table([evil], [[evil]], evil)]))
    section = found["sections"][0]
    assert section["title"] == section["paragraphs"][0] == evil
    assert section["tables"] == [{"caption": evil, "columns": [evil], "rows": [[evil]]}]
