import json

import pandas as pd
import pytest

from dm_training import provenance


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def test_a_runs_table_says_what_its_folder_says(tmp_path):
    run = tmp_path / "whole"
    flags = {"recipe": "vgg16-s10-256x1+128x1", "patch_model_state": "/x/patch/b.keras"}
    write(run / "config.json", {"seed": 7, "image_size": [1152, 896], "flags": flags,
                                "train_batch": 2, "precision": "float32",
                                "patients": "checked"})  # fmt: skip
    keras = {"backend": "tensorflow", "devices": ["cpu"]}
    write(run / "versions.json", {"cpus": 2, "keras": keras})
    write(run / "metrics.json", {"seconds": 90, "steps": 12, "epochs": 5,
                                 "best_epoch": 4})  # fmt: skip
    table = provenance.run_table({"whole": run})
    found = dict(table.rows)
    assert found["recipe"] == "vgg16-s10-256x1+128x1"
    assert found["starts from"] == "patch/b.keras"  # no path of this machine
    assert found["seed"] == "7" and found["time"] == "90 s"
    assert found["epochs (best)"] == "5 (4)"
    assert found["device"] == "cpu, 2 cores, tensorflow"


def test_no_run_makes_no_table():
    assert provenance.run_table({}) is None
    assert provenance.data_table(None) is None


def test_the_data_table_counts_women_images_and_positives(tmp_path):
    path = tmp_path / "images.csv"
    pd.DataFrame({
        "image_id": list("abcde"), "patient_id": ["w", "w", "v", "u", "t"],
        "path": "x.png", "split": ["train", "train", "train", "test", ""],
        "label": [1, 0, 1, 0, 1],
    }).to_csv(path, index=False)  # fmt: skip
    write(tmp_path / "splits.json", {"scheme": "paper", "seed": 3, "test_share": 0.15})
    table = provenance.data_table(path)
    assert table.rows == [["train", 2, 3, 2], ["test", 1, 1, 0]]
    assert table.caption == "Data: split 'paper' by patient, seed 3, test share 0.15"


def test_the_audit_names_near_duplicates_between_splits_first(tmp_path):
    finding = {"severity": "error", "check": "near_identical_across_splits",
               "message": "1 pair(s) of nearly identical images between splits",
               "items": ["a (train) and b (test)"], "count": 1}  # fmt: skip
    write(tmp_path / "audit.json", {"findings": [finding]})
    (section,) = provenance.audit_sections(tmp_path, None)
    assert "a (train) and b (test)" in section.paragraphs[0]
    assert section.tables[0].rows[0][0] == "error"


def test_the_audit_says_when_no_image_is_doubled(tmp_path):
    write(tmp_path / "audit.json", {"findings": []})
    (section,) = provenance.audit_sections(tmp_path / "audit.json", None)
    assert section.paragraphs[0].startswith("No identical or nearly identical images")
    assert section.tables == []


def test_what_conversion_met_is_shown_by_kind(tmp_path):
    write(tmp_path / "index.json", {"source": "cbis-ddsm",
                                    "oddities": {"swapped_mask": 3}})  # fmt: skip
    (section,) = provenance.audit_sections(None, tmp_path)
    assert section.tables[0].rows == [["swapped mask", 3]]
    assert provenance.audit_sections(None, None) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (35.4, "35 s"), (252, "4.2 minutes"), (11160, "3.1 hours")],
)
def test_times_are_told_in_their_own_unit(seconds, text):
    assert provenance.time_text(seconds) == text


def test_a_report_names_no_patient_of_the_audit(tmp_path):
    findings = [
        {"severity": "error", "check": "women_in_two_splits", "count": 1,
         "message": "1 women stand in more than one split",
         "items": ["SECRET-1: test, train"]},
        {"severity": "error", "check": "identical_across_splits", "count": 1,
         "message": "1 pair(s) of identical images between splits",
         "items": ["a (patient SECRET-1, train) and b (patient SECRET-2, test): same"]},
    ]  # fmt: skip
    write(tmp_path / "audit.json", {"findings": findings})
    (section,) = provenance.audit_sections(tmp_path, None)
    shown = repr(section)
    assert "SECRET" not in shown
    assert "a and b: same" in shown and "see audit.json" in shown
