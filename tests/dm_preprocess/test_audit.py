"""The audit names every fault that is planted, and nothing in a clean data set."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, zoom

from dm_preprocess import audit, audit_checks, audit_pixels, tables
from dm_preprocess import images as pixels

SHAPE = (96, 72)


def mammogram(seed, shape=SHAPE):
    """Cloudy tissue in a half ellipse of its own size, air with a little noise."""
    rng = np.random.default_rng(seed)
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    height, width = rng.uniform(0.38, 0.46) * shape[0], rng.uniform(0.5, 0.8) * shape[1]
    breast = ((rows - shape[0] / 2) / height) ** 2 + (cols / width) ** 2 <= 1
    clouds = gaussian_filter(rng.normal(size=shape), 2)
    tissue = 32000 + 9000 * clouds / clouds.std() + rng.normal(0, 300, shape)
    air = 900 + rng.normal(0, 60, shape)
    return np.clip(np.where(breast, tissue, air), 0, 65535).astype(np.uint16)


def write_data(folder, per_class):
    """`per_class` women of each label in each split, a lesion for each positive."""
    images, lesions = [], []
    for split in tables.SPLITS:
        for at in range(2 * per_class):
            name, label = f"{split}{at:02d}", float(at % 2)
            seed = len(images)
            pixels.write_png(folder / f"images/{name}.png", mammogram(seed))
            images.append({
                "image_id": name, "patient_id": f"w{seed:03d}", "split": split,
                "label": label, "path": f"images/{name}.png", "bits_stored": 12,
                "height": SHAPE[0], "width": SHAPE[1],
            })  # fmt: skip
            if label:
                mask = np.zeros(SHAPE, bool)
                mask[45:53, 8:20] = True
                pixels.write_mask_png(folder / f"masks/{name}.png", mask)
                lesions.append({
                    "lesion_id": f"{name}_1", "image_id": name, "malignant": 1,
                    "patient_id": f"w{seed:03d}", "abnormality": "mass",
                    "row0": 45, "col0": 8, "row1": 53, "col1": 20,
                    "mask_path": f"masks/{name}.png",
                })  # fmt: skip
    tables.write_table(pd.DataFrame(images), folder / "images.csv", "images")
    tables.write_table(pd.DataFrame(lesions), folder / "lesions.csv", "lesions")
    return folder


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path, 2)


def findings_of(folder, lesions=True):
    table = folder / "lesions.csv" if lesions else None
    return audit.audit(folder / "images.csv", table, jobs=1)


def edit(folder, table, row, **cells):
    frame = pd.read_csv(folder / table, dtype=str, keep_default_na=False)
    for column, value in cells.items():
        frame.loc[row, column] = str(value)
    frame.to_csv(folder / table, index=False)


def change(folder, name, what):
    path = folder / f"images/{name}.png"
    pixels.write_png(path, what(pixels.read_png(path)))


def copy(folder, source, target, what=lambda image: image):
    image = what(pixels.read_png(folder / f"images/{source}.png"))
    pixels.write_png(folder / f"images/{target}.png", image)


def brighter_and_noisy(image):
    noise = np.random.default_rng(0).normal(0, 200, image.shape)
    return np.clip(image * 1.2 + noise, 0, 65535).astype(np.uint16)


def clip(image):
    return np.minimum(image, np.percentile(image[40:56, :30], 70)).astype(np.uint16)


def filled_below(level):
    def cut(image):
        image = image.copy()
        image[55:] = level
        return image

    return cut


def write_mask(folder, name, box, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    pixels.write_mask_png(folder / f"masks/{name}.png", mask)


def truncate_file(path):
    path.write_bytes(path.read_bytes()[:-400])


FAULTS = {
    "women_in_two_splits": (
        lambda d: edit(d, "images.csv", 4, patient_id="w000"), "w000: train, val"),
    "alike_patient_ids": (
        lambda d: edit(d, "images.csv", 1, patient_id="W-0000"), "w000 = W-0000?"),
    "no_label": (lambda d: edit(d, "images.csv", 0, label=""), "train00"),
    "lesion_without_image": (
        lambda d: edit(d, "lesions.csv", 0, image_id="other"), "train01_1: other"),
    "label_below_lesion": (lambda d: edit(d, "images.csv", 1, label="0"), "train01"),
    "missing_file": (lambda d: (d / "images/val00.png").unlink(), "val00.png"),
    "unreadable": (lambda d: truncate_file(d / "images/val00.png"), "val00.png"),
    "constant": (
        lambda d: change(d, "val00", lambda i: np.full_like(i, 9)), "every pixel is 9"),
    "size": (
        lambda d: edit(d, "images.csv", 0, height="97"), "the table says (97, 72)"),
    "clipped": (lambda d: change(d, "val00", clip), "of the breast at level"),
    "eight_bit": (
        lambda d: change(d, "val00", lambda i: i // 257 * 257), "multiples of 257"),
    "truncated": (
        lambda d: change(d, "val00", filled_below(0)), "41 rows of level 0"),
    "polarity": (
        lambda d: change(d, "val00", lambda i: 65535 - i), "val00"),
    "identical_across_splits": (
        lambda d: copy(d, "train00", "val00"),
        "train00 (patient w000, train) and val00 (patient w004, val): identical"),
    "near_identical_across_splits": (
        lambda d: copy(d, "train00", "val00", brighter_and_noisy), "correlation 0.9"),
    "one_woman_two_ids": (
        lambda d: copy(d, "train00", "train02"), "train00 (patient w000, train) and"),
    "mask_missing": (lambda d: (d / "masks/val01.png").unlink(), "val01 lesion"),
    "mask_unreadable": (lambda d: truncate_file(d / "masks/val01.png"), "val01"),
    "mask_size": (
        lambda d: write_mask(d, "val01", (4, 4, 9, 9), (48, 36)), "(48, 36), its"),
    "mask_empty": (lambda d: write_mask(d, "val01", (0, 0, 0, 0)), "masks/val01.png"),
    "mask_not_given": (
        lambda d: edit(d, "lesions.csv", 2, mask_path=""), "val01 lesion val01_1"),
    "mask_box": (
        lambda d: edit(d, "lesions.csv", 2, row1="60"), "mask (45, 8, 53, 20)"),
}  # fmt: skip
ERRORS = {
    "women_in_two_splits", "no_label", "lesion_without_image", "label_below_lesion",
    "missing_file", "unreadable", "constant", "size", "identical_across_splits",
    "near_identical_across_splits", "mask_missing", "mask_unreadable", "mask_size",
    "mask_empty",
}  # fmt: skip


def test_a_clean_data_set_gives_no_error_and_no_warning(tmp_path):
    findings = findings_of(write_data(tmp_path, 10))
    assert {f.severity for f in findings} == {"info"}
    assert [f.message for f in findings] == [
        f"{split}: 20 women, 20 images, 10 negative, 10 positive"
        for split in ("test", "train", "val")
    ]


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_is_named_and_nothing_else(data, check):
    plant, named = FAULTS[check]
    plant(data)
    findings = [
        f for f in findings_of(data) if f.check not in ("counts", "small_class")
    ]
    assert [f.check for f in findings] == [check]
    assert named in findings[0].items[0] and len(findings[0].items) == 1
    assert findings[0].severity == ("error" if check in ERRORS else "warning")


def test_identical_images_of_one_woman_are_a_warning(data):
    copy(data, "train00", "train02")
    edit(data, "images.csv", 2, patient_id="w000")
    found = {f.check: f.severity for f in findings_of(data)}
    assert found["identical_twice"] == "warning" and "one_woman_two_ids" not in found


def test_a_mask_off_the_breast_is_named(data):
    write_mask(data, "val01", (4, 60, 12, 70))
    edit(data, "lesions.csv", 2, row0=4, col0=60, row1=12, col1=70)
    found = {f.check: f for f in findings_of(data)}
    assert found["mask_off_breast"].items == ("val01 lesion val01_1: 0% on the breast",)


def test_a_split_without_a_class_is_an_error_and_a_small_class_a_warning(data):
    edit(data, "images.csv", [1, 3], label="0")
    messages = {f.message: f.severity for f in findings_of(data, lesions=False)}
    assert messages["train has 0 image(s) of class pos"] == "error"
    assert messages["val has 2 image(s) of class neg"] == "warning"


def test_polarity_on_one_side_is_an_error(data):
    for name in ("train01", "val01", "test01"):  # all positive
        change(data, name, lambda image: 65535 - image)
    found = {f.check: f for f in findings_of(data)}
    assert found["polarity"].severity == "error"
    assert "neg 0%, pos 50%" in found["polarity"].message


def test_grey_levels_that_tell_the_classes_apart_are_named(tmp_path):
    write_data(tmp_path, 4)
    frame = tables.read_images(tmp_path / "images.csv")
    facts = [
        audit_pixels.ImageFacts(name, grey_mean=50.0 + 8 * label + at % 3)
        for at, (name, label) in enumerate(
            zip(frame["image_id"], frame["label"], strict=True)
        )
    ]
    found = {f.check: f for f in audit_checks.check_facts(frame, facts)}
    assert list(found) == ["grey_between_classes"]
    # at % 3 adds 1 on average in both: 50 + 1 and 58 + 1
    assert found["grey_between_classes"].items == ("neg 51.0, pos 59.0 (of 0-255)",)


def test_eight_bit_content_is_no_fault_where_the_source_has_eight_bits(data):
    change(data, "val00", lambda image: image // 257 * 257)
    edit(data, "images.csv", 4, bits_stored="8")
    assert "eight_bit" not in {f.check for f in findings_of(data)}


def test_padding_below_is_no_truncation(data):
    change(data, "val00", filled_below(0))
    edit(data, "images.csv", 4, source_height=110, source_width=144, row_scale=0.5,
         col_scale=0.5, row_offset=0, col_offset=0)  # fmt: skip
    assert "truncated" not in {f.check for f in findings_of(data)}  # 110 x 0.5 = 55


def test_a_data_set_without_splits_or_lesions_can_be_audited(data):
    for row in range(12):
        edit(data, "images.csv", row, split="")
    findings = findings_of(data, lesions=False)
    assert [f.message for f in findings] == [
        "no split: 12 women, 12 images, 6 negative, 6 positive"
    ]


@pytest.mark.parametrize("level", [30000, 65535])
def test_rows_filled_with_grey_are_truncated_whatever_is_above(level):
    image = mammogram(0)
    image[-4:] = level  # below the breast, where black rows would be air
    breast = pixels.breast_mask(mammogram(0))
    assert audit_pixels.truncated_rows(image, breast) == 4
    image[-4:] = 0
    assert audit_pixels.truncated_rows(image, breast) == 0


@pytest.mark.parametrize("seed", range(10))
def test_polarity_is_seen_on_either_side_and_both_ways(seed):
    image = mammogram(seed)
    for shown in (image, image[:, ::-1], image[::-1]):
        assert not audit_pixels.is_inverted(shown)
        assert audit_pixels.is_inverted(65535 - shown)


def test_a_fingerprint_survives_what_a_copy_goes_through_and_tells_others_apart():
    prints = np.stack([audit_pixels.fingerprint(mammogram(s)) for s in range(30)])
    assert np.allclose(np.linalg.norm(prints, axis=1), 1, atol=1e-5)
    between = prints @ prints.T - 2 * np.eye(30)
    assert between.max() < audit_checks.NEAR - 0.2
    image = mammogram(0, (288, 224))
    own = audit_pixels.fingerprint(image)
    half = zoom(image.astype(float), 0.5, order=1)
    gamma = (image / 65535) ** 1.3 * 65535
    for copy_of in (half, gamma, image // 257 * 257, brighter_and_noisy(image)):
        other = audit_pixels.fingerprint(copy_of.astype(np.uint16))
        assert own @ other > audit_checks.NEAR


@pytest.mark.parametrize("block", [1, 3, 100])
def test_near_pairs_are_found_in_any_block_and_pass_over_missing_ones(block):
    rng = np.random.default_rng(0)
    prints = [v / np.linalg.norm(v) for v in rng.normal(size=(8, 64))]
    prints[2], prints[3], prints[6] = None, prints[1], prints[1]
    pairs = audit_checks.near_pairs(prints, 0.9, block=block)
    assert sorted((i, j) for i, j, _ in pairs) == [(1, 3), (1, 6), (3, 6)]
    assert [alike for _, _, alike in pairs] == pytest.approx([1.0] * 3)


def test_clipped_share_counts_the_breast_alone():
    image = np.array([[9, 9, 3], [9, 5, 9]], np.uint16)
    breast = np.array([[1, 1, 1], [0, 1, 0]], bool)  # levels 9, 9, 3, 5
    assert audit_pixels.clipped_share(image, breast) == 0.5


def test_eight_bit_needs_every_level_to_be_a_multiple_of_257():
    image = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert audit_pixels.is_eight_bit(image)
    image[5, 5] += 1
    assert not audit_pixels.is_eight_bit(image)


def test_command_writes_its_findings_and_exits_1_on_errors(data, capsys):
    call = [str(data / "images.csv"), str(data / "lesions.csv"), "--jobs", "1"]
    call += ["--out", str(data / "report")]
    assert audit.main(call) == 0
    assert "0 error(s), 3 warning(s)" in capsys.readouterr().out
    (data / "images/val00.png").unlink()
    assert audit.main(call) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    assert audit.main([*call, "--overwrite"]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("error    missing_file")
    assert shown.splitlines()[-1] == f"wrote the audit to {data / 'report/audit.json'}"
    facts = json.loads((data / "report/audit.json").read_text())
    assert facts["errors"] == 1 and facts["findings"][0]["check"] == "missing_file"
    assert facts["findings"][0]["count"] == 1


def test_command_prints_json_alone_on_request(data, capsys):
    assert audit.main([str(data / "images.csv"), "--json", "--jobs", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == 0


def test_a_bad_table_is_an_error_of_the_command_line(data, capsys):
    edit(data, "images.csv", 3, label="2")
    assert audit.main([str(data / "images.csv")]) == 2
    assert "(line 5), column label: must be one of" in capsys.readouterr().err


def test_an_eight_bit_png_is_read_and_named(data):
    image = (pixels.read_png(data / "images/val00.png") // 257).astype(np.uint8)
    cv2.imwrite(str(data / "images/val00.png"), image)
    assert "eight_bit" in {f.check for f in findings_of(data)}
