import numpy as np
import pandas as pd
import pytest

from dm_models.backbones import get_backbone
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import save_model
from dm_models.whole_image import build_whole_image, image_contract
from dm_preprocess import images
from dm_preprocess.tables import PATCH_CLASSES
from dm_training import overlays


@pytest.fixture(scope="module")
def patch_model():
    contract = get_backbone("squeezenet").contract(
        class_names=PATCH_CLASSES, height=32, width=32
    )
    return build_patch_classifier("squeezenet", contract=contract), contract


def paths_in(folder):
    return [str(folder / "patch.keras"), str(folder / "images.csv"),
            "--out", str(folder / "maps")]  # fmt: skip


def write_four(folder):
    """images.csv of four test images, every other one positive."""
    rows = []
    for k in range(4):
        images.write_png(folder / f"{k}.png", np.full((96, 80), 9000 * k, np.uint16))
        rows.append({"image_id": f"i{k}", "patient_id": f"w{k}", "split": "test",
                     "label": k % 2, "path": f"{k}.png"})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)


def save_whole(patch_model, path, top="8x1"):
    model = build_whole_image(*patch_model, top, height=96, width=80)
    contract = image_contract(patch_model[1], height=96, width=80)
    save_model(model, path, contract)


def test_pictures_are_written_for_each_label(patch_model, tmp_path):
    write_four(tmp_path)
    save_model(patch_model[0], tmp_path / "patch.keras", patch_model[1])
    assert overlays.main([*paths_in(tmp_path), "--number", "2"]) == 0
    written = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert written == ["i0.png", "i1.png"]


def test_a_split_without_labels_is_refused(patch_model, tmp_path, capsys):
    images.write_png(tmp_path / "0.png", np.zeros((96, 80), np.uint16))
    row = {"image_id": "i", "patient_id": "w", "split": "train", "label": 1}
    pd.DataFrame([{**row, "path": "0.png"}]).to_csv(tmp_path / "images.csv")
    save_model(patch_model[0], tmp_path / "patch.keras", patch_model[1])
    assert overlays.main(paths_in(tmp_path)) == 2
    assert "no labelled image of split 'test'" in capsys.readouterr().err


def test_grad_cam_is_drawn_from_a_whole_image_model(patch_model, tmp_path, capsys):
    write_four(tmp_path)
    save_whole(patch_model, tmp_path / "patch.keras")
    assert overlays.main([*paths_in(tmp_path), "--kind", "grad-cam"]) == 0
    assert len(list((tmp_path / "maps").iterdir())) == 4
    command = [*paths_in(tmp_path), "--kind", "grad-cam", "--layer", "fire9_expand1x1"]
    assert overlays.main(command) == 2
    assert "layer must have rows and columns" in capsys.readouterr().err


def test_a_model_of_the_other_kind_is_refused(patch_model, tmp_path, capsys):
    write_four(tmp_path)
    save_whole(patch_model, tmp_path / "patch.keras")
    assert overlays.main(paths_in(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "patch.keras: a patch classifier with its patch size is due" in said
    save_whole(patch_model, tmp_path / "patch.keras", "hm-pool2-fc4-2")
    assert overlays.main([*paths_in(tmp_path), "--kind", "grad-cam"]) == 2
    assert "the patch heatmap is what to use" in capsys.readouterr().err


def test_lesions_are_framed_by_their_masks_where_there_are_any(
    patch_model, tmp_path, monkeypatch
):
    write_four(tmp_path)
    mask = np.zeros((96, 80), bool)
    mask[20:31, 40:44] = True
    images.write_mask_png(tmp_path / "m.png", mask)
    lesion = {
        "lesion_id": "a", "image_id": "i1", "patient_id": "w1", "malignant": 1,
        "abnormality": "mass", "row0": 5, "col0": 6, "row1": 9, "col1": 70,
    }  # fmt: skip
    lesions = [{**lesion, "mask_path": "m.png"}, {**lesion, "lesion_id": "b"}]
    pd.DataFrame(lesions).to_csv(tmp_path / "lesions.csv", index=False)
    drawn = {}
    monkeypatch.setattr(
        "dm_training.plots.overlay_heatmap",
        lambda image, heat, path, *, boxes, **_: drawn.update({path.stem: boxes}),
    )
    overlays.write_overlays(*patch_model, tmp_path / "images.csv", tmp_path,
                            lesions_csv=tmp_path / "lesions.csv")  # fmt: skip
    assert drawn == {"i1": [(20, 40, 31, 44), (5, 6, 9, 70)],
                     "i3": [], "i0": [], "i2": []}  # fmt: skip
