import numpy as np
import pandas as pd
import pytest

from dm_preprocess import images
from dm_preprocess.tables import TableError
from dm_training.outlines import Outlines

LESION = {
    "lesion_id": "a", "image_id": "i", "patient_id": "w", "abnormality": "mass",
    "malignant": 1, "row0": "", "col0": "", "row1": "", "col1": "", "mask_path": "",
}  # fmt: skip


def written(folder, *rows):
    pd.DataFrame([{**LESION, **row} for row in rows]).to_csv(
        folder / "lesions.csv", index=False
    )
    return Outlines(folder / "lesions.csv")


def test_a_box_is_half_open_and_cut_at_the_image(tmp_path):
    box = {"row0": 6, "col0": -2, "row1": 12, "col1": 3, "malignant": 0}
    (found,) = written(tmp_path, box).of("i", (8, 5))
    assert found.box == (6, 0, 8, 3) and not found.malignant
    assert found.mask.sum() == 2 * 3 and found.mask[6:, :3].all()


def test_a_mask_counts_before_a_box(tmp_path):
    mask = np.zeros((8, 5), bool)
    mask[2, 1] = mask[3, 4] = True
    images.write_mask_png(tmp_path / "m.png", mask)
    row = {"row0": 0, "col0": 0, "row1": 8, "col1": 5, "mask_path": "m.png"}
    (found,) = written(tmp_path, row).of("i", (8, 5))
    np.testing.assert_array_equal(found.mask, mask)
    assert found.box == (2, 1, 4, 5) and found.malignant


def test_findings_without_an_outline_and_other_images_have_none(tmp_path):
    images.write_mask_png(tmp_path / "m.png", np.zeros((8, 5), bool))
    outlines = written(tmp_path, {}, {"lesion_id": "b", "mask_path": "m.png"})
    assert outlines.of("i", (8, 5)) == [] == outlines.of("other", (8, 5))
    assert Outlines(None).of("i", (8, 5)) == []


def test_a_mask_of_another_size_is_refused(tmp_path):
    images.write_mask_png(tmp_path / "m.png", np.ones((4, 5), bool))
    outlines = written(tmp_path, {"mask_path": "m.png"})
    with pytest.raises(TableError, match="lesion a: its mask is 4 x 5, image i is 8 x"):
        outlines.of("i", (8, 5))
