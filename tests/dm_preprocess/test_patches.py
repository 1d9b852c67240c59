"""Sampling: each image by its own seed, classes as lesions say, nothing half-done."""

import json

import numpy as np
import pandas as pd
import pytest

from dm_preprocess import images as pixels
from dm_preprocess import patches, tables

SHAPE, SIZE = (120, 96), 24
FINDINGS = {  # image -> abnormality, malignant, (row, col, radius) of its lesions
    "a_CC": [("mass", 1, (40, 40, 9)), ("calc", 0, (80, 30, 4))],
    "a_MLO": [("calc", 1, (60, 50, 6))],
    "b_CC": [("mass", 0, (70, 20, 20))],
    "c_CC": [("other", 1, (30, 30, 5))],
    "d_CC": [],
}
SPLIT = {"a": "train", "b": "val", "c": "test", "d": "train"}


def breast_image(seed):
    """A half disc of noisy tissue at the left edge, air at the right."""
    rows, cols = np.ogrid[: SHAPE[0], : SHAPE[1]]
    breast = ((rows - 60) / 58) ** 2 + (cols / 80) ** 2 <= 1
    noise = np.random.default_rng(seed).integers(20000, 40000, SHAPE)
    return np.where(breast, noise, 500).astype(np.uint16)


def disc(row, col, radius):
    rows, cols = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


def write_data(folder, findings=FINDINGS):
    """Images, masks and both tables; returns the folder."""
    images, lesions = [], []
    for seed, (image_id, found) in enumerate(findings.items()):
        patient = image_id[0]
        pixels.write_png(folder / f"images/{image_id}.png", breast_image(seed))
        images.append({
            "image_id": image_id, "patient_id": patient, "split": SPLIT[patient],
            "label": float(any(m for _, m, _ in found)),
            "path": f"images/{image_id}.png",
        })  # fmt: skip
        for at, (abnormality, malignant, circle) in enumerate(found):
            cell = f"masks/{image_id}_{at}.png"
            pixels.write_mask_png(folder / cell, disc(*circle))
            lesions.append({
                "lesion_id": f"{image_id}_{at}", "image_id": image_id,
                "patient_id": patient, "abnormality": abnormality,
                "malignant": malignant, "mask_path": cell,
            })  # fmt: skip
    tables.write_table(pd.DataFrame(images), folder / "images.csv", "images")
    tables.write_table(pd.DataFrame(lesions), folder / "lesions.csv", "lesions")
    return folder


def run(data, *arguments, out="out"):
    given = [data / "images.csv", data / "lesions.csv", "--out", data / out]
    given += ["--size", SIZE, "--jobs", 1, *arguments]
    return patches.main([str(a) for a in given])


def rows_of(data, out="out"):
    return tables.read_patches(data / out / "patches.csv")


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path)


def edit(path, column, value, at=0):
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[at, column] = value
    frame.to_csv(path, index=False)


def test_s10_takes_ten_of_each_region_and_as_many_of_background(data, capsys):
    assert run(data, "--recipe", "s10") == 0
    frame = rows_of(data)
    counts = frame.groupby(["image_id", "class"]).size().to_dict()
    assert counts == {
        ("a_CC", "mass_mal"): 10, ("a_CC", "calc_ben"): 10, ("a_CC", "background"): 20,
        ("a_MLO", "calc_mal"): 10, ("a_MLO", "background"): 10,
        ("b_CC", "mass_ben"): 10, ("b_CC", "background"): 10,
        ("c_CC", "mass_mal"): 10, ("c_CC", "background"): 10,
    }  # fmt: skip
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("wrote 100 patches") and str(data / "out") in last


def test_every_patch_is_the_image_cut_at_its_box(data):
    assert run(data, "--recipe", "s3") == 0
    frame = rows_of(data)
    assert not list((data / "out").rglob("*.part"))
    for row in frame.to_dict("records"):
        whole = pixels.read_png(data / f"images/{row['image_id']}.png")
        top, left = int(row["row0"]), int(row["col0"])
        cut = pixels.read_png(data / "out" / row["path"])
        assert (cut == whole[top : top + SIZE, left : left + SIZE]).all()
        assert row["path"] == f"{row['split']}/{row['class']}/{row['patch_id']}.png"


