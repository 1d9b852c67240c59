import pytest
from tests_support import write_set


@pytest.fixture
def image_set(tmp_path):
    """images.csv of 4 + 2 + 2 women, two images each, 48 x 40."""
    return write_set(tmp_path / "data", women={"train": 4, "val": 2, "test": 2})
