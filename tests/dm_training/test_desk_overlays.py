"""Overlays at the desk: where the colour lies, what is said, what is not."""

import struct
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from overlay_support import PREDICTION, breast, map_at

from dm_models.inputs import InputContract
from dm_preprocess import images as pixels
from dm_training import desk_overlays, image_maps, overlay_legend
from dm_training.image_maps import GRAD_CAM, PATCH_MAP, ImageMap
from dm_training.overlay_legend import Said
from dm_training.scorers import prepare


def hottest(plain, heated):
    """The pixel that the colour changed most, of a smoothed change."""
    change = np.abs(heated.astype(float) - plain[..., None]).sum(axis=2)
    smooth = cv2.GaussianBlur(change, (0, 0), 9)
    return np.unravel_index(smooth.argmax(), smooth.shape)


@pytest.mark.parametrize(
    "source_shape", [None, (832, 640), (4000, 1500), (1500, 4000)],
    ids=["as it is", "nearly", "tall film", "wide"],
)  # fmt: skip
def test_colour_lies_on_the_lesion_in_whatever_proportions(panels, source_shape):
    grey = breast()
    cv2.circle(grey.view(np.uint16), (60, 200), 6, 65535, -1)  # (column, row)
    plain, heated = panels(grey, map_at(200, 60, grey.shape), source_shape=source_shape)
    lesion = np.argwhere(plain == 255).mean(axis=0)
    near = 0.02 * max(plain.shape)
    assert np.abs(np.subtract(hottest(plain, heated), lesion)).max() < near


@pytest.mark.parametrize("fit", pixels.FITS)
def test_map_of_a_prepared_image_lies_on_the_lesion_of_its_source(panels, fit):
    source = breast((600, 260))
    cv2.circle(source, (100, 420), 9, 65535, -1)
    contract = SimpleNamespace(height=288, width=224, fit=fit)
    prepared, geometry = pixels.fit(source, 288, 224, mode=fit)
    row, col = 420 * geometry.row_scale, 100 * geometry.col_scale
    assert prepared[round(row), round(col)] == 65535
    placed = image_maps.over_source(
        map_at(row, col, prepared.shape), source.shape, contract
    )
    plain, heated = panels(source, placed)
    lesion = np.argwhere(plain == 255).mean(axis=0)
    near = 0.02 * max(plain.shape)
    assert np.abs(np.subtract(hottest(plain, heated), lesion)).max() < near


def test_map_of_a_contract_without_a_size_stays_as_it_is():
    placed = map_at(5, 5, (20, 20))
    contract = SimpleNamespace(height=None, width=None, fit="squash")
    assert image_maps.over_source(placed, (40, 40), contract) is placed


def test_mirrored_breast_gives_the_mirrored_panels(panels):
    grey, heat = breast(), np.random.default_rng(1).random((9, 7)).astype(np.float32)
    centres = ((15.5, 32.0), (15.5, 32.0))
    left = panels(grey, ImageMap(PATCH_MAP, heat, centres))
    mirrored = ((15.5, 32.0), (224 - 1 - 15.5 - 6 * 32.0, 32.0))
    right = panels(
        np.ascontiguousarray(grey[:, ::-1]),
        ImageMap(PATCH_MAP, np.ascontiguousarray(heat[:, ::-1]), mirrored),
    )
    # The percentiles are taken of every third pixel, counted from the left.
    for one, other in zip(left, right, strict=True):
        assert np.abs(one.astype(int) - other[:, ::-1]).max() <= 8


@pytest.mark.parametrize(
    ("source_shape", "size"),
    [(None, (512, 398)), ((4000, 1500), (1152, 432)), ((3328, 2560), (1152, 886)),
     ((40, 40), (512, 512))],
)  # fmt: skip
def test_panels_have_the_sources_proportions(panels, source_shape, size):
    plain, _ = panels(breast(), None, source_shape=source_shape)
    assert plain.shape == size


def test_only_contracts_that_squash_need_the_sources_shape():
    def shape(height, fit):
        contract = SimpleNamespace(height=height, fit=fit)
        return desk_overlays.shape_to_show((400, 150), contract)

    assert shape(1152, "squash") == (400, 150)
    assert shape(1152, "pad") is None
    assert shape(None, "squash") is None