def test_region_patches_overlap_and_background_touches_no_region_of_the_image(data):
    assert run(data, "--recipe", "s10") == 0
    frame = rows_of(data)
    for row in frame.to_dict("records"):
        union = np.zeros(SHAPE, bool)
        for _, _, circle in FINDINGS[row["image_id"]]:
            union |= disc(*circle)
        top, left = int(row["row0"]), int(row["col0"])
        touched = union[top : top + SIZE, left : left + SIZE].sum()
        if row["class"] == "background":
            assert touched == 0 and row["lesion_id"] == ""
        else:
            assert max(row["overlap_region"], row["overlap_patch"]) > 0.9
            assert row["lesion_id"].startswith(row["image_id"])


def test_background_lies_on_the_breast_or_its_row_says_how_much(data):
    assert run(data, "--recipe", "s10") == 0
    frame = rows_of(data)
    for row in frame[frame["class"] == "background"].itertuples():
        if row.note == "":
            breast = pixels.breast_mask(
                pixels.read_png(data / f"images/{row.image_id}.png")
            )
            top, left = int(row.row0), int(row.col0)
            assert breast[top : top + SIZE, left : left + SIZE].mean() >= 0.9
    assert (frame["note"] == "").mean() > 0.5


def test_relaxed_background_is_noted(tmp_path):
    write_data(tmp_path, {"b_CC": FINDINGS["b_CC"]})
    thin = np.full(SHAPE, 500, np.uint16)
    thin[:, 60:75] = 30000  # 15 columns of breast: 15 / 24 = 0.625 of a patch
    pixels.write_png(tmp_path / "images/b_CC.png", thin)
    assert run(tmp_path, "--recipe", "s2") == 0
    frame = rows_of(tmp_path)
    notes = set(frame.loc[frame["class"] == "background", "note"])
    assert notes == {"share of breast relaxed to 0.6"}


def test_s1_takes_the_centred_patch_and_one_background_each_region(data):
    assert run(data, "--recipe", "s1") == 0
    frame = rows_of(data)
    assert len(frame) == 10  # 5 regions, 5 background
    first = frame[frame["lesion_id"] == "a_CC_0"].iloc[0]
    # disc around pixel (40, 40): its centre is 40.5, less half a patch is 28.5, even
    assert (first["row0"], first["col0"]) == (28, 28)
    assert first["overlap_region"] == 1.0


def test_normal_images_give_background_only_when_asked(data):
    assert run(data, "--recipe", "s1", "--background-per-normal-image", "7") == 0
    own = rows_of(data)
    own = own[own["image_id"] == "d_CC"]
    assert len(own) == 7 and set(own["class"]) == {"background"}
    assert run(data, "--recipe", "s1", out="without") == 0
    assert "d_CC" not in set(rows_of(data, "without")["image_id"])


def test_same_seed_gives_the_same_rows_and_files_whatever_the_jobs(data):
    assert run(data, out="one") == 0
    assert run(data, "--jobs", "2", out="two") == 0
    assert run(data, "--seed", "1", out="three") == 0
    one, two, three = (rows_of(data, n) for n in ("one", "two", "three"))
    pd.testing.assert_frame_equal(one, two)
    assert not one[["row0", "col0"]].equals(three[["row0", "col0"]])
    for cell in one["path"]:
        assert (data / "one" / cell).read_bytes() == (data / "two" / cell).read_bytes()


def test_other_images_and_the_order_of_rows_change_nothing(data):
    assert run(data, out="all") == 0
    for name in ("images.csv", "lesions.csv"):
        frame = pd.read_csv(data / name, dtype=str, keep_default_na=False)
        frame[frame["image_id"].isin(["a_CC", "c_CC"])].iloc[::-1].to_csv(
            data / name, index=False
        )
    assert run(data, out="some") == 0
    every, some = (rows_of(data, n).set_index("patch_id") for n in ("all", "some"))
    assert len(some) == 60
    pd.testing.assert_frame_equal(every.loc[some.index], some)


def test_two_images_alike_in_everything_have_offsets_of_their_own(tmp_path):
    write_data(tmp_path, {"a_CC": FINDINGS["a_MLO"], "a_MLO": FINDINGS["a_MLO"]})
    same = (tmp_path / "images/a_CC.png").read_bytes()
    (tmp_path / "images/a_MLO.png").write_bytes(same)
    assert run(tmp_path) == 0
    corners = rows_of(tmp_path).groupby("image_id")[["row0", "col0"]]
    one, other = (rows.to_numpy() for _, rows in corners)
    assert (one != other).any(axis=1).mean() > 0.8


