"""Which part may import which, and that every command's `--help` is quick."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("dm_preprocess", "dm_models", "dm_training")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
COMMANDS = dict(
    re.findall(r'"(dm-[\w-]+) = ([\w.]+):main"', (ROOT / "setup.py").read_text())
)
# Package -> what none of its modules imports, at the top or inside a function.
FORBIDDEN = {
    "dm_preprocess": {"tensorflow", "keras", "dm_models", "dm_training"},
    "dm_models": {"tensorflow", "pandas", "dm_preprocess", "dm_training"},
    "dm_training": set(),
}
EXCEPTIONS = {
    ("dm_models/saved_model_writer.py", "tensorflow"),
    ("dm_models/export_check.py", "tensorflow"),
    ("dm_models/serving_graph.py", "tensorflow"),
    ("dm_models/serving_pixels.py", "tensorflow"),
    ("dm_models/serving_warmup.py", "tensorflow"),
    ("dm_models/quiet_import.py", "tensorflow"),
    ("dm_models/grad_cam.py", "tensorflow"),  # the tape of layers without a closed form
}

HELP_OF_ALL = """
import contextlib, importlib, io, json, sys, time
found = {}
for module in sys.argv[1:]:
    began = time.process_time()
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            importlib.import_module(module).main(["--help"])
        status = "returned"
    except SystemExit as leave:
        status = leave.code
    found[module] = {
        "status": status, "seconds": time.process_time() - began,
        "shown": shown.getvalue(),
        "heavy": sorted({"tensorflow", "keras"} & set(sys.modules)),
    }
print(json.dumps(found))
"""


def imported(source: str) -> set[str]:
    """Top-level names of everything a module imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def package_of(path: Path) -> str:
    """The top-level package that a module belongs to."""
    return path.relative_to(ROOT).parts[0]


@pytest.fixture(scope="module")
def helped():
    """What `main(["--help"])` of each command did, all in one fresh process."""
    command = [sys.executable, "-c", HELP_OF_ALL, *sorted(set(COMMANDS.values()))]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_imports_are_found_wherever_they_stand():
    source = (
        "import a.b\nfrom c.d import e\ndef f():\n    import g as h\nfrom . import i"
    )
    assert imported(source) == {"a", "c", "g"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_imports_what_lies_above_it(path):
    name = path.relative_to(ROOT).as_posix()
    wrong = imported(path.read_text(encoding="utf-8")) & FORBIDDEN[package_of(path)]
    assert {(name, one) for one in wrong} <= EXCEPTIONS


@pytest.mark.parametrize("leaf", ["benchmark", "paper"])
def test_nothing_imports_a_leaf(leaf):
    inside = ROOT / "dm_training" / leaf
    others = [path for path in MODULES if inside not in path.parents]
    assert len(others) < len(MODULES)
    naming = re.compile(rf"^\s*(from|import) .*\b{leaf}\b", re.MULTILINE)
    assert naming.search(f"from dm_training.{leaf} import timing")
    assert not [p for p in others if naming.search(p.read_text(encoding="utf-8"))]


def test_every_package_and_every_command_of_the_contract_is_looked_at():
    assert {package_of(path) for path in MODULES} == set(PACKAGES)
    assert sorted(COMMANDS) == [
        "dm-audit", "dm-check", "dm-convert", "dm-decide", "dm-ensemble", "dm-evaluate",
        "dm-export", "dm-learning-curve", "dm-predict", "dm-sample", "dm-serve",
        "dm-split", "dm-train-image", "dm-train-patch",
    ]  # fmt: skip


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_is_quick_and_loads_no_network_library(command, helped):
    did = helped[COMMANDS[command]]
    assert did["status"] == 0
    assert did["shown"].startswith("usage: ")
    assert did["heavy"] == []
    assert did["seconds"] < 2  # of processor time: other work may slow the clock
