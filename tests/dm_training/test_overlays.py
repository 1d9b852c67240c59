import numpy as np
import pandas as pd
import pytest

from dm_models.backbones import get_backbone
from dm_models.heatmap import build_heatmap
from dm_models.patch_classifier import build_patch_classifier
from dm_models.weights import save_model
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


def test_the_map_covers_the_feature_grid_and_stays_a_probability(patch_model):
    model, contract = patch_model
    side = get_backbone("squeezenet").map_size(32)
    heat = build_heatmap(model, pool=side)
    image = np.random.default_rng(0).integers(0, 65535, (96, 80), dtype=np.uint16)
    found = overlays.malignancy_map(heat, contract, image)
    grid = [get_backbone("squeezenet").map_size(n) for n in (96, 80)]
    assert list(found.shape) == grid
    assert 0.0 <= found.min() and found.max() <= 1.0


def test_on_one_patch_the_map_is_the_patch_nets_own_answer(patch_model):
    model, contract = patch_model
    heat = build_heatmap(model, pool=get_backbone("squeezenet").map_size(32))
    patch = np.random.default_rng(1).integers(0, 65535, (32, 32), dtype=np.uint16)
    own = np.asarray(model(patch[None, ..., None].astype("float32")))[0]
    wanted = own[1] + own[3]  # calc_mal, mass_mal
    found = overlays.malignancy_map(heat, contract, patch)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_pictures_are_written_for_each_label(patch_model, tmp_path):
    rows = []
    for k in range(4):
        images.write_png(tmp_path / f"{k}.png", np.full((96, 80), 9000 * k, np.uint16))
        rows.append({"image_id": f"i{k}", "patient_id": f"w{k}", "split": "test",
                     "label": k % 2, "path": f"{k}.png"})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "images.csv", index=False)
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