def test_seeds_differ_between_images_and_between_runs():
    seeds = {patches.image_seed(12345, f"image_{i}") for i in range(1000)}
    assert len(seeds) == 1000
    assert patches.image_seed(1, "a") != patches.image_seed(2, "a")


@pytest.mark.parametrize(
    ("abnormality", "malignant", "wanted"),
    [("mass", 1, "mass_mal"), ("mass", 0, "mass_ben"), ("calc", 1, "calc_mal"),
     ("calc", 0.0, "calc_ben"), ("other", 1.0, "mass_mal"), ("other", 0, "mass_ben")],
)  # fmt: skip
def test_classes_come_from_the_lesion(abnormality, malignant, wanted):
    assert patches.patch_class(abnormality, malignant) == wanted


@pytest.mark.parametrize("name", ["s0", "10", "s", "s1.5", "S-1"])
def test_unknown_recipes_are_refused(name):
    with pytest.raises(ValueError, match="recipe must be s1, s10 or sN"):
        patches.parse_recipe(name)


def test_a_lesion_without_a_mask_is_named_and_nothing_is_written(data, capsys):
    edit(data / "lesions.csv", "mask_path", "", at=0)
    (data / "masks/b_CC_0.png").unlink()
    assert run(data) == 2
    error = capsys.readouterr().err
    assert "2 lesion(s) have no mask" in error
    assert "image a_CC, lesion a_CC_0: no mask is given" in error
    assert "image b_CC" in error and "b_CC_0.png" in error
    assert not (data / "out").exists() and not (data / "out.part").exists()


def test_missing_masks_can_be_left_out_and_are_listed(data, capsys):
    edit(data / "lesions.csv", "mask_path", "", at=0)
    assert run(data, "--recipe", "s2", "--allow-missing-masks") == 0
    assert "left out: image a_CC, lesion a_CC_0" in capsys.readouterr().err
    frame = rows_of(data)
    # its other lesion stays; background could show the lost one, so there is none
    assert frame.loc[frame["image_id"] == "a_CC", "class"].tolist() == ["calc_ben"] * 2
    facts = json.loads((data / "out/sampling.json").read_text())
    assert facts["lesions_without_mask"] == [
        "image a_CC, lesion a_CC_0: no mask is given"
    ]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros(SHAPE, bool), "is empty"),
        (np.ones((60, 48), bool), "of the image's size"),
    ],
    ids=["empty", "other size"],
)
def test_a_bad_mask_is_named_and_nothing_is_written(data, capsys, mask, message):
    pixels.write_mask_png(data / "masks/c_CC_0.png", mask)
    assert run(data) == 2
    error = capsys.readouterr().err
    assert "image c_CC" in error and "c_CC_0.png" in error and message in error
    assert not (data / "out").exists() and not (data / "out.part").exists()


def test_a_patch_larger_than_the_image_is_refused(data, capsys):
    assert run(data, "--size", "100") == 2
    error = capsys.readouterr().err
    assert "a_CC" in error and "100 x 100 must fit the image of 120 x 96" in error


def test_a_patient_in_two_splits_is_refused(data, capsys):
    edit(data / "images.csv", "split", "test", at=1)
    assert run(data) == 2
    assert "a (test+train)" in capsys.readouterr().err


def test_images_without_a_split_are_not_sampled(data, capsys):
    edit(data / "images.csv", "split", "", at=2)
    assert run(data, "--recipe", "s1") == 0
    assert "b_CC" not in set(rows_of(data)["image_id"])
    for at in range(5):
        edit(data / "images.csv", "split", "", at=at)
    assert run(data, out="none") == 2
    assert "no image has a split" in capsys.readouterr().err


def test_an_existing_folder_is_kept_unless_told(data, capsys):
    assert run(data, "--recipe", "s1") == 0
    assert run(data, "--recipe", "s2") == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    assert run(data, "--recipe", "s2", "--overwrite") == 0
    assert len(rows_of(data)) == 20
    assert not list(data.glob("out.*"))


def test_overwrite_leaves_a_folder_alone_that_holds_no_patches(data, capsys):
    (data / "out").mkdir()
    (data / "out/thesis.txt").write_text("years of work")
    assert run(data, "--overwrite") == 2
    assert "leaves it alone" in capsys.readouterr().err
    assert (data / "out/thesis.txt").exists()


def test_a_failure_while_writing_leaves_nothing_behind(data, capsys, monkeypatch):
    def full(path, image):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pixels, "write_png", full)
    assert run(data) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not (data / "out").exists() and not (data / "out.part").exists()
