"""Counts of what a run was trained and scored on."""

import json

import pandas as pd
import pytest

from dm_training.data_facts import data_facts, sample_counts
from dm_training.samples import Samples

CLASSES = ("neg", "pos")


def samples(labels, women, classes=CLASSES, known=True, **columns):
    frame = pd.DataFrame({
        "path": [f"/secret/{k}.png" for k in range(len(labels))],
        "image_id": [f"i{k}" for k in range(len(labels))],
        "patient_id": women, "label": labels, **columns,
    })  # fmt: skip
    return Samples(frame, classes, "/secret/images.csv", known)


@pytest.fixture
def parts():
    """Train: women a (2 images, 1 positive), b, c (positive); val: d, e (positive)."""
    return {
        "train": samples([0, 1, 0, 1], list("aabc"), vendor=["X", "X", "", None]),
        "val": samples([0, 1], list("de"), vendor=["X", "Y"]),
    }


def splits(folder, **changes):
    counts = {"train": {"images": 4}, "val": {"images": 2}}
    found = {"format": 1, "scheme": "official", "seed": 3, "both_sides": "train",
             "counts": counts, "women_on_both_sides": ["P_1"], **changes}  # fmt: skip
    (folder / "splits.json").write_text(json.dumps(found))
    return str(folder / "images.csv")


def test_women_and_positives_are_counted_by_split(parts):
    found = data_facts(parts)
    assert found["train"] == {
        "images": 4, "women": 3, "classes": {"neg": 2, "pos": 2}, "positives": 2,
        "positive_women": 2, "vendor": {"X": 2, "not said": 2},
    }  # fmt: skip
    assert (found["val"]["women"], found["val"]["positive_women"]) == (2, 1)
    assert found["split"] == {}


def test_patches_are_counted_apart_from_their_images():
    found = sample_counts(samples(
        [0, 1, 1], list("aab"), classes=("background", "mass_mal"),
        patch_id=["p0", "p1", "p2"],
    ))  # fmt: skip
    assert (found["patches"], found["images"], found["women"]) == (3, 3, 2)
    assert found["classes"] == {"background": 1, "mass_mal": 2}
    assert "positives" not in found


def test_women_are_none_where_no_ids_are_known():
    found = sample_counts(samples([0, 1], ["", ""], known=False))
    assert found["women"] is None and found["positive_women"] is None


def test_the_scheme_is_told_and_no_id_with_it(parts, tmp_path):
    found = data_facts(parts, splits(tmp_path))
    assert found["split"] == {"scheme": "official", "seed": 3, "both_sides": "train"}
    assert "P_1" not in json.dumps(found) and "secret" not in json.dumps(found)


@pytest.mark.parametrize(
    ("counts", "note"),
    [
        ({"train": {"images": 5}, "val": {"images": 2}}, "is of another split"),
        ({"train": {"images": 4}}, "is none of this project"),
        ([], "is none of this project"),
    ],
    ids=["other counts", "a split missing", "no counts"],
)
def test_the_splits_of_another_table_are_not_taken(parts, tmp_path, counts, note):
    found = data_facts(parts, splits(tmp_path, counts=counts))["split"]
    assert list(found) == ["note"] and note in found["note"]


def test_a_broken_splits_file_is_said(parts, tmp_path):
    table = splits(tmp_path)
    (tmp_path / "splits.json").write_text("{")
    assert "none of this project" in data_facts(parts, table)["split"]["note"]


def test_only_the_commonest_vendors_are_named():
    women = [str(k) for k in range(30)]
    vendors = ["common"] * 16 + [f"rare{k}" for k in range(14)]
    found = sample_counts(samples([0, 1] * 15, women, vendor=vendors))
    assert len(found["vendor"]) == 12 + 1 and found["vendor"]["common"] == 16
    assert found["vendor"]["others"] == 3  # of 15 names, 12 are told
