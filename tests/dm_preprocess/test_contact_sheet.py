"""Contact sheets: every patch is shown, stretched, in its place."""

import cv2
import numpy as np
import pandas as pd
import pytest

from dm_preprocess import contact_sheet as sheets
from dm_preprocess import images as pixels


def test_stretch_spans_black_to_white_whatever_the_range():
    ramp = np.linspace(30000, 31000, 10000).reshape(100, 100).astype(np.uint16)
    shown = sheets.stretch(ramp)
    assert shown.dtype == np.uint8 and (shown.min(), shown.max()) == (0, 255)
    assert abs(int(shown[50, 0]) - 128) <= 1  # the middle of the range stays there


def test_stretch_of_a_constant_patch_is_black():
    assert not sheets.stretch(np.full((5, 5), 700, np.uint16)).any()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (8, 1), (9, 2), (48, 6)])
def test_a_sheet_has_room_for_every_patch(count, rows):
    patch = np.zeros((40, 40), np.uint16)
    patch[:, 20:] = 1000
    sheet = sheets.contact_sheet([patch] * count, "mass_mal", columns=8, cell=40)
    plain = sheets.contact_sheet([patch * 0] * count, "mass_mal", columns=8, cell=40)
    assert sheet.shape[0] - sheets.contact_sheet([patch], "", cell=40).shape[0] == (
        (rows - 1) * 46
    )
    white = (sheet == 255) & (plain == 0)
    assert white.sum() == count * 40 * 20  # the right half of each tile


def test_a_sheet_is_written_for_each_class_that_has_patches(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for name, count in (("background", 60), ("calc_mal", 2)):
        for at in range(count):
            cell = f"train/{name}/{at}.png"
            image = rng.integers(0, 65535, (16, 16)).astype(np.uint16)
            pixels.write_png(tmp_path / cell, image)
            rows.append({"class": name, "split": "train", "path": cell})
    written = sheets.write_contact_sheets(pd.DataFrame(rows), tmp_path)
    wanted = ["contact_background.png", "contact_calc_mal.png"]
    assert [path.name for path in written] == wanted
    assert not list(tmp_path.glob("*.part"))
    tall, low = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in written)
    assert tall.dtype == np.uint8 and tall.ndim == 2
    assert tall.shape[0] > low.shape[0]  # 48 of the 60 in six rows, 2 in one
