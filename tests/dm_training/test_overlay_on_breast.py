"""Overlays: colour on the breast alone, and what the amber lines say."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from overlay_support import PREDICTION, breast, map_at

from dm_preprocess import images as pixels
from dm_training import desk_overlays, overlay_legend
from dm_training.image_maps import GRAD_CAM, ImageMap
from dm_training.overlay_legend import Said

HOT = ImageMap(GRAD_CAM, np.ones((3, 3), np.float32), ((47.5, 96.0), (36.8, 74.7)))


def edge_of(heated, plain):
    drawn = (heated == overlay_legend.HALF_LINE).all(axis=2)
    return drawn & (plain != overlay_legend.HALF_LINE[0])


@pytest.mark.parametrize("negative", [False, True])
def test_air_and_film_labels_stay_without_colour(panels, negative):
    grey = breast()
    grey[4:40, 170:220] = 65535
    plain, heated = panels(grey, HOT, negative=negative)
    changed = (heated != plain[..., None]).any(axis=2)
    inside = pixels.resize_nearest(breast() > 0, *plain.shape)
    reach = cv2.dilate(inside.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    assert changed[inside].mean() > 0.99
    assert not changed[~reach].any()


def test_the_line_ends_at_the_breast_instead_of_running_through_air(panels):
    cells = np.zeros((9, 7), np.float32)
    cells[3:6] = 1  # a band from the chest wall through the air to the other border
    found = ImageMap(GRAD_CAM, cells, ((15.5, 32.0), (15.5, 32.0)))
    plain, heated = panels(breast(), found)
    line = edge_of(heated, plain)
    assert line[:, : plain.shape[1] // 3].any()
    assert not line[:, int(plain.shape[1] * 0.68) :].any()


def test_a_negative_decision_has_no_line_and_a_paler_map(panels):
    found = map_at(144, 60, (288, 224), kind=GRAD_CAM)
    plain, heated = panels(breast(), found)
    _, paler = panels(breast(), found, negative=True)
    assert edge_of(heated, plain).any() and not edge_of(paler, plain).any()
    # Colour of the line's pixels differs for another reason.
    apart = [
        np.abs(each.astype(int) - plain[..., None])
        .sum(axis=2)[~edge_of(heated, plain)]
        .sum()
        for each in (heated, paler)
    ]
    assert 0 < apart[1] < 0.6 * apart[0]
    said = " ".join(overlay_legend.meaning(found, pale=True))
    assert "negative" in said and "line: half" not in said


@pytest.mark.parametrize(("at", "outside"), [
    ((144, 60), False), ((20, 200), True), ((144, 215), True), ((144, 1), False),
])  # fmt: skip
def test_the_legend_says_when_the_hottest_place_is_no_breast(monkeypatch, at, outside):
    held = []
    monkeypatch.setattr(overlay_legend, "framed", lambda *given: held.append(given[3]))
    desk_overlays.overlay_image(breast(), map_at(*at, (288, 224), kind=GRAD_CAM))
    assert held[0].outside is outside


def amber_rows(picture):
    amber = (picture[..., 0] > 200) & (picture[..., 2] < 120)
    return amber.any(axis=1).sum()


def test_amber_words_say_outside_of_the_breast_and_unlike_the_training_images():
    plain = np.zeros((512, 420), np.uint8)
    found = map_at(5, 5, (512, 420), kind=GRAD_CAM)

    def rows(**said):
        return amber_rows(
            overlay_legend.framed(plain, plain, found, Said((), "notice", **said))
        )

    assert rows() < rows(outside=True) < rows(outside=True, warning="unlike")


def test_unlike_the_training_images_is_said_in_short():
    given = ["more air: a wide border (breast 0.1, in training 0.2 to 0.7)",
             "few grey levels are left (an 8-bit copy has 256 at most) (levels 9, in "
             "training 900 to 8000)"]  # fmt: skip
    assert desk_overlays.unlike_words(given) == (
        "unlike the training images: more air: a wide border; few grey levels are left"
    )
    assert desk_overlays.unlike_words([]) == ""


def test_a_prediction_tells_its_picture_of_warnings_and_of_a_negative_decision():
    given = {**vars(PREDICTION), "decision": "negative", "warnings": ("dark (1)",)}
    told = desk_overlays.words_of(SimpleNamespace(**given))
    assert told["negative"] and told["warnings"] == ("dark (1)",)
    with_words, without = (
        desk_overlays.overlay_image(breast(), None, **{**told, "warnings": warnings})
        for warnings in (told["warnings"], ())
    )
    assert amber_rows(with_words) > amber_rows(without)
