"""Splits: patients stay together, classes keep their share, order changes nothing."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from dm_preprocess import images as pixels
from dm_preprocess import splits, tables


def women(negative, positive):
    labels = {f"n{i:03d}": 0 for i in range(negative)}
    return labels | {f"p{i:03d}": 1 for i in range(positive)}


def image_rows(labels, views=("CC", "MLO")):
    rows = []
    for i, (patient, label) in enumerate(labels.items()):
        for view in views:
            rows.append({
                "image_id": f"{patient}_{view}", "patient_id": patient, "view": view,
                "laterality": "L", "label": label, "split": "",
                "path": f"images/{patient}_{view}.png", "grey_mean": 40.0 + i,
                "source_path": f"../raw/{patient}_{view}.dcm",
            })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def data(tmp_path):
    """A folder with 40 negative and 20 positive women, two images each."""
    tables.write_table(
        image_rows(women(40, 20)), tmp_path / "data/images.csv", "images"
    )
    return tmp_path


def run(data, *arguments):
    table = str(data / "data/images.csv")
    return splits.main([table, "--out", str(data / "out"), *map(str, arguments)])


def read_out(data):
    facts = json.loads((data / "out/splits.json").read_text())
    return tables.read_images(data / "out/images.csv"), facts


@pytest.mark.parametrize("seed", range(25))
def test_split_never_shares_a_patient_and_every_split_has_every_class(seed):
    labels = women(3 + seed * 7, 3 + seed)
    split = splits.split_patients(labels, {"test": 0.15, "val": 0.085}, seed=seed)
    assert set(split) == set(labels)
    for label in (0, 1):
        assert {split[p] for p in labels if labels[p] == label} == set(tables.SPLITS)


def test_each_class_gives_its_share():
    split = splits.split_patients(women(200, 100), {"test": 0.15, "val": 0.1}, seed=1)
    counts = pd.Series({(p[0], s): 0 for p, s in split.items()})
    for patient, name in split.items():
        counts[patient[0], name] += 1
    # 0.15 x 200 = 30, 0.1 x 200 = 20; half of each for the 100 positive women
    assert counts["n"].to_dict() == {"train": 150, "test": 30, "val": 20}
    assert counts["p"].to_dict() == {"train": 75, "test": 15, "val": 10}


def test_order_of_the_patients_changes_nothing_but_the_seed_does():
    labels = women(30, 15)
    shares = {"test": 0.15, "val": 0.1}
    backwards = dict(reversed(labels.items()))
    first = splits.split_patients(labels, shares, seed=3)
    assert splits.split_patients(backwards, shares, seed=3) == first
    assert splits.split_patients(labels, shares, seed=4) != first
    dealt = splits.folds(labels, 5, seed=3)
    assert splits.folds(backwards, 5, seed=3) == dealt


@pytest.mark.parametrize("positive", [1, 2])
def test_a_class_with_too_few_women_is_named(positive):
    with pytest.raises(splits.SplitError, match=f"label 1 has {positive} women, and 3"):
        splits.split_patients(women(20, positive), {"test": 0.2, "val": 0.1}, seed=0)


@pytest.mark.parametrize(
    "shares", [{"test": 1.0}, {"test": -0.1}, {"a": 0.6, "b": 0.5}]
)
def test_impossible_shares_are_refused(shares):
    with pytest.raises(splits.SplitError, match="shares must lie in"):
        splits.split_patients(women(20, 20), shares, seed=0)


def test_no_labelled_patient_is_refused():
    with pytest.raises(splits.SplitError, match="no patient has a label"):
        splits.split_patients({}, {"test": 0.15}, seed=0)


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_folds_cover_every_patient_once_and_are_even(n_folds):
    labels = women(23, 11)
    dealt = pd.Series(splits.folds(labels, n_folds, seed=7))
    assert set(dealt.index) == set(labels)
    for group in (dealt, dealt[dealt.index.str.startswith("p")]):
        sizes = group.value_counts()
        assert len(sizes) == n_folds and sizes.max() - sizes.min() <= 1


def test_each_fold_tests_once_over_all_folds():
    labels = women(20, 10)
    tested = []
    for fold in range(5):
        split = splits.fold_split(labels, 5, fold, 0.1, seed=2)
        assert set(split.values()) == {"train", "val", "test"}
        tested += [p for p, name in split.items() if name == "test"]
    assert sorted(tested) == sorted(labels)


def test_a_fold_out_of_range_and_too_many_folds_are_refused():
    with pytest.raises(
        splits.SplitError, match=r"--fold must lie in 0\.\.4, received 5"
    ):
        splits.fold_split(women(20, 10), 5, 5, 0.1, seed=0)
    with pytest.raises(splits.SplitError, match="label 1 has 3 women, and 5 folds"):
        splits.folds(women(20, 3), 5, seed=0)


def test_subsets_are_nested_and_keep_the_share():
    labels = women(80, 40)
    subsets = splits.patient_subsets(labels, [12, 30, 60, 120], seed=5)
    for small, large in ((12, 30), (30, 60), (60, 120)):
        assert set(subsets[small]) < set(subsets[large])
    positives = [sum(labels[p] for p in subsets[n]) for n in (12, 30, 60, 120)]
    assert positives == [4, 10, 20, 40]  # a third of each
    with pytest.raises(splits.SplitError, match="subset of 1 women"):
        splits.patient_subsets(labels, [1], seed=5)


def test_worst_label_of_a_woman_counts_and_unlabelled_images_do_not():
    rows = image_rows({"a": 0, "b": 0, "c": np.nan})
    rows.loc[0, "label"] = 1
    assert splits.worst_labels(rows) == {"a": 1, "b": 0}


def test_paper_scheme_writes_the_table_and_says_what_it_did(data, capsys):
    assert run(data) == 0
    frame, facts = read_out(data)
    tables.check_disjoint_patients(frame, where="out")
    # 0.15 x 40 = 6 and x 20 = 3 women; 0.1 x 0.85 x 40 = 3.4 and 1.7: 3 and 2
    assert facts["counts"]["test"] == {
        "women": 9, "images": 18, "positives": 6, "positive_women": 3
    }  # fmt: skip
    assert facts["counts"]["val"]["women"] == 5
    train = frame[frame["split"] == "train"]
    assert facts["grey_mean"] == pytest.approx(train["grey_mean"].mean(), abs=1e-4)
    assert facts["grey_mean_from"] == "column"
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrote the split of 120")


def test_row_order_does_not_change_the_written_split(data):
    assert run(data) == 0
    before = read_out(data)[0].set_index("image_id")["split"]
    table = data / "data/images.csv"
    shuffled = pd.read_csv(table).sample(frac=1, random_state=0)
    shuffled.to_csv(table, index=False)
    assert run(data, "--overwrite") == 0
    after = read_out(data)[0].set_index("image_id")["split"]
    assert after.sort_index().equals(before.sort_index())


def test_unlabelled_images_have_no_split(data):
    frame = tables.read_images(data / "data/images.csv")
    frame.loc[[0, 2, 3], "label"] = np.nan
    tables.write_table(frame, data / "data/images.csv", "images")
    assert run(data) == 0
    out, facts = read_out(data)
    assert (out["split"].iloc[[0, 2, 3]] == "").all() and out["split"].iloc[1] != ""
    assert facts["images_without_split"] == 3


def test_path_cells_lead_to_the_same_files_from_the_new_table(data):
    assert run(data) == 0
    first = read_out(data)[0].iloc[0]
    cell = first["path"]
    assert cell == "../data/images/n000_CC.png"
    assert first["source_path"] == "../raw/n000_CC.dcm"
    wanted = data / "data/images/n000_CC.png"
    assert os.path.normpath(tables.resolve(cell, data / "out/images.csv")) == str(
        wanted
    )


def test_grey_mean_is_measured_from_pixels_where_the_column_has_gaps(tmp_path):
    frame = image_rows({"a": 0, "b": 1}, views=("CC",)).assign(split="train")
    frame["grey_mean"] = np.nan
    for level, cell in zip((257 * 10, 257 * 30), frame["path"], strict=True):
        image = np.full((8, 6), level, np.uint16)
        pixels.write_png(tmp_path / cell, image)
    found = splits.training_grey_mean(frame, tmp_path / "images.csv", jobs=1)
    assert found == (pytest.approx(20.0), "pixels")  # (10 + 30) / 2 of 255


@pytest.mark.parametrize(
    ("goes", "wanted"), [("train", "train|val"), ("test", "test"), ("drop", "^$")]
)
def test_official_scheme_puts_women_of_both_sides_where_it_is_told(data, goes, wanted):
    frame = tables.read_images(data / "data/images.csv")
    frame["official_split"] = "train"
    frame.loc[frame["patient_id"].str.match("[np]00"), "official_split"] = "test"
    frame.loc[frame["image_id"] == "n001_CC", "official_split"] = "both"
    frame.loc[frame["image_id"] == "p002_CC", "official_split"] = "train"
    tables.write_table(frame, data / "data/images.csv", "images")
    assert run(data, "--scheme", "official", "--both-sides", goes) == 0
    out, facts = read_out(data)
    assert facts["women_on_both_sides"] == ["n001", "p002"]
    both = out[out["patient_id"].isin(["n001", "p002"])]
    assert both["split"].str.fullmatch(wanted).all()
    clean = out[out["patient_id"].isin(["n003", "p004"])]
    assert (clean["split"] == "test").all()
    assert (out["split"] == "val").sum() > 0


def test_official_scheme_needs_its_column(data, capsys):
    assert run(data, "--scheme", "official") == 2
    assert "needs the column official_split" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["patient_id", "image_id"])
def test_file_scheme_follows_the_file_and_leaves_others_out(data, key):
    frame = tables.read_images(data / "data/images.csv").iloc[20:]
    number = frame["patient_id"].str[1:].astype(int)
    frame["split"] = np.where(number % 4 == 0, "test", "train")
    frame[[key, "split"]].drop_duplicates().to_csv(data / "ids.csv", index=False)
    assert run(data, "--scheme", "file", "--ids", data / "ids.csv") == 0
    out = read_out(data)[0]
    assert (out["split"].iloc[:20] == "").all()
    assert out["split"].iloc[20:].tolist() == frame["split"].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,split\na,train\n", "needs the columns split and image_id or patient_id"),
        ("patient_id,split\nn000,training\n", "line 2, column split: must be one of"),
        ("patient_id,split\nzz,train\n", "none of its patient_ids"),
        ("patient_id,split\nn000,train\nn000,test\n", "n000 stands with two splits"),
        ("image_id,split\nn000_CC,train\nn000_MLO,test\n", "more than one split: n000"),
    ],
    ids=["columns", "unknown split", "unknown ids", "twice", "woman in two splits"],
)
def test_file_scheme_refuses_bad_files(data, capsys, text, message):
    (data / "ids.csv").write_text(text)
    assert run(data, "--scheme", "file", "--ids", data / "ids.csv") == 2
    assert message in capsys.readouterr().err
    assert not (data / "out").exists()


def test_folds_scheme_writes_the_fold_it_was_asked_for(data):
    assert run(data, "--scheme", "folds", "--folds", 4, "--fold", 2) == 0
    facts = read_out(data)[1]
    assert facts["counts"]["test"]["women"] == 15  # 60 / 4
    assert (facts["folds"], facts["fold"]) == (4, 2)


def test_an_existing_split_is_kept_unless_told(data, capsys):
    assert run(data) == 0
    before = (data / "out/images.csv").read_bytes()
    assert run(data, "--seed", 1) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    assert (data / "out/images.csv").read_bytes() == before
    assert run(data, "--seed", 1, "--overwrite") == 0
    assert (data / "out/images.csv").read_bytes() != before


def test_a_data_set_of_one_class_is_refused(data, capsys):
    tables.write_table(image_rows(women(9, 0)), data / "data/images.csv", "images")
    assert run(data) == 2
    assert "no example of class 1" in capsys.readouterr().err
