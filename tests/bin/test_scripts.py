"""Every script of bin/: it parses, explains itself and refuses a call without input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(__file__).parent.parent.parent / "bin"
SOURCED = BIN / "_env.sh"
SCRIPTS = sorted(path for path in BIN.glob("*.sh") if path != SOURCED)
STAGES = [path for path in SCRIPTS if path.name[0].isdigit()]


def run(*command, cwd):
    environment = {**os.environ, "DM_PYTHON": sys.executable}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd,
        env=environment, timeout=60,
    )  # fmt: skip


def by_name(path):
    return path.name


def test_the_scripts_of_the_chain_are_there():
    numbers = [path.name[:2] for path in STAGES]
    assert {"01", "02", "03", "04", "05", "06", "07", "08", "09", "10"} <= set(numbers)
    assert {"quickstart.sh", "run_tests.sh"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("script", [*SCRIPTS, SOURCED], ids=by_name)
def test_bash_can_parse_it(script, tmp_path):
    done = run("bash", "-n", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=by_name)
def test_it_is_executable_and_stops_at_the_first_error(script):
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert os.access(script, os.X_OK)
    strict = lines.index("set -euo pipefail")
    assert all(line.startswith("#") for line in lines[:strict])


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("script", SCRIPTS, ids=by_name)
def test_help_prints_how_it_is_called_from_any_folder(script, flag, tmp_path):
    done = run("bash", script, flag, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"bash bin/{script.name}" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", STAGES, ids=by_name)
def test_without_an_argument_it_is_status_2_and_writes_nothing(script, tmp_path):
    done = run("bash", script, cwd=tmp_path)
    assert done.returncode == 2
    assert "error: " in done.stderr or f"bash bin/{script.name}" in done.stderr
    assert list(tmp_path.iterdir()) == []
