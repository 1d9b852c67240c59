"""The same results from one process, many, and a Dask cluster whose workers die."""

import argparse
import builtins
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time

import cloudpickle
import cv2
import numpy as np
import pytest

from dm_preprocess import convert, dask_cluster, patches
from dm_preprocess.parallel import (
    ClusterError,
    Mapped,
    WorkersLost,
    add_worker_arguments,
    cost_line,
    map_in_order,
    open_workers,
)

HEAD = "path,label,patient_id,laterality,view"
LESION_HEAD = "path,abnormality,malignant,shape,geometry"
SIZE = ["--size", "64", "48"]


def start(workers):
    """A scheduler and worker processes of one thread each, on this machine alone."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", silence_logs=50,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    with start(2) as started:
        yield started


@pytest.fixture
def source(tmp_path):
    """Twelve noisy half discs of six women; every image has one lesion."""
    src = tmp_path / "src"
    src.mkdir()
    rows, cols = np.mgrid[:300, :240]
    tissue = (rows - 150) ** 2 + cols**2 < 140**2
    lines, lesions = [HEAD], [LESION_HEAD]
    for n in range(12):
        noise = np.random.default_rng(n).integers(0, 3000, tissue.shape)
        cv2.imwrite(str(src / f"f{n}.png"), (noise + tissue * 30000).astype(np.uint16))
        lines.append(f"f{n}.png,{n % 2},p{n // 2},L,CC")
        lesions.append(f"f{n}.png,mass,{n % 2},circle,{130 + n} 60 {20 + n}")
    (src / "images.csv").write_text("\n".join(lines) + "\n")
    (src / "lesions.csv").write_text("\n".join(lesions) + "\n")
    return src


def convert_to(source, out, *options):
    return convert.main(["generic", str(source), str(out), *SIZE, *options])


def sample_to(data, out, *options):
    command = [data / "split.csv", data / "lesions.csv", "--out", out, "--size", 16]
    return patches.main([str(part) for part in (*command, "--recipe", "s3", *options)])


def put_in_splits(data):
    """`split.csv`: images.csv with every woman in training."""
    lines = (data / "images.csv").read_text().splitlines()
    at = lines[0].split(",").index("split")
    for number, line in enumerate(lines[1:], start=1):
        cells = line.split(",")
        cells[at] = "train"
        lines[number] = ",".join(cells)
    (data / "split.csv").write_text("\n".join(lines) + "\n")


def contents(folder, *patterns):
    """Each file's bytes by its name; the report, which holds times, left out."""
    paths = [path for pattern in patterns for path in folder.rglob(pattern)]
    assert paths
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


WRITTEN = ("*.png", "*.csv", "images/*.json")


