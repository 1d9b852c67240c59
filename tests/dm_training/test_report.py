import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dm_training import report
from dm_training.report import (
    Gallery,
    GalleryItem,
    Headline,
    Picture,
    Section,
    Table,
)
from dm_training.report_bars import common_span, draw_bar
from dm_training.report_parts import format_cell

FIGURE = {
    "value": 0.912, "low": 0.858, "high": 0.949, "n": 150, "positives": 75,
    "level": "image", "split": "test",
}  # fmt: skip
DIFFERENCE = {**FIGURE, "value": 0.19, "low": -0.02, "high": 0.3, "p": 0.0301}
VOID = {"meta", "img", "br", "link", "input"}


class Balanced(HTMLParser):
    """Collects what opens and closes; `stack` is empty where all was closed."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.addresses, self.tags, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if self.stack.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "p.png"
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(path)
    return path


def written(tmp_path, *sections, **more):
    return report.write_report(
        tmp_path / "r.html", "Title", sections, **more
    ).read_text()


def test_a_figure_is_never_shown_without_interval_count_level_and_split():
    assert report.format_figure(FIGURE) == (
        "AUC 0.91 (0.86–0.95), n = 150, 75 positive, image level, test split"
    )


def test_a_difference_has_signs_and_its_p():
    assert report.format_figure(DIFFERENCE, "difference") == (
        "difference +0.19 (−0.02 to +0.30), n = 150, 75 positive, image level, "
        "test split, p = 0.030"
    )
    assert "p < 0.001" in report.format_figure({**DIFFERENCE, "p": 0.0001})


def test_a_figure_that_could_not_be_measured_says_so():
    assert report.format_interval({**FIGURE, "low": float("nan")}) == "not measured"


def test_a_figure_of_many_classes_has_no_positives():
    shown = report.format_figure({**FIGURE, "positives": None}, "accuracy")
    assert shown == "accuracy 0.91 (0.86–0.95), n = 150, image level, test split"


def test_the_page_is_whole_and_asks_nothing_of_the_network(tmp_path, picture):
    table = report.figure_table({"film": FIGURE, "difference": DIFFERENCE}, "AUCs")
    page = written(
        tmp_path, Section("One", ["text"], [table], [Picture(picture, "seen")]),
        Section("Two"), lead="lead", footer="footer",
    )  # fmt: skip
    found = Balanced(page)
    assert not found.stack and not found.wrong
    assert "script" not in found.tags and "link" not in found.tags
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in found.addresses)
    assert "url(" not in page and "@import" not in page
    for address in found.addresses:
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in page
    assert "0.91 (0.86–0.95)" in page and "+0.19 (−0.02 to +0.30), p = 0.030" in page


def test_what_comes_from_data_is_escaped(tmp_path, picture):
    evil = '<b onload="x">&\'$name'
    section = Section(
        evil, [evil], [Table([evil], [[evil]], evil)], [Picture(picture, evil)],
        headlines=[Headline({evil: {**FIGURE, "level": evil}}, evil)], notices=[evil],
    )  # fmt: skip
    page = written(tmp_path, section, lead=evil, footer=evil)
    assert "<b" not in page.replace("<body", "")
    assert page.count("&lt;b onload=&quot;x&quot;&gt;&amp;&#x27;$name") == 15


def test_the_page_runs_nothing_and_loads_nothing(tmp_path):
    page = written(tmp_path, Section("S"))
    policy = re.search(r'Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'; img-src data:" in policy
    assert "script-src 'none'" in policy and "unsafe-inline'; script" in policy


def test_a_headline_shows_value_interval_counts_and_scale(tmp_path):
    void = {**FIGURE, "value": float("nan")}
    headline = Headline({"AUC": FIGURE, "d": DIFFERENCE, "none": void}, "In short")
    page = written(tmp_path, Section("S", headlines=[headline]))
    assert '<dd class="value">0.91</dd>' in page
    assert "95 % interval 0.86–0.95" in page and "−0.02 to +0.30" in page
    assert "n = 150, 75 positive, image level, test split, p = 0.030" in page
    assert '<dd class="value">not measured</dd>' in page
    assert page.count("<circle") == 2  # nothing is drawn where nothing was measured
    assert ">−0.5</text>" in page and ">0.5</text>" in page  # the difference's scale


def test_a_notice_says_in_words_that_it_warns(tmp_path):
    page = written(tmp_path, Section("S", notices=["fewer than 10 positives"]))
    assert re.search(r'role="note">.*<strong>Caution</strong> fewer than 10', page)


def test_numbers_stand_to_the_right_and_a_mixed_column_does_not(tmp_path):
    rows = [["a", 61234, "1,234.5", 3], ["b", None, "−2 %", "x"]]
    page = written(tmp_path, Section("S", tables=[Table(list("wxyz"), rows)]))
    assert '<td class="number">61,234</td><td class="number">1,234.5</td>' in page
    assert '<td class="number">–</td><td class="number">−2 %</td>' in page
    assert '<td class="unbroken">3</td>' in page


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, "–"), (float("nan"), "–"), (True, "yes"), (np.bool_(False), "no"),
        (61234, "61,234"), (np.int64(1200), "1,200"), (5234.12, "5,234"),
        (0.12345, "0.1235"), (np.float32(0.5), "0.5"), (1e-5, "1e-05"), ("x", "x"),
        (FIGURE, "0.91 (0.86–0.95)"),
    ],
)  # fmt: skip
def test_a_cell_is_shown_by_its_kind(cell, shown):
    assert format_cell(cell) == shown


def test_many_sections_are_listed_at_the_side(tmp_path):
    assert '<body class="long">' in written(tmp_path, *[Section("S")] * 7)
    assert "<body>" in written(tmp_path, *[Section("S")] * 6)


def test_the_interval_is_drawn_to_scale():
    drawn = draw_bar({**FIGURE, "value": 0.5, "low": 0, "high": 1})
    assert 'cx="60.0"' in drawn and "M10.0 8H110.0" in drawn
    assert 'cx="60.0"' in draw_bar({**DIFFERENCE, "value": 0})  # 0 is the middle
    # A tenth of 100 pixels to the right of the middle, 60 + 50 * 0.1 / 0.5.
    tenth = {**DIFFERENCE, "value": 0.1, "low": 0.0, "high": 0.3}
    assert 'cx="70.0"' in draw_bar(tenth, (-0.5, 0.5))


@pytest.mark.parametrize(
    ("ends", "span"),
    [
        ([(0.8, 0.9)], (0.0, 1.0)),
        ([(-0.02, 0.07)], (-0.1, 0.1)),
        ([(-0.02, 0.07), (-0.3, 0.1)], (-0.5, 0.5)),
        ([(-0.02, 0.07), (0.8, 0.9)], None),  # a difference beside an AUC
        ([(0.5, 1.7)], None),  # no share
        ([(float("nan"), 0.5)], None),
        ([], None),
    ],
    ids=["share", "narrow", "widest counts", "mixed", "beyond", "nan", "none"],
)
def test_a_column_of_intervals_has_one_scale(ends, span):
    figures = [{"value": high, "low": low, "high": high} for low, high in ends]
    assert common_span(figures) == span


def test_every_picture_has_words_and_a_missing_one_is_named(tmp_path, picture):
    page = written(tmp_path, Section("S", pictures=[Picture(picture, "a", alt="b")]))
    assert re.search(r'<img src="data:image/png;base64,[^"]+" alt="b">', page)
    with pytest.raises(report.ReportError, match="none.png: no such picture"):
        written(tmp_path, Section("S", pictures=[Picture(tmp_path / "none.png")]))
    with pytest.raises(report.ReportError, match="must be a PNG, JPEG or SVG"):
        written(tmp_path, Section("S", pictures=[Picture(b"GIF89a")]))


def test_all_three_are_written_or_none(tmp_path, picture):
    good = Section("One", pictures=[Picture(picture, "seen")])
    paths = report.write_all(tmp_path / "r", "T", [good], lead="lead", footer="end")
    assert [path.name for path in paths] == ["report.html", "report.md", "report.json"]
    assert all("lead" in path.read_text() for path in paths)
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert set(paths) < set(before)
    bad = Section("Two", galleries=[Gallery([GalleryItem("x", "hit", b"GIF89a")])])
    with pytest.raises(report.ReportError, match="'x': must be a PNG, JPEG or SVG"):
        report.write_all(tmp_path / "r", "T", [Section("Other"), bad])
    after = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert after == before
    with pytest.raises(report.ReportError, match="no such picture"):
        report.write_all(tmp_path / "new", "T", [Section("S", pictures=[Picture("n")])])
    assert not (tmp_path / "new").exists()


def test_an_earlier_reports_pictures_go_and_other_files_stay(tmp_path, picture):
    two = [Section("One", pictures=[Picture(picture, "a"), Picture(picture, "b")])]
    report.write_all(tmp_path, "T", two)
    beside = tmp_path / "report_files" / "part-mine.png"
    beside.write_bytes(b"mine")
    one = [Section("One", pictures=[Picture(picture, "a")])]
    report.write_all(tmp_path, "T", one)
    names = {path.name for path in (tmp_path / "report_files").iterdir()}
    assert names == {"part-1-1.png", "part-mine.png"}


def test_rows_must_fit_their_header(tmp_path):
    with pytest.raises(report.ReportError, match="'T': a row has 1 cells.* header 2"):
        written(tmp_path, Section("S", tables=[Table(["a", "b"], [["x"]], "T")]))


def test_summary_becomes_results_facts_and_times():
    summary = {
        "whole_image_test_auc": FIGURE, "differences": {"no_patch": DIFFERENCE},
        "weights_h5": "w.h5", "seconds": {"convert": 61.24},
    }  # fmt: skip
    results, run, seconds = report.summary_sections(summary)
    names = [[row[0] for row in table.rows] for table in results.tables]
    assert names == [["Whole image test AUC"], ["Differences, no patch"]]
    assert run.tables[0].rows == [["Weights .h5", "w.h5"]]
    assert seconds.tables[0].rows == [["Convert", "61.2"]]


def test_command_writes_a_report_and_keeps_an_earlier_one(tmp_path, picture, capsys):
    (tmp_path / "summary.json").write_text(json.dumps({"auc": FIGURE}))
    out = tmp_path / "report.html"
    command = ["--out", str(out), "--title", "T", "--summary"]
    command += [str(tmp_path / "summary.json"), "--section", f"ROC={picture}:of film"]
    assert report.main(command) == 0
    assert "<figcaption>of film</figcaption>" in out.read_text()
    assert report.main(command) == 2
    assert "exists already; --overwrite" in capsys.readouterr().err
    assert report.main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "summary.json: no JSON"), ("[]", "must hold a JSON object, received list")],
)
def test_command_names_a_bad_summary(tmp_path, capsys, text, message):
    path = tmp_path / "summary.json"
    path.write_text(text)
    out = tmp_path / "r.html"
    command = ["--out", str(out), "--title", "T", "--summary", str(path)]
    assert report.main(command) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.0130, 0.0101, 0.0161), "0.013 (0.010–0.016)"),
        ((0.99872, 0.99838, 0.99901), "0.9987 (0.9984–0.9990)"),
        ((0.912, 0.86, 0.949), "0.91 (0.86–0.95)"),
        ((1.0, 1.0, 1.0), "1.00 (1.00–1.00)"),
    ],
)
def test_a_narrow_interval_gets_the_decimals_that_show_it(ends, text):
    figure = dict(zip(("value", "low", "high"), ends, strict=True))
    assert report.format_interval(figure) == text
