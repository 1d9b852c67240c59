import json

import pytest

from dm_training.paper import rehearsal

SIZE = (224, 192)


@pytest.mark.parametrize(
    ("row", "weights", "shown"),
    # VGG16 without top 14,714,688; + Dense 512 x 5 + 5; ResNet50 23,587,712 + 2048 x 5
    # + 5.
    [("vgg16-s10", 14_717_253, [64, 64]), ("resnet50-s1-random", 23_597_957, [64, 64])],
)
def test_a_patch_row_is_its_real_network(row, weights, shown):
    found = rehearsal.rehearse(row, size=SIZE, patch_size=64, seed=1)
    assert (found["weights"], found["input"]) == (weights, shown)
    assert found["finite"] and found["moved"] and 0 < found["loss"] < 20


def test_a_whole_image_row_is_built_at_the_images_size_and_learns():
    row = "vgg16-s10-128x1+64x1"
    found = rehearsal.rehearse(row, size=SIZE, patch_size=64, seed=1)
    assert (found["net"], found["input"]) == ("vgg16", list(SIZE))
    # VGG16, 3x3x512x128 + 128, 4 x 128 of batch norm, 3x3x128x64 + 64, 4 x 64, 64x2+2
    top = 589_952 + 512 + 73_792 + 256 + 130
    assert found["weights"] == 14_714_688 + top
    assert found["finite"] and found["moved"]


def test_rows_that_the_file_holds_are_not_built_again(tmp_path, capsys):
    path = tmp_path / rehearsal.FILE
    one = {"net": "vgg16", "weights": 7, "input": [64, 64], "loss": 1.0,
           "finite": True, "moved": True, "seconds": 0.5}  # fmt: skip
    path.write_text(json.dumps({"rows": {"vgg16-s10": one}}))
    assert rehearsal.main(["vgg16-s10", "--out", str(tmp_path)]) == 0
    assert json.loads(path.read_text())["rows"]["vgg16-s10"]["weights"] == 7


@pytest.mark.parametrize("wrong", [{"finite": False}, {"moved": False}], ids=str)
def test_a_row_that_cannot_be_trained_is_status_1(tmp_path, capsys, wrong):
    one = {"net": "vgg16", "weights": 7, "input": [64, 64], "loss": 1.0,
           "finite": True, "moved": True, "seconds": 0.5} | wrong  # fmt: skip
    path = tmp_path / rehearsal.FILE
    path.write_text(json.dumps({"rows": {"vgg16-s10": one}}))
    assert rehearsal.main(["vgg16-s10", "--out", str(tmp_path)]) == 1
    assert "error: vgg16-s10" in capsys.readouterr().err
