"""`dm-predict` from its command line to its tables."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from desk_support import MeanScorer, contract, write_images, write_model

from dm_models.decision import Decision
from dm_training import desk_stream, evaluate, predict, scorers
from dm_training.desk_journal import journal_path
from dm_training.intake import read_intake

ROOT = Path(__file__).parents[2]
NAMES = [f"P{w}_{s}_{v}" for w in (1, 2) for s in "LR" for v in ("CC", "MLO")]
# A model that computes nothing and takes its time, in a process of its own.
SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background
from desk_support import MeanScorer
from dm_training import predict, scorers
class Slow(MeanScorer):
    def scores(self, prepared, *, flips):
        time.sleep(0.05)
        return super().scores(prepared, flips=flips)
scorers.open_models = lambda paths: Slow()
sys.exit(predict.main(sys.argv[1:]))
"""


@pytest.fixture
def scorer(monkeypatch, tmp_path):
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


def read(path):
    return pd.read_csv(path, dtype={"note": str}, keep_default_na=False, na_values={
        "y_score": "", "probability": "", "y_true": ""})  # fmt: skip


def test_each_image_has_a_line_and_breasts_and_women_have_their_tables(
    scorer, scans, tmp_path, capsys
):
    out = tmp_path / "o" / "scores.csv"
    assert run(scans, "--out", out) == 0
    images = read(out)
    assert images["image_id"].tolist() == [f"{name}.png" for name in NAMES]
    assert images["laterality"].tolist() == list("LLRR") * 2
    assert (images["status"] == "scored").all() and images["version"].nunique() == 1
    called = np.where(images["probability"] >= 0.25, "positive", "negative")
    assert images["decision"].tolist() == called.tolist() and len(set(called)) == 2
    assert (images["threshold"] == 0.25).all()
    assert len(read(tmp_path / "o" / "scores_breast.csv")) == 4
    women = read(tmp_path / "o" / "scores_patient.csv")
    assert women["images"].tolist() == [4, 4]
    assert set(women["patient_id"]) == set(images["patient_id"])
    assert not any("P1" in cell for cell in images["patient_id"])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-2:] == [
        "positive from probability 0.25 on: the operating point holds at level image "
        "alone, no decision at level breast, patient",
        f"8 scored, 0 refused, 0 failed -> {out}, {tmp_path}/o/scores_patient.csv, "
        f"{tmp_path}/o/scores_breast.csv",
    ]
    assert sorted(os.listdir(tmp_path / "o")) == [
        "scores.csv", "scores_breast.csv", "scores_patient.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "written"),
    [("image", ["s.csv"]), ("breast", ["s.csv", "s_breast.csv"])],
)
def test_levels_are_written_as_asked(scorer, scans, tmp_path, level, written):
    out = tmp_path / "o" / "s.csv"
    assert run(scans, "--out", out, "--level", level) == 0
    assert sorted(os.listdir(out.parent)) == written


def test_a_level_that_the_ids_do_not_allow_is_status_1(scorer, tmp_path, capsys):
    write_images(tmp_path / "scans", 1)
    assert run(tmp_path / "scans") == 0
    assert run(tmp_path / "scans", "--level", "patient") == 1
    assert "no patient ids" in capsys.readouterr().err


def test_without_out_a_table_is_printed(scorer, scans, capsys):
    assert run(scans) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "view", "probability", "decision", "note"]
    assert lines[1].startswith("P1_L_CC.png   L CC")
    assert lines[1].split()[-1] == "negative" and lines[8].split()[-1] == "positive"
    assert len(lines) == 1 + 8 + 2 + 4 + 2 + 2


def test_json_gives_an_object_a_line_images_first(scorer, scans, capsys):
    assert run(scans, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["level"] for one in found] == (
        ["image"] * 8 + ["breast"] * 4 + ["patient"] * 2
    )
    assert found[0]["probability"] == found[0]["score"] and found[0]["notes"] == []
    assert found[-1]["images"] == 4 and found[-1]["y_true"] is None


def test_files_that_are_no_images_are_counted(scorer, scans, capsys):
    (scans / "notes.txt").write_text("x")
    assert run(scans) == 0
    assert "1 file passed over (1 .txt)" in capsys.readouterr().err


def test_a_bad_file_costs_its_own_line(scorer, scans, tmp_path, capsys):
    (scans / "bad.png").write_bytes(b"no image")
    out = tmp_path / "s.csv"
    assert run(scans, "--out", out) == 1
    images = read(out).set_index("image_id")
    assert images["status"].value_counts().to_dict() == {"scored": 8, "failed": 1}
    assert images.loc["bad.png", "note"] and pd.isna(images.loc["bad.png", "y_score"])
    said = capsys.readouterr().err
    assert "failed: bad.png: " in said and "8 scored, 0 refused, 1 failed" in said


