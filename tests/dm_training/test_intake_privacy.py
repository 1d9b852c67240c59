"""What a header holds stays in it: markers in every field, and all outputs searched."""

import csv
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from planted_header import find_planted, planted_mammogram, variants

import dm_training
from dm_training.intake import IntakeError, read_intake

ROOT = Path(dm_training.__file__).parent.parent
VENDOR = "ZQX00080070"  # Manufacturer: the one text that a table of images keeps
VARIANTS = variants()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The variants as files with neutral names."""
    folder = tmp_path_factory.mktemp("planted")
    for number, data in enumerate(VARIANTS.values()):
        (folder / f"image{number:02d}.dcm").write_bytes(data)
    return folder


def everything(source, **options) -> list[str]:
    """All that `read_intake` lets out, the traceback of its error among it."""
    try:
        intake = read_intake(source, **options)
    except (IntakeError, OSError) as err:
        return [str(err), "".join(traceback.format_exception(err))]
    return [repr(intake), intake.patient, intake.study, *intake.notes,
            *intake.unsuitable]  # fmt: skip


def test_markers_are_found_wherever_they_are(tmp_path):
    data = planted_mammogram()
    found = find_planted([data])
    assert len(found) > 1500  # every text, date, number in text and UID there is
    for kind in ("ZQX00100010", "ZQX00111001", "ZQX60000022", "ZQX00020016"):
        assert kind in found
    assert find_planted(["born 1937-04-12", "id 770077001"]) == [
        "1937-04-12", "770077001"
    ]  # fmt: skip
    (tmp_path / "a.txt").write_text("ZQX00100020")
    assert find_planted([tmp_path]) == ["ZQX00100020"]
    assert find_planted(["a mammogram of 1937 x 770 pixels"]) == []


@pytest.mark.parametrize("name", VARIANTS)
def test_no_field_leaves_the_intake(name, tmp_path, capfd, caplog, recwarn):
    logging.getLogger().setLevel(logging.DEBUG)
    path = tmp_path / "a.dcm"
    path.write_bytes(VARIANTS[name])
    said = everything(path, patient_key=lambda patient: "k")
    said += everything(VARIANTS[name])
    shown = capfd.readouterr()
    warned = [str(warning.message) for warning in recwarn]
    assert find_planted([*said, *shown, caplog.text, *warned]) == []


def test_variants_are_read_and_refused_as_they_should_be():
    refused = {
        "PhotometricInterpretation", "tomosynthesis", "no rows", "no pixels",
        "values too high", "frames in words", "rows in words", "unknown syntax",
        "compressed by name only", "cut in the header", "cut in the pixels",
    }  # fmt: skip
    for name, data in VARIANTS.items():
        if name in refused:
            with pytest.raises(IntakeError, match="^the upload: "):
                read_intake(data)
        elif name != "lengths broken":  # what is left of that one may be either
            assert read_intake(data).is_dicom


def test_raw_patient_id_leaves_only_where_it_is_asked_for():
    intake = read_intake(VARIANTS["good"], patient_key=str.lower, keep=True)
    assert intake.patient_raw == "ZQX00100020"
    assert find_planted([repr(read_intake(VARIANTS["good"], keep=True))]) == []
    assert read_intake(VARIANTS["good"]).patient_raw == ""


def test_known_terms_and_numbers_are_shown_and_nothing_else():
    def message(**tags):
        with pytest.raises(IntakeError) as caught:
            read_intake(planted_mammogram(**tags))
        return str(caught.value)

    assert message(PhotometricInterpretation="RGB").endswith("received 'RGB'")
    assert message(BitsAllocated=32).endswith("must be 8 or 16, received 32")
    hidden = message(PhotometricInterpretation="JANE")
    assert hidden.endswith("received a value that is not shown")


def run(module, *arguments):
    """A command in a process of its own: its exit status and all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_converting_lets_out_no_field_but_the_vendor(folder, tmp_path):
    with open(folder / "images.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "patient_id", "laterality", "view"])
        for number, _ in enumerate(VARIANTS):
            table.writerow([f"image{number:02d}.dcm", 0, f"P{number}", "L", "MLO"])
    try:
        status, shown = run(
            "dm_preprocess.convert", "generic", folder, tmp_path / "out", "--jobs", 1,
            "--size", 48, 40,
        )  # fmt: skip
    finally:
        (folder / "images.csv").unlink()
    assert status == 1, shown  # some are refused, and listed
    assert (tmp_path / "out" / "images.csv").is_file(), shown
    assert find_planted([shown]) == []
    assert find_planted([tmp_path / "out"]) == [VENDOR]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import keras

    from dm_models.inputs import InputContract
    from dm_models.weights import save_model
    from dm_training import grey_stats

    rng = np.random.default_rng(0)
    films = (rng.integers(0, 65536, (48, 40), dtype=np.uint16) for _ in range(8))
    contract = InputContract(
        "squeezenet", height=48, width=40, class_names=("neg", "pos"),
        grey_stats=grey_stats.measure(films),
    )  # fmt: skip
    inputs = keras.Input((None, None, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    net = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(pooled))
    return save_model(net, tmp_path_factory.mktemp("m") / "m.keras", contract)


def test_predicting_lets_out_no_field(folder, model, tmp_path):
    out = tmp_path / "scores.csv"
    status, shown = run("dm_training.predict", model, folder, "--out", out)
    assert status == 1 and out.is_file(), shown
    assert find_planted([shown, tmp_path]) == []


def test_checking_lets_out_no_field(folder, model):
    status, shown = run("dm_training.check", model, folder)
    assert status == 1, shown
    assert "image" in shown and find_planted([shown]) == []
