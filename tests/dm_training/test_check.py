"""The command: what it takes, prints and writes, and its exit status."""

import csv
import json

import keras
import numpy as np
import pytest

from dm_models.inputs import InputContract
from dm_models.weights import ModelFileError, save_model
from dm_preprocess.images import write_png
from dm_preprocess.phantom_dicom import DIGITAL_MAMMOGRAM, make_uid, write_dicom
from dm_training import grey_stats
from dm_training.check import check_image, main, read_contract_with_stats, warnings_of
from dm_training.check_rules import CAUSES

HEIGHT, WIDTH = 120, 96


def film(seed=0):
    """A bright half disc with noise at the left, dark air at the right."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    inside = (rows / HEIGHT - 0.5) ** 2 + (cols / WIDTH) ** 2 < 0.2
    tissue = 45000 + 6000 * rng.standard_normal((HEIGHT, WIDTH))
    return np.where(inside, tissue, 300).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def contract():
    return InputContract(
        "squeezenet",
        height=HEIGHT,
        width=WIDTH,
        class_names=("neg", "pos"),
        grey_stats=grey_stats.measure(film(seed) for seed in range(60)),
    )


@pytest.fixture(scope="module")
def net():
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


@pytest.fixture(scope="module")
def model(net, contract, tmp_path_factory):
    return str(save_model(net, tmp_path_factory.mktemp("m") / "m.keras", contract))


@pytest.fixture
def scans(tmp_path):
    """One image as trained on, one inverted, one that is no image."""
    folder = tmp_path / "scans"
    write_png(folder / "good.png", film(50))
    write_png(folder / "deep" / "turned.png", 65535 - film(51))
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def exported(folder, contract):
    """A SavedModel as far as this command looks at one."""
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    (folder / "input_contract.json").write_text(contract.to_json())
    return folder


def test_the_command_is_status_0_where_all_is_in_range(model, tmp_path, capsys):
    for seed in (50, 51):
        write_png(tmp_path / "scans" / f"{seed}.png", film(seed))
    assert main([model, str(tmp_path / "scans")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == (
        f"2 images checked against 60 training images of {model}: 0 out of range, "
        "0 unreadable"
    )
    assert all(line.endswith("none") for line in said[2:-1])
    assert len(said) == 3 + len(grey_stats.STATISTICS) - 1  # of 60, no "stretched"


def test_the_command_names_the_image_the_amount_and_the_cure(model, scans, capsys):
    assert main([model, str(scans), "--jobs", "1"]) == 1
    said = capsys.readouterr()
    corners = next(x for x in said.out.splitlines() if x.startswith("corners"))
    assert "1 of 2; deep/turned.png: " in corners and corners.endswith(" above")
    advice = said.out.split("What to do:\n")[1].splitlines()
    assert advice[0] == f"- 1 of 2 images: {CAUSES['inverted'].what}."
    assert advice[1].strip() == CAUSES["inverted"].cure
    assert advice[2].strip() == "deep/turned.png"
    assert "failed: bad.png: " in said.err
    assert "2 images checked" in said.out and "1 unreadable" in said.out
    bad, good = str(scans / "bad.png"), str(scans / "good.png")
    assert main([model, good, bad]) == 1  # unreadable is status 1 by itself


def test_json_tells_everything_image_by_image(model, scans, capsys):
    assert main([model, str(scans), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["checked"], found["out_of_range"]) == (2, 1)
    assert (found["training_images"], found["rests_on_few"]) == (60, False)
    assert [one["image_id"] for one in found["failed"]] == ["bad.png"]
    turned, good = found["images"]  # in the order of their paths
    assert good["in_range"] and not good["out_of_range"] and good["warnings"] == []
    assert turned["causes"] == ["inverted"]
    assert turned["warnings"][0].startswith("inverted polarity")
    for each in turned["out_of_range"]:
        trained = found["trained_on"][each["statistic"]]
        assert (each["low"], each["high"]) == (trained["low"], trained["high"])
        assert not each["least_allowed"] <= each["value"] <= each["most_allowed"]
    assert turned["warnings"] == warnings_of(
        65535 - film(51), read_contract_with_stats(model), (HEIGHT, WIDTH)
    )


def test_a_table_has_a_line_an_image_and_is_not_overwritten(model, scans, capsys):
    out = scans.parent / "new" / "checked.csv"
    assert main([model, str(scans), "--out", str(out)]) == 1
    assert f"1 unreadable -> {out}" in capsys.readouterr().out
    with open(out, newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"good.png", "deep/turned.png", "bad.png"}
    assert (rows["good.png"]["in_range"], rows["good.png"]["causes"]) == ("1", "")
    turned = rows["deep/turned.png"]
    assert (turned["in_range"], turned["causes"]) == ("0", "inverted")
    assert float(turned["corner_minus_centre"]) > 0
    assert rows["bad.png"]["error"] and not rows["bad.png"]["in_range"]
    assert [path.name for path in out.parent.iterdir()] == ["checked.csv"]
    assert main([model, str(scans), "--out", str(out)]) == 2
    assert "exists already (--overwrite" in capsys.readouterr().err
    assert main([model, str(scans), "--out", str(out), "--overwrite"]) == 1


def test_few_training_images_and_a_common_shift_are_said(
    net, contract, model, tmp_path, capsys
):
    for seed in range(60, 80):
        write_png(
            tmp_path / "s" / f"{seed}.png", (film(seed) * 0.985).astype(np.uint16)
        )
    few = grey_stats.measure(film(seed) for seed in range(20))
    small = save_model(net, tmp_path / "few.keras", contract.replace(grey_stats=few))
    assert main([str(small), str(tmp_path / "s")]) == 0
    said = capsys.readouterr().out
    assert "The ranges rest on 20 training images only" in said
    assert main([model, str(tmp_path / "s")]) == 0  # each is in range
    said = capsys.readouterr().out
    assert "rest on" not in said
    assert "Together: at least 85% of these images" in said
    assert "mean grey level below" in said


def test_every_form_of_a_model_and_a_table_are_taken(net, contract, tmp_path, capsys):
    one = exported(tmp_path / "exported", contract)
    exported(tmp_path / "models" / "name" / "1", contract.replace(grey_stats=None))
    exported(tmp_path / "models" / "name" / "2", contract)
    extra = exported(tmp_path / "served", contract)
    (extra / "assets.extra").mkdir()
    (extra / "input_contract.json").rename(extra / "assets.extra/input_contract.json")
    (tmp_path / "run").mkdir()
    save_model(net, tmp_path / "run" / "best.keras", contract)
    h5 = save_model(net, tmp_path / "m.h5", contract)
    forms = (one, tmp_path / "models" / "name", extra, tmp_path / "run", h5)
    for form in forms:  # of versions, the highest
        assert read_contract_with_stats(form) == contract
    write_png(tmp_path / "a.png", film(50))
    write_png(tmp_path / "b.png", 65535 - film(51))
    columns = "image_id,patient_id,laterality,view,split,label,path"
    rows = [columns, "a,1,L,CC,train,0,a.png", "b,2,L,CC,test,1,b.png"]
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    table = str(tmp_path / "images.csv")
    assert main([str(one), table, "--split", "train"]) == 0
    assert "1 image checked" in capsys.readouterr().out
    assert main([str(tmp_path / "run"), table]) == 1


def test_a_window_is_applied_where_the_model_was_trained_with_it(
    net, contract, tmp_path
):
    path, name = tmp_path / "scans" / "1.dcm", "SECRET^NAME"
    stored = (film(50) // 4 + 8000).astype(np.uint16)  # 0 is shown from 8000 on
    write_dicom(path, stored, bits_stored=16, sop_class=DIGITAL_MAMMOGRAM,
                uids=tuple(make_uid(k) for k in range(3)), PatientName=name,
                WindowCenter=8000 + 8192, WindowWidth=16384)  # fmt: skip
    windowed = contract.replace(voi=True)
    for form, status in ((contract, 1), (windowed, 0)):
        model = save_model(net, tmp_path / "m.keras", form)
        assert main([str(model), str(tmp_path / "scans")]) == status


def test_nothing_of_a_header_is_told(model, tmp_path, capsys):
    path, name = tmp_path / "1.dcm", "SECRET"
    write_dicom(path, film(50) // 16, bits_stored=12, sop_class=DIGITAL_MAMMOGRAM,
                uids=("1.2.3.9999", "1.2.3.9999", "1.2.3.9999"), PatientName=name,
                PatientID=name, StationName=name, DeviceSerialNumber=name)  # fmt: skip
    (tmp_path / "2.dcm").write_bytes(path.read_bytes()[:-2000])
    out = tmp_path / "checked.csv"
    for options in (["--json"], ["--out", str(out)]):
        main([model, str(path), str(tmp_path / "2.dcm"), *options])
    said = capsys.readouterr()
    told = said.out + said.err + out.read_text()
    assert "2.dcm" in told and "SECRET" not in told and "9999" not in told


def test_a_model_without_statistics_is_status_2(contract, tmp_path, capsys):
    bare = contract.replace(grey_stats={"mean": 50.0, "source": "given"})
    exported(tmp_path / "bare", bare)
    assert main([str(tmp_path / "bare"), str(tmp_path)]) == 2
    assert "carries no grey statistics" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, match",
    [
        (None, "no input_contract.json in it"),
        ("{", "is not JSON"),
        ('{"format": 1, "backbone": "x", "grey_stats": {"statistics": {}}}', "format"),
    ],
    ids=["no contract", "broken contract", "statistics of another format"],
)
def test_a_folder_that_is_no_model_is_refused(text, match, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    if text:
        (tmp_path / "input_contract.json").write_text(text)
    with pytest.raises(ModelFileError, match=match):
        read_contract_with_stats(tmp_path)


def test_wrong_paths_are_status_2(model, tmp_path, capsys):
    assert main([model, str(tmp_path), "--jobs", "0"]) == 2
    assert main([model, str(tmp_path / "none")]) == 2
    assert main([str(tmp_path / "none.keras"), str(tmp_path)]) == 2
    assert main([str(tmp_path), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "none: no such file or folder" in said
    assert "none.keras: no such model file" in said
    assert "neither a SavedModel" in said


def test_python_callers_find_the_rule_here(contract):
    assert check_image(film(99), contract).warnings == []