def test_what_a_model_should_not_judge_is_refused_or_flagged(
    scorer, scans, tmp_path, monkeypatch
):
    def unsuitable(source, **options):
        reason = ("implant",) * ("P1_L" in str(source))
        return dataclasses.replace(read_intake(source, **options), unsuitable=reason)

    monkeypatch.setattr(desk_stream, "read_intake", unsuitable)
    assert run(scans, "--out", tmp_path / "a.csv") == 1
    refused = read(tmp_path / "a.csv")
    assert refused["status"].tolist() == ["refused"] * 2 + ["scored"] * 6
    assert refused["y_score"].isna().sum() == 2 and refused["note"][0] == "implant"
    assert run(scans, "--out", tmp_path / "b.csv", "--unsuitable", "flag") == 0
    flagged = read(tmp_path / "b.csv")
    assert flagged["note"].tolist() == ["implant"] * 2 + [""] * 6
    assert flagged["y_score"].notna().all()


def test_identifiers_are_kept_by_flag_alone_and_need_no_key(
    scorer, scans, tmp_path, capsys
):
    assert run(scans, "--out", tmp_path / "k.csv", "--keep-identifiers") == 0
    assert set(read(tmp_path / "k.csv")["patient_id"]) == {"P1", "P2"}
    assert not Path(os.environ["DM_PATIENT_KEY"]).exists()
    key = tmp_path / "mine.key"
    for name in ("a", "b"):
        arguments = ("--out", tmp_path / f"{name}.csv", "--patient-key", key)
        assert run(scans, *arguments) == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    said = capsys.readouterr()
    assert said.err.count("made a key") == 1
    for text in (said.err, said.out, (tmp_path / "a.csv").read_text()):
        assert key.read_text().strip() not in text


def test_no_key_is_made_where_nothing_needs_one(scorer, tmp_path):
    write_images(tmp_path / "scans", 2)
    assert run(tmp_path / "scans") == 0
    assert not Path(os.environ["DM_PATIENT_KEY"]).exists()


def test_a_table_keeps_its_ids_and_is_evaluated_with_what_failed_left_out(
    scorer, scans, tmp_path, capsys
):
    rows = [f"{n},{n[:2]},{n[3]},{n[5:]},test,{k % 2},{n}.png,{k % 4}"
            for k, n in enumerate(NAMES)]  # fmt: skip
    head = "image_id,patient_id,laterality,view,split,label,path,density"
    rows.append("gone,P9,L,CC,test,1,gone.png,1")
    (scans / "images.csv").write_text("\n".join([head, *rows]) + "\n")
    out = tmp_path / "p.csv"
    assert run(scans / "images.csv", "--out", out) == 1
    images = read(out)
    assert images["patient_id"].tolist() == ["P1"] * 4 + ["P2"] * 4 + ["P9"]
    assert images["split"].unique().tolist() == ["test"]
    assert images["y_true"].tolist() == [0, 1] * 4 + [1]
    assert images["density"].tolist() == [k % 4 for k in range(8)] + [1]
    options = ["--out", str(tmp_path / "e"), "--gallery", "0", "--draws", "100"]
    assert evaluate.main([str(out), *options]) == 0
    assert "1 without a score" in capsys.readouterr().out
    found = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert found["auc"]["image"]["n"] == 8 and found["left_out"]["no_score"] == 1