def test_film_label_does_not_darken_the_breast(panels):
    grey = breast()
    labelled = grey.copy()
    labelled[4:40, 170:220] = 65535
    alone, _ = panels(grey, None)
    beside, _ = panels(labelled, None)
    tissue = slice(150, 400), slice(10, 150)
    assert np.abs(alone[tissue].astype(int) - beside[tissue]).max() <= 3
    assert np.percentile(beside[tissue], 95) > 200
    assert beside[-5, -5] == 0  # air


@pytest.mark.parametrize("image_map", [
    None, ImageMap(GRAD_CAM, np.zeros((3, 3), np.float32), ((0, 1), (0, 1))),
    ImageMap(PATCH_MAP, np.zeros((3, 3), np.float32), ((0, 1), (0, 1))),
], ids=["none", "Grad-CAM", "patches"])  # fmt: skip
def test_map_of_nothing_leaves_the_mammogram_alone_and_says_so(panels, image_map):
    plain, heated = panels(breast(), image_map)
    np.testing.assert_array_equal(heated, np.repeat(plain[..., None], 3, axis=2))
    said = " ".join(overlay_legend.meaning(image_map))
    assert ("no heat map" if image_map is None else "0 everywhere") in said


def test_legend_says_what_the_scale_is():
    cam = " ".join(overlay_legend.meaning(map_at(5, 5, (20, 20), kind=GRAD_CAM)))
    assert "share of the image's maximum" in cam and "no probability" in cam
    patches = " ".join(overlay_legend.meaning(map_at(5, 5, (20, 20))))
    assert "probability of a malignant lesion" in patches and "1.00" in patches


def test_colours_grow_lighter_and_more_opaque_without_a_break():
    colours = overlay_legend.colours(64)
    lightness = colours[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > 0).all()
    assert (np.diff(colours[:, 3]) > 0).all()
    assert colours[0, 3] == 0 and colours[-1, 3] <= 0.5


def test_frame_holds_both_panels_untouched():
    plain = np.random.default_rng(2).integers(0, 256, (512, 420), dtype=np.uint8)
    heated = np.random.default_rng(3).integers(0, 256, (512, 420, 3), dtype=np.uint8)
    picture = overlay_legend.framed(plain, heated, None, Said(["a"], "notice"))
    left = cv2.matchTemplate(
        picture, np.repeat(plain[..., None], 3, axis=2), cv2.TM_SQDIFF
    )
    right = cv2.matchTemplate(picture, heated, cv2.TM_SQDIFF)
    assert left.min() == right.min() == 0
    row, col = np.unravel_index(right.argmin(), right.shape)
    assert row == np.unravel_index(left.argmin(), left.shape)[0]
    assert col >= 420


@pytest.mark.parametrize("width", [60, 500])
def test_long_names_stay_within_their_column(width):
    caption = ["model " + "x" * 300, "y " * 200]
    plain = np.zeros((512, width), np.uint8)
    picture = overlay_legend.framed(plain, plain, None, Said(caption, "notice"))
    ground, column = picture[0, 0], max(width, 400)
    size = (picture.shape[1] - 2 * column) // 3
    below = picture[-picture.shape[0] + 2 * size + 512 + size : -3 * size]
    between = below[:, size + column + 2 : 2 * size + column - 2]
    assert (between == ground).all() and (below != ground).any()


def test_caption_says_what_was_predicted_and_names_no_file():
    said = "\n".join(desk_overlays.caption_lines(PREDICTION))
    for words in ("R CC", "probability 0.8300", "positive at threshold 0.4100",
                  "resnet50", "0f3a9c21d4e7", "4 flips"):  # fmt: skip
        assert words in said
    assert "Jones" not in said and "scan" not in said


@pytest.mark.parametrize(("probability", "words"), [
    (1.0, "> 0.9999"), (0.99999, "> 0.9999"), (0.0, "< 0.0001"),
    (0.5, "0.5000"),
])  # fmt: skip
def test_no_probability_is_said_to_be_certain(probability, words):
    given = SimpleNamespace(**{**vars(PREDICTION), "probability": probability})
    assert f"probability {words}" in desk_overlays.caption_lines(given)


