"""The reader of INbreast, on miniature trees of its form."""

from __future__ import annotations

import plistlib
from collections import Counter
from pathlib import Path

import pytest

from dm_preprocess.inbreast import index
from dm_preprocess.inbreast_regions import Region, abnormality_of, read_regions
from dm_preprocess.sources import SourceError

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
SQUARE = ("(10.5, 20)", "(30, 20)", "(30, 40.25)", "(10, 40)")
FIRST = "20586908"
SECOND = "20586934"


def row(file=FIRST, birads="5", side="R", view="CC", acr="4", age="removed") -> str:
    return f"removed;{age};{side};{view};201001;{file};{acr};{birads}"


def write_source(root: Path, rows: list[str], dicoms: list[str] | None = None) -> Path:
    """A source in which every row has its (empty) DICOM, unless `dicoms` are named."""
    for name in ("AllDICOMs", "AllXML"):
        (root / name).mkdir(parents=True)
    (root / "INbreast.csv").write_bytes("\r\n".join([HEADER, *rows, ""]).encode())
    if dicoms is None:
        cells = [text.split(";") for text in rows]
        dicoms = [dicom(c[5][:8], side=c[2], view=c[3]) for c in cells if c[5]]
    for name in dicoms:
        (root / "AllDICOMs" / name).write_bytes(b"")
    return root


def dicom(file: str, woman: str = "6c613a14b80a8591", side="R", view="CC") -> str:
    return f"{file}_{woman}_MG_{side}_{'ML' if view == 'MLO' else view}_ANON.dcm"


def write_xml(root: Path, regions: list[tuple[str, tuple]], file: str = FIRST) -> Path:
    rois = [
        {"Name": name, "NumberOfPoints": len(points), "Point_px": list(points)}
        for name, points in regions
    ]
    path = root / "AllXML" / f"{file}.xml"
    path.write_bytes(plistlib.dumps({"Images": [{"ROIs": rois}]}))
    return path


def kinds(found) -> Counter:
    return Counter(oddity.kind for oddity in found.oddities)


@pytest.mark.parametrize(
    ("birads", "label", "note"),
    [(b, 0, "") for b in ("1", "2")]
    + [("3", None, "BI-RADS 3: left out")]
    + [(b, 1, "") for b in ("4", "4a", "4b", "4c", "5", "6")],
)
def test_birads_give_the_label(tmp_path, birads, label, note):
    (image,) = index(write_source(tmp_path, [row(birads=birads)])).images
    assert (image.label, image.note) == (label, note)
    assert image.extra == {"birads": birads}


def test_the_woman_is_the_hash_of_the_file_name(tmp_path):
    rows = [row(), row(SECOND, "2", "L"), row("22678622", "1")]
    names = [
        dicom(FIRST),
        dicom(SECOND, side="L"),
        dicom("22678622", "61b13c59bcba149e"),
    ]
    found = index(write_source(tmp_path, rows, names))
    women = [image.patient_id for image in found.images]
    assert women == ["6c613a14b80a8591", "6c613a14b80a8591", "61b13c59bcba149e"]
    assert found.facts["women"] == 2
    assert not found.oddities and not found.failed


def test_facts_count_rows_birads_and_labels(tmp_path):
    rows = [row(), row(SECOND, "3"), row("22678622", "1"), row("22678646", "4a")]
    facts = index(write_source(tmp_path, rows)).facts
    assert (facts["rows"], facts["images"]) == (4, 4)
    assert facts["birads"] == {"1": 1, "3": 1, "4a": 1, "5": 1}
    assert facts["labels"] == {"0": 1, "1": 2, "empty": 1}


def test_ml_in_a_file_name_is_mlo_and_fb_stays(tmp_path):
    found = index(write_source(tmp_path, [row(view="MLO"), row(SECOND, view="FB")]))
    assert [image.view for image in found.images] == ["MLO", "FB"]
    assert kinds(found) == {"view neither CC nor MLO": 1}


def test_removed_age_and_blank_density_are_empty(tmp_path):
    found = index(write_source(tmp_path, [row(acr=" "), row(SECOND, age="63")]))
    assert [(i.age, i.density) for i in found.images] == [("", ""), ("63", "4")]
    assert kinds(found) == {"ACR density not 1 to 4": 1}


def test_numbers_that_a_spreadsheet_made_floats_are_read(tmp_path):
    (image,) = index(
        write_source(tmp_path, [row(f"{FIRST}.0", "2.0", acr="3.0")])
    ).images
    assert (image.image_id, image.label, image.density) == (FIRST, 0, "3")
    assert image.source_path.name == dicom(FIRST)


