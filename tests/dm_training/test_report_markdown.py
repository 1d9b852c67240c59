import pytest

from dm_training.report import (
    Gallery,
    GalleryItem,
    Headline,
    Picture,
    ReportError,
    Section,
    Table,
)
from dm_training.report_markdown import render_markdown
from dm_training.report_parts import figure_table

FIGURE = {
    "value": 0.912, "low": 0.858, "high": 0.949, "n": 150, "positives": 75,
    "level": "image", "split": "test",
}  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n and so on"
EVIL = [
    "<script>alert(1)</script>", "a|b", "a\\|b", "two\nlines\n\n# heading", "# no",
    "- no", "12. no", "1) no", "+ no", "===", "---", "[x](javascript:1)", "![x](y)",
    "`code` ``", "**bold** _soft_ __b__", "~~gone~~", "&lt;b&gt; &amp;", "<!-- -->",
    "trailing #", "a\\", "\\", "$x$", "> quote", "snake_case_name", "_x_", "***",
]  # fmt: skip


def parsed(text):
    """The tokens that an independent reader of Markdown finds."""
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    return reader.enable(["table", "strikethrough"]).parse(text)


def words(tokens):
    """What is seen of each run of text, in order, without its spaces."""
    runs = [token.children for token in tokens if token.type == "inline"]
    return ["".join(_seen(run).split()) for run in runs]


def _seen(run):  # of an image its alt text, which is a run of its own
    return "".join(_seen(part.children) if part.children else part.content
                   for part in run)  # fmt: skip


def test_sections_figures_and_notices_are_markdown():
    section = Section(
        "One", ["text"], [figure_table({"film": FIGURE}, "AUCs")],
        headlines=[Headline({"AUC": FIGURE})], notices=["few positives"],
    )  # fmt: skip
    text, files = render_markdown("Title", [section], lead="lead", footer="end")
    assert files == {}
    assert text.splitlines() == [
        "# Title", "", "lead", "", "## One", "", "text", "",
        "> **Caution:** few positives", "",
        "- **AUC**: 0.91 (0.86–0.95), n = 150, 75 positive, image level, test split",
        "", "AUCs", "",
        "|  | value (95 % interval) | n | positive | level | split |",
        "| --- | --- | --- | --- | --- | --- |",
        "| film | 0.91 (0.86–0.95) | 150 | 75 | image | test |",
        "", "---", "", "end",
    ]  # fmt: skip


def test_pictures_become_files_beside(tmp_path):
    path = tmp_path / "plot.png"
    path.write_bytes(PNG)
    svg = b'<?xml version="1.0"?>\n<svg xmlns="x"/>'
    pictures = [Picture(path, "first", "seen"), Picture(svg, "second")]
    sections = [Section("A"), Section("B", pictures=pictures)]
    text, files = render_markdown("T", sections, files="beside")
    assert files == {"part-2-1.png": PNG, "part-2-2.svg": svg}
    assert "![seen](beside/part-2-1.png)\n\nfirst" in text
    assert "![second](beside/part-2-2.svg)\n\nsecond" in text
    with pytest.raises(ReportError, match="gone.png: no such picture"):
        render_markdown("T", [Section("S", pictures=[Picture(tmp_path / "gone.png")])])


def test_a_gallery_is_a_table_of_facts():
    items = [GalleryItem("a", "missed", PNG, facts={"score": 0.25}),
             GalleryItem("b", "right", PNG, facts={"age": 61})]  # fmt: skip
    text, _ = render_markdown("T", [Section("S", galleries=[Gallery(items, "Both")])])
    assert text.splitlines()[-6:] == [
        "Both", "", "| image | kind | score | age |", "| --- | --- | --- | --- |",
        "| a | missed | 0.25 | – |", "| b | right | – | 61 |",
    ]  # fmt: skip


def everywhere(text):
    """A report with the text wherever data can stand."""
    section = Section(
        text, [text], [Table([text, "k"], [[text, text]], text)],
        [Picture(PNG, text)], [Gallery([GalleryItem(text, text, PNG)], text)],
        [Headline({text: {**FIGURE, "level": text}}, text)], [text],
    )  # fmt: skip
    return parsed(render_markdown(text, [section], lead=text, footer=text)[0])


@pytest.mark.parametrize("evil", EVIL)
def test_no_text_becomes_markup(evil):
    hostile, tame = everywhere(evil), everywhere("x")
    assert [token.type for token in hostile] == [token.type for token in tame]
    marks = {c.type for token in hostile for c in token.children or []}
    assert marks <= {"text", "text_special", "strong_open", "strong_close", "image"}
    seen = [w for w, x in zip(words(hostile), words(tame), strict=True) if x == "x"]
    # Title, lead, heading, paragraph, the headline's caption, 4 of the table, alt and
    # caption, 3 of the gallery, footer: as they were, but for spaces.
    assert seen == ["".join(evil.split())] * 15


def test_rows_must_fit_their_header():
    with pytest.raises(ReportError, match="'T': a row has 1 cells.* header 2"):
        render_markdown("T", [Section("S", tables=[Table(["a", "b"], [["x"]], "T")])])
