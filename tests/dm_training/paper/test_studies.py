import json

import numpy as np
import pandas as pd
import pytest

from dm_models.published import FOUR_BEST
from dm_training.paper import studies
from dm_training.paper.results import Results
from dm_training.paper.scales import DEMO
from dm_training.paper.schedule import DONE, FAILED, Outcome
from dm_training.paper.stages import Settings
from dm_training.report_parts import Section


def scores(path, split, seed, women=12, **columns):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(women) % 2, 2)
    logit = 2 * truth - 1 + rng.normal(size=2 * women)
    frame = pd.DataFrame({
        "image_id": [f"{split}{k}" for k in range(2 * women)],
        "patient_id": [f"{split}_w{k // 2}" for k in range(2 * women)],
        "laterality": "L", "view": ["CC", "MLO"] * women, "split": split,
        "y_true": truth, "y_score": 1 / (1 + np.exp(-logit)), "flips": 4,
    }).assign(**columns)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return frame


def reproduction(out, **columns):
    """The four runs' scores of film images, as their trainings leave them."""
    for seed, row in enumerate(FOUR_BEST.values()):
        for split in ("val", "test"):
            name = f"predictions_{split}_augmented.csv"
            frame = scores(out / "whole" / row / name, split, seed, **columns)
    images = frame[["image_id", "patient_id", "split"]].assign(
        path="missing.png", label=frame["y_true"]
    )
    (out / "splits" / "film").mkdir(parents=True)
    images.to_csv(out / "splits" / "film" / "images.csv", index=False)
    return out


def results(out, status=DONE):
    outcome = Outcome(status)
    return Results(out, Settings(DEMO), {"ensemble.film": outcome})


@pytest.fixture
def without_models(monkeypatch):
    """No trained nets here, so no maps; the pictures have tests of their own."""
    monkeypatch.setattr("dm_training.study.pictures", lambda study: ([], {}))


def test_the_mean_of_the_four_is_studied_beside_each(tmp_path, without_models):
    sections = studies.study_sections(results(reproduction(tmp_path)))
    titles = [section.title for section in sections]
    assert titles[0] == "Film, mean of the four: Results"
    assert "Film, mean of the four: Operating point" in titles
    facts = json.loads((tmp_path / "evaluation_film.json").read_text())
    assert facts["model"] == "ensemble of 4"
    assert set(facts["paired_differences"]) == set(FOUR_BEST)
    assert facts["operating_point"]["fitted_on"]["split"] == "val"


def test_what_cannot_be_measured_is_said_and_the_rest_goes_on(
    tmp_path, without_models
):
    out = reproduction(tmp_path, y_true=1)
    (section,) = studies.study_sections(results(out))
    assert isinstance(section, Section)
    assert section.paragraphs[0].startswith("Not measured: one class only")


def test_an_ensemble_that_failed_has_no_study(tmp_path):
    assert studies.study_sections(results(tmp_path, FAILED)) == []