def test_a_table_saved_with_commas_is_read(tmp_path):
    root = write_source(tmp_path, [row()])
    path = root / "INbreast.csv"
    path.write_text("\ufeff" + path.read_text().replace(";", ","), encoding="utf-8")
    assert [image.image_id for image in index(root).images] == [FIRST]


def test_the_folder_above_serves_too(tmp_path):
    write_source(tmp_path / "INbreast Release 1.0", [row()])
    assert index(tmp_path).images[0].source_path.is_file()


def test_polygons_are_row_first_and_numbered(tmp_path):
    root = write_source(tmp_path, [row()])
    write_xml(root, [("PectoralMuscle", SQUARE), ("Mass", SQUARE), ("Cluster", SQUARE)])
    found = index(root)
    mass, calc = found.images[0].lesions
    assert (mass.lesion_id, mass.abnormality, mass.note) == (
        f"{FIRST}_1",
        "mass",
        "Mass",
    )
    assert (calc.lesion_id, calc.abnormality) == (f"{FIRST}_2", "calc")
    assert mass.shape == "polygon"
    assert mass.geometry == (20.0, 10.5, 20.0, 30.0, 40.25, 30.0, 40.0, 10.0)
    assert mass.assessment == "5"
    assert (found.facts["lesions"], found.facts["images_with_lesions"]) == (2, 1)


@pytest.mark.parametrize(
    ("points", "circle"),
    [
        (["(7, 5)"], (5.0, 7.0, 4.0)),
        (["(7, 5)", "(9, 5)"], (5.0, 8.0, 4.0)),
        # 12 columns and 16 rows apart: 20, half of which is the radius.
        (["(0, 0)", "(12, 16)"], (8.0, 6.0, 10.0)),
    ],
    ids=["one", "two near", "two far"],
)
def test_one_or_two_points_are_a_small_circle(tmp_path, points, circle):
    root = write_source(tmp_path, [row()])
    write_xml(root, [("Calcification", tuple(points))])
    (lesion,) = index(root).images[0].lesions
    assert (lesion.shape, lesion.geometry) == ("circle", circle)


@pytest.mark.parametrize(
    ("birads", "malignant", "note"),
    [("2", 0, "Mass"), ("4b", 1, "Mass"), ("3", 0, "Mass; pathology unknown")],
)
def test_a_lesion_is_malignant_as_its_image_is(tmp_path, birads, malignant, note):
    root = write_source(tmp_path, [row(birads=birads)])
    write_xml(root, [("Mass", SQUARE)])
    (lesion,) = index(root).images[0].lesions
    assert (lesion.malignant, lesion.note, lesion.pathology) == (malignant, note, "")


@pytest.mark.parametrize(
    ("name", "points", "abnormality", "doubt"),
    [
        ("MASS", 3, "mass", ""),
        ("Spiculated region", 3, "mass", ""),
        ("Espiculated Region", 3, "mass", ""),
        ("Assymetry", 3, "mass", ""),
        ("Distortion", 3, "mass", ""),
        ("Calcifications", 1, "calc", ""),
        ("Unnamed", 3, "other", "unknown name 'Unnamed'"),
        ("Point 1", 1, "calc", "unknown name 'Point 1'"),
        ("Mass", 1, "mass", "has only 1 point"),
    ],
)
def test_names_give_the_abnormality(name, points, abnormality, doubt):
    found, said = abnormality_of(Region(name, ((1.0, 1.0),) * points))
    assert found == abnormality
    assert doubt in said and bool(doubt) == bool(said)


def test_a_doubtful_name_is_reported_with_its_lesion(tmp_path):
    root = write_source(tmp_path, [row()])
    write_xml(root, [("Unnamed", SQUARE), ("Mass", ())])
    found = index(root)
    assert [lesion.abnormality for lesion in found.images[0].lesions] == ["other"]
    assert [(o.kind, o.where) for o in found.oddities] == [
        ("region of doubtful kind", f"{FIRST}_1"),
        ("region without points", FIRST),
    ]


def test_an_image_without_xml_has_no_lesion(tmp_path):
    found = index(write_source(tmp_path, [row(birads="1")]))
    assert found.images[0].lesions == ()
    assert not found.oddities and not found.failed


@pytest.mark.parametrize(
    "content",
    [
        b"<plist><dict><key>Images</key>",
        b"",
        plistlib.dumps({"Pictures": []}),
        plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass", "Point_px": [3]}]}]}),
        plistlib.dumps({"Images": [{"ROIs": [{"Point_px": ["__import__('os')"]}]}]}),
        plistlib.dumps({"Images": [{"ROIs": [{"Point_px": ["(1, 2, 3)"]}]}]}),
        plistlib.dumps({"Images": [{"ROIs": [{"Point_px": ["(1, 2) (3, 4)"]}]}]}),
    ],
    ids=[
        "cut off",
        "empty",
        "other keys",
        "a number",
        "code",
        "three numbers",
        "two points",
    ],
)
def test_a_corrupt_xml_fails_its_image_and_the_rest_goes_on(tmp_path, content):
    root = write_source(tmp_path, [row(), row(SECOND)])
    (root / "AllXML" / f"{FIRST}.xml").write_bytes(content)
    found = index(root)
    assert [image.image_id for image in found.images] == [SECOND]
    ((name, reason),) = found.failed
    assert name == FIRST
    assert f"{FIRST}.xml: not an annotation of INbreast" in reason


