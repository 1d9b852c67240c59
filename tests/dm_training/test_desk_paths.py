import os
from collections import Counter
from pathlib import Path

import pytest
from desk_support import write_images

from dm_preprocess.tables import TableError
from dm_training.desk_paths import list_items, passed_over
from dm_training.samples import SamplesError, ids_of_name

COLUMNS = "image_id,patient_id,laterality,view,split,label,path,density"


def write_table(folder, *rows):
    (folder / "images.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    return str(folder / "images.csv")


def ids(items):
    return [item.image_id for item in items]


def test_a_folder_gives_images_and_dicom_files_below_it(tmp_path):
    write_images(tmp_path / "a" / "b", 1, names=["one"])
    (tmp_path / "two.DCM").write_bytes(b"")
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "three.pgm").write_bytes(b"")
    for name in ("notes.txt", "plain", ".hidden.png", "DICOMDIR"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" * (name == "DICOMDIR"))
    passed = Counter()
    found = list_items([str(tmp_path)], passed=passed)
    assert passed_over(passed) == (
        "4 files passed over (1 hidden, 1 DICOMDIR, 1 .txt, 1 of another ending)"
    )
    assert ids(found) == ["IM0001", "a/b/one.png", "three.pgm", "two.DCM"]
    assert [Path(item.path).is_absolute() for item in found] == [True] * 4


def test_a_folder_of_other_files_tells_what_was_passed_over(tmp_path):
    (tmp_path / "Doe.zip").write_bytes(b"PK")
    match = r"no image found \(1 file passed over \(1 \.zip\)\)"
    with pytest.raises(SamplesError, match=match):
        list_items([str(tmp_path)])


def test_a_link_to_nothing_is_listed_so_that_it_fails_by_its_name(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert ids(list_items([str(tmp_path)])) == ["gone.png"]


def test_the_same_file_given_twice_is_scored_once(tmp_path):
    one, _ = write_images(tmp_path, 2)
    assert ids(list_items([str(tmp_path), str(one)])) == ["0000.png", "0001.png"]


def test_ids_that_stand_twice_become_longer_ones(tmp_path):
    write_images(tmp_path / "a", 2)
    write_images(tmp_path / "b", 1)
    found = list_items([str(tmp_path / "a"), str(tmp_path / "b")])
    assert ids(found) == ["a/0000.png", "0001.png", "b/0000.png"]


def test_ids_that_are_alike_even_so_are_refused(tmp_path):
    write_images(tmp_path, 1)
    write_images(tmp_path / "t", 1)
    first = write_table(tmp_path, "x,1,L,CC,,,0000.png,", "t/0000.png,1,L,CC,,,no.png,")
    second = write_table(tmp_path / "t", "x,2,L,CC,,,0000.png,")
    with pytest.raises(SamplesError, match="2 images would be called 't/0000.png'"):
        list_items([first, second])


def test_a_table_keeps_its_ids_split_labels_and_subgroups(tmp_path):
    rows = ("x,W1,L,CC,test,1,p/0000.png,4", "y,W2,R,MLO,train,0,p/0001.png,2")
    table = write_table(tmp_path, *rows)
    (only,) = list_items([table], "test")
    assert (only.image_id, only.patient_id, only.laterality, only.view) == (
        "x", "W1", "L", "CC",
    )  # fmt: skip
    assert (only.split, only.y_true, dict(only.kept)["density"]) == ("test", 1, "4")
    assert only.path == str(tmp_path / "p" / "0000.png")
    assert ids(list_items([table], "all")) == ["x", "y"]
    with pytest.raises(SamplesError, match="no row has split 'val'"):
        list_items([table], "val")


def test_a_table_as_the_converter_takes_one_has_paths_for_ids(tmp_path):
    table = tmp_path / "mine.csv"
    header = "path,label,patient_id,laterality,view"
    table.write_text(f"{header}\nscans/a1.dcm,0,W1,L,CC\nscans/a2.dcm,1,W1,RIGHT,CC\n")
    one, two = list_items([str(table)])
    assert (one.image_id, one.path) == ("scans/a1.dcm", str(tmp_path / "scans/a1.dcm"))
    assert (two.image_id, two.laterality, two.y_true) == ("scans/a2.dcm", "R", 1)
    table.write_text("patient_id,label\nW1,0\n")
    match = "missing column image_id, path; a table of images needs"
    with pytest.raises(TableError, match=match):
        list_items([str(table)])


def test_what_a_table_says_of_a_file_counts_before_the_folder(tmp_path):
    write_images(tmp_path, 2)
    table = write_table(tmp_path, "x,W1,L,CC,,,0000.png,")
    found = list_items([str(tmp_path), table])
    assert sorted(ids(found)) == ["0001.png", "x"]
    assert list_items([table])[0].y_true is None


def test_class_folders_give_labels_and_a_table_beside_them_ids(tmp_path):
    write_images(tmp_path / "neg", 1, names=["n"])
    write_images(tmp_path / "pos", 1, names=["p"])
    assert [(i.image_id, i.y_true) for i in list_items([str(tmp_path)])] == [
        ("neg/n", 0), ("pos/p", 1),
    ]  # fmt: skip
    write_table(tmp_path, "known,W1,L,CC,,1,pos/p.png,")
    assert [(i.image_id, i.patient_id, i.y_true) for i in list_items([str(tmp_path)])] \
        == [("neg/n", "", 0), ("known", "W1", 1)]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("none", SamplesError, "none: no such file or folder"),
        ("none.csv", TableError, "no such table"),
        ("", SamplesError, "no image found"),
    ],
    ids=["no path", "no table", "empty folder"],
)
def test_what_is_not_there_is_refused(tmp_path, name, error, match):
    with pytest.raises(error, match=match):
        list_items([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P_00005_RIGHT_CC.dcm", ("P_00005", "R", "CC")),
        ("Calc-Test_P_00038_LEFT_MLO_1.png", ("P_00038", "L", "MLO")),
        ("/a/Mass-Training_P_00001_RIGHT_CC/1.2/000000.dcm", ("P_00001", "R", "CC")),
        (
            "20586908_6c613a14b80a8591_MG_L_ML_ANON.dcm",
            ("6c613a14b80a8591", "L", "MLO"),
        ),
        (
            "20586908_6c613a14b80a8591_MG_L_ML_ANON.png",
            ("6c613a14b80a8591", "L", "MLO"),
        ),
        ("P_00005_RIGHT_ML.dcm", ("P_00005", "R", "ML")),
        ("20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm", ("6c613a14b80a8591", "R", "CC")),
        ("exam_L-MLO.png", ("exam", "L", "MLO")),
        ("scan.png", ("", "", "")),
        ("a_L-CCX.png", ("", "", "")),
    ],
)
def test_file_names_tell_woman_side_and_view(name, expected):
    assert ids_of_name(name) == expected


def test_names_that_no_table_can_hold_are_escaped(tmp_path):
    """A byte that is no UTF-8, ends of lines, and what moves a terminal's cursor."""
    for name in (b"caf\xe9.png", b"two\nlines.png", b"a\rb.png", b"\x1b[31m.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"")
    (tmp_path / "café 乳房.png").write_bytes(b"")
    found = list_items([str(tmp_path)])
    assert sorted(ids(found)) == sorted(
        [
            r"caf\xe9.png",
            r"two\nlines.png",
            r"a\rb.png",
            r"\x1b[31m.png",
            "café 乳房.png",
        ]
    )
    assert all(Path(item.path).exists() for item in found)
    "".join(ids(found)).encode("utf-8")


def test_a_folder_that_cannot_be_opened_is_listed_so_that_it_fails_by_its_name(
    tmp_path, monkeypatch
):
    """Root may open all folders, so the system's answer is made up."""
    write_images(tmp_path / "open", 1, names=["a"])
    write_images(tmp_path / "closed", 1, names=["b"])
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert ids(list_items([str(tmp_path)])) == ["closed", "open/a.png"]
