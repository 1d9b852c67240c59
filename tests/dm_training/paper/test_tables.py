import json

import pytest

from dm_training.paper import tables
from dm_training.paper.tables import PaperTable, cell_text, difference

OURS = {"value": 0.75, "low": 0.5, "high": 1.0, "n": 8, "positives": 4,
        "level": "image", "split": "test"}  # fmt: skip


@pytest.fixture
def table():
    return PaperTable(
        "table2", "Table 2: a test", {"row": "recipe", "paper": "paper",
                                      "ours": "ours", "difference": "ours − paper"},
        [{"row": "vgg16-s10", "paper": 0.5, "ours": OURS,
          "difference": difference(OURS, 0.5), "status": "trained"},
         {"row": "a|b", "paper": 0.85}], ["A note."],
    )  # fmt: skip


def test_a_difference_is_ours_less_the_papers():
    found = difference(OURS, 0.5)
    # 0.75 - 0.5, 0.5 - 0.5, 1.0 - 0.5
    assert (found["value"], found["low"], found["high"]) == (0.25, 0.0, 0.5)
    assert (found["paper"], found["n"]) == (0.5, 8)


@pytest.mark.parametrize(("ours", "paper"), [(None, 0.5), (OURS, None)])
def test_there_is_no_difference_from_what_is_missing(ours, paper):
    assert difference(ours, paper) is None


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"), ("", "–"), (0.5, "0.50"), (1234, "1,234"), ("words", "words"),
        (OURS, "0.75 (0.50–1.00)"),
        (difference(OURS, 0.5), "+0.25 (+0.00 to +0.50)"),
        (difference(OURS, 0.875), "−0.12 (−0.38 to +0.12)"),
    ],
)  # fmt: skip
def test_cells_in_words(cell, text):
    assert cell_text(cell) == text


def test_the_terminal_shows_title_columns_rows_and_notes(table):
    title, head, rule, first, second, note = tables.as_text(table).splitlines()
    assert title == "Table 2: a test" and set(rule) == {"-"}
    assert head.split("  ")[0] == "recipe"
    assert "0.50" in first and "0.75 (0.50–1.00)" in first
    assert second.split() == ["a|b", "0.85", "–", "–"]
    assert head.index("ours") == first.index("0.75") == second.index("–")
    assert note == "  A note."


def test_a_note_that_tables_share_stands_once(table):
    other = PaperTable("table3", "Table 3", {"row": "recipe"}, [{"row": "x"}],
                       ["A note.", "Another."])  # fmt: skip
    shown = tables.all_as_text([table, other])
    assert shown.count("A note.") == 1 and shown.endswith("x\n  Another.")


def test_markdown_has_one_line_a_row_and_escapes_bars(table):
    lines = tables.as_markdown(table).splitlines()
    assert lines[2] == "| recipe | paper | ours | ours − paper |"
    assert lines[4] == (
        "| vgg16-s10 | 0.50 | 0.75 (0.50–1.00) | +0.25 (+0.00 to +0.50) |"
    )
    assert lines[5] == "| a\\|b | 0.85 | – | – |"


def test_csv_gives_a_figure_three_columns(table):
    head, first, second = tables.as_csv(table).splitlines()
    assert head == ("row,paper,ours,ours_low,ours_high,difference,difference_low,"
                    "difference_high")  # fmt: skip
    assert first == "vgg16-s10,0.5,0.75,0.5,1.0,0.25,0.0,0.5"
    assert second == "a|b,0.85,,,,,,"


def test_a_report_keeps_figures_and_signs_differences(table):
    shown = tables.as_report_table(table)
    assert shown.rows[0] == ["vgg16-s10", "0.50", OURS, "+0.25 (+0.00 to +0.50)"]
    assert shown.rows[1] == ["a|b", "0.85", None, None]
    less = tables.as_report_table(table, leave_out=("ours", "difference"))
    assert (less.columns, less.rows[1]) == (["recipe", "paper"], ["a|b", "0.85"])


def test_every_form_is_written(table, tmp_path):
    tables.write_tables([table], tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "table2.md", "table2.csv", "table2.json"
    }  # fmt: skip
    found = json.loads((tmp_path / "table2.json").read_text())
    assert found["rows"][0]["status"] == "trained"
