"""The synthetic trees: whole, quirky, and the same however they are made."""

import csv
import plistlib

import numpy as np
import pydicom
import pytest

from dm_preprocess.phantom import draw_case, main, render, render_case
from dm_preprocess.phantom_anatomy import draw_breast
from dm_preprocess.phantom_image import LESIONS
from dm_preprocess.phantom_inbreast import count_extras, grade_women
from dm_preprocess.phantom_lesions import Lesion, draw_lesion, lesion_grade
from dm_preprocess.phantom_trees import HEADERS, TABLES, assign_splits

SIZE = (144, 144)
MASS = Lesion("mass", 1, 0.5, 0.1, 0.1, 0.06, 2.0, 0.0, 3, 11)
CALC = Lesion("calc", 0, 0.5, 0.1, 0.1, 0.06, 4.0, 0.0, 3, 12)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "made"
    size = [str(side) for side in SIZE]
    arguments = ["--patients", "24", "--digital-patients", "20", "--jobs", "1"]
    assert main(["--out", str(out), "--seed", "7", *arguments, "--size", *size]) == 0
    return out


def read_rows(path, delimiter=","):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def film_rows(tree):
    return {key: read_rows(tree / "cbis-ddsm" / name) for key, name in TABLES.items()}


def test_labels_are_balanced_in_every_block_and_follow_no_order():
    labels = [draw_case(3, index).malignant for index in range(200)]
    assert [sum(labels[at : at + 20]) for at in range(0, 200, 20)] == [10] * 10
    # 200 women: a correlation with the index beyond 0.2 has p < 0.005.
    assert abs(np.corrcoef(labels, np.arange(200))[0, 1]) < 0.2
    assert 60 < sum(labels[::2]) + sum(1 - label for label in labels[1::2]) < 140


def test_both_classes_have_the_same_numbers_and_kinds_of_lesions():
    kinds = {0: [], 1: []}
    for index in range(100):
        case = draw_case(5, index)
        kinds[case.malignant].append([one.abnormality for one in case.lesions])
    assert sorted(kinds[0]) == sorted(kinds[1])


def test_a_benign_woman_has_no_malignant_lesion_and_a_malignant_one_has_some():
    for index in range(100):
        case = draw_case(5, index)
        assert max(lesion.malignant for lesion in case.lesions) == case.malignant


def test_one_of_a_malignant_womans_lesions_is_malignant_and_none_of_anothers():
    for index in range(40):
        case = draw_case(3, index)
        assert sum(one.malignant for one in case.lesions) == case.malignant
        assert len(case.lesions) == LESIONS


def test_film_and_digital_women_are_other_women():
    film, digital = draw_case(1, 0), draw_case(1, 0, domain="digital")
    assert film.anatomy != digital.anatomy


@pytest.mark.parametrize("domain", ["film", "digital"])
def test_an_image_is_the_same_every_time(domain):
    case = draw_case(2, 9, domain=domain)
    once, again = (
        render_case(case, "MLO", height=144, width=112).image for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_a_right_breast_has_its_chest_wall_on_the_right(view):
    picture = render(
        4, view=view, laterality="RIGHT", lesions=(), height=144, width=112
    )
    assert picture.breast[:, -1].sum() > 60 and not picture.breast[:, 0].any()


def test_every_lesion_is_marked_within_the_breast_in_both_views():
    for index in range(12):
        case = draw_case(6, index)
        for view in ("CC", "MLO"):
            picture = render_case(case, view, height=384, width=288)
            assert len(picture.lesion_masks) == len(case.lesions)
            for mask in picture.lesion_masks:
                # The smallest disc has a radius of 12 pixels, 452 of area.
                assert mask.sum() > 400 and not (mask & ~picture.breast).any()


def test_a_lesion_brightens_the_place_that_is_marked_and_nothing_far_from_it():
    arguments = dict(view="CC", laterality="LEFT", height=144, width=112)
    with_it = render(8, lesions=(MASS,), **arguments)
    without = render(8, lesions=(), **arguments)
    changed = with_it.image - without.image
    row, col, radius = with_it.circles[0]
    rows, cols = np.ogrid[:144, :112]
    far = np.hypot(rows - row, cols - col) > 2.3 * radius
    assert changed[with_it.lesion_masks[0]].mean() > 0.005
    assert abs(changed[far]).max() < 1e-6


@pytest.mark.parametrize("lesion", [MASS, CALC], ids=["mass", "calc"])
def test_signal_and_marked_size_do_not_depend_on_the_grade(lesion):
    benign, benign_region = draw_lesion(lesion, grade=0.0, view_index=0)
    malignant, malignant_region = draw_lesion(lesion, grade=1.0, view_index=0)
    assert malignant.sum() == pytest.approx(benign.sum(), rel=1e-4)
    assert malignant_region.sum() == pytest.approx(benign_region.sum(), rel=0.05)


def test_malignant_calcifications_are_more_and_finer():
    from skimage.measure import label

    few, many = (
        label(draw_lesion(CALC, grade=grade, view_index=0)[0] > 1.0).max()
        for grade in (0.0, 1.0)
    )
    assert 3 <= few <= 6 and 12 <= many <= 30


def test_difficulty_brings_the_natures_together():
    gaps = [
        lesion_grade(MASS, difficulty) - lesion_grade(CALC, difficulty)
        for difficulty in (0.0, 0.5, 1.0)
    ]
    # Middles: 1 and 0, 0.775 and 0.225, 0.55 and 0.45.
    assert gaps == pytest.approx([1.0, 0.55, 0.1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_case(1, 1, domain="xray"), "domain: .*film, digital.*'xray'"),
        (lambda: lesion_grade(MASS, 1.5), r"difficulty: must lie in \[0, 1\].*1.5"),
        (
            lambda: render(
                1, view="CC", laterality="L", lesions=(), height=144, width=112
            ),
            "laterality: must be LEFT or RIGHT, received 'L'",
        ),
        (
            lambda: draw_breast(
                draw_case(1, 1).anatomy,
                np.random.default_rng(1),
                view="LM",
                height=144,
                width=112,
            ),
            "view: must be one of CC, MLO, received 'LM'",
        ),
    ],
    ids=["domain", "difficulty", "laterality", "view"],
)
def test_a_wrong_argument_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_official_splits_are_four_to_one_and_two_women_leak():
    women = assign_splits([draw_case(1, index) for index in range(100)])
    leaking = [one for one in women if len(set(one.splits.values())) == 2]
    tested = [one for one in women if set(one.splits.values()) == {"test"}]
    assert len(leaking) == 2
    assert all(len({x.abnormality for x in one.case.lesions}) == 2 for one in leaking)
    assert 18 <= len(tested) <= 20


