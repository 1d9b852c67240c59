import cv2
import numpy as np
import pandas as pd
import pytest

from dm_preprocess.tables import IMAGE_CLASSES, PATCH_CLASSES, TableError
from dm_training.samples import SamplesError, check_patients, read_samples


def folder_of(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((8, 8), np.uint16))
    return root


def rewrite(path, **columns):
    frame = pd.read_csv(path, dtype=str).assign(**columns)
    frame.to_csv(path, index=False)
    return path


def test_a_table_given_for_a_role_yields_that_splits_rows(image_set):
    counts = {r: len(read_samples(image_set, r, classes=IMAGE_CLASSES))
              for r in ("train", "val", "test")}  # fmt: skip
    assert counts == {"train": 8, "val": 4, "test": 4}


def test_a_table_without_splits_yields_all_rows(image_set):
    rewrite(image_set, split="")
    assert len(read_samples(image_set, "val", classes=IMAGE_CLASSES)) == 16


def test_a_patient_in_two_splits_is_refused_where_data_enters(image_set):
    rewrite(image_set, patient_id=["x"] * 16)
    with pytest.raises(TableError, match="more than one split: x"):
        read_samples(image_set, "train", classes=IMAGE_CLASSES)


def test_parts_from_different_tables_are_checked_against_each_other(image_set):
    train = read_samples(image_set, "train", classes=IMAGE_CLASSES)
    with pytest.raises(TableError, match="more than one split"):
        check_patients({"train": train, "test": train})


def test_an_empty_class_is_named(image_set):
    rewrite(image_set, label="0")
    with pytest.raises(TableError, match="split train: no example of class pos"):
        read_samples(image_set, "train", classes=IMAGE_CLASSES)


def test_a_label_outside_the_set_names_file_line_and_column(image_set):
    rewrite(image_set, label=["2"] + ["0"] * 15)
    with pytest.raises(TableError, match=r"images.csv: row 1 \(line 2\), column label"):
        read_samples(image_set, "train", classes=IMAGE_CLASSES)


def test_a_missing_column_is_named(image_set):
    pd.read_csv(image_set).drop(columns="path").to_csv(image_set, index=False)
    with pytest.raises(TableError, match="line 1: missing column path"):
        read_samples(image_set, "train", classes=IMAGE_CLASSES)


def test_class_folders_give_labels_and_ids_from_names(tmp_path):
    names = ["neg/P1_L_CC.png", "neg/P2_RIGHT_MLO_2.png", "pos/P3_R_CC.png"]
    folder_of(tmp_path, names)
    found = read_samples(tmp_path, "train", classes=IMAGE_CLASSES)
    assert found.labels.tolist() == [0, 0, 1]
    assert found.frame["patient_id"].tolist() == ["P1", "P2", "P3"]
    assert found.frame["laterality"].tolist() == ["L", "R", "R"]
    assert found.has_patients


def test_class_folders_without_ids_are_used_and_said_not_to_be_checked(tmp_path):
    folder_of(tmp_path, ["neg/a.png", "pos/b.png"])
    found = read_samples(tmp_path, "train", classes=IMAGE_CLASSES)
    assert check_patients({"train": found}).startswith("not checked")


def test_a_missing_class_folder_lists_what_is_there(tmp_path):
    folder_of(tmp_path, ["neg/a.png", "positive/b.png"])
    with pytest.raises(SamplesError, match="no folder for class pos; found neg, posi"):
        read_samples(tmp_path, "train", classes=IMAGE_CLASSES)


def test_an_empty_class_folder_is_named(tmp_path):
    folder_of(tmp_path, ["neg/a.png"])
    (tmp_path / "pos").mkdir()
    with pytest.raises(TableError, match="split train: no example of class pos"):
        read_samples(tmp_path, "train", classes=IMAGE_CLASSES)


def test_a_patch_table_gives_class_indices_in_the_given_order(tmp_path):
    rows = [
        {
            "patch_id": f"p{k}",
            "image_id": "i",
            "patient_id": "w",
            "split": "train",
            "class": name,
            "path": f"{k}.png",
        }
        for k, name in enumerate(PATCH_CLASSES)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "patches.csv", index=False)
    found = read_samples(tmp_path / "patches.csv", "train", classes=PATCH_CLASSES)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]


def test_neither_table_nor_folder_is_refused(tmp_path):
    with pytest.raises(SamplesError, match="neither a folder nor a .csv"):
        read_samples(tmp_path / "x.png", "train", classes=IMAGE_CLASSES)


def test_unlabelled_images_are_left_out_of_training_and_kept_for_scoring(image_set):
    rewrite(image_set, label=["", *"0010101010101010"[1:]])
    train = read_samples(image_set, "train", classes=IMAGE_CLASSES)
    scored = read_samples(image_set, "train", classes=IMAGE_CLASSES, labelled=False)
    assert (len(train), len(scored)) == (7, 8)
    assert scored.labels[0] == -1
