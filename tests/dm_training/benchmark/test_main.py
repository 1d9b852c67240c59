"""The benchmark as it is called: figures, chart, table and exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from dm_training.benchmark import chart, main, report, timing

ROOT = Path(__file__).parent.parent.parent.parent
FIGURE = {"value", "low", "high", "unit", "against"}


def called(*arguments, cwd):
    script = ROOT / "bin" / "benchmark.sh"
    return subprocess.run(
        ["bash", str(script), *map(str, arguments)], capture_output=True, text=True,
        cwd=cwd, env={**os.environ, "DM_PYTHON": sys.executable}, timeout=300,
    )  # fmt: skip


def check_record(record, parts):
    """The record's form, whatever was measured."""
    assert record["format"] == 1
    assert {"cpu", "cores", "memory_gib", "python", "packages", "gpus"} <= set(
        record["machine"]
    )
    assert (list(record["parts"]), record["failed"]) == (parts, [])
    for part in record["parts"].values():
        assert {"setting", "skipped", "figures", "seconds"} <= set(part)
        for figure in part["figures"].values():
            assert set(figure) >= FIGURE
            assert 0 < figure["low"] <= figure["value"] <= figure["high"]
            assert (figure["unit"] == "x") == bool(figure["against"])


def check_chart(path):
    image = cv2.imread(str(path))
    assert image.shape[1] == 1200
    assert image.std() > 10


def example(**figures):
    part = {"setting": "here", "seconds": 1.0, "skipped": {"z": "z: not installed"},
            "figures": figures}  # fmt: skip
    machine = {"cpu": "A processor", "cores": 2, "memory_gib": 4.0, "python": "3.11",
               "packages": {}, "gpus": ["A card"]}  # fmt: skip
    return {"format": 1, "quick": False, "machine": machine, "parts": {"input": part},
            "failed": ["growth"]}  # fmt: skip


def test_one_part_gives_figures_a_chart_and_a_table(tmp_path):
    done = called("--quick", "--only", "conversion", "--out", "b.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.json", "b.png"]
    text = (tmp_path / "b.json").read_text(encoding="utf-8")
    check_record(json.loads(text), ["conversion"])
    check_chart(tmp_path / "b.png")
    assert str(tmp_path) not in text and str(ROOT) not in text
    assert "convert_image / read_dicom and PNG" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 parts measured, 0 failed -> ")


@pytest.mark.slow
def test_all_parts_run_quickly_from_end_to_end(tmp_path):
    done = called("--quick", "--out", tmp_path / "b.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    check_record(record, list(main.PARTS))
    check_chart(tmp_path / "b.png")
    assert record["parts"]["inference"]["figures"]
    figures = record["parts"]["training"]["figures"]
    assert figures["training (fit) / bare step"]["target"] == 0.97


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--out", "b.txt"], "--out must end in .json, received b.txt"),
        (["--out", "there.json"], "there.json: exists already"),
        (["--folder", "nowhere"], "--folder nowhere: no such folder"),
    ],
    ids=["ending", "exists", "folder"],
)
def test_a_wrong_command_line_is_status_2(
    arguments, wrong, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("there.json").touch()
    assert main.main(arguments) == 2
    assert f"error: {wrong}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]


def test_an_unknown_part_is_status_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(["--only", "everything"])
    assert "everything" in capsys.readouterr().err


def test_a_part_that_fails_is_named_and_status_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "measure_part", lambda name, **_: None)
    out = tmp_path / "b.json"
    assert main.main(["--only", "growth", "--out", str(out)]) == 1
    assert json.loads(out.read_text(encoding="utf-8"))["failed"] == ["growth"]
    assert "failed: growth" in capsys.readouterr().out


def test_the_table_says_which_targets_are_reached():
    record = example(
        near=timing.ratio([3.0], [1.0], "b", target=4.0),
        small=timing.ratio([1.0, 2.0], [2.0, 2.0], "b", target=1.0, at_most=True),
        rate=timing.figure([1234.5], "images/s"),
    )
    lines = report.table(record).splitlines()
    assert "A processor, 2 cores, 4.0 GiB, A card; Python 3.11" in lines
    assert any(s.endswith("3 x  at least 4: NOT reached") for s in lines)
    assert any(s.endswith("0.75 x (0.5 to 1)  at most 1: reached") for s in lines)
    assert any(s.endswith("1,234 /s") for s in lines)
    assert "  skipped: z: not installed" in lines and "failed: growth" in lines


def test_a_chart_is_drawn_of_ratios_of_every_kind(tmp_path):
    record = example(
        far=timing.ratio([60.0], [1.0], "b", target=20.0),
        missed=timing.ratio([0.1], [1.0], "b", target=1.0),
        small=timing.ratio([1.0], [2.0], "b", target=1.1, at_most=True),
        plain=timing.ratio([1.0], [2.0], "b"),
    )
    check_chart(chart.draw(record, tmp_path / "c.png"))


def test_a_chart_of_no_ratio_is_still_a_picture(tmp_path):
    record = example(rate=timing.figure([5.0], "images/s"))
    path = chart.draw(record, tmp_path / "c.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_bar_is_right_of_the_line_exactly_where_the_target_is_reached():
    for value, target, at_most in [(3, 2, False), (1, 2, False), (1, 2, True),
                                   (3, 2, True), (2, 2, True)]:  # fmt: skip
        figure = timing.ratio([value], [1.0], "b", target=target, at_most=at_most)
        assert (chart._share(figure, "value") >= 1) == figure["reached"]