def test_tables_have_the_official_headers_newlines_and_line_ends(tree):
    for key, name in TABLES.items():
        raw = (tree / "cbis-ddsm" / name).read_bytes()
        assert raw.startswith((",".join(HEADERS[key[0]]) + "\r\n").encode())
        assert raw.count(b"\r\n") > 1 and raw.count(b'\n"') > 0


def test_every_file_in_the_tables_exists_and_masks_are_where_pixels_say(tree):
    swapped = []
    for rows in film_rows(tree).values():
        for row in rows:
            first, second = (
                pydicom.dcmread(tree / "cbis-ddsm" / row[name].strip())
                for name in ("cropped image file path", "ROI mask file path")
            )
            assert {first.BitsStored, second.BitsStored} == {8, 16}
            swapped.append(first.BitsStored == 8)
            mask = first if swapped[-1] else second
            assert set(np.unique(mask.pixel_array)) == {0, 255}
    assert 0.1 < np.mean(swapped) < 0.6


def test_full_images_are_16_bit_and_carry_the_folder_as_patient(tree):
    kinds = set()
    for path in (tree / "cbis-ddsm").glob("*_CC/*/*/000000.dcm"):
        data = pydicom.dcmread(path)
        assert data.PatientID == path.parts[-4]
        assert (data.BitsStored, data.pixel_array.shape) == (16, SIZE)
        kinds.add(data.PhotometricInterpretation)
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}


def test_monochrome1_is_stored_inverted(tree):
    for path in (tree / "cbis-ddsm").glob("*_CC/*/*/000000.dcm"):
        data = pydicom.dcmread(path)
        # The corners opposite the chest wall hold no breast: dark when shown.
        corner = np.median(data.pixel_array[[0, 0, -1, -1], [0, -1, 0, -1]])
        inverted = data.PhotometricInterpretation == "MONOCHROME1"
        assert (corner > 40000) == inverted


def test_masks_of_another_size_and_of_another_aspect_occur(tree):
    shapes = {
        pydicom.dcmread(path, stop_before_pixels=True)[("Rows")].value
        / pydicom.dcmread(path, stop_before_pixels=True)["Columns"].value
        for path in (tree / "cbis-ddsm").glob("*_P_00012_*_CC_1/*/*/*.dcm")
        if pydicom.dcmread(path).BitsStored == 8
    }
    assert shapes == {144 / 135}
    rows = {
        pydicom.dcmread(path).Rows
        for path in (tree / "cbis-ddsm").glob("*_P_00006_*_CC_1/*/*/*.dcm")
        if pydicom.dcmread(path).BitsStored == 8
    }
    assert rows == {148}


def test_an_image_stands_in_the_mass_and_in_the_calcification_table(tree):
    keys = {
        kind: {
            (row["patient_id"], row["image view"])
            for (table, _), rows in film_rows(tree).items()
            if table == kind
            for row in rows
        }
        for kind in ("mass", "calc")
    }
    assert keys["mass"] & keys["calc"]


