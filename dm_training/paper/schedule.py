"""Runs stages, some side by side, each after those it needs; a killed run goes on.

A stage that ended well leaves `stages/NAME.json` with its command and times; it is not
run again. A stage that fails takes those with it that need it, and no other. Each stage
writes to `logs/NAME.log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from dm_training.paper.leash import Leash, end_group
from dm_training.paper.stages import Stage
from dm_training.runs import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
DONE, FAILED, SKIPPED = "done", "failed", "not run"
_TAIL_LINES, _LOCK_WAIT_S = 6, 20.0
# What TensorFlow says before anybody can ask it not to.
_CHATTER = ("I0000 ", "WARNING: All log messages before absl")


class PlanError(ValueError):
    """The plan does not fit the folder; the message says what to do."""


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    Attributes:
        status: `DONE`, `FAILED` or `SKIPPED` (a stage it needs failed).
        seconds: By the clock; 0 for what was not run.
        cpu_seconds: Of all processors, with every child process.
        why: For what is not done; of what is done, that parts of it are missing.
    """

    status: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    why: str = ""


def check_plan(plan: Sequence[Stage], out: Path) -> None:
    """Refuse a folder whose stages were done with other commands.

    Raises:
        PlanError: Naming the first such stage and both commands.
    """
    for stage in plan:
        done = _marker(stage, out)
        if done and not stage.grows and done["command"] != stage.text():
            raise PlanError(
                f"{out}: stage {stage.name} was done with other settings; take another "
                f"--out, or the settings of before\n  then: {done['command']}\n"
                f"  now:  {stage.text()}"
            )


def is_done(stage: Stage, out: Path) -> bool:
    """Whether the stage ended well, with this very command, and left its product."""
    done = _marker(stage, out)
    return bool(done) and done["command"] == stage.text() and (
        not stage.product or (out / stage.product).exists()
    )  # fmt: skip


