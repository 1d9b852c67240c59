"""The same image gets the same score, to 1e-5, whatever way it takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from desk_support import SIZE, write_model

from dm_models import export
from dm_models.weights import load_model
from dm_preprocess import convert
from dm_preprocess.images import read_png, write_png
from dm_preprocess.phantom_dicom import DIGITAL_MAMMOGRAM, make_uid, write_dicom
from dm_training import predict, scoring
from dm_training.predict import Predictor
from dm_training.scorers import KerasScorer

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5
NUMBER, SOURCE_SIZE = 5, (101, 83)  # no whole multiple of the working size
FLIPS = pytest.mark.parametrize("flips", [1, 4])
FRESH = """
import json, sys
from dm_training.predict import Predictor
model, *paths = sys.argv[1:]
print(json.dumps([
    [one.score for one in Predictor(model, flips=flips).stream(paths)]
    for flips in (1, 4)
]))
"""


def breast(number):
    """12-bit levels: a half disc on air, brighter from one to the next."""
    rng = np.random.default_rng(number)
    rows, cols = np.mgrid[: SOURCE_SIZE[0], : SOURCE_SIZE[1]]
    inside = (rows / SOURCE_SIZE[0] - 0.5) ** 2 + (cols / SOURCE_SIZE[1]) ** 2 < 0.2
    tissue = 900 + 500 * number + 300 * rng.standard_normal(SOURCE_SIZE)
    return np.where(inside, tissue, 20).clip(0, 4095).astype(np.uint16)


def write_scans(folder, *, monochrome1):
    """DICOM files of `breast`, and a table of them for the converter."""
    rows = ["path,patient_id,laterality,view,label"]
    for number in range(NUMBER):
        name = f"{number}.dcm"
        write_dicom(
            folder / name, breast(number), bits_stored=12, monochrome1=monochrome1,
            uids=tuple(make_uid(number, part) for part in "abc"),
            sop_class=DIGITAL_MAMMOGRAM, PatientID=f"W{number}", ImageLaterality="L",
            ViewPosition="CC",
        )  # fmt: skip
        rows.append(f"{name},W{number},L,CC,{number % 2}")
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    return [str(folder / f"{number}.dcm") for number in range(NUMBER)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("same")


@pytest.fixture(scope="module")
def model(place):
    return str(write_model(place / "tiny.keras"))


@pytest.fixture(scope="module")
def scans(place):
    return write_scans(place / "scans", monochrome1=False)


@pytest.fixture(scope="module")
def table(place, scans):
    """What the converter makes of them: PNGs of the working size."""
    out, size = place / "data", [str(side) for side in SIZE]
    source = str(place / "scans")
    assert convert.main(["generic", source, str(out), "--size", *size]) == 0
    return out / "images.csv"


@pytest.fixture(scope="module")
def expected(model, scans):
    """Flips -> the scores of the DICOM files in one stream."""
    found = {
        flips: [one.score for one in Predictor(model, flips=flips).stream(scans)]
        for flips in (1, 4)
    }
    assert np.ptp(found[1]) > 0.01 and abs(found[1][0] - found[4][0]) > TOLERANCE
    return found


def same(scores, expected):
    np.testing.assert_allclose(list(scores), expected, rtol=0, atol=TOLERANCE)


def pngs(table):
    frame = pd.read_csv(table).sort_values("source_path")
    return [str(table.parent / path) for path in frame["path"]]


@FLIPS
def test_alone_or_in_a_batch(model, scans, expected, flips):
    predictor = Predictor(model, flips=flips, batch_size=1)
    same((predictor.predict(path).score for path in scans), expected[flips])


@FLIPS
def test_as_dicom_or_as_the_png_made_of_it(model, table, expected, flips):
    found = Predictor(model, flips=flips).stream(pngs(table))
    same((one.score for one in found), expected[flips])


def test_in_monochrome1_or_2(model, place, expected):
    other = write_scans(place / "inverted", monochrome1=True)
    assert Path(other[0]).read_bytes() != (place / "scans" / "0.dcm").read_bytes()
    same((one.score for one in Predictor(model).stream(other)), expected[1])


def test_as_dicom_or_as_a_png_of_its_own_size(model, place, scans, expected):
    from dm_preprocess.images import to_u16

    paths = [
        write_png(place / "large" / f"{number}.png", to_u16(breast(number), 12))
        for number in range(NUMBER)
    ]
    assert read_png(paths[0]).shape == SOURCE_SIZE
    same((one.score for one in Predictor(model).stream(paths)), expected[1])


@FLIPS
def test_by_the_command_or_by_what_evaluates_a_training(
    model, table, expected, tmp_path, flips
):
    out, tta = tmp_path / "p.csv", ["--tta"] * (flips == 4)
    given = [model, str(table), "--split", "all", "--out", str(out), *tta]
    assert predict.main(given) == 0
    order = pd.read_csv(table)["source_path"].argsort().to_numpy()
    same(pd.read_csv(out)["y_score"].to_numpy()[order], expected[flips])
    net, contract = load_model(model)
    samples = scoring.samples_of_paths([str(table)], "all")
    evaluated = scoring.predict_samples(net, contract, samples, flips=flips)
    same(evaluated["y_score"].to_numpy()[order], expected[flips])


def test_from_a_file_loaded_in_a_fresh_process(model, scans, expected):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", FRESH, model, *scans]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    for scores, flips in zip(json.loads(done.stdout), (1, 4), strict=True):
        same(scores, expected[flips])


@pytest.fixture(scope="module")
def saved_model(model, place):
    out = place / "MODELS" / "tiny" / "1"
    assert export.main([model, "--out", str(out)]) == 0
    return str(out)


@FLIPS
def test_from_the_saved_model(saved_model, scans, expected, flips):
    found = Predictor(saved_model, flips=flips).stream(scans)
    same((one.score for one in found), expected[flips])


def test_from_a_full_h5(model, place, scans, expected):
    from dm_models.weights import save_model

    net, contract = load_model(model)
    path = save_model(net, place / "tiny.h5", contract)
    same((one.score for one in Predictor(path).stream(scans)), expected[1])
    assert KerasScorer(path).version == KerasScorer(Path(model)).version


def test_a_grey_scale_that_an_export_refuses_is_told_in_its_words(
    saved_model, tmp_path
):
    levels = np.arange(96 * 80, dtype=np.uint16).reshape(96, 80) % 256
    write_png(tmp_path / "dim.png", levels)
    found = Predictor(saved_model).predict(tmp_path / "dim.png")
    assert found.status == "failed"
    assert "raw 16-bit grey levels, 0 to 65535, are expected" in found.notes[-1]