def test_a_point_that_is_none_is_quoted(tmp_path):
    path = write_xml(write_source(tmp_path, [row()]), [("Mass", ("(a, b)",))])
    with pytest.raises(SourceError, match=r"must be '\(x, y\)', received '\(a, b\)'"):
        read_regions(path)


def test_a_row_without_its_dicom_fails_and_the_rest_goes_on(tmp_path):
    found = index(write_source(tmp_path, [row(), row(SECOND)], [dicom(SECOND)]))
    assert [image.image_id for image in found.images] == [SECOND]
    ((name, reason),) = found.failed
    assert name == FIRST and "INbreast.csv: line 2" in reason


def test_dicoms_that_fit_no_row_are_reported(tmp_path):
    names = [dicom(FIRST), dicom(FIRST, "7"), dicom(SECOND), "scan.dcm", "._x.dcm"]
    found = index(write_source(tmp_path, [row()], names))
    assert kinds(found) == {
        "DICOM without a row": 1,
        "second DICOM of an image": 1,
        "DICOM of unknown name": 1,
    }


@pytest.mark.parametrize("what", ["laterality", "view"])
def test_the_table_wins_over_the_file_name(tmp_path, what):
    name = dicom(FIRST, side="L") if what == "laterality" else dicom(FIRST, view="MLO")
    found = index(write_source(tmp_path, [row()], [name]))
    assert (found.images[0].laterality, found.images[0].view) == ("R", "CC")
    assert kinds(found) == {f"{what} of table and file name differ": 1}


def test_index_only_needs_no_dicoms_but_knows_no_women_then(tmp_path):
    root = write_source(tmp_path, [row(), row(SECOND)], [])
    (root / "AllDICOMs").rmdir()
    found = index(root, index_only=True)
    assert (found.facts["images"], found.facts["women"]) == (2, None)
    assert kinds(found) == {"women unknown": 1}
    with pytest.raises(SourceError, match="AllDICOMs: no such folder"):
        index(root)


def test_rows_of_totals_and_blank_lines_are_no_images(tmp_path):
    totals = ";;;;;;410;"
    found = index(
        write_source(tmp_path, [row(), "", ";;;;;;;", totals], [dicom(FIRST)])
    )
    assert found.facts["rows"] == 1
    (odd,) = found.oddities
    assert odd.kind == "row without a file name" and odd.where.endswith("line 5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row(birads="7"), r"line 3, column Bi-Rads: must be one of 1, .* received '7'"),
        (row(birads=""), r"line 3, column Bi-Rads: .* received ''"),
        (row("2058690"), r"line 3, column File Name: must be 8 digits.*'2058690'"),
        (row(side="B"), r"line 3, column Laterality: must be L or R, received 'B'"),
        (row(view=""), r"line 3, column View: .* received ''"),
        (row(SECOND), rf"line 3: File Name {SECOND} stands twice"),
    ],
    ids=["birads", "no birads", "file", "side", "view", "twice"],
)
def test_a_bad_cell_is_refused_by_file_and_line(tmp_path, text, message):
    root = write_source(tmp_path, [row(SECOND), text], [])
    with pytest.raises(SourceError, match=r"INbreast\.csv: " + message):
        index(root)


def test_a_missing_column_is_refused(tmp_path):
    root = write_source(tmp_path, [row()])
    path = root / "INbreast.csv"
    path.write_text(path.read_text().replace("Bi-Rads", "Score"))
    with pytest.raises(SourceError, match="line 1: missing column Bi-Rads; found"):
        index(root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "INbreast.xls",
            "INbreast.xls: the old Excel format is not read; .*INbreast.csv",
        ),
        ("Other.csv", "no INbreast.csv here or one folder below"),
    ],
)
def test_a_source_without_its_csv_is_refused(tmp_path, name, message):
    root = write_source(tmp_path, [row()])
    (root / "INbreast.csv").rename(root / name)
    with pytest.raises(SourceError, match=message):
        index(root)


def test_an_empty_table_is_refused(tmp_path):
    with pytest.raises(SourceError, match="INbreast.csv: holds no row"):
        index(write_source(tmp_path, []))