def test_without_an_operating_point_no_decision_is_said():
    given = {**vars(PREDICTION), "threshold": None, "decision": "", "laterality": "",
             "view": ""}  # fmt: skip
    said = "\n".join(desk_overlays.caption_lines(SimpleNamespace(**given)))
    assert "no decision" in said and "positive" not in said
    assert "side and view not known" in said


def test_png_is_the_picture_and_holds_no_text():
    grey, image_map = breast(), map_at(100, 60, (288, 224))
    data = desk_overlays.overlay_png(grey, image_map, caption=["one"])
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    drawn = desk_overlays.overlay_image(grey, image_map, caption=["one"])
    np.testing.assert_array_equal(decoded[..., ::-1], drawn)
    assert png_chunks(data) == {b"IHDR", b"IDAT", b"IEND"}


def png_chunks(data):
    found, at = set(), 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.add(data[at + 4 : at + 8])
        at += 12 + length
    return found


def test_the_notice_stands_on_every_picture():
    with_notice = desk_overlays.overlay_image(breast(), None)
    amber = (with_notice[..., 0] > 200) & (with_notice[..., 2] < 120)
    assert amber.sum() > 100
    assert "not for diagnosis" in desk_overlays.RESEARCH


def test_writing_replaces_whole_files_and_gives_the_picture(tmp_path):
    path = desk_overlays.path_for(tmp_path, "sub/scan.dcm", ".png")
    drawn = desk_overlays.write_overlay(path, breast(), None)
    again = desk_overlays.write_overlay(path, breast(seed=1), None)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], again)
    assert (drawn != again).any()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["scan.dcm.png"]


def test_failed_writing_leaves_no_part(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="there"):
        desk_overlays.write_aside(tmp_path / "there", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("image_id", ["", "..", "../x.png", "a/../../x", "/etc/x"])
def test_ids_that_lead_out_of_the_folder_are_refused(tmp_path, image_id):
    with pytest.raises(desk_overlays.OverlayError, match="image_id"):
        desk_overlays.path_for(tmp_path, image_id, ".png")


def test_pixels_and_maps_that_cannot_be_drawn_are_refused():
    with pytest.raises(desk_overlays.OverlayError, match="uint8"):
        desk_overlays.overlay_image(np.zeros((8, 8), np.uint8), None)
    broken = ImageMap(GRAD_CAM, np.full((2, 2), np.nan, "f4"), ((0, 1), (0, 1)))
    with pytest.raises(desk_overlays.OverlayError, match="finite"):
        desk_overlays.overlay_image(breast(), broken)


def test_a_constant_image_is_drawn():
    assert desk_overlays.overlay_image(np.zeros((9, 7), np.uint16), None).size


def test_threads_draw_the_same_picture():
    def draw(number):
        return desk_overlays.overlay_image(
            breast(), map_at(100, 60, (288, 224)), caption=[f"model {number % 2}"]
        )

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(draw, range(8)))
    for number, picture in enumerate(found):
        np.testing.assert_array_equal(picture, draw(number))


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_a_small_models_picture_has_the_files_pixels_and_its_map_in_place(fit):
    grey = np.zeros((900, 640), np.uint16)
    grey[600:640, 300:340] = 60000
    contract = InputContract("squeezenet", height=90, width=80, fit=fit)
    seen = prepare(grey, contract)
    shown = desk_overlays.picture_of(grey, contract)
    assert shown.shape[0] == 900 and prepare(shown, contract).shape == seen.shape
    heat = seen.astype(np.float32)  # a cell a pixel: as hot as bright
    found = ImageMap(GRAD_CAM, heat, ((0.0, 1.0), (0.0, 1.0)))
    found = desk_overlays.on_picture(found, seen.shape, shown.shape)
    row, col = found.hottest(*shown.shape)
    brightest = np.argwhere(shown > 30000)
    assert np.abs(brightest.mean(axis=0) - (row, col)).max() <= 30


def test_a_picture_has_no_more_pixels_than_the_file():
    contract = InputContract("squeezenet", height=90, width=80)
    grey = np.zeros((100, 60), np.uint16)
    assert desk_overlays.picture_of(grey, contract).shape == (100, 89)
    small = np.zeros((50, 40), np.uint16)
    assert desk_overlays.picture_of(small, contract).shape == (90, 80)
