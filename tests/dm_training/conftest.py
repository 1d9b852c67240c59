import numpy as np
import pytest
from tests_support import write_set


@pytest.fixture
def image_set(tmp_path):
    """images.csv of 4 + 2 + 2 women, two images each, 48 x 40."""
    return write_set(tmp_path / "data", women={"train": 4, "val": 2, "test": 2})


@pytest.fixture(autouse=True)
def own_patient_key(tmp_path, monkeypatch):
    """No test makes or reads the key of whoever runs it."""
    monkeypatch.setenv("DM_PATIENT_KEY", str(tmp_path / "of-the-test" / "patient.key"))


@pytest.fixture
def panels(monkeypatch):
    """Draw, and give the two panels as they are before they are framed."""

    from dm_training import desk_overlays, overlay_legend

    def drawn(*arguments, **options):
        held = []
        monkeypatch.setattr(
            overlay_legend, "framed", lambda *given: held.extend(given) or given[0]
        )
        desk_overlays.overlay_image(*arguments, **options)
        return held[0], np.broadcast_to(np.atleast_3d(held[1]), (*held[0].shape, 3))

    return drawn
