"""The converter from end to end on small sources made here."""

import builtins
import errno
import json
import os

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dm_preprocess import convert_image, images
from dm_preprocess.convert import main
from dm_preprocess.images import read_mask_png, read_png
from dm_preprocess.lesion_masks import rasterise
from dm_preprocess.tables import read_images, read_lesions

HEAD = "path,label,patient_id,laterality,view"
LESION_HEAD = "path,abnormality,malignant,shape,geometry"
SMALL = ["--size", "64", "48", "--jobs", "1"]


def film(seed=0, shape=(128, 96)):
    """Noise over a bright half disc at the left edge."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    tissue = (rows - shape[0] / 2) ** 2 + cols**2 < (shape[1] * 0.6) ** 2
    noise = np.random.default_rng(seed).integers(0, 300, shape)
    return (noise + tissue * 30000).astype(np.uint16)


@pytest.fixture
def source(tmp_path):
    """Three 16-bit PNGs of two women with one lesion of each shape."""
    src = tmp_path / "src"
    src.mkdir()
    for number in range(3):
        cv2.imwrite(str(src / f"f{number}.png"), film(number))
    mask = np.zeros((128, 96), np.uint8)
    mask[40:60, 10:30] = 255
    cv2.imwrite(str(src / "mask.png"), mask)
    table(src, ["f0.png,1,p1,L,CC", "f1.png,0,p1,R,CC", "f2.png,,p2,L,MLO"])
    lesions(src, ["f0.png,mass,1,mask,mask.png", "f0.png,calc,0,circle,64 20 10",
                  "f1.png,mass,0,box,20 8 60 40",
                  "f1.png,other,0,polygon,10 10 10 30 50 30"])  # fmt: skip
    return src


def table(src, rows, head=HEAD):
    (src / "images.csv").write_text("\n".join([head, *rows]) + "\n")


def lesions(src, rows):
    (src / "lesions.csv").write_text("\n".join([LESION_HEAD, *rows]) + "\n")


def run(src, out, *options):
    return main(["generic", str(src), str(out), *SMALL, *options])


def write_dicom(path, pixels, **tags):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PhotometricInterpretation = "MG", "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def test_tables_pixels_and_masks_are_written(source, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(source, out) == 0
    rows = read_images(out / "images.csv")
    assert rows["image_id"].tolist() == ["f0", "f1", "f2"]
    assert rows["label"].tolist()[:2] == [1, 0] and np.isnan(rows["label"][2])
    assert set(rows["height"]) == {64} and set(rows["source_width"]) == {96}
    assert set(rows["row_scale"]) == {0.5} and set(rows["bits_stored"]) == {16}
    for _, row in rows.iterrows():
        image = read_png(out / row["path"])
        assert image.shape == (64, 48)
        assert row["grey_mean"] == pytest.approx(image.mean() * 255 / 65535, abs=1e-3)
        assert (out / row["source_path"]).resolve().is_file()
    expected = film().reshape(64, 2, 48, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(read_png(out / "images" / "f0.png") - expected).max() <= 0.51
    assert "converted 3 images" in capsys.readouterr().out
    assert not (out / "failed.csv").exists() and not list(out.rglob("*.part"))


def test_lesion_boxes_hold_their_masks_in_working_pixels(source, tmp_path):
    run(source, tmp_path / "out")
    found = read_lesions(tmp_path / "out" / "lesions.csv")
    assert found["abnormality"].tolist() == ["mass", "calc", "mass", "other"]
    for _, row in found.iterrows():
        mask = read_mask_png(tmp_path / "out" / row["mask_path"])
        assert mask.shape == (64, 48)
        box = tuple(int(row[name]) for name in ("row0", "col0", "row1", "col1"))
        assert images.mask_box(mask) == box
    boxes = found[["row0", "col0", "row1", "col1"]].to_numpy()
    np.testing.assert_array_equal(boxes[0], [20, 5, 30, 15])  # 40 10 60 30, halved
    np.testing.assert_array_equal(boxes[2], [10, 4, 30, 20])
    np.testing.assert_allclose(boxes[1], [27, 5, 37, 15], atol=1)


@pytest.mark.parametrize("options", [("--fit", "pad"), ("--crop-breast",),
                                     ("--crop-breast", "--fit", "pad")])  # fmt: skip
def test_stored_geometry_maps_boxes_there_and_back(source, tmp_path, options):
    run(source, tmp_path / "out", *options, "--size", "80", "30")
    rows = read_images(tmp_path / "out" / "images.csv").set_index("image_id")
    row = rows.loc["f1"]
    box = read_lesions(tmp_path / "out" / "lesions.csv").iloc[2]
    back = [
        (box[f"{axis}{end}"] - row[f"{axis}_offset"]) / row[f"{axis}_scale"]
        for axis, end in (("row", 0), ("col", 0), ("row", 1), ("col", 1))
    ]
    scale = min(row["row_scale"], row["col_scale"])
    # the crop starts at row 6 to 8 and column 0, so the box 20 8 60 40 lies inside
    np.testing.assert_allclose(back, [20, 8, 60, 40], atol=0.51 / scale + 0.01)
    if "--crop-breast" in options:
        assert row["row_offset"] < 0
    if "pad" in options:
        assert row["row_scale"] == pytest.approx(row["col_scale"], rel=0.03)


def test_squash_with_crop_fills_the_frame_with_breast(source, tmp_path):
    run(source, tmp_path / "whole")
    run(source, tmp_path / "crop", "--crop-breast")
    whole = read_images(tmp_path / "whole" / "images.csv")["grey_mean"]
    crop = read_images(tmp_path / "crop" / "images.csv")["grey_mean"]
    assert (crop > whole * 1.2).all()


def test_dicom_facts_and_grey_levels_reach_the_table(source, tmp_path):
    pixels = np.linspace(0, 4095, 128 * 96).round().reshape(128, 96)
    write_dicom(
        source / "d.dcm", pixels, PhotometricInterpretation="MONOCHROME1",
        ImageLaterality="R", ViewPosition="CC", Manufacturer="ACME",
        ImagerPixelSpacing=[0.1, 0.1],
    )  # fmt: skip
    table(source, ["d.dcm,0,p,L,"])
    (source / "lesions.csv").unlink()
    assert run(source, tmp_path / "out", "--size", "128", "96") == 0
    row = read_images(tmp_path / "out" / "images.csv").iloc[0]
    assert (row["vendor"], row["spacing_mm"], row["bits_stored"]) == ("ACME", 0.1, 12)
    assert (row["laterality"], row["view"]) == ("L", "CC")
    expected = np.round((4095 - pixels) * (65535 / 4095))
    np.testing.assert_array_equal(read_png(tmp_path / "out" / row["path"]), expected)
    odd = pd.read_csv(tmp_path / "out" / "oddities.csv")
    assert odd["kind"].tolist() == ["laterality differs"]


def test_monochrome1_of_the_table_inverts_a_png(source, tmp_path):
    (source / "lesions.csv").unlink()
    table(source, ["f0.png,0,p,L,CC,1"], head=HEAD + ",monochrome1")
    run(source, tmp_path / "out", "--size", "128", "96")
    found = read_png(tmp_path / "out" / "images" / "f0.png")
    np.testing.assert_array_equal(found, 65535 - film())


def test_monochrome1_of_the_table_is_not_used_on_a_dicom_and_that_is_said(
    source, tmp_path
):
    pixels = np.linspace(0, 4095, 128 * 96).round().reshape(128, 96)
    write_dicom(source / "d.dcm", pixels, PhotometricInterpretation="MONOCHROME2")
    table(source, ["d.dcm,0,p,L,CC,1"], head=HEAD + ",monochrome1")
    (source / "lesions.csv").unlink()
    assert run(source, tmp_path / "out", "--size", "128", "96") == 0
    found = read_png(tmp_path / "out" / "images" / "d.png")
    np.testing.assert_array_equal(found, np.round(pixels * (65535 / 4095)))
    odd = pd.read_csv(tmp_path / "out" / "oddities.csv")
    assert odd["detail"].str.contains("monochrome1 of the table is not used").any()


def test_auto_level_uses_the_whole_range(source, tmp_path):
    run(source, tmp_path / "out", "--size", "128", "96", "--grey", "auto-level")
    found = read_png(tmp_path / "out" / "images" / "f0.png")
    assert (found.min(), found.max()) == (0, 65535)


def test_a_bad_file_is_named_and_the_rest_goes_on(source, tmp_path, capsys):
    (source / "f1.png").write_bytes((source / "f1.png").read_bytes()[:-300])
    write_dicom(source / "f2.png", np.zeros((8, 8)), Modality="CT")
    assert run(source, tmp_path / "out") == 1
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert failed["image_id"].tolist() == ["f1", "f2"]
    assert "f1.png: the file is truncated" in failed["reason"][0]
    assert "(0008,0060) Modality" in failed["reason"][1]
    assert read_images(tmp_path / "out" / "images.csv")["image_id"].tolist() == ["f0"]
    assert not (tmp_path / "out" / "images" / "f1.png").exists()
    assert "2 failed" in capsys.readouterr().out
    assert "f2" in (tmp_path / "out" / "report.md").read_text()


def test_a_missing_mask_file_fails_its_image(source, tmp_path):
    (source / "mask.png").unlink()
    assert run(source, tmp_path / "out") == 1
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert failed["image_id"].tolist() == ["f0"]
    assert "mask.png" in failed["reason"][0]


def test_a_mask_of_another_size_is_resized_and_reported(source, tmp_path):
    mask = np.zeros((64, 48), np.uint8)
    mask[:32, :24] = 255
    cv2.imwrite(str(source / "mask.png"), mask)
    assert run(source, tmp_path / "out") == 0
    row = read_lesions(tmp_path / "out" / "lesions.csv").iloc[0]
    found = row[["row0", "col0", "row1", "col1"]].tolist()
    assert found == [0, 0, 32, 24]
    odd = pd.read_csv(tmp_path / "out" / "oddities.csv")
    assert odd["kind"].tolist() == ["mask of another size"]


def test_a_mask_of_another_aspect_fails_its_image_by_name(source, tmp_path):
    cv2.imwrite(str(source / "mask.png"), np.full((64, 60), 255, np.uint8))
    assert run(source, tmp_path / "out") == 1
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert failed["image_id"].tolist() == ["f0"]
    assert "mask of another aspect" in failed["reason"][0]


def test_empty_and_outside_masks_have_no_box_and_are_reported(source, tmp_path):
    cv2.imwrite(str(source / "mask.png"), np.zeros((128, 96), np.uint8))
    lesions(source, ["f0.png,mass,1,mask,mask.png", "f1.png,mass,0,box,500 1 600 5"])
    assert run(source, tmp_path / "out") == 0
    found = read_lesions(tmp_path / "out" / "lesions.csv")
    assert found["row0"].isna().all() and (found["mask_path"] == "").all()
    odd = pd.read_csv(tmp_path / "out" / "oddities.csv")
    assert odd["kind"].tolist() == ["empty mask"] * 2


def test_a_finding_smaller_than_a_working_pixel_is_not_lost(source, tmp_path):
    lesions(source, [f"f0.png,calc,1,polygon,{40 + n} {20 + n}" for n in range(4)])
    run(source, tmp_path / "out", "--size", "16", "12")
    found = read_lesions(tmp_path / "out" / "lesions.csv")
    assert found["row0"].tolist() == [5, 5, 5, 5]  # 40 to 43 times 16 / 128
    assert (found["row1"] - found["row0"]).min() >= 1


def test_what_is_done_is_not_done_again(source, tmp_path, capsys):
    out = tmp_path / "out"
    run(source, out, "--limit", "1")
    before = (out / "images" / "f0.png").stat().st_mtime_ns
    first = (out / "lesions.csv").read_text()
    assert run(source, out) == 0
    assert (out / "images" / "f0.png").stat().st_mtime_ns == before
    assert "3 images (1 of them before)" in capsys.readouterr().out
    assert (out / "lesions.csv").read_text().startswith(first)
    again = (out / "images.csv").read_text()
    run(source, out)
    assert (out / "images.csv").read_text() == again


def test_a_changed_source_or_a_lost_mask_is_done_again(source, tmp_path, capsys):
    out = tmp_path / "out"
    run(source, out)
    cv2.imwrite(str(source / "f1.png"), film(9) // 2)
    (out / "masks" / "f0_1.png").unlink()
    run(source, out)
    assert "3 images (1 of them before)" in capsys.readouterr().out
    assert (out / "masks" / "f0_1.png").is_file()
    assert read_png(out / "images" / "f1.png").max() < 16000


def test_other_settings_are_refused_without_overwrite(source, tmp_path, capsys):
    out = tmp_path / "out"
    run(source, out)
    assert run(source, out, "--fit", "pad") == 2
    assert (
        "other settings; choose another OUT or --overwrite" in capsys.readouterr().err
    )
    (out / "notes.txt").write_text("mine")
    assert run(source, out, "--grey", "auto-level", "--overwrite") == 0
    assert json.loads((out / "convert.json").read_text())["grey"] == "auto-level"
    assert (out / "notes.txt").read_text() == "mine"


def test_a_foreign_folder_and_the_source_itself_are_refused(source, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    assert run(source, other) == 2
    assert "holds thesis.txt" in capsys.readouterr().err
    assert run(source, source, "--overwrite") == 2
    assert run(source, tmp_path, "--overwrite") == 2
    assert "OUT must not be SRC or hold it" in capsys.readouterr().err
    assert (source / "f0.png").is_file()


def test_index_only_writes_facts_and_needs_no_image(source, tmp_path, capsys):
    for number in range(3):
        (source / f"f{number}.png").unlink()
    out = tmp_path / "out"
    assert run(source, out, "--index-only") == 0
    facts = json.loads((out / "index.json").read_text())
    assert (facts["images"], facts["women"], facts["findings"]) == (3, 2, 4)
    names = {path.name for path in out.iterdir()}
    assert names == {"index.json", "oddities.csv", "report.md"}
    assert "indexed 3 images" in capsys.readouterr().out


def test_a_full_conversion_may_follow_index_only(source, tmp_path):
    out = tmp_path / "out"
    assert run(source, out, "--index-only") == 0
    assert run(source, out) == 0
    assert run(source, out, "--index-only") == 2  # would replace the fuller report


@pytest.mark.parametrize("place", ["png", "sidecar"])
def test_a_full_disk_ends_the_job_and_leaves_nothing_half_written(
    source, tmp_path, capsys, monkeypatch, place
):
    module = images if place == "png" else convert_image
    real = os.replace

    def full(aside, target):
        if str(target).endswith("f1.png" if place == "png" else "f1.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(aside, target)

    monkeypatch.setattr(module.os, "replace", full)
    out = tmp_path / "out"
    assert run(source, out) == 1
    assert "No space left on device while writing" in capsys.readouterr().err
    assert not (out / "images.csv").exists() and not list(out.rglob("*.part"))
    monkeypatch.setattr(module.os, "replace", real)
    assert run(source, out) == 0
    assert "(1 of them before)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv,message",
    [
        (["generic", "nowhere", "out"], "nowhere: no such folder"),
        (
            ["mini-mias", ".", "out", "--table", "a.csv"],
            "--table: mini-mias has its own",
        ),
        (["generic", ".", "out"], "images.csv: no such table"),
    ],
)
def test_a_source_that_cannot_be_read_is_exit_2(
    tmp_path, monkeypatch, capsys, argv, message
):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--size", "0", "5"], ["--jobs", "0"],
                                    ["--fit", "crop"]])  # fmt: skip
def test_a_wrong_option_is_exit_2(tmp_path, option):
    with pytest.raises(SystemExit, match="2"):
        main(["generic", str(tmp_path), str(tmp_path / "out"), *option])


def test_many_processes_give_what_one_gives(source, tmp_path):
    run(source, tmp_path / "one")
    assert main(["generic", str(source), str(tmp_path / "two"), "--size", "64", "48",
                 "--jobs", "2"]) == 0  # fmt: skip
    for name in ("images.csv", "lesions.csv"):
        one, two = ((tmp_path / d / name).read_bytes() for d in ("one", "two"))
        assert one == two


def test_a_constant_image_is_reported(source, tmp_path):
    cv2.imwrite(str(source / "f2.png"), np.full((10, 10), 7, np.uint16))
    run(source, tmp_path / "out")
    odd = pd.read_csv(tmp_path / "out" / "oddities.csv")
    assert odd[odd["kind"] == "constant image"]["where"].tolist() == ["f2"]


def test_no_heavy_import_for_help(capsys, monkeypatch):
    real = builtins.__import__

    def light(name, *rest, **more):
        assert name.split(".")[0] not in {"cv2", "pandas", "numpy", "pydicom"}
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", light)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--index-only" in capsys.readouterr().out


def test_rasterise_a_circle_a_box_and_a_polygon():
    circle = rasterise("circle", (10, 12, 5), (30, 30))
    rows, cols = np.nonzero(circle)
    assert (rows.mean(), cols.mean()) == (10, 12)
    assert circle.sum() == pytest.approx(np.pi * 25, rel=0.15)
    assert rasterise("box", (2, 3, 5, 7), (30, 30)).sum() == 3 * 4
    assert rasterise("box", (-5, -5, 2, 2), (30, 30)).sum() == 4
    square = rasterise("polygon", (2, 2, 2, 5, 5, 5, 5, 2), (30, 30))
    assert square.sum() == 16 and square[2:6, 2:6].all()
    assert rasterise("polygon", (4, 9), (30, 30)).sum() == 1
    assert rasterise("polygon", (4, 9), (30, 30))[4, 9]
    with pytest.raises(ValueError, match="circle, box or polygon, received 'blob'"):
        rasterise("blob", (1,), (3, 3))


def test_patient_names_never_reach_a_written_file(source, tmp_path):
    write_dicom(
        source / "d.dcm", np.arange(100).reshape(10, 10), PatientName="Doe^Jane",
        PatientID="SECRET", StudyDate="20200102", StudyDescription="Jane",
    )  # fmt: skip
    assert pydicom.dcmread(source / "d.dcm").PatientName == "Doe^Jane"
    (source / "lesions.csv").unlink()
    table(source, ["d.dcm,0,p,L,CC"])
    run(source, tmp_path / "out")
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*.*"))
    for secret in (b"Jane", b"SECRET", b"20200102"):
        assert secret not in written