def test_every_way_to_convert_writes_the_same_bytes(
    source, cluster, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # relative paths: the workers run somewhere else
    ways = {
        "one": ["--jobs", "1"],
        "two": ["--jobs", "2"],
        "dask": ["--dask", cluster.scheduler_address],
    }
    for name, options in ways.items():
        assert convert.main(["generic", "src", name, *SIZE, *options]) == 0
    last = capsys.readouterr().out.splitlines()
    ends = ("by 1 process", "by 2 processes",
            "by 2 Dask workers of 2 threads together")  # fmt: skip
    for line, end in zip(last, ends, strict=True):
        assert " s of a core an image, " in line and line.endswith(end)
    one, two, dask = (contents(tmp_path / name, *WRITTEN) for name in ways)
    assert len(one) == 12 * 3 + 3  # an image, a mask, a sidecar each; three tables
    assert one == two == dask
    report = (tmp_path / "dask" / "report.md").read_text()
    assert "- core seconds per image: 0." in report and "- wall seconds: " in report
    assert "- workers: 2 Dask workers of 2 threads together" in report
    assert not list(tmp_path.rglob("*.part"))


def test_every_way_to_sample_writes_the_same_bytes(source, cluster, tmp_path, capsys):
    data = tmp_path / "data"
    convert_to(source, data, "--jobs", "1")
    put_in_splits(data)
    ways = (["--jobs", "1"], ["--jobs", "2"], ["--dask", cluster.scheduler_address])
    for name, options in zip("abc", ways, strict=True):
        assert sample_to(data, tmp_path / name, *options) == 0
        assert " s of a core an image, " in capsys.readouterr().out.splitlines()[-1]
    a, b, c = (contents(tmp_path / name, "*.png", "*.csv") for name in "abc")
    assert len(a) == 12 * 6 + 3 + 1  # patches, three contact sheets, the table
    assert a == b == c
    facts = (tmp_path / "c" / "sampling.json").read_text()
    assert '"core_seconds_per_image": 0.' in facts and '"workers": "2 Dask' in facts


def test_killed_workers_lose_no_image(source, cluster, tmp_path, monkeypatch, capsys):
    assert convert_to(source, tmp_path / "calm", "--jobs", "1") == 0
    capsys.readouterr()
    out, seen = tmp_path / "out", []

    def kill_one_after_another():
        for wanted in (2, 5):
            while len(list(out.glob("images/*.json"))) < wanted:
                time.sleep(0.005)
            pid = next(w.pid for w in cluster.workers.values() if w.pid)
            os.kill(pid, signal.SIGKILL)
            seen.append(len(list(out.glob("images/*.json"))))

    def slow(image, out, settings):  # so that the kill comes in the middle
        import time

        from dm_preprocess.convert_image import convert_image

        time.sleep(0.1)
        return convert_image(image, out, settings)

    monkeypatch.setattr("dm_preprocess.convert_image.convert_image", slow)
    killer = threading.Thread(target=kill_one_after_another, daemon=True)
    killer.start()
    assert convert_to(source, out, "--dask", cluster.scheduler_address) == 0
    killer.join(timeout=10)
    assert len(seen) == 2 and max(seen) < 12
    assert contents(out, *WRITTEN) == contents(tmp_path / "calm", *WRITTEN)
    assert "converted 12 images (0 of them before)" in capsys.readouterr().out


def test_an_image_that_kills_every_worker_is_one_that_failed(
    source, cluster, tmp_path, monkeypatch, capsys
):
    def deadly(image, out, settings):
        import os
        import signal

        from dm_preprocess.convert_image import convert_image

        if image.image_id == "f3":
            os.kill(os.getpid(), signal.SIGKILL)
        return convert_image(image, out, settings)

    monkeypatch.setattr("dm_preprocess.convert_image.convert_image", deadly)
    out = tmp_path / "out"
    assert convert_to(source, out, "--dask", cluster.scheduler_address) == 1
    assert "converted 11 images" in capsys.readouterr().out
    failed = (out / "failed.csv").read_text().splitlines()
    assert len(failed) == 2 and failed[1].startswith("f3,")
    assert "every worker that took it was killed" in failed[1]


def test_results_come_in_order_and_the_client_holds_a_window_of_them(
    cluster, monkeypatch
):
    def late_first(n):
        import time

        time.sleep(0.3 if n == 0 else 0)
        return n

    most = []
    submit = dask_cluster.Cluster.submit

    def counted(self, item):
        most.append(len(self._client.futures))
        return submit(self, item)

    monkeypatch.setattr(dask_cluster.Cluster, "submit", counted)
    with open_workers(dask=cluster.scheduler_address) as workers:
        done = map_in_order(late_first, range(300), workers)
    assert done.results == list(range(300))
    assert len(done.seconds) == 300 and done.wall_seconds >= 0.3
    assert max(most) <= 2 * 8 + 1  # two threads, eight ahead of each


def test_what_the_scheduler_unpacks_needs_no_project(tmp_path):
    tasks = cloudpickle.dumps((dask_cluster.make_call(), dask_cluster.make_look()))
    script = "import pickle, sys; pickle.load(sys.stdin.buffer); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], input=tasks, cwd=tmp_path,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"dm_preprocess" not in done.stdout and b"pickle" in done.stdout


def test_an_error_of_the_function_is_raised_from_a_cluster(cluster):
    def failing(n):
        raise TimeoutError(f"the disk took too long, {n}")

    with open_workers(dask=cluster.scheduler_address) as workers:
        with pytest.raises(TimeoutError, match="the disk took too long, 0"):
            map_in_order(failing, range(3), workers)


def test_a_cluster_that_goes_away_ends_the_work_with_an_error():
    def slow(n):
        import time

        time.sleep(1)

    with start(1) as started:
        with open_workers(dask=started.scheduler_address) as workers:
            timer = threading.Timer(0.3, started.close)
            timer.start()
            with pytest.raises(WorkersLost, match="scheduler went away"):
                map_in_order(slow, range(20), workers)
            timer.join()


def test_no_worker_for_long_ends_the_work_with_an_error(monkeypatch):
    client = argparse.Namespace(nthreads=dict)
    monkeypatch.setattr(dask_cluster, "IDLE_SECONDS", 0.0)
    found = dask_cluster.Cluster(client, None)
    time.sleep(0.01)
    with pytest.raises(WorkersLost, match="no Dask worker is left"):
        found.window()


def test_a_killed_process_of_this_machine_is_an_error_not_a_crash(
    source, tmp_path, monkeypatch, capsys
):
    def deadly(image, out, settings):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("dm_preprocess.convert_image.convert_image", deadly)
    assert convert_to(source, tmp_path / "out", "--jobs", "2") == 1
    error = capsys.readouterr().err
    assert "error: a process was killed" in error and "run again to continue" in error


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "http://a:1"])
def test_a_scheduler_that_does_not_answer_is_exit_2_in_one_line(
    source, tmp_path, capsys, monkeypatch, address
):
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 0.5)
    assert convert_to(source, tmp_path / "out", "--dask", address) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --dask: no scheduler answers at")
    assert error.count("\n") == 1 and address in error
    assert not (tmp_path / "out").exists()


