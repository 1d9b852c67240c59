"""Pictures and DICOM objects that `dm-predict` writes beside its table."""

import numpy as np
import pytest
from desk_support import MeanScorer, write_images

from dm_preprocess.phantom_dicom import DIGITAL_MAMMOGRAM, make_uid, write_dicom
from dm_training import predict, scorers
from dm_training.desk_journal import Journal


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Two DICOM files and a PNG; the model has no map."""
    monkeypatch.setattr(scorers, "open_models", lambda paths: MeanScorer())
    levels = np.random.default_rng(0).integers(0, 4096, (96, 80)).astype(np.uint16)
    for name in "ab":
        write_dicom(
            tmp_path / "scans" / f"{name}.dcm", levels, bits_stored=12,
            uids=tuple(make_uid(name, part) for part in "xyz"), PatientID=f"W{name}",
            sop_class=DIGITAL_MAMMOGRAM, ImageLaterality="L", ViewPosition="CC",
        )  # fmt: skip
    write_images(tmp_path / "scans", 1, names=["c"])
    return tmp_path / "scans"


def run(scans, out, *options):
    given = ["model.keras", scans, "--out", out, *options]
    return predict.main([str(part) for part in given])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_image_has_an_overlay_and_each_dicom_file_two_objects(scans, tmp_path):
    heat, objects = tmp_path / "heat", tmp_path / "objects"
    options = ("--overlay", heat, "--dicom-out", objects)
    assert run(scans, tmp_path / "s.csv", *options) == 0
    assert names(heat) == [
        "a.dcm.overlay.png", "b.dcm.overlay.png", "c.png.overlay.png"
    ]  # fmt: skip
    assert names(objects) == [
        f"{name}.dcm.{kind}.dcm" for name in "ab" for kind in ("overlay", "report")
    ]
    assert (tmp_path / "s.csv").read_text().count("this model has no map") == 3


def test_objects_that_are_there_are_replaced_by_flag_alone(scans, tmp_path):
    options = ("--dicom-out", tmp_path / "objects")
    assert run(scans, tmp_path / "s.csv", *options) == 0
    assert run(scans, tmp_path / "t.csv", *options) == 1
    assert "nothing drawn or written" in (tmp_path / "t.csv").read_text()
    assert run(scans, tmp_path / "t.csv", *options, "--overwrite") == 0


def test_a_run_killed_before_it_noted_an_image_writes_its_objects_again(
    scans, tmp_path, monkeypatch
):
    def killed(self, *given):
        raise KeyboardInterrupt

    command = (scans, tmp_path / "s.csv", "--dicom-out", tmp_path / "objects")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", killed)
        assert run(*command) == 1
    assert len(names(tmp_path / "objects")) == 2
    assert run(*command) == 0
    assert len(names(tmp_path / "objects")) == 4
