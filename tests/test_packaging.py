"""The wheel works outside the tree: commands, and the weights that travel with it."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("setup.py", "pyproject.toml", "requirements.txt", "requirements-test.txt",
          "README.md", "LICENSE")  # fmt: skip
PACKAGES = ("dm_preprocess", "dm_models", "dm_training")
WEIGHTS = "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"

LOAD_WEIGHTS = """
import sys
from dm_models import backbones, imagenet, patch_classifier
contract = backbones.get_backbone("squeezenet").contract(
    height=64, width=64, class_names=patch_classifier.PATCH_CLASSES)
model = patch_classifier.build_patch_classifier("squeezenet", contract=contract)
print(imagenet.load_imagenet(model, "squeezenet"))
"""

pytestmark = pytest.mark.slow


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the wheel, made of a copy of the tree, was installed."""
    tree, wheels, target = (
        tmp_path_factory.mktemp(name) for name in ("tree", "wheels", "target")
    )
    for name in NEEDED:
        shutil.copy(ROOT / name, tree)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, tree)
    pip("install", "--no-deps", "--target", target, *wheels.glob("*.whl"))
    return target


def run(*command, target, cwd):
    """Run with the installed packages alone to import from."""
    environment = {**os.environ, "PYTHONPATH": str(target)}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd,
        env=environment, timeout=120,
    )  # fmt: skip


def test_every_command_gives_its_help_from_an_empty_folder(installed, tmp_path):
    distribution = next(iter(metadata.distributions(path=[str(installed)])))
    commands = [e.name for e in distribution.entry_points if e.name.startswith("dm-")]
    assert len(commands) == 14
    for command in commands:
        script = installed / "bin" / command
        done = run(sys.executable, script, "--help", target=installed, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert done.stdout.startswith("usage: "), command
    assert list(tmp_path.iterdir()) == []


def test_the_squeezenet_weights_are_loaded_from_the_installed_package(
    installed, tmp_path
):
    done = run(sys.executable, "-c", LOAD_WEIGHTS, target=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = Path(done.stdout.splitlines()[-1])
    assert found == installed / "dm_models" / "data" / WEIGHTS
    assert (found.parent / "LICENSE-squeezenet").is_file()


def test_a_report_finds_its_style_and_script_in_the_installed_package(
    installed, tmp_path
):
    command = ["-m", "dm_training.report", "--out", "r.html", "--title", "T"]
    done = run(sys.executable, *command, target=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--paper" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert (installed / "dm_training" / "report_page.js").is_file()
    assert (installed / "dm_training" / "serving" / "page.html").is_file()


def test_the_wheel_holds_the_packages_and_no_tests(installed):
    names = {path.name for path in installed.iterdir() if path.is_dir()}
    assert set(PACKAGES) <= names
    assert not {"tests", "build"} & names
