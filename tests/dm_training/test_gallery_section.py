import numpy as np
import pandas as pd
import pytest

from dm_models.backbones import get_backbone
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import save_model
from dm_models.whole_image import build_whole_image, image_contract
from dm_preprocess import images as pixels
from dm_preprocess.tables import PATCH_CLASSES
from dm_training.evaluate import Request
from dm_training.evaluation import Choices
from dm_training.report import write_all
from dm_training.study import open_study, pictures


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A patch classifier and a whole-image net on it, untrained, as files."""
    folder = tmp_path_factory.mktemp("models")
    contract = get_backbone("squeezenet").contract(
        class_names=PATCH_CLASSES, height=64, width=64
    )
    patch = build_patch_classifier("squeezenet", contract=contract)
    whole = build_whole_image(patch, contract, "8x1", height=96, width=80)
    save_model(patch, folder / "patch.keras", contract)
    of_images = image_contract(contract, height=96, width=80)
    save_model(whole, folder / "whole.keras", of_images)
    return folder


@pytest.fixture
def data(tmp_path):
    """Eight images of eight women, the positive ones with an outlined lesion."""
    rng, rows, lesions = np.random.default_rng(0), [], []
    for k in range(8):
        image = rng.integers(9000, 30000, (96, 80), dtype=np.uint16)
        pixels.write_png(tmp_path / f"{k}.png", image)
        ids = {"image_id": f"i{k}", "patient_id": f"w{k}"}
        rows.append(ids | {"split": "test", "label": k % 2, "path": f"{k}.png"})
        box = {"row0": 20, "col0": 20, "row1": 60, "col1": 60}
        if k % 2:
            mass = ids | {"abnormality": "mass"}
            lesions.append(mass | box | {"lesion_id": k, "malignant": 1})
            other = {"row0": 60, "col0": 20, "row1": 80, "col1": 40}
            lesions.append(mass | other | {"lesion_id": 10 + k, "malignant": 0})
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "images.csv", index=False)
    pd.DataFrame(lesions).to_csv(tmp_path / "lesions.csv", index=False)
    scores = frame.assign(y_true=frame["label"], y_score=rng.random(8))
    scores.drop(columns=["label", "path"]).to_csv(tmp_path / "p.csv", index=False)
    return tmp_path


def shown(data, **given):
    request = Request([data / "p.csv"], images=data / "images.csv", gallery=2, **given)
    study = open_study(request, Choices(draws=100))
    sections, found = pictures(study)
    return {section.title: section for section in sections}, found


def test_both_nets_give_overlays_and_a_localisation_against_chance(models, data):
    sections, found = shown(data, lesions=data / "lesions.csv",
                            model=models / "whole.keras",
                            patch_model=models / "patch.keras")  # fmt: skip
    (gallery,) = sections["Images to look through"].galleries
    assert len(gallery.items) == 8
    overlays = {name for item in gallery.items for name in item.overlays}
    assert overlays == {"patch heat map", "Grad-CAM", "outlines"}
    assert set(found["maps"]) == {"patch heat map", "Grad-CAM"}
    for facts in found["maps"].values():
        assert facts["malignant"]["n"] == 4  # the positives, all outlined
        assert 0 < facts["malignant_chance"] < 1
    assert len(sections["Where the maps point"].tables[0].rows) == 4
    assert write_all(data / "out", "Report", list(sections.values()))


def test_without_nets_there_are_images_and_outlines_and_no_localisation(data):
    sections, found = shown(data, lesions=data / "lesions.csv")
    assert found == {} and set(sections) == {"Images to look through"}
    (gallery,) = sections["Images to look through"].galleries
    assert {n for item in gallery.items for n in item.overlays} == {"outlines"}


def test_lesions_that_all_count_as_malignant_are_measured_once_and_it_is_said(
    models, data
):
    lesions = pd.read_csv(data / "lesions.csv").assign(malignant=1)
    lesions.to_csv(data / "lesions.csv", index=False)
    sections, _ = shown(data, lesions=data / "lesions.csv",
                        patch_model=models / "patch.keras")  # fmt: skip
    section = sections["Where the maps point"]
    assert [row[0] for row in section.tables[0].rows] == [
        "patch heat map, any outlined lesion"
    ]
    assert "counts as malignant" in section.paragraphs[1]


def test_images_say_what_the_threshold_calls_them(data):
    from dm_models.decision import Decision

    path = data / "decision.json"
    path.write_text(Decision(0.5).to_json())
    sections, _ = shown(data, decision=path)
    (gallery,) = sections["Images to look through"].galleries
    called = {i.name: (i.facts["score"], i.facts["called"]) for i in gallery.items}
    assert all((score >= 0.5) == (call == "positive")
               for score, call in called.values())  # fmt: skip
    assert {call for _, call in called.values()} == {"positive", "negative"}


def test_localisation_can_be_left_out(models, data):
    sections, found = shown(data, lesions=data / "lesions.csv", localisation=False,
                            patch_model=models / "patch.keras")  # fmt: skip
    assert found == {} and set(sections) == {"Images to look through"}


def test_images_that_cannot_be_read_are_named_in_the_report(data):
    for k in range(8):
        (data / f"{k}.png").write_bytes(b"no picture")
    sections, _ = shown(data)
    section = sections["Images to look through"]
    assert not section.galleries
    assert any("i0" in notice for notice in section.notices)
    assert write_all(data / "out", "Report", [section])


def test_a_model_that_has_no_map_is_told_and_the_other_still_points(
    models, data, capsys
):
    sections, found = shown(data, lesions=data / "lesions.csv",
                            model=models / "whole.keras",
                            patch_model=models / "whole.keras")  # fmt: skip
    assert set(found["maps"]) == {"Grad-CAM"}
    assert "an overlay points nowhere" in capsys.readouterr().err
    notices = sections["Images to look through"].notices
    assert any("overlay is left out" in notice for notice in notices)
