import keras
import numpy as np
import pytest

from dm_models.inputs import InputContract
from dm_models.weights import ModelFileError, save_model
from dm_preprocess.images import write_png
from dm_training import check, grey_stats
from dm_training.check import ADVICE, check_image, main, read_contract_with_stats

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
        grey_stats=grey_stats.measure(film(seed) for seed in range(8)),
    )


@pytest.fixture(scope="module")
def model(contract, tmp_path_factory):
    inputs = keras.Input((None, None, 1))
    net = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    return str(save_model(net, tmp_path_factory.mktemp("m") / "m.keras", contract))


def bordered(image):
    """Air at the top, below and at the right: the image is a ninth of the whole."""
    return np.pad(image, ((HEIGHT, HEIGHT), (0, 2 * WIDTH)), constant_values=300)


@pytest.mark.parametrize(
    "image, cause",
    [
        (65535 - film(99), "inverted"),
        (film(99) // 16, "unscaled"),
        (film(99) // 64, "unscaled"),
        (film(99) * 0.35 + 5000, "levels"),
        (film(99)[:, :40], "cropped"),
        (np.where(film(99) > 1000, 65535, 300) * 1.0, "bright"),
        (film(99) // 257 * 257, "8-bit"),
        (film(99)[::3, ::3], "small"),
        (film(99).T, "aspect"),
        (bordered(film(99)), "border"),
    ],
    ids=[
        "MONOCHROME1", "12 bits", "10 bits", "flat", "cropped", "saturated", "8 bits",
        "preview", "on its side", "border",
    ],
)  # fmt: skip
def test_each_usual_mistake_is_named(image, cause, contract):
    checked = check_image(image.astype(np.uint16), contract)
    assert checked.excesses
    assert cause in checked.causes


def test_the_mistake_that_explains_most_is_the_one_named(contract, monkeypatch):
    good = film(99)
    tried = [("inverted", lambda grey: good // 3), ("border", lambda grey: good)]
    monkeypatch.setattr(check, "_remedies", lambda image: tried)
    assert check_image(65535 - good, contract).causes == ("border",)


def test_films_of_the_same_kind_are_in_range_at_any_size(contract):
    for times in (1, 2, 5):
        image = film(99).repeat(times, axis=0).repeat(times, axis=1)
        checked = check_image(image, contract)
        assert (checked.excesses, checked.causes) == ([], ())


def test_every_cause_that_is_given_has_advice(contract):
    given = {check._unexplained(by) for by in ({}, {"p99": -9.0}, {"mean": 9.0},
             {"breast_share": 0.3}, {"breast_share": -0.3})}  # fmt: skip
    assert given == {"other", "dark", "bright", "cropped", "border"}
    remedies = {name for name, _ in check._remedies(film() // 16)}
    assert {"inverted", "unscaled", "border", "levels"} == remedies
    assert given | remedies | {"8-bit", "aspect", "small"} == set(ADVICE)


def test_the_command_is_status_0_where_all_is_in_range(model, tmp_path, capsys):
    for seed in (50, 51):
        write_png(tmp_path / "scans" / f"{seed}.png", film(seed))
    assert main([model, str(tmp_path / "scans")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == (
        f"2 images checked against 8 training images of {model}: 0 out of range, "
        "0 unreadable"
    )
    assert all(line.endswith("none") for line in said[2:-1])
    assert len(said) == 3 + len(grey_stats.STATISTICS)


def test_the_command_names_the_image_the_amount_and_the_cure(model, tmp_path, capsys):
    write_png(tmp_path / "good.png", film(50))
    write_png(tmp_path / "turned.png", 65535 - film(51))
    (tmp_path / "bad.png").write_bytes(b"no image")
    names = [str(tmp_path / f"{name}.png") for name in ("good", "turned", "bad")]
    assert main([model, *names, "--jobs", "1"]) == 1
    said = capsys.readouterr()
    corners = next(x for x in said.out.splitlines() if x.startswith("corners"))
    assert "1 of 2; turned.png: " in corners and corners.endswith(" above")
    assert f"- turned.png: {ADVICE['inverted']}" in said.out
    assert "failed: bad.png: " in said.err
    assert "2 images checked" in said.out and "1 unreadable" in said.out
    assert main([model, names[0], names[2]]) == 1  # unreadable is status 1 by itself


def test_an_exported_model_and_a_table_are_taken_too(contract, tmp_path, capsys):
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "input_contract.json").write_text(contract.to_json())
    write_png(tmp_path / "a.png", film(50))
    write_png(tmp_path / "b.png", 65535 - film(51))
    columns = "image_id,patient_id,laterality,view,split,label,path"
    rows = [columns, "a,1,L,CC,train,0,a.png", "b,2,L,CC,test,1,b.png"]
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    table = str(tmp_path / "images.csv")
    assert main([str(folder), table, "--split", "train"]) == 0
    assert main([str(folder), table]) == 1
    assert "2 images checked" in capsys.readouterr().out


def test_a_model_without_statistics_is_status_2(contract, tmp_path, capsys):
    bare = contract.replace(grey_stats={"mean": 50.0, "source": "given"})
    (tmp_path / "input_contract.json").write_text(bare.to_json())
    assert main([str(tmp_path), str(tmp_path)]) == 2
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
    if text:
        (tmp_path / "input_contract.json").write_text(text)
    with pytest.raises(ModelFileError, match=match):
        read_contract_with_stats(tmp_path)


def test_wrong_paths_are_status_2(model, tmp_path, capsys):
    assert main([model, str(tmp_path / "none")]) == 2
    assert main([str(tmp_path / "none.keras"), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "none: no such file or folder" in said
    assert "none.keras: no such model file" in said
