"""A run folder that explains itself.

`config.json` (what was asked for), `versions.json` (what it ran on), `log.txt`,
`history.csv`, `best.keras`, `predictions_{val,test}.csv`, `metrics.json`, `plots/`:
whoever opens the folder in a year knows what was done, with which seed, on what.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from dm_training import devices

PACKAGES = (
    "tensorflow", "keras", "numpy", "scipy", "scikit-learn", "scikit-image",
    "opencv-python-headless", "pydicom", "pandas", "matplotlib", "h5py",
)  # fmt: skip
DEFAULT_SEED = 12345


class RunError(ValueError):
    """A run folder cannot be used; the message says why and what to do."""


def environment_seed() -> int:
    """The seed of `RANDOM_SEED`, 12345 where it is not set.

    Raises:
        RunError: `RANDOM_SEED` is not a whole number from 0.
    """
    text = os.environ.get("RANDOM_SEED", str(DEFAULT_SEED))
    if not text.isdigit():
        raise RunError(f"RANDOM_SEED must be a whole number from 0, received {text!r}")
    return int(text)


class Run:
    """One run folder.

    Args:
        out: The folder.
        config: What was asked for; JSON-able.
        overwrite: Replace a folder that exists.
        resume: Go on in a folder that exists.
        rank: The number of this process in a training of several; those from 1 read
            in the folder that the first has opened, and write only a log there.

    Raises:
        RunError: The folder exists and neither flag is given; or there is nothing to
            resume; or the folder is not a run's.
    """

    def __init__(
        self, out: str | os.PathLike, config: dict, *, overwrite=False, resume=False,
        rank: int = 0,
    ):  # fmt: skip
        self.out = Path(out)
        self.is_new = not resume and rank == 0
        self._old = self.out.with_name(f".{self.out.name}.replaced")
        if rank:
            self.log = _logger(self.out / f"log_worker{rank}.txt")
            return
        self._open(overwrite, resume)
        self.log = _logger(self.out / "log.txt")
        if not resume or not (self.out / "config.json").is_file():
            write_json(self.out / "config.json", config)
            write_json(self.out / "versions.json", versions())

    def path(self, *parts: str) -> Path:
        """A path in the folder; its parents are made."""
        path = self.out.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def say(self, text: str) -> None:
        """Print a line and keep it in log.txt."""
        self.log.info(text)

    @contextlib.contextmanager
    def discarded_if_refused(self) -> Iterator[None]:
        """Undo the run folder when what is done inside refuses its input.

        A folder that `overwrite` replaces comes back then, and is deleted otherwise.
        """
        try:
            yield
        except ValueError:
            if self.is_new:
                _close(self.log)
                shutil.rmtree(self.out)
                if self._old.is_dir():
                    self._old.rename(self.out)
            raise
        if self._old.is_dir():
            shutil.rmtree(self._old)

    def _open(self, overwrite: bool, resume: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise RunError(f"{self.out}: is a file, not a folder")
        filled = self.out.is_dir() and any(self.out.iterdir())
        if filled and not resume:
            if not overwrite:
                raise RunError(
                    f"{self.out}: exists already; --overwrite replaces it, --resume "
                    "goes on where it stood"
                )
            if not (self.out / "config.json").is_file():
                raise RunError(
                    f"{self.out}: holds no config.json, so it is no run folder; "
                    "it will not be replaced"
                )
            if self._old.is_dir():
                shutil.rmtree(self._old)
            self.out.rename(self._old)
        self.out.mkdir(parents=True, exist_ok=True)


def versions() -> dict:
    """Versions of Python and the packages, Keras's backend and devices in words."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": package_versions(),
        "keras": devices.describe(),
    }


def package_versions() -> dict[str, str]:
    """Name -> version of the packages that a result may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: str | os.PathLike, value) -> None:
    """Write JSON aside and rename it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(aside, path)


def read_json(path: str | os.PathLike):
    """Read JSON; a missing or broken file raises RunError naming it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise RunError(f"{path}: no such file") from err
    except json.JSONDecodeError as err:
        raise RunError(f"{path}: line {err.lineno}: not JSON: {err.msg}") from err


def _logger(path: Path) -> logging.Logger:
    log = logging.getLogger(f"dm_training.{path.parent.absolute()}")
    log.setLevel(logging.INFO)
    log.propagate = False
    _close(log)
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    to_screen = logging.StreamHandler(sys.stdout)
    to_screen.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(to_file)
    log.addHandler(to_screen)
    return log


def _close(log: logging.Logger) -> None:
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