def test_without_dask_it_says_how_to_install_it(source, tmp_path, capsys, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name, *rest: None if name == "distributed" else real(name, *rest),
    )  # fmt: skip
    assert convert_to(source, tmp_path / "out", "--dask", "tcp://127.0.0.1:1") == 2
    error = capsys.readouterr().err
    assert 'pip install ".[dask]"' in error and error.count("\n") == 1


def test_nothing_of_dask_is_needed_without_the_flag(source, tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        assert name.split(".")[0] not in {"dask", "distributed"}
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert convert_to(source, tmp_path / "out", "--jobs", "1") == 0


def test_workers_that_see_the_same_folders_and_project_pass(cluster, tmp_path):
    with open_workers(dask=cluster.scheduler_address) as workers:
        workers.check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_with_another_folder_at_the_path_is_refused_before_the_work(
    source, cluster, tmp_path, capsys, monkeypatch
):
    real = dask_cluster.make_look

    def elsewhere():
        look = real()

        def one(folders, marker):  # as on a machine where the marker is not seen
            found = look(folders, marker)
            import multiprocessing

            away = multiprocessing.parent_process() is not None
            return found | ({"token": ""} if away else {})

        return one

    monkeypatch.setattr(dask_cluster, "make_look", elsewhere)
    out = tmp_path / "out"
    assert convert_to(source, out, "--dask", cluster.scheduler_address) == 2
    error = capsys.readouterr().err
    assert "does not see what is written to" in error and error.count("\n") == 1
    assert "worker tcp://127.0.0.1" in error and not out.exists()


HERE = {"python": "3.11", "project": "a", "broken": "", "token": "t",
        "folders": ["/src", "/out"]}  # fmt: skip


@pytest.mark.parametrize(
    "there,message",
    [
        (HERE, ""),
        (HERE | {"python": "3.12"}, "has Python 3.12, here it is 3.11"),
        (HERE | {"broken": "No module named 'cv2'"}, "No module named 'cv2'"),
        (HERE | {"project": "b"}, "another version of dm_preprocess"),
        (HERE | {"folders": ["/out"]}, "does not see the folder /src"),
        (HERE | {"token": ""}, "does not see what is written to /out"),
        (ValueError("x"), "cannot look around: ValueError"),
    ],
    ids=["same", "python", "import", "project", "folder", "marker", "raised"],
)
def test_what_a_worker_lacks_is_said(there, message):
    found = dask_cluster._difference(HERE, there, ["/src", "/out"])
    assert (message in found) if message else found == ""


@pytest.mark.parametrize("main", [convert.main, patches.main])
def test_no_jobs_at_all_is_a_usage_error(main, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["generic", "a", "b", "--jobs", "0"][main is patches.main :])
    assert "--jobs: must be 1 or more, or -1 for all cores" in capsys.readouterr().err


def test_the_flags_have_defaults_and_say_what_a_cluster_needs():
    parser = argparse.ArgumentParser()
    add_worker_arguments(parser)
    assert vars(parser.parse_args([])) == {"jobs": -1, "dask": ""}
    shown = " ".join(parser.format_help().split())
    assert "the same folders at the same paths" in shown


def test_the_cost_counts_only_what_was_done_now():
    done = Mapped([1, 2, 3], [0.25, 9.0, None], 4.0, "2 processes")
    cost = done.cost([True, False, True])
    assert cost["core_seconds_per_image"] == 0.25
    assert cost_line(cost) == "0.25 s of a core an image, 4 s in all by 2 processes"
    assert cost_line(done.cost([False] * 3)) == "4 s in all by 2 processes"


def test_processor_time_is_counted_and_waiting_is_not():
    def wait(n):
        time.sleep(0.2)

    with open_workers(1) as workers:
        done = map_in_order(wait, [0], workers)
    assert done.seconds[0] < 0.1 and done.wall_seconds >= 0.2


def test_no_address_means_this_machine_and_nothing_to_look_for(tmp_path):
    with open_workers(1) as workers:
        workers.check(tmp_path / "nowhere")
        assert map_in_order(str, [3, 1], workers).results == ["3", "1"]


def test_a_scheduler_without_workers_is_refused(monkeypatch):
    monkeypatch.setattr(dask_cluster, "START_SECONDS", 0.3)
    with start(0) as empty:
        with pytest.raises(ClusterError, match="has no worker after 0.3 s"):
            with open_workers(dask=empty.scheduler_address):
                pass
