import io

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dm_models.backbones import get_backbone
from dm_models.patch_classifier import build_patch_classifier
from dm_models.whole_image import build_whole_image, image_contract
from dm_preprocess import images
from dm_preprocess.tables import PATCH_CLASSES
from dm_training import gallery_pictures
from dm_training.gallery import (
    ALARM,
    FOUND,
    KINDS,
    MISSED,
    OUTLINES,
    PASSED,
    choose,
    gallery_items,
)
from dm_training.image_maps import GRAD_CAM, PATCH_MAP, ImageMap
from dm_training.metrics import MetricError
from dm_training.outlines import Outline


def rows_of(*triples, women=None):
    """(image_id, truth, score) each; a woman an image unless told."""
    frame = pd.DataFrame(triples, columns=["image_id", "y_true", "y_score"])
    return frame.assign(patient_id=women or [f"w-{i}" for i in frame["image_id"]])


def ids(chosen):
    return {kind: frame["image_id"].tolist() for kind, frame in chosen.items()}


def test_each_kind_has_the_most_extreme_scores_of_its_class_first():
    rows = rows_of(
        ("a", 1, 0.9), ("b", 1, 0.2), ("c", 1, 0.7), ("d", 1, 0.4),
        ("e", 0, 0.8), ("f", 0, 0.1), ("g", 0, 0.3), ("h", 0, 0.6),
    )  # fmt: skip
    assert ids(choose(rows, 6)) == {
        FOUND: ["a", "c"], MISSED: ["b", "d"], PASSED: ["f", "g"], ALARM: ["e", "h"],
    }  # fmt: skip


def test_no_image_is_in_two_kinds_and_the_odd_one_counts_as_right():
    rows = rows_of(("a", 1, 0.9), ("b", 0, 0.2), ("c", 0, 0.1), ("d", 0, 0.3))
    found = ids(choose(rows, 6))
    assert found == {FOUND: ["a"], MISSED: [], PASSED: ["c", "b"], ALARM: ["d"]}


def test_a_woman_comes_again_only_after_all_others():
    rows = rows_of(("a", 1, 0.9), ("b", 1, 0.8), ("c", 1, 0.7), ("d", 1, 0.1),
                   ("e", 1, 0.1), ("f", 1, 0.1), women=list("xxyzzz"))  # fmt: skip
    found = choose(rows, 2)
    assert ids(found)[FOUND] == ["a", "c", "b"] and found[FOUND].attrs["wanted"] == 2
    without = rows.assign(patient_id="")
    assert ids(choose(without, 2))[FOUND] == ["a", "b", "c"]


