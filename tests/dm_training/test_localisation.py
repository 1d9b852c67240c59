import json

import keras
import numpy as np
import pandas as pd
import pytest

from dm_models.backbones import get_backbone
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import save_model
from dm_models.whole_image import build_whole_image, image_contract
from dm_preprocess import images
from dm_preprocess.tables import PATCH_CLASSES
from dm_training import localisation as module
from dm_training.image_maps import GRAD_CAM, PATCH_MAP, ImageMap
from dm_training.localisation import (
    LocalisationError,
    clustered_share,
    localisation,
    localise,
    localise_images,
)
from dm_training.metrics import accuracy_wilson
from dm_training.outlines import Outline


def outline(box, malignant=True, shape=(20, 16)):
    mask = np.zeros(shape, bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return Outline(malignant, mask, box)


def hot_at(row, col, shape=(5, 4)):
    """A map of cells every 4 pixels from pixel 1 on, hottest in one cell."""
    heat = np.zeros(shape, np.float32)
    heat[row, col] = 0.7
    return ImageMap(PATCH_MAP, heat, ((1.0, 4.0), (1.0, 4.0)))


BREAST = np.zeros((20, 16), bool)
BREAST[:, :10] = True  # 200 pixels


def test_a_hit_is_the_hottest_pixel_in_a_lesion_and_chance_its_share_of_the_breast():
    benign, malignant = outline((8, 4, 12, 9), False), outline((0, 8, 2, 14))
    found = localise(hot_at(2, 1), [benign, malignant], BREAST)  # pixel (9, 5)
    assert (found["map"], found["row"], found["col"]) == (PATCH_MAP, 9, 5)
    assert found["hit_any"] is True and found["hit_malignant"] is False
    assert found["chance_any"] == pytest.approx(24 / 200)  # 4 x 5, and 2 x 2 of 2 x 6
    assert found["chance_malignant"] == pytest.approx(4 / 200)
    assert found["distance_any"] == 0
    assert found["distance_malignant"] == pytest.approx(np.hypot(8, 3))  # to (1, 8)
    assert (found["step_rows"], found["step_cols"]) == (4.0, 4.0)


def test_a_lesion_between_two_cells_is_missed():
    found = localise(hot_at(2, 1), [outline((10, 4, 12, 9))], BREAST)  # below row 9
    assert found["hit_any"] is False and found["distance_any"] == 1


def test_a_map_that_is_the_same_everywhere_is_a_miss():
    even = ImageMap(GRAD_CAM, np.zeros((5, 4), np.float32), ((1, 4), (1, 4)))
    found = localise(even, [outline((0, 0, 20, 16))], BREAST)
    assert found["hit_any"] is False and found["row"] is None
    assert found["distance_any"] is None and found["chance_any"] == 1


def test_without_a_breast_the_whole_image_counts_and_benign_only_is_no_malignant_hit():
    found = localise(hot_at(0, 0), [outline((0, 0, 4, 8), False)], BREAST & False)
    assert found["chance_any"] == pytest.approx(32 / 320)
    assert found["hit_malignant"] is found["chance_malignant"] is None


def row(woman, hit, malignant, chance=0.1):
    return {
        "image_id": f"{woman}{hit}{malignant}{chance}", "patient_id": woman,
        "map": PATCH_MAP, "row": 3.0, "step_rows": 16.0, "step_cols": 8.0,
        "hit_any": hit, "chance_any": chance, "hit_malignant": malignant,
        "chance_malignant": None if malignant is None else chance / 2,
    }  # fmt: skip


def test_figures_count_the_images_that_have_such_a_lesion():
    rows = [row("a", True, True), row("b", True, False, 0.3), row("c", False, None)]
    found = localisation(pd.DataFrame(rows), split="val")[PATCH_MAP]
    assert found["any"]["value"] == pytest.approx(2 / 3)
    assert found["any_chance"] == pytest.approx(0.5 / 3)  # 0.1 + 0.3 + 0.1
    assert found["malignant"]["value"] == 0.5 and found["malignant"]["n"] == 2
    assert found["malignant_chance"] == pytest.approx(0.1)  # 0.05 and 0.15
    assert (found["any"]["split"], found["any"]["level"]) == ("val", "image")
    assert found["step"] == [16.0, 8.0] and found["without_maximum"] == 0


def test_no_image_with_a_malignant_outline_gives_no_figure():
    found = localisation(pd.DataFrame([row("a", True, None)]))[PATCH_MAP]
    assert found["malignant"] is found["malignant_chance"] is None


def test_of_single_images_the_interval_is_wilsons():
    hits = np.arange(20) < 7
    wilson = accuracy_wilson(7, 20)  # SciPy's
    assert clustered_share(hits, None) == pytest.approx(wilson)
    # One image a woman: 20 / 19 of that variance, for it is an estimate from women.
    assert clustered_share(hits, np.arange(20)) == pytest.approx(wilson, abs=6e-3)


def test_the_same_image_four_times_is_worth_one():
    hits, women = np.arange(20) < 7, np.arange(20)
    once = clustered_share(hits, women)
    four = clustered_share(np.repeat(hits, 4), np.repeat(women, 4))
    assert four == pytest.approx(once)
    apart = clustered_share(np.repeat(hits, 4), None)
    assert apart[2] - apart[1] < 0.6 * (four[2] - four[1])


@pytest.mark.parametrize("hit", [True, False])
def test_where_all_or_none_hit_women_are_counted(hit):
    hits = np.full(30, hit)
    found = clustered_share(hits, np.repeat(np.arange(10), 3))
    assert found == clustered_share(hits[:10], None)
    assert found[0] == float(hit) and found[2] - found[1] > 0.2


def test_the_interval_covers_the_share_it_was_made_for():
    rng, covered = np.random.default_rng(3), 0
    for _ in range(400):
        own = rng.random(40) < 0.3  # half of a woman's images are as she is
        hits = np.where(rng.random((40, 4)) < 0.5**0.5, own[:, None],
                        rng.random((40, 4)) < 0.3)  # fmt: skip
        _, low, high = clustered_share(hits.ravel(), np.repeat(np.arange(40), 4))
        covered += low <= 0.3 <= high
    assert 0.92 < covered / 400 < 0.98


def test_a_share_of_nothing_is_refused():
    with pytest.raises(LocalisationError, match="no images"):
        clustered_share([], None)


def write_tables(folder, count=3):
    """Positive test images with a bright square each, and a lesion table of them."""
    rng, rows, lesions = np.random.default_rng(0), [], []
    for k in range(count):
        image = rng.integers(9000, 12000, (96, 80), dtype=np.uint16)
        image[:, 60:] = 0
        row0, col0 = 20 + 10 * k, 10 + 12 * k
        image[row0 : row0 + 12, col0 : col0 + 12] = 60000
        images.write_png(folder / f"{k}.png", image)
        ids = {"image_id": f"i{k}", "patient_id": f"w{k}"}
        rows.append(ids | {"split": "test", "label": 1, "path": f"{k}.png"})
        lesions.append(ids | {
            "lesion_id": f"l{k}", "abnormality": "mass", "malignant": 1, "row0": row0,
            "col0": col0, "row1": row0 + 12, "col1": col0 + 12,
        })  # fmt: skip
    rows.append({**rows[0], "image_id": "plain", "label": 1})
    rows.append({**rows[0], "image_id": "well", "label": 0})
    rows.append({**rows[0], "image_id": "learnt", "split": "train"})
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    pd.DataFrame(lesions).to_csv(folder / "lesions.csv", index=False)
    return folder / "images.csv", folder / "lesions.csv"


def bright_map(image):
    """Every fourth pixel's grey level: hottest on the bright square."""
    return ImageMap(PATCH_MAP, image[::4, ::4].astype(np.float32), ((0, 4), (0, 4)))


def test_a_map_of_brightness_finds_every_bright_lesion_of_the_split(tmp_path):
    rows, left_out = localise_images([bright_map], *write_tables(tmp_path))
    assert rows["image_id"].tolist() == ["i0", "i1", "i2"]
    assert rows["hit_any"].all() and rows["hit_malignant"].all()
    # 12 x 12 of 96 x 60, but for what the mask of the breast rounds off.
    assert rows["chance_any"].tolist() == pytest.approx([144 / 5760] * 3, rel=0.1)
    assert left_out == {"not_positive": 1, "no_outline": 1, "failed": {}}


def test_an_unreadable_image_is_named_and_the_others_are_measured(tmp_path):
    tables = write_tables(tmp_path)
    (tmp_path / "1.png").write_bytes(b"no image")
    rows, left_out = localise_images([bright_map], *tables)
    assert rows["image_id"].tolist() == ["i0", "i2"]
    assert list(left_out["failed"]) == ["i1"]
    assert "no readable image" in left_out["failed"]["i1"]


def test_a_split_without_outlined_lesions_is_refused(tmp_path):
    with pytest.raises(LocalisationError, match=r"split 'val' .*\(0 positive"):
        localise_images([bright_map], *write_tables(tmp_path), split="val")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("models")
    contract = get_backbone("squeezenet").contract(
        class_names=PATCH_CLASSES, height=64, width=64
    )
    patch_model = build_patch_classifier("squeezenet", contract=contract)
    save_model(patch_model, folder / "patch.keras", contract)
    for name, top in (("whole", "8x1"), ("fc", "hm-pool1-fc4-2")):
        model = build_whole_image(patch_model, contract, top, height=96, width=80)
        contract_96 = image_contract(contract, height=96, width=80)
        save_model(model, folder / f"{name}.keras", contract_96)
    return folder


def test_the_command_writes_figures_and_a_row_an_image_and_map(
    models, tmp_path, capsys
):
    tables = [str(path) for path in write_tables(tmp_path)]
    command = [*tables, "--patch-model", str(models / "patch.keras"), "--model",
               str(models / "whole.keras"), "--out", str(tmp_path / "out")]  # fmt: skip
    assert module.main(command) == 0
    said = capsys.readouterr().out
    assert "patch heat map hits a malignant lesion: " in said and "; chance 0.0" in said
    found = json.loads((tmp_path / "out" / "localisation.json").read_text())
    assert list(found["maps"]) == [PATCH_MAP, GRAD_CAM]
    assert found["maps"][GRAD_CAM]["any"]["n"] == 3
    assert found["maps"][GRAD_CAM]["step"] == [64.0, 64.0]
    rows = pd.read_csv(tmp_path / "out" / "localisation.csv")
    assert len(rows) == 6 and set(rows["map"]) == {PATCH_MAP, GRAD_CAM}
    assert module.main(command) == 2
    assert "exists already" in capsys.readouterr().err


def test_models_that_have_no_such_map_are_named(models, tmp_path, capsys):
    tables = [str(path) for path in write_tables(tmp_path)]
    out = ["--out", str(tmp_path / "out")]
    assert module.main([*tables, *out]) == 2
    assert "give --patch-model, --model, or both" in capsys.readouterr().err
    assert module.main([*tables, *out, "--model", str(models / "fc.keras")]) == 2
    assert "fc.keras: model" in (said := capsys.readouterr().err)
    assert "the patch heatmap is what to use" in said