def test_two_tables_of_scores_make_an_ensemble(scorer, scans, tmp_path):
    from dm_training import ensemble

    for name in ("a", "b"):
        assert run(scans, "--out", tmp_path / f"{name}.csv") == 0
    paths = [str(tmp_path / f"{name}.csv") for name in ("a", "b")]
    out = tmp_path / "both.csv"
    assert ensemble.main([*paths, "--out", str(out), "--split", "test"]) == 0
    both, one = read(out), read(paths[0])
    np.testing.assert_allclose(both["y_score"], one["y_score"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["none.txt", "scans"], "none.txt: no model"),
        (["model.keras"], "nothing to score"),
        (["model.keras", "nowhere"], "nowhere: no such file or folder"),
        (["model.keras", "scans", "--jobs", "0"], "--jobs must be at least 1"),
        (["model.keras", "scans", "--out", "there.csv"], "there.csv: exists already"),
        (["model.keras", "scans", "--out", "t.csv"], "t_breast.csv: exists already"),
        (["model.keras", "scans", "--overlay", "there.csv"], "is no folder"),
        (["model.keras", "scans", "--decision", "four.json"], "scores of 4 flip"),
        (["model.keras", "scans", "--patient-key", "there.csv"], "a key must hold"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else value[-1],
)  # fmt: skip
def test_a_wrong_command_line_is_status_2(
    scorer, scans, tmp_path, monkeypatch, capsys, given, message
):
    monkeypatch.chdir(tmp_path)
    for name in ("there.csv", "t_breast.csv"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "four.json").write_text(Decision(0.5, flips=4).to_json())
    assert predict.main(given) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_rerun_takes_what_is_done_and_tries_again_what_failed(
    scorer, scans, tmp_path, monkeypatch, capsys
):
    """A run that is broken off after six images, of which one was out of reach."""
    out, plain = tmp_path / "s.csv", scorer.scores

    def broken_off(prepared, *, flips):
        if len(scorer.batches) == 2:
            raise KeyboardInterrupt
        return plain(prepared, flips=flips)

    def out_of_reach(source, **options):
        if "P1_L_CC" in str(source):
            raise OSError(5, "Input/output error")
        return read_intake(source, **options)

    command = (scans, "--out", out, "--batch-size", "3")
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "scores", broken_off)
        patch.setattr(desk_stream, "read_intake", out_of_reach)
        assert run(*command) == 1
    assert "interrupted: 6 of 8 images are done and kept" in capsys.readouterr().err
    assert not out.exists() and journal_path(out).exists()
    scorer.batches.clear()
    assert run(*command) == 0
    assert "5 image(s) are done already" in capsys.readouterr().err
    assert sum(shape[0] for shape in scorer.batches) == 3  # that one and the rest
    assert not journal_path(out).exists()
    assert run(scans, "--out", tmp_path / "whole.csv") == 0
    assert out.read_text() == (tmp_path / "whole.csv").read_text()


