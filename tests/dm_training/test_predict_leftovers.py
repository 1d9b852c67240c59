"""`dm-predict` where names are odd, and where an earlier run has left files."""

import os

import pandas as pd
import pytest
from desk_support import MeanScorer, write_images

from dm_models.decision import Decision
from dm_training import desk_rows, predict, scorers
from dm_training.desk_journal import journal_path

NAMES = [f"P{w}_{s}_{v}" for w in (1, 2) for s in "LR" for v in ("CC", "MLO")]


@pytest.fixture
def scorer(monkeypatch):
    """What `model.keras` is opened as."""
    found = MeanScorer(decision=Decision(0.25))
    monkeypatch.setattr(scorers, "open_models", lambda paths: found)
    return found


@pytest.fixture
def scans(tmp_path):
    write_images(tmp_path / "scans", 8, names=NAMES)
    return tmp_path / "scans"


def run(*arguments):
    return predict.main(["model.keras", *map(str, arguments)])


def test_a_file_whose_name_is_no_text_costs_no_table(scorer, tmp_path):
    image = write_images(tmp_path / "scans", 1)[0]
    image.rename(os.fsdecode(os.fsencode(tmp_path / "scans") + b"/caf\xe9_L_CC.png"))
    out = tmp_path / "s.csv"
    assert run(tmp_path / "scans", "--out", out, "--overlay", tmp_path / "heat") == 0
    assert pd.read_csv(out)["image_id"].tolist() == [r"caf\xe9_L_CC.png"]
    assert (
        run(tmp_path / "scans", "--keep-identifiers", "--out", out, "--overwrite") == 0
    )
    assert pd.read_csv(out)["patient_id"].tolist() == [r"caf\xe9"]


def test_reasons_do_not_say_where_the_given_folder_lies(scorer, tmp_path, capsys):
    scans = tmp_path / "Smith  Ann" / "scans"
    write_images(scans, 1)
    (scans / "bad.png").write_bytes(b"no picture")
    (scans / "bad.dcm").write_bytes(bytes(128) + b"DICM")
    assert run(scans, "--out", tmp_path / "s.csv") == 1
    said = capsys.readouterr().err.replace(f"-> {tmp_path}", "")
    assert "failed: bad.png: no readable image" in said
    assert "Smith" not in said + (tmp_path / "s.csv").read_text()


def test_overlays_below_the_scored_folder_are_no_images(scorer, scans, tmp_path):
    for name in ("one", "two"):
        out = tmp_path / f"{name}.csv"
        assert run(scans, "--out", out, "--overlay", scans / "heat") == 0
        assert len(pd.read_csv(out)) == 8
    assert len(list((scans / "heat").glob("*.overlay.png"))) == 8


def test_a_run_killed_between_its_tables_goes_on(
    scorer, scans, tmp_path, monkeypatch, capsys
):
    out, write = tmp_path / "s.csv", desk_rows.write_rows

    def killed(frame, path):
        if path == out:
            raise KeyboardInterrupt
        write(frame, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(desk_rows, "write_rows", killed)
        run(scans, "--out", out)
    assert (tmp_path / "s_breast.csv").exists() and not out.exists()
    assert run(scans, "--out", out) == 0
    assert "8 image(s) are done already" in capsys.readouterr().err
    assert len(pd.read_csv(out)) == 8 and not journal_path(out).exists()


def test_overwriting_leaves_no_table_of_an_earlier_run(scorer, scans, tmp_path):
    out = tmp_path / "s.csv"
    assert run(scans, "--out", out) == 0
    assert run(scans, "--out", out, "--overwrite", "--level", "image") == 0
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["s.csv"]
