"""The converter's options reach the model's contract, and a file is prepared alike."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest

from dm_models.inputs import PREPARATION, InputContract
from dm_models.weights import load_model, save_model
from dm_preprocess import splits
from dm_preprocess.convert import main as convert
from dm_preprocess.images import read_png
from dm_preprocess.phantom_dicom import DIGITAL_MAMMOGRAM, make_uid, write_dicom
from dm_preprocess.tables import read_images
from dm_training.intake import read_intake
from dm_training.preparation import (
    preparation_of,
    say_new_preparation,
    with_preparation,
)
from dm_training.samples import Samples, SamplesError, read_samples
from dm_training.scorers import prepare

CLASSES = ("neg", "pos")
SIZE = (64, 48)
CHANGED = {"crop_breast": True, "grey": "auto-level", "voi": True}


def film(seed):
    """12 bits: a half disc at the left in a wide frame of air that is not black."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:200, :180]
    tissue = (rows - 90 - seed) ** 2 + (cols - 10) ** 2 < 60**2
    levels = np.where(tissue, 1800 + rng.normal(0, 200, tissue.shape), 120)
    return levels.clip(0, 4095).astype(np.uint16)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eight DICOM files of eight women, with a window that is narrower than 12 bits."""
    src = tmp_path_factory.mktemp("src")
    rows = ["path,label,patient_id,laterality,view"]
    for k in range(8):
        write_dicom(
            src / f"{k}.dcm", film(k), bits_stored=12, sop_class=DIGITAL_MAMMOGRAM,
            uids=tuple(make_uid(k, kind) for kind in range(3)),
            WindowCenter=1500, WindowWidth=2400,
        )  # fmt: skip
        rows.append(f"{k}.dcm,{k % 2},w{k},L,CC")
    (src / "images.csv").write_text("\n".join(rows) + "\n")
    return src


def converted(source, out, *options):
    size = ["--size", *map(str, SIZE), "--jobs", "1"]
    assert convert(["generic", str(source), str(out), *size, *options]) == 0
    return out / "images.csv"


def samples_of(frame, where="images.csv"):
    return Samples(pd.DataFrame(frame), CLASSES, where, has_patients=True)


ALL_OPTIONS = [
    list(itertools.compress(("--crop-breast", "--grey=auto-level", "--voi"), chosen))
    for chosen in itertools.product((False, True), repeat=3)
]


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("options", ALL_OPTIONS, ids=lambda o: " ".join(o) or "none")
def test_a_dicom_and_the_png_made_of_it_become_the_same_array(
    source, tmp_path, options, fit
):
    table = converted(source, tmp_path / "out", *options, "--fit", fit)
    samples = read_samples(table, "train", classes=CLASSES)
    made = InputContract("squeezenet", height=SIZE[0], width=SIZE[1],
                         class_names=CLASSES, fit=fit)  # fmt: skip
    made = made.replace(**preparation_of(samples))
    inputs = keras.Input((None, None, 1))
    net = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    _, contract = load_model(save_model(net, tmp_path / "m.keras", made))
    plain = made.replace(**PREPARATION)
    for path, source_path in zip(
        samples.paths, samples.frame["source_path"], strict=True
    ):
        dicom = tmp_path / "out" / source_path
        grey = read_intake(dicom, voi=contract.voi).grey
        expected = read_png(path)
        np.testing.assert_array_equal(prepare(grey, contract), expected)
        # a PNG at the working size is taken as made already, by any contract
        np.testing.assert_array_equal(prepare(expected, contract), expected)
        if options:
            other = prepare(read_intake(dicom).grey, plain)
            assert (other != expected).any()


def test_the_converter_tells_of_what_is_not_the_default_alone(source, tmp_path):
    plain = read_images(converted(source, tmp_path / "plain"))
    assert not set(PREPARATION) & set(plain)
    options = ["--crop-breast", "--grey", "auto-level", "--voi"]
    table = converted(source, tmp_path / "all", *options)
    assert preparation_of(read_samples(table, "train", classes=CLASSES)) == CHANGED
    again = converted(source, tmp_path / "all", *options)  # every image is there
    assert preparation_of(read_samples(again, "train", classes=CLASSES)) == CHANGED


def test_a_split_keeps_the_settings(source, tmp_path):
    table = converted(source, tmp_path / "out", "--crop-breast", "--grey", "auto-level")
    out = tmp_path / "split" / "images.csv"
    assert splits.main([str(table), "--out", str(out), "--seed", "1"]) == 0
    found = read_samples(out, "train", classes=CLASSES)
    assert preparation_of(found) == {**CHANGED, "voi": False}


def test_a_table_that_does_not_say_changes_nothing():
    assert preparation_of(samples_of({"path": ["a.png"]})) == {}
    contract = InputContract("vgg16", **CHANGED)
    role = {"train": samples_of({"path": ["a.png"]})}
    assert with_preparation(contract, role, [].append) == contract
    # a table of the converter's without these columns means its defaults
    role = {"train": samples_of({"path": ["a.png"], "row_scale": [0.5]})}
    assert with_preparation(contract, role, [].append) == InputContract("vgg16")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"grey": ["auto-level", "", "auto-level"]},
         r"column grey: .* auto-level \(2 rows\) and full-range \(1 rows\)"),
        ({"crop_breast": ["", "1", "1.0"]},
         r"column crop_breast: .* no \(1 rows\) and yes \(2 rows\)"),
        ({"voi": [1, 1, 7]}, "column voi: must be 0 or 1, received '7'"),
        ({"grey": ["equalized"] * 3}, "must be full-range or auto-level, received 'eq"),
    ],
    ids=["grey", "crop", "a number", "a word"],
)  # fmt: skip
def test_rows_that_differ_or_say_something_else_are_refused(cells, message):
    with pytest.raises(SamplesError, match=message):
        preparation_of(samples_of(cells))


def test_other_splits_prepared_otherwise_are_said():
    said = []
    roles = {"train": samples_of({"grey": ["auto-level"], "row_scale": [1]}),
             "val": samples_of({"grey": ["auto-level"], "row_scale": [1]}),
             "test": samples_of({"row_scale": [1]})}  # fmt: skip
    assert with_preparation(InputContract("vgg16"), roles, said.append).grey == (
        "auto-level"
    )
    assert said == [
        "images were converted with grey auto-level",
        "warning: test images are not prepared as train's: grey was auto-level, is "
        "full-range",
    ]


def test_training_on_images_made_otherwise_is_warned_of():
    said, old = [], InputContract("vgg16", voi=True)
    say_new_preparation(old, old, said.append)
    assert said == []
    say_new_preparation(old, old.replace(fit="pad", crop_breast=True), said.append)
    assert [line.split("otherwise: ")[1].split(";")[0] for line in said] == [
        "crop_breast was no, is yes", "fit was squash, is pad",
    ]  # fmt: skip
