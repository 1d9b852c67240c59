"""Small nets and images that the tests of dm_models share."""

import keras
import numpy as np
import pytest
from serving_support import export_small

from dm_models.backbones import get_backbone
from dm_models.patch_classifier import PATCH_CLASSES, build_patch_classifier


@pytest.fixture(autouse=True)
def fresh_precision_and_seed():
    """Each test starts from seed 1 in float32 and leaves no policy behind."""
    keras.utils.set_random_seed(1)
    yield
    keras.mixed_precision.set_dtype_policy("float32")


@pytest.fixture
def contract():
    """SqueezeNet's contract for patches of 64 x 64, whose own map is 3 x 3."""
    return get_backbone("squeezenet").contract(
        height=64, width=64, class_names=PATCH_CLASSES
    )


@pytest.fixture
def patch_model(contract):
    """A SqueezeNet patch classifier with random weights."""
    return build_patch_classifier("squeezenet", contract=contract)


@pytest.fixture
def grey_images():
    """Makes raw 16-bit grey levels: (count, height, width) -> (N, H, W, 1) float32."""

    def make(count: int, height: int, width: int) -> np.ndarray:
        levels = np.random.default_rng(7).integers(0, 65536, (count, height, width, 1))
        return levels.astype(np.float32)

    return make


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A small whole-image model: (.keras, MODELS/small), and small.onnx beside it."""
    folder = tmp_path_factory.mktemp("exported")
    return export_small(folder, "--onnx", folder / "small.onnx")
