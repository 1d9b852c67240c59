import hashlib
import hmac
import multiprocessing
import os
import stat
import threading

import pytest

from dm_training import patient_keys
from dm_training.patient_keys import KeyFileError, PatientKey, default_path

KEY = "0123456789abcdef" * 4


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "patient.key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


def test_an_id_is_the_first_half_of_an_hmac(key_file):
    expected = hmac.new(KEY.encode(), b"P_00012", hashlib.sha256).hexdigest()[:16]
    assert PatientKey(key_file)("P_00012") == expected
    assert PatientKey(key_file)("  P_00012 ") == expected  # blanks as DICOM pads them
    assert PatientKey(key_file)(" ") == ""


def test_another_key_gives_other_ids_and_another_fingerprint(key_file, tmp_path):
    one, two = PatientKey(key_file), PatientKey(tmp_path / "other.key")
    assert one("P1") != two("P1")
    assert one.fingerprint != two.fingerprint
    assert KEY not in one.fingerprint and one.fingerprint not in KEY


def test_a_key_is_made_when_first_needed_for_its_owner_alone(tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "patient.key"
    key = PatientKey(path)
    key.check()
    assert key("") == "" and key.fingerprint == ""
    assert not path.parent.exists()
    first = key("P1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key("P1") == first == PatientKey(path)("P1")
    said = capsys.readouterr()
    assert said.err.count(str(path)) == 1 and said.out == ""
    assert path.read_text().strip() not in said.err
    assert os.listdir(path.parent) == ["patient.key"]


def test_threads_that_need_a_key_at_once_make_one(tmp_path, capsys):
    key, found = PatientKey(tmp_path / "k" / "patient.key"), []
    threads = [
        threading.Thread(target=lambda: found.append(key("P1"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert capsys.readouterr().err.count("made a key") == 1


def _hash_at(path, barrier, queue):
    barrier.wait()
    queue.put(PatientKey(path)("P1"))


def test_processes_that_need_a_key_at_once_agree(tmp_path):
    fork = multiprocessing.get_context("fork")
    barrier, queue = fork.Barrier(6), fork.Queue()
    path = tmp_path / "k" / "patient.key"
    workers = [
        fork.Process(target=_hash_at, args=(path, barrier, queue)) for _ in range(6)
    ]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert len(set(found)) == 1


def test_the_second_to_make_a_key_takes_the_first_ones(tmp_path, monkeypatch):
    path = tmp_path / "patient.key"

    def outrun(aside, target):
        path.write_text(KEY)
        raise FileExistsError

    monkeypatch.setattr(patient_keys.os, "link", outrun)
    assert PatientKey(path)("P1")
    assert path.read_text() == KEY
    assert os.listdir(tmp_path) == ["patient.key"]


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 5000], ids=["empty", "short", "long"]
)
def test_a_bad_key_is_refused_and_not_shown(tmp_path, text):
    path = tmp_path / "patient.key"
    path.write_text(text)
    with pytest.raises(KeyFileError, match="must hold 32 to 4096 characters") as caught:
        PatientKey(path).check()
    assert not text or text not in str(caught.value)


def test_a_key_that_cannot_be_made_names_its_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="file/patient.key: the key cannot be made"):
        PatientKey(tmp_path / "file" / "patient.key")("P1")


def test_a_key_that_others_may_read_is_warned_of(key_file, capsys):
    key_file.chmod(0o644)
    PatientKey(key_file).check()
    assert "others may read this key" in capsys.readouterr().err


def test_the_default_is_the_environments_then_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("DM_PATIENT_KEY", str(tmp_path / "k"))
    assert default_path() == tmp_path / "k"
    monkeypatch.delenv("DM_PATIENT_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".config" / "dm-mammography" / "patient.key"
