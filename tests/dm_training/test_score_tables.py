import pytest

from dm_preprocess.tables import TableError
from dm_training.score_tables import read_scores


def written(path, text):
    path.write_bytes(text.encode("utf-8"))
    return path


def test_what_differs_in_writing_only_is_one_woman(tmp_path):
    path = written(tmp_path / "p.csv", (
        "image_id,patient_id,laterality,y_true,y_score\n"
        "a,W1,L,0,0.1\nb, W1 ,LEFT,1,0.2\nc,7,r,0,0.3\nd,7.0,Right,1,0.4\n"
        "e,007,R,1,0.5\n"))  # fmt: skip
    frame = read_scores(path)
    assert frame["patient_id"].tolist() == ["W1", "W1", "7", "7", "007"]
    assert frame["laterality"].tolist() == ["L", "L", "R", "R", "R"]


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", " None ", "<NA>"])
def test_an_id_of_nothing_is_empty(tmp_path, nothing):
    text = f"image_id,patient_id,y_true,y_score\na,{nothing},1,0.5\n"
    path = written(tmp_path / "p.csv", text)
    assert read_scores(path)["patient_id"].tolist() == [""]


def test_flips_are_numbers(tmp_path):
    text = "image_id,y_true,y_score,flips\na,1,0.5,1\nb,0,0.5,1.0\n"
    path = written(tmp_path / "p.csv", text)
    assert read_scores(path)["flips"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("column", ["y_score", "y_true", "patient_id"])
def test_a_column_that_stands_twice_is_refused(tmp_path, column):
    text = f"image_id,y_true,y_score,patient_id,{column}\na,1,0.5,w,1\n"
    path = written(tmp_path / "p.csv", text)
    with pytest.raises(TableError, match=f"line 1: column {column} stands twice"):
        read_scores(path)


def test_the_line_of_a_bad_cell_is_that_of_the_file(tmp_path):
    path = written(tmp_path / "p.csv", "image_id,y_true,y_score\na,1,0.5\nb,1,x\n")
    with pytest.raises(TableError, match="line 3, column y_score: must be a number"):
        read_scores(path)


@pytest.mark.parametrize("name", ["p.csv.zip", "p.csv.xz", "p.csv.bz2", "p.csv"])
def test_a_file_that_is_no_table_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\xfe\x00no table")
    with pytest.raises(TableError, match=f"{name}: not a CSV table"):
        read_scores(tmp_path / name)


def test_rows_that_end_early_have_empty_cells(tmp_path):
    path = written(tmp_path / "p.csv", "image_id,y_true,y_score,note\na,1,0.5\n")
    assert read_scores(path)["note"].tolist() == [""]