def write_images(folder, count=4, size=(96, 80)):
    rng, rows = np.random.default_rng(0), []
    for k in range(count):
        image = rng.integers(9000, 30000, size, dtype=np.uint16)
        images.write_png(folder / f"{k}.png", image)
        rows.append({
            "image_id": f"i{k}", "patient_id": f"secret{k}", "split": "test",
            "label": k % 2, "path": f"{k}.png", "view": "CC", "laterality": "L",
            "density": "" if k else "3", "age": 61, "vendor": "maker",
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    lesion = {"lesion_id": "l", "image_id": "i1", "patient_id": "secret1",
              "abnormality": "mass", "malignant": 1, "row0": 20, "col0": 30,
              "row1": 40, "col1": 60}  # fmt: skip
    pd.DataFrame([lesion]).to_csv(folder / "lesions.csv", index=False)
    return rows_of(*((f"i{k}", k % 2, 0.2 + 0.1 * k) for k in range(count)))


@pytest.fixture(scope="module")
def patch():
    keras.utils.set_random_seed(1)
    contract = get_backbone("squeezenet").contract(
        class_names=PATCH_CLASSES, height=64, width=64
    )
    return build_patch_classifier("squeezenet", contract=contract), contract


def size_of(data):
    return Image.open(io.BytesIO(data)).size[::-1]


def test_items_show_images_with_both_maps_and_outlines(patch, tmp_path):
    rows = write_images(tmp_path)
    model = build_whole_image(*patch, "8x1", height=96, width=80)
    items = gallery_items(
        rows, tmp_path / "images.csv", lesions_csv=tmp_path / "lesions.csv",
        model=model, contract=image_contract(patch[1], height=96, width=80),
        patch_model=patch[0], patch_contract=patch[1],
    )  # fmt: skip
    assert [(item.kind, item.name) for item in items] == [
        (FOUND, "i3"), (MISSED, "i1"), (PASSED, "i0"), (ALARM, "i2"),
    ]  # fmt: skip
    overlays = {item.name: list(item.overlays) for item in items}
    assert overlays["i1"] == [PATCH_MAP, GRAD_CAM, OUTLINES]
    assert overlays["i0"] == [PATCH_MAP, GRAD_CAM]
    for item in items:
        sizes = {size_of(data) for data in (item.image, *item.overlays.values())}
        assert sizes == {(96, 80)}


def test_nothing_of_a_patient_is_shown_but_what_belongs_to_the_image(tmp_path):
    items = gallery_items(write_images(tmp_path), tmp_path / "images.csv")
    assert items[2].facts == {"score": 0.2, "truth": "negative", "view": "CC",
                              "laterality": "L", "density": "3"}  # fmt: skip
    assert items[0].alt == "Mammogram i3, positive, score 0.50"
    assert "secret" not in repr(items) and "61" not in str([i.facts for i in items])


def test_without_models_images_are_plain(tmp_path):
    items = gallery_items(write_images(tmp_path), tmp_path / "images.csv", number=1)
    assert [item.kind for item in items] == list(KINDS)
    assert all(item.overlays == {} for item in items)


def test_the_next_image_takes_the_place_of_one_that_cannot_be_read(tmp_path):
    rows, said = write_images(tmp_path, count=8), []
    (tmp_path / "7.png").write_bytes(b"no image")
    rows.loc[rows["image_id"] == "i0", "image_id"] = "stranger"
    items = gallery_items(rows, tmp_path / "images.csv", number=1, say=said.append)
    shown = [(item.kind, item.name) for item in items]
    assert shown == [(FOUND, "i5"), (MISSED, "i1"), (PASSED, "i2"), (ALARM, "i6")]
    assert said[0].startswith("i7: left out of the gallery: ")
    assert said[1] == f"stranger: not in {tmp_path / 'images.csv'}"


def test_a_model_without_such_a_map_is_told_and_the_rest_is_shown(
    patch, tmp_path, capsys
):
    rows = write_images(tmp_path)
    fc = build_whole_image(*patch, "hm-pool1-fc4-2", height=96, width=80)
    contract = image_contract(patch[1], height=96, width=80)
    larger = patch[1].replace(height=128, width=128)
    items = gallery_items(
        rows, tmp_path / "images.csv", model=fc, contract=contract, number=1,
        patch_model=patch[0], patch_contract=larger,
    )  # fmt: skip
    assert len(items) == 4 and not any(item.overlays for item in items)
    said = capsys.readouterr().err
    assert "an overlay is left out: " in said and "the patch heatmap is what" in said
    assert said.count("no map: smaller than a patch") == 4


def test_an_outline_that_does_not_fit_is_told(tmp_path):
    rows, said = write_images(tmp_path), []
    images.write_mask_png(tmp_path / "m.png", np.ones((5, 5), bool))
    lesions = pd.read_csv(tmp_path / "lesions.csv").assign(mask_path="m.png")
    lesions.to_csv(tmp_path / "lesions.csv", index=False)
    gallery_items(rows, tmp_path / "images.csv", lesions_csv=tmp_path / "lesions.csv",
                  say=said.append)  # fmt: skip
    assert len(said) == 1 and said[0].startswith("i1: no outlines: ")


def test_an_image_that_stands_twice_is_refused(tmp_path):
    rows = write_images(tmp_path)
    with pytest.raises(MetricError, match="'i0' stands twice"):
        gallery_items(pd.concat([rows, rows]), tmp_path / "images.csv")


def rgba(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_a_mammogram_is_bounded_and_white_where_only_a_label_is_brighter():
    image = np.full((1152, 896), 20000, np.uint16)
    image[:30, :30] = 65535  # 0.09 % of it: a film label
    data = gallery_pictures.shown_jpeg(image)
    shown = np.asarray(Image.open(io.BytesIO(data)))
    assert shown.shape == (640, 498) and shown.dtype == np.uint8
    assert shown[300:].min() > 250 and len(data) < 60 * 1024


def test_a_map_is_clear_where_it_is_0_and_hottest_where_its_cell_looks():
    heat = np.zeros((6, 5), np.float32)
    heat[4, 1] = 1.0
    found = ImageMap(PATCH_MAP, heat, ((100.0, 180.0), (100.0, 180.0)))
    data = gallery_pictures.map_png(found, (1152, 896))
    shown = rgba(data)
    assert shown.shape == (640, 498, 4) and len(data) < 20 * 1024
    alpha = shown[..., 3].astype(int)
    assert alpha.max() == round(0.7 * 255) and (alpha == 0).mean() > 0.7
    row, col = np.argwhere(alpha == alpha.max()).mean(axis=0)
    # The cell looks at row 100 + 4 * 180 = 820 and column 280 of 1152 x 896.
    assert (row, col) == pytest.approx((820 * 640 / 1152, 280 * 498 / 896), abs=2)


def test_outlines_lie_around_a_lesion_and_tell_malignant_from_benign():
    mask = np.zeros((200, 100), bool)
    mask[50:90, 20:60] = True
    whites = []
    for malignant in (True, False):
        outline = Outline(malignant, mask, (50, 20, 90, 60))
        shown = rgba(gallery_pictures.outlines_png([outline], mask.shape))
        drawn = shown[..., 3] > 0
        assert not drawn[52:88, 22:58].any() and drawn[45:95, 15:65].any()
        assert images.mask_box(drawn) == (47, 17, 93, 63)  # 2 away, 1 for the line
        whites.append((shown[..., 0] == 255).sum() / drawn.sum())
    assert whites[0] > 1.5 * whites[1] > 0


def test_a_lesion_at_the_images_edge_has_its_outline_within():
    mask = np.zeros((60, 40), bool)
    mask[:10, 30:] = True
    outline = Outline(True, mask, (0, 30, 10, 40))
    shown = rgba(gallery_pictures.outlines_png([outline], mask.shape))
    assert shown.shape[:2] == (60, 40) and (shown[:12, 27:, 0] == 255).any()
    assert not shown[20:, :20, 3].any()
