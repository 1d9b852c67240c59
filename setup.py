"""Packaging: `pip install .` gives the packages and the console commands."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The requirement lines of a file, without comments."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and line[0] != "#"]


setup(
    name="dm-mammography",
    version="0.1.0",
    description="From mammogram DICOMs to a whole-image cancer classifier",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "dm_models/data/LICENSE*"],
    python_requires=">=3.11",
    packages=find_packages(include=["dm_*", "dm_*.*"]),
    package_data={
        "dm_models": ["data/*"],
        "dm_training": ["*.css", "*.js", "serving/page.*"],
    },
    install_requires=requirements("requirements.txt"),
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "dask": ["distributed>=2026.8,<2026.9"],
        "jax": ["jax>=0.10,<0.11"],
        "onnx": ["tf2onnx>=1.17,<2", "onnxruntime>=1.31,<2"],
        "test": requirements("requirements-test.txt"),
        # What bin/benchmark.sh compares with, where it is there. PyTorch is not named:
        # its build for a machine's processor or GPU is better chosen by hand.
        "benchmark": [
            "onnxruntime>=1.31,<2",
            "openvino>=2026.4,<2027",
            "tf2onnx>=1.17,<2",
            "tf_keras>=2.21,<2.22",
        ],
    },
    entry_points={
        "console_scripts": [
            "dm-convert = dm_preprocess.convert:main",
            "dm-audit = dm_preprocess.audit:main",
            "dm-split = dm_preprocess.splits:main",
            "dm-sample = dm_preprocess.patches:main",
            "dm-train-patch = dm_training.patch_clf_train:main",
            "dm-train-image = dm_training.image_clf_train:main",
            "dm-predict = dm_training.predict:main",
            "dm-evaluate = dm_training.evaluate:main",
            "dm-decide = dm_training.decide:main",
            "dm-ensemble = dm_training.ensemble:main",
            "dm-learning-curve = dm_training.learning_curve:main",
            "dm-export = dm_models.export:main",
            "dm-serve = dm_training.serve:main",
            "dm-check = dm_training.check:main",
        ]
    },
)