def test_a_file_that_has_changed_is_scored_again(
    scorer, scans, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "s.csv"
    with monkeypatch.context() as patch:
        patch.setattr(
            predict.Predictor, "results", _only_four(predict.Predictor.results)
        )
        assert run(scans, "--out", out) == 1
    write_images(scans, 1, names=[NAMES[0]], seed=9)
    os.utime(scans / f"{NAMES[0]}.png", ns=(1, 1))
    assert run(scans, "--out", out) == 0
    assert "3 image(s) are done already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--tta"], "flips: 1, now 4"),
        (["--unsuitable", "flag"], "unsuitable: refuse, now flag"),
        (["--keep-identifiers"], "patient ids: hashed, now kept"),
        (["--patient-key", "other.key"], "begun with another patient key"),
    ],
    ids=["flips", "unsuitable", "identifiers", "key"],
)
def test_other_settings_do_not_go_on_with_a_run(
    scorer, scans, tmp_path, monkeypatch, capsys, extra, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.key").write_text("0" * 64)
    out = tmp_path / "s.csv"
    with monkeypatch.context() as patch:
        patch.setattr(
            predict.Predictor, "results", _only_four(predict.Predictor.results)
        )
        assert run(scans, "--out", out) == 1
    assert run(scans, "--out", out, *extra) == 2
    assert message in capsys.readouterr().err
    assert run(scans, "--out", out, *extra, "--overwrite") == 0
    assert len(read(out)) == 8


def _only_four(results):
    """`Predictor.results`, broken off after four."""

    def four(self, items):
        for number, result in enumerate(results(self, items)):
            if number == 4:
                raise KeyboardInterrupt
            yield result

    return four


def started(code, *arguments):
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    command = [sys.executable, *code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def until_lines(path, count, process):
    """Wait until a journal has so many lines."""
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on(scorer, tmp_path, number, capsys):
    scans, out = tmp_path / "scans", tmp_path / "s.csv"
    write_images(scans, 200)
    command = ("model.keras", scans, "--out", out, "--batch-size", "2")
    process = started(["-c", SLOW], *command)
    until_lines(journal_path(out), 20, process)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 1
        assert "the same command goes on with the rest" in said
        assert "Traceback" not in said
    assert not out.exists()
    scorer._decision = None  # as the other process had it
    assert predict.main(list(map(str, command))) == 0
    done = int(capsys.readouterr().err.split(" image(s) are done already")[0])
    assert 19 <= done < 200
    assert sum(shape[0] for shape in scorer.batches) == 200 - done
    assert run(scans, "--out", tmp_path / "whole.csv") == 0
    assert out.read_text() == (tmp_path / "whole.csv").read_text()


def test_a_real_model_killed_in_the_middle_ends_with_the_scores_of_one_run(tmp_path):
    model = write_model(tmp_path / "model.keras")
    scans, out = tmp_path / "scans", tmp_path / "s.csv"
    write_images(scans, 400, size=(96, 80))
    command = (model, scans, "--out", out, "--batch-size", "1", "--tta")
    process = started(["-m", "dm_training.predict"], *command)
    until_lines(journal_path(out), 30, process)
    process.kill()
    process.communicate(timeout=30)
    assert not out.exists()
    assert predict.main(list(map(str, command))) == 0
    whole = tmp_path / "whole.csv"
    options = ["--out", str(whole), "--tta", "--batch-size", "16"]
    assert predict.main([str(model), str(scans), *options]) == 0
    one, two = read(out), read(whole)
    assert one["image_id"].tolist() == two["image_id"].tolist()
    np.testing.assert_allclose(one["y_score"], two["y_score"], atol=1e-5)


def test_pictures_that_cannot_be_written_are_noted_and_status_1(
    scorer, scans, tmp_path, monkeypatch
):
    from dm_training.desk_outputs import Outputs

    def full(self, opened, prediction, image_map):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Outputs, "_picture", full)
    out = tmp_path / "s.csv"
    assert run(scans, "--out", out, "--overlay", tmp_path / "o") == 1
    images = read(out)
    assert (images["status"] == "scored").all()
    assert images["note"].str.contains("no heat map: this model has no map").all()
    assert images["note"].str.contains("No space left").all()


def test_images_unlike_the_training_images_are_counted_everywhere(
    scorer, scans, tmp_path, capsys
):
    from dm_training.grey_stats import measure

    dark = [np.full((48, 40), 200, np.uint16) for _ in range(30)]
    own = contract().replace(grey_stats=measure(dark))
    scorer.contracts = (own,)
    out = tmp_path / "s.csv"
    assert run(scans, "--out", out) == 0
    assert (
        f"8 of 8 scored images are unlike the training images, and their scores may "
        f"mean little: `dm-check model.keras {scans}`" in capsys.readouterr().err
    )
    assert (read(out)["causes"] != "").all()
    women = read(tmp_path / "s_patient.csv")
    assert (women["note"] == "4 of 4 image(s) unlike the training images").all()


@pytest.mark.parametrize(
    ("options", "models", "cure"),
    [
        ([], 1, "`dm-decide MODEL predictions_val.csv` stores one"),
        (["--tta"], 1, "`dm-decide MODEL predictions_val_augmented.csv` stores one"),
        (["--tta"], 2, "an ensemble has none of its own (--decision FILE)"),
    ],
    ids=["one flip", "four", "ensemble"],
)
def test_without_an_operating_point_it_is_said_how_to_get_one(
    scorer, scans, capsys, options, models, cure
):
    scorer._decision, scorer.contracts = None, scorer.contracts * models
    assert run(scans, *options) == 0
    assert f"nothing is decided; {cure}\n" in capsys.readouterr().err


@pytest.mark.parametrize("again", [False, True], ids=["one run", "gone on with"])
def test_the_same_pixels_twice_are_noted(scorer, scans, tmp_path, again, monkeypatch):
    shutil.copy(scans / "P1_L_CC.png", scans / "P1_R_XCC.png")
    out = tmp_path / "s.csv"
    if again:
        real = predict.Predictor.results
        with monkeypatch.context() as patch:
            patch.setattr(predict.Predictor, "results", _only_four(real))
            assert run(scans, "--out", out) == 1
    assert run(scans, "--out", out) == 0
    notes = read(out).set_index("image_id")["note"]
    assert notes["P1_R_XCC.png"] == "same pixels as P1_L_CC.png"
    assert (notes.drop("P1_R_XCC.png") == "").all()


def test_notes_are_shown_once_a_kind_and_counted(
    scorer, scans, tmp_path, monkeypatch, capsys
):
    def noted(source, **options):
        return dataclasses.replace(read_intake(source, **options), notes=("odd",))

    monkeypatch.setattr(desk_stream, "read_intake", noted)
    assert run(scans, "--out", tmp_path / "s.csv") == 0
    said = capsys.readouterr().err
    assert said.count("note: ") == 1 and "\nnote: P1_L_CC.png: odd\n" in said
    assert (
        "8 images: odd: P1_L_CC.png, P1_L_MLO.png, P1_R_CC.png and 5 more\n" in said
    )
    assert (read(tmp_path / "s.csv")["note"] == "odd").all()
