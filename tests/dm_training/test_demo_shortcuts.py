"""The demo's phantoms cannot be told apart without seeing their lesions."""

import numpy as np
import pandas as pd
import pytest

from dm_preprocess import images
from dm_preprocess.phantom import draw_case, render_case
from dm_training import baselines

WOMEN, HEIGHT, WIDTH = 200, 384, 288


@pytest.fixture(scope="module", params=["film", "digital"])
def phantoms(request, tmp_path_factory):
    """images.csv of 400 phantoms, two views a woman."""
    out, rows = tmp_path_factory.mktemp(request.param), []
    for index in range(WOMEN):
        case = draw_case(11, index, domain=request.param)
        for view in ("CC", "MLO"):
            shown = render_case(case, view, height=HEIGHT, width=WIDTH).image
            path = out / f"{index}_{view}.png"
            images.write_png(path, np.round(shown * 65535).astype(np.uint16))
            rows.append({
                "image_id": path.stem, "patient_id": str(index), "view": view,
                "laterality": case.laterality[0], "label": case.malignant,
                "path": path.name,
            })  # fmt: skip
    pd.DataFrame(rows).to_csv(out / "images.csv", index=False)
    return out / "images.csv"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "high"), [("global-statistics", 0.4, 0.6), ("thumbnail", 0, 0.70)]
)
def test_four_hundred_phantoms_give_no_shortcut(phantoms, tmp_path, name, low, high):
    out = str(tmp_path / "out")
    assert baselines.main([name, str(phantoms), "--out", out]) == 0
    scores = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(scores) == 2 * WOMEN
    from dm_training.metrics import auc

    assert low <= auc(scores["y_true"], scores["y_score"]) <= high