@contextlib.contextmanager
def locked(out: Path) -> Iterator[int]:
    """Hold a folder for one run; its stages hold it as well.

    Yields:
        The open lock's descriptor, to be passed on to the stages.

    Raises:
        PlanError: Another run, or a stage of one that was killed, works there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w", encoding="utf-8") as file:
        end = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise PlanError(
                        f"{out}: another reproduction works here, or a stage of one "
                        "that was killed still does"
                    ) from None
                time.sleep(0.2)
        yield file.fileno()


def run(
    plan: Sequence[Stage], out: Path, *, gpus: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Outcome]:  # fmt: skip
    """Run a plan.

    Args:
        plan: Stages; each needs only such as stand before it.
        out: The reproduction's folder, where commands are run.
        gpus: One stage at a time on each, which sees no other; none: one stage after
            another, which sees all there are.
        say: Gets a line for each stage that begins, ends or is left out.

    Returns:
        Stage name -> what became of it, in the plan's order.

    Raises:
        PlanError: A stage stands before one it needs, or the folder is in use.
    """
    _check_order(plan)
    slots = list(gpus) or [None]
    outcomes: dict[str, Outcome] = {}
    with locked(out) as lock, Leash() as leash, ThreadPoolExecutor(len(slots)) as pool:
        runner = _Runner(plan, out, lock, leash, say)
        try:
            _drain(list(plan), outcomes, slots, pool, runner)
        finally:
            runner.end_all()
    return {stage.name: outcomes[stage.name] for stage in plan}


def _check_order(plan: Sequence[Stage]) -> None:
    seen: set[str] = set()
    for stage in plan:
        missing = set(stage.needs) - seen
        if missing:
            raise PlanError(
                f"stage {stage.name} needs {', '.join(sorted(missing))}, which must "
                "stand before it in the plan"
            )
        seen.add(stage.name)


def _drain(waiting: list[Stage], outcomes: dict, slots: list, pool, runner) -> None:
    running: dict[Future, tuple[Stage, str | None]] = {}
    while waiting or running:
        for stage in list(waiting):
            outcome = runner.settled(stage, outcomes)
            if outcome:
                outcomes[stage.name] = outcome
                waiting.remove(stage)
            elif slots and all(need in outcomes for need in stage.needs):
                waiting.remove(stage)
                slot = slots.pop(0)
                running[pool.submit(runner.run_stage, stage, slot)] = (stage, slot)
        if running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                stage, slot = running.pop(future)
                outcomes[stage.name] = future.result()
                slots.append(slot)


class _Runner:
    """Starts the stages of one run and keeps hold of their processes."""

    def __init__(self, plan, out: Path, lock: int, leash: Leash, say) -> None:
        self.out, self.lock, self.leash, self.say = out, lock, leash, say
        self.numbers = {stage.name: f"[{n:>2}/{len(plan)}]" for n, stage in
                        enumerate(plan, 1)}  # fmt: skip
        self.groups: set[int] = set()
        self.guard = threading.Lock()
        self.ended = False

    def settled(self, stage: Stage, outcomes: Mapping) -> Outcome | None:
        """What can be said without running: done before, or its needs have failed."""
        bad = [n for n in stage.needs if n in outcomes and outcomes[n].status != DONE]
        if bad:
            self.say(f"{self.numbers[stage.name]} {stage.name}: not run, {bad[0]} is "
                     "missing")  # fmt: skip
            return Outcome(SKIPPED, why=f"{bad[0]} is missing")
        if any(need not in outcomes for need in stage.needs):
            return None
        if is_done(stage, self.out):
            self.say(f"{self.numbers[stage.name]} {stage.name}: done before")
            found = _marker(stage, self.out)
            return Outcome(DONE, found["seconds"], found["cpu_seconds"],
                           _remark(found["status"], stage))  # fmt: skip
        return None

    def run_stage(self, stage: Stage, gpu: str | None) -> Outcome:
        """Run one stage to its end."""
        where = "" if gpu is None else f" on GPU {gpu}"
        self.say(f"{self.numbers[stage.name]} {stage.name}{where} ...")
        began, log = time.monotonic(), self.out / "logs" / f"{stage.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = list(stage.command)
        if stage.out and (self.out / stage.out).exists():
            words += stage.again
        with open(log, "a", encoding="utf-8") as stream:
            stream.write(f"$ {' '.join(words)}\n")
            stream.flush()
            status, cpu_s = self._wait(words, gpu, stream)
        seconds = round(time.monotonic() - began, 1)
        why = _wrong(stage, status, self.out)
        if why:
            self.say(f"{self.numbers[stage.name]} {stage.name}: FAILED, {why}; "
                     f"{log}:\n{_tail(log)}")  # fmt: skip
            return Outcome(FAILED, seconds, cpu_s, why)
        write_json(_marker_path(stage, self.out), {
            "stage": stage.name, "command": stage.text(), "status": status,
            "seconds": seconds, "cpu_seconds": cpu_s, "gpu": gpu,
        })  # fmt: skip
        self.say(f"{self.numbers[stage.name]} {stage.name}: {seconds:.0f} s")
        return Outcome(DONE, seconds, cpu_s, _remark(status, stage))

    def _wait(self, words: list[str], gpu: str | None, stream) -> tuple[int, float]:
        with self.guard:
            if self.ended:
                return -1, 0.0
            process = subprocess.Popen(
                _resolved(words), cwd=self.out, env=_environment(gpu), stdout=stream,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True, pass_fds=(self.lock,),
            )  # fmt: skip
            self.groups.add(process.pid)
            self.leash.hold(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self.guard:
            self.groups.discard(process.pid)
            self.leash.let_go(process.pid)
        return process.returncode, round(usage.ru_utime + usage.ru_stime, 1)

    def end_all(self) -> None:
        """End what still runs: the run was interrupted."""
        with self.guard:
            self.ended = True
            left = list(self.groups)
        for group in left:
            end_group(group)


def _resolved(words: Sequence[str]) -> list[str]:
    """`bin/...` and `python` as this very project's."""
    found = [sys.executable if w == "python" and not i else w
             for i, w in enumerate(words)]  # fmt: skip
    return [str(ROOT / word) if word.startswith("bin/") else word for word in found]


def _environment(gpu: str | None) -> dict[str, str]:
    path = os.environ.get("PYTHONPATH", "")
    own = {
        "DM_PYTHON": sys.executable,
        "PYTHONPATH": f"{ROOT}{os.pathsep + path if path else ''}",
    }
    if gpu is not None:
        own["CUDA_VISIBLE_DEVICES"] = gpu
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **own}


def _wrong(stage: Stage, status: int, out: Path) -> str:
    """Why a stage that ended is not done; empty where it is."""
    if status not in stage.accepts:
        return f"exit status {status}"
    if stage.product and not (out / stage.product).exists():
        return f"exit status {status}, but {stage.product} is not there"
    return ""


def _remark(status: int, stage: Stage) -> str:
    return f"some files could not be read: see {stage.out}" if status else ""


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line for line in lines if not line.startswith(_CHATTER)]
    return "\n".join(f"    {line[:200]}" for line in lines[-_TAIL_LINES:])


def _marker_path(stage: Stage, out: Path) -> Path:
    return out / "stages" / f"{stage.name}.json"


def _marker(stage: Stage, out: Path) -> dict | None:
    path = _marker_path(stage, out)
    return read_json(path) if path.is_file() else None