def test_inbreast_names_join_a_womans_views_by_hash_alone(tree):
    names = sorted(path.name for path in (tree / "inbreast" / "AllDICOMs").iterdir())
    hashes = [name.split("_")[1] for name in names]
    assert len(names) == 2 * (20 + count_extras(20))
    assert all(hashes.count(one) == 2 and len(one) == 16 for one in hashes)
    assert {name.split("_")[4] for name in names} == {"CC", "ML"}


def test_inbreast_pixels_are_14_bit_and_tell_no_side_or_view(tree):
    for path in (tree / "inbreast" / "AllDICOMs").iterdir():
        data = pydicom.dcmread(path)
        assert (data.BitsStored, data.pixel_array.max() < 2**14) == (14, True)
        for keyword in (
            "ViewPosition",
            "ImageLaterality",
            "Laterality",
        ):
            assert keyword not in data


@pytest.mark.parametrize("collection", ["cbis-ddsm", "inbreast"])
def test_every_file_says_that_it_is_synthetic(tree, collection):
    files = list((tree / collection).rglob("*.dcm"))
    assert files
    for path in files:
        data = pydicom.dcmread(path, stop_before_pixels=True)
        assert "SYNTHETIC" in data.Manufacturer


def test_inbreast_table_has_birads_as_text_and_one_blank_density(tree):
    path = tree / "inbreast" / "INbreast.csv"
    assert path.read_bytes().count(b"\r\n") == 1 + 2 * (20 + count_extras(20))
    rows = read_rows(path, delimiter=";")
    grades = [row["Bi-Rads"] for row in rows]
    assert set(grades) <= {"1", "2", "3", "4a", "4b", "4c", "5", "6"}
    assert (grades.count("2"), grades.count("1"), grades.count("3")) == (20, 2, 2)
    assert [row["ACR"] for row in rows].count("") == 1
    assert all(len(row["File Name"]) == 8 for row in rows)


def test_inbreast_outlines_lie_in_the_image_and_normal_images_have_none(tree):
    root = tree / "inbreast"
    rows = read_rows(root / "INbreast.csv", delimiter=";")
    for row in rows:
        path = root / "AllXML" / f"{row['File Name']}.xml"
        assert path.exists() == (row["Bi-Rads"] != "1")
        if not path.exists():
            continue
        image = plistlib.loads(path.read_bytes())["Images"][0]
        assert image["NumberOfROIs"] == len(image["ROIs"]) > 0
        for roi in image["ROIs"]:
            points = [text.strip("()").split(", ") for text in roi["Point_px"]]
            assert len(points) == roi["NumberOfPoints"]
            assert all(0 <= float(v) <= 144 for point in points for v in point)


def test_extra_women_carry_no_usable_label():
    cases = [draw_case(1, index, domain="digital") for index in range(43)]
    women = grade_women(cases, 40)
    assert [one.birads for one in women[40:]] == ["3", "3", "1"]
    assert not women[-1].case.lesions


def test_more_processes_change_no_byte(tmp_path, tree):
    arguments = ["--patients", "2", "--digital-patients", "2", "--seed", "7"]
    size = ["--size", "144", "144"]
    out = tmp_path / "two"
    assert main(["--out", str(out), *arguments, "--jobs", "2", *size]) == 0
    made = sorted(path for path in out.rglob("*_P_00001_*_CC/*/*/000000.dcm"))
    assert made
    for path in made:
        # more women change the official split, so the folder's name, and nothing else
        tail = path.relative_to(out / "cbis-ddsm").parts[0].split("_", 1)[1]
        other = next((tree / "cbis-ddsm").glob(f"*_{tail}/*/*/000000.dcm"))
        one, two = (pydicom.dcmread(p).pixel_array for p in (path, other))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patients", "1"], "--patients: must be at least 2, received 1"),
        (["--patients", "4", "--size", "40", "40"], "--size: must be at least 144"),
        (["--patients", "4", "--difficulty", "2"], "--difficulty: must lie in"),
        (["--patients", "4", "--seed", "-1"], "--seed: must not be negative"),
        (["--patients", "4", "--jobs", "0"], "--jobs: must not be 0"),
        (["--patients", "4", "--digital-patients", "-1"], "--digital-patients: must"),
    ],
    ids=["patients", "size", "difficulty", "seed", "jobs", "digital"],
)
def test_a_wrong_command_line_ends_with_2_and_writes_nothing(
    tmp_path, capsys, arguments, message
):
    out = tmp_path / "out"
    assert main(["--out", str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_and_replaced_on_request(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    arguments = ["--out", str(out), "--patients", "2", "--digital-patients", "0"]
    arguments += ["--size", "144", "144", "--jobs", "1"]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert (out / "mine.txt").exists()
    assert main([*arguments, "--overwrite"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["cbis-ddsm", "truth.csv"]


def test_a_failure_on_the_way_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("dm_preprocess.phantom_trees.write_dicom", fail)
    arguments = ["--patients", "2", "--jobs", "1", "--size", "144", "144"]
    assert main(["--out", str(tmp_path / "out"), *arguments]) == 1
    assert "nothing was written: no space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
