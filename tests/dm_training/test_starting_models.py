"""Training from a file that Keras 2 saved: what users of the authors' models do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import INBREAST, write_set

from dm_models.weights import load_model, read_contract
from dm_training import image_clf_train

FIXTURES = Path(__file__).parents[1] / "dm_models" / "data" / "keras-2.0.8"
WHOLE = str(FIXTURES / "keras208_vgg_partly_frozen.h5")
PATCH = str(FIXTURES / "keras208_patch.h5")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    women = {"train": 4, "val": 2, "test": 2}
    folder = tmp_path_factory.mktemp("set") / "d"
    return str(write_set(folder, women=women, size=(96, 64)))


def train(table, out, *extra):
    return image_clf_train.main([str(table)] * 3 + ["--out", str(out), *extra])


def test_the_inbreast_command_runs_as_printed_on_a_file_of_keras_2(table, tmp_path):
    flags = [*INBREAST[:2], "64", *INBREAST[3:]]  # 96 x 64, the file's own size
    cropped = Path(table).with_name("cropped.csv")
    pd.read_csv(table).assign(crop_breast=1).to_csv(cropped, index=False)
    best = tmp_path / "B.h5"
    status = train(cropped, tmp_path / "run", "--no-patch-model-state", "--resume-from",
                   WHOLE, *flags, "--best-model", str(best))  # fmt: skip
    assert status == 0
    model, contract = load_model(best)
    assert (contract.mean, contract.scale) == (44.33, 0.003891)
    assert (contract.height, contract.width) == (96, 64)
    assert contract.class_names == ("neg", "pos")
    assert (contract.crop_breast, contract.grey) == (True, "full-range")
    assert model.get_layer("block1_conv1").trainable  # frozen in the file
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "learning rate 1e-06" in log and "weight decay 0.01" in log
    assert "prepared otherwise: crop_breast was no, is yes; the new model is" in log


def test_a_keras_2_file_needs_its_mean(table, tmp_path, capsys):
    assert train(table, tmp_path / "run", "--resume-from", WHOLE) == 2
    said = capsys.readouterr().err
    assert "give --featurewise-mean" in said and "52.18 on DDSM" in said


def test_a_model_of_one_image_size_refuses_another(table, tmp_path, capsys):
    status = train(table, tmp_path / "run", "--resume-from", WHOLE,
                   "--featurewise-mean", "50", "--img-size", "96", "80")  # fmt: skip
    assert status == 2
    assert "takes images of 96 x 64 only" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_patch_classifier_of_keras_2_is_built_upon(tmp_path):
    women = {"train": 4, "val": 2, "test": 2}
    table = str(write_set(tmp_path / "d", women=women, size=(160, 128)))
    status = train(table, tmp_path / "run", "--patch-model-state", PATCH,
                   "--featurewise-mean", "52.18", "--recipe", "vgg16-s10-4x1",
                   "--img-size", "160", "128", "--nb-epoch", "1",
                   "--all-layer-epochs", "1")  # fmt: skip
    assert status == 0
    model, _ = load_model(tmp_path / "run" / "best.keras")
    contract = read_contract(tmp_path / "run" / "best.keras")
    assert (contract.backbone, contract.mean) == ("vgg16", 52.18)
    from dm_models.keras2 import import_keras2

    patch_model, _ = import_keras2(PATCH, mean=52.18)
    for name in ("block1_conv1", "block3_bn"):  # one epoch, of the top alone
        for one, two in zip(
            patch_model.get_layer(name).get_weights(),
            model.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("count", [7, 200, 400, 408, 1200])
def test_images_measured_for_dm_check_are_not_of_one_view_alone(count):
    """Tables hold CC and MLO by turns: every second row would be CC alone."""
    from dm_training.starting_models import _spread

    drawn = _spread(count)
    assert len(set(drawn)) == min(count, 200) and max(drawn) < count
    odd = sum(at % 2 for at in drawn) / len(drawn)
    assert 0.35 < odd < 0.65
