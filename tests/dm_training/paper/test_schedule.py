import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dm_training.paper import schedule
from dm_training.paper.schedule import DONE, FAILED, SKIPPED, PlanError
from dm_training.paper.stages import Stage

# What a killed run leaves to the next one: a driver that is to be killed.
DRIVER = """
import sys
from pathlib import Path
from dm_training.paper import schedule
from dm_training.paper.stages import Stage
plan = [
    Stage("first", ("sh", "-c", "echo x >> first.txt"), product="first.txt"),
    Stage("long", ("sh", "-c", sys.argv[2]), ("first",), out="long"),
]
schedule.run(plan, Path(sys.argv[1]))
"""


def shell(name, text, *needs, **more):
    return Stage(name, ("sh", "-c", text), needs, **more)


def quietly(plan, out, **more):
    return schedule.run(plan, out, say=lambda line: None, **more)


def wait_for(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing came in time"
        time.sleep(0.05)


def alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_stages_run_in_the_folder_after_those_they_need(tmp_path):
    plan = [shell("a", "echo a >> log.txt"), shell("b", "echo b >> log.txt", "a")]
    outcomes = quietly(plan, tmp_path)
    assert [o.status for o in outcomes.values()] == [DONE, DONE]
    assert (tmp_path / "log.txt").read_text().split() == ["a", "b"]


def test_what_is_done_is_not_done_again(tmp_path):
    plan = [shell("a", "echo a >> log.txt")]
    first = quietly(plan, tmp_path)
    second = quietly(plan, tmp_path)
    assert (tmp_path / "log.txt").read_text().split() == ["a"]
    assert second == first  # its times are kept


def test_a_stage_whose_product_is_gone_is_done_again(tmp_path):
    plan = [shell("a", "echo a >> log.txt; touch made", product="made")]
    quietly(plan, tmp_path)
    (tmp_path / "made").unlink()
    quietly(plan, tmp_path)
    assert (tmp_path / "log.txt").read_text().split() == ["a", "a"]


def test_a_failed_stage_takes_with_it_only_those_that_need_it(tmp_path):
    plan = [
        shell("bad", "echo why; exit 3"), shell("child", "true", "bad"),
        shell("grandchild", "true", "child"), shell("other", "true"),
    ]  # fmt: skip
    said = []
    outcomes = schedule.run(plan, tmp_path, say=said.append)
    found = {name: (o.status, o.why) for name, o in outcomes.items()}
    assert found == {
        "bad": (FAILED, "exit status 3"), "child": (SKIPPED, "bad is missing"),
        "grandchild": (SKIPPED, "child is missing"), "other": (DONE, ""),
    }  # fmt: skip
    assert any("FAILED" in line and "why" in line for line in said)  # the log's end


def test_a_failed_stage_is_tried_again_with_its_further_flags(tmp_path):
    text = "import os, sys; os.makedirs('made', exist_ok=True); open('args', 'a')"
    text += ".write(' '.join(sys.argv[1:]) + '.'); sys.exit(len(sys.argv) < 2)"
    plan = [Stage("a", ("python", "-c", text), out="made", again=("--resume",))]
    assert quietly(plan, tmp_path)["a"].status == FAILED
    assert quietly(plan, tmp_path)["a"].status == DONE
    assert (tmp_path / "args").read_text() == ".--resume."


def test_a_status_that_is_accepted_still_needs_its_product(tmp_path):
    plan = [
        shell("listed", "touch there; exit 1", accepts=(0, 1), product="there"),
        shell("crashed", "exit 1", accepts=(0, 1), product="missing"),
    ]
    outcomes = quietly(plan, tmp_path)
    assert outcomes["listed"].status == DONE
    assert outcomes["crashed"].why == "exit status 1, but missing is not there"


def test_each_gpu_has_one_stage_at_a_time_and_no_other_in_sight(tmp_path):
    see = "echo $CUDA_VISIBLE_DEVICES > {0}.gpu; date +%s%N > {0}.a; sleep 0.4; "
    plan = [shell(n, see.format(n) + f"date +%s%N > {n}.b") for n in "abcd"]
    quietly(plan, tmp_path, gpus=("3", "5"))
    spans = {}
    for name in "abcd":
        gpu = (tmp_path / f"{name}.gpu").read_text().strip()
        times = [int((tmp_path / f"{name}.{end}").read_text()) for end in "ab"]
        spans.setdefault(gpu, []).append(times)
    assert sorted(spans) == ["3", "5"]
    for one, two in (sorted(times) for times in spans.values()):
        assert one[1] <= two[0]  # never two on one GPU
    (start, _), (other, _) = (min(times) for times in spans.values())
    assert abs(start - other) < 0.3e9  # side by side


def test_without_gpus_stages_run_one_by_one_and_see_what_there_is(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    text = "echo start{0} $CUDA_VISIBLE_DEVICES >> log; sleep 0.1; echo end{0} >> log"
    quietly([shell(n, text.format(n)) for n in "ab"], tmp_path)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == ["starta 7", "enda", "startb 7", "endb"]


def test_the_marker_tells_command_and_times(tmp_path):
    busy = "import time; t = time.process_time()\nwhile time.process_time() < t + .3:0"
    quietly([Stage("a", ("python", "-c", busy))], tmp_path)
    found = json.loads((tmp_path / "stages" / "a.json").read_text())
    assert found["command"].startswith("python -c")
    assert 0.3 <= found["cpu_seconds"] <= found["seconds"] + 1


def test_a_folder_of_other_settings_is_refused_with_both_commands(tmp_path):
    quietly([shell("a", "true")], tmp_path)
    with pytest.raises(PlanError, match="(?s)stage a .*sh -c true.*sh -c false"):
        schedule.check_plan([shell("a", "false")], tmp_path)


def test_a_stage_that_grows_runs_again_with_another_command(tmp_path):
    quietly([shell("a", "echo 2 >> log", grows=True)], tmp_path)
    more = [shell("a", "echo 5 >> log", grows=True)]
    schedule.check_plan(more, tmp_path)
    quietly(more, tmp_path)
    assert (tmp_path / "log").read_text().split() == ["2", "5"]


def test_a_stage_before_one_it_needs_is_refused(tmp_path):
    with pytest.raises(PlanError, match="stage b needs a, which must stand before"):
        quietly([shell("b", "true", "a"), shell("a", "true")], tmp_path)


def test_a_folder_in_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_LOCK_WAIT_S", 0.3)
    with schedule.locked(tmp_path):
        with pytest.raises(PlanError, match="another reproduction works here"):
            quietly([shell("a", "true")], tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=str)
def test_a_killed_run_ends_its_commands_and_goes_on_when_run_again(tmp_path, number):
    # The stage starts a child of its own, as our scripts do.
    slow = "mkdir -p long; sleep 60 & echo $! > child.pid; wait"
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    driver = subprocess.Popen([*command, slow])
    pid_file = tmp_path / "child.pid"
    wait_for(lambda: pid_file.is_file() and pid_file.read_text().strip())
    child = int(pid_file.read_text())
    assert alive(child)
    driver.send_signal(number)
    driver.wait()
    wait_for(lambda: not alive(child))
    quick = subprocess.run([*command, "touch done"], timeout=60)
    assert quick.returncode == 0 and (tmp_path / "done").is_file()
    assert (tmp_path / "first.txt").read_text().split() == ["x"]  # not done twice
