import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dm_models.published import FOUR_BEST, IMAGE_ROWS
from dm_training.paper import main, report, scales, schedule
from dm_training.paper.stages import Stage

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def data(tmp_path):
    for name in ("cbis", "inbreast"):
        (tmp_path / name).mkdir()
    return ["--cbis-ddsm", str(tmp_path / "cbis"), "--inbreast",
            str(tmp_path / "inbreast"), "--out", str(tmp_path / "out")]  # fmt: skip


def test_a_dry_run_prints_every_command_and_writes_nothing(data, tmp_path, capsys):
    assert main.main([*data, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for row in IMAGE_ROWS:
        if row.source.startswith("Table"):
            assert f"--recipe {row.name} " in shown
    commands = [line for line in shown.splitlines() if line[0] != "#"]
    # 2 conversions, 2 splits, 2 audits, s1 and s10, 5 patch nets, 21 whole-image nets,
    # forest, 4 fine-tunings, 2 ensembles, 4 curves
    assert len(commands) == 2 + 2 + 2 + 2 + 5 + 21 + 1 + 4 + 2 + 4
    assert not (tmp_path / "out").exists()


def test_only_one_table_prints_that_tables_commands(data, capsys):
    assert main.main([*data, "--only", "table3", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "vgg16-s10-512x3" in shown
    assert "resnet50" not in shown and "07_convert_inbreast" not in shown


def test_flags_reach_the_commands(data, tmp_path, capsys):
    weights = tmp_path / "vgg.h5"
    weights.touch()
    flags = ["--split", "official", "--seed", "9", "--draws", "3", "--weights-vgg16",
             str(weights), "--dry-run"]  # fmt: skip
    assert main.main([*data, *flags]) == 0
    shown = capsys.readouterr().out
    assert "--scheme official" in shown and "--draws 3" in shown
    assert f"--weights {weights}" in shown
    assert "--seed 9" in shown and "--seed 12345" not in shown


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--only", "table1"], "--cbis-ddsm DIR is due for table1"),
        (["--cbis-ddsm", "nowhere"], "--cbis-ddsm nowhere: no such folder"),
        (["--cbis-ddsm", ".", "--only", "table4"], "--inbreast DIR is due for table4"),
        (["--scale", "demo", "--weights-vgg16", "no.h5"], "no.h5: no such file"),
    ],
)
def test_what_is_missing_is_named_with_status_2(flags, says, tmp_path, capsys):
    assert main.main(["--out", str(tmp_path / "out"), *flags]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["0,0", "0,,1", ""])
def test_gpus_must_be_named_once_each(text, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(["--out", str(tmp_path), "--scale", "demo", "--gpus", text])
    assert "must name GPUs once each" in capsys.readouterr().err


def test_the_script_passes_its_flags_on(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "bin/reproduce_paper.sh"), "--scale", "demo", "--out", "x",
         "--only", "table1", "--dry-run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "DM_PYTHON": sys.executable},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "--recipe squeezenet-s5" in done.stdout


@pytest.fixture
def failing(monkeypatch):
    """A plan whose one training fails."""
    plan = [Stage("patch.vgg16-s10", ("sh", "-c", "echo no data; exit 1"))]
    monkeypatch.setattr("dm_training.paper.stages.build_plan", lambda *a: plan)


def test_failures_are_listed_and_the_report_is_written_all_the_same(
    failing, tmp_path, capsys
):
    out = tmp_path / "out"
    argv = ["--scale", "demo", "--out", str(out), "--only", "table1", "figure2"]
    assert main.main(argv) == 1
    shown = capsys.readouterr()
    assert "error: patch.vgg16-s10: failed: exit status 1" in shown.err
    assert "no data" in shown.out and "0 of 1 stages done" in shown.out
    assert "failed: exit status 1" in (out / "tables/table1.md").read_text()
    page = (out / "report.html").read_text()
    assert "What is not trained" in page and "SqueezeNet" in page
    found = json.loads((out / "paper.json").read_text())
    assert found["stages"]["patch.vgg16-s10"]["status"] == schedule.FAILED
    again = report.paper_sections(out)
    assert "Table 1" in again[1].title


def test_other_settings_in_the_same_folder_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        "dm_training.paper.stages.build_plan",
        lambda settings, parts: [Stage("a", ("sh", "-c", f": {settings.seed}"))],
    )
    argv = ["--scale", "demo", "--out", str(tmp_path), "--only", "table1"]
    assert main.main([*argv, "--seed", "1"]) == 0
    assert main.main([*argv, "--seed", "2"]) == 2
    assert "stage a was done with other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_miniature_of_the_demo_runs_from_phantoms_to_the_report(
    tmp_path, monkeypatch, capsys
):
    one = ("--nb-epoch", "1", "--all-layer-epochs", "1")
    small = replace(
        scales.DEMO, phantoms=(60, 30), height=192, width=144, curve_sizes=(6,),
        patch_size=32, film_shares=(0.25, 0.3), draws=1, min_samples_split=4,
        patch_flags=(*one, "--top-layer-epochs", "1", "--img-size", "32", "32"),
        image_flags=(*one, "--img-size", "192", "144"),
        tuning_flags=("--all-layer-epochs", "1"),
    )  # fmt: skip
    monkeypatch.setitem(scales.SCALES, "demo", small)
    parts = ["table1", "table4", "figure2", "figure3", "ensemble"]
    argv = ["--scale", "demo", "--out", str(tmp_path / "out"), "--only", *parts]
    status = main.main(argv)
    shown = capsys.readouterr()
    assert (status, shown.err) == (0, ""), shown.out
    found = json.loads((tmp_path / "out/paper.json").read_text())
    first = [row for row in found["tables"]["table4"] if row["women"] == 6]
    assert first == []  # the paper has no row of 6 women
    whole = [r for r in found["tables"]["table4"] if str(r["women"])[:3] == "all"]
    assert len(whole) == len(FOUR_BEST) and all(r["ours"] for r in whole)
    means = [r for r in found["tables"]["ensemble"] if r["model"][:4] == "mean"]
    assert all(0 <= r["sensitivity"]["value"] <= 1 for r in means)
    pictures = {p.name for p in (tmp_path / "out/figures").iterdir()}
    assert pictures == {"figure2_losses.png", "figure3a_film.png",
                        "figure3b_digital.png", "table4_curve.png"}  # fmt: skip
    assert main.main(argv) == 0
    assert capsys.readouterr().out.count("done before") == len(found["stages"])
