import json
import os

import pytest
from desk_support import write_images

from dm_training.desk_journal import Journal, JournalError, differences, identity
from dm_training.desk_paths import Item
from dm_training.predictor import Prediction

SETTINGS = {"flips": 1, "preparation": [{"height": 48, "fit": "squash"}]}
SCORED = Prediction("a", "W", "L", "CC", 0.1, 0.2, "negative", 0.5, "m", "v", 4, ("n",))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.csv.partial"


def begun(path, **predictions):
    journal = Journal(path, SETTINGS)
    for name, prediction in predictions.items():
        journal.add(name, prediction)
    journal.close()


def test_what_was_noted_comes_back_as_it_was(path):
    refused = Prediction("b", status="refused", notes=("implant",))
    begun(path, one=SCORED, two=refused)
    journal = Journal(path, SETTINGS)
    assert journal.done == {"one": SCORED, "two": refused} and journal.resumed


def test_what_failed_is_tried_again(path):
    begun(path, one=Prediction("a", status="failed"), two=SCORED)
    assert set(Journal(path, SETTINGS).done) == {"two"}


def test_half_a_line_of_a_killed_run_costs_that_line(path):
    begun(path, one=SCORED, two=SCORED)
    whole = path.read_bytes()
    for cut in (1, 20):
        path.write_bytes(whole[:-cut])
        journal = Journal(path, SETTINGS)
        assert set(journal.done) == {"one"}
        journal.add("two", SCORED)
        journal.close()
        assert path.read_bytes() == whole


def test_a_run_killed_before_its_first_line_begins_anew(path):
    path.write_bytes(b'{"format": 1, "sett')
    assert Journal(path, SETTINGS).done == {}


def test_other_settings_are_refused_by_name_unless_begun_anew(path):
    begun(path, one=SCORED)
    before = path.read_bytes()
    other = {"flips": 4, "preparation": [{"height": 48, "fit": "pad"}]}
    with pytest.raises(
        JournalError, match="flips: 1, now 4; preparation 1 fit: squash"
    ):
        Journal(path, other)
    assert path.read_bytes() == before
    anew = Journal(path, other, fresh=True)
    assert anew.done == {} and not anew.resumed


def test_a_damaged_line_is_refused(path):
    begun(path, one=SCORED)
    path.write_bytes(path.read_bytes() + b"no JSON\n")
    with pytest.raises(JournalError, match="damaged.*--overwrite starts anew"):
        Journal(path, SETTINGS)


def test_another_patient_key_is_refused(path):
    journal = Journal(path, SETTINGS)
    for fingerprint in ("", "abcd", "abcd"):
        journal.use_key(fingerprint)
    journal.close()
    assert path.read_text().count("abcd") == 1
    journal = Journal(path, SETTINGS)
    journal.use_key("abcd")
    with pytest.raises(JournalError, match="begun with another patient key"):
        journal.use_key("ef01")


def test_one_process_at_a_time_writes_a_table(path):
    first = Journal(path, SETTINGS)
    with pytest.raises(JournalError, match="another dm-predict is writing"):
        Journal(path, SETTINGS, fresh=True)
    first.close()
    Journal(path, SETTINGS).close()


def test_a_file_is_known_by_place_size_time_and_ids_and_told_of_by_none(tmp_path):
    (image,) = write_images(tmp_path, 1)
    item = Item("a", str(image))
    known = {identity(item)}
    known.add(identity(Item("a", str(image), "W")))
    os.utime(image, ns=(1, 1))
    known.add(identity(item))
    image.write_bytes(image.read_bytes() + b"x")
    os.utime(image, ns=(1, 1))
    known.add(identity(item))
    image.unlink()
    known.add(identity(item))
    assert len(known) == 5
    assert str(image) not in json.dumps(sorted(known))


def test_differences_are_found_wherever_they_are():
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == [
        "a 2 b: 2, now 3"
    ]
    assert differences({"a": 1}, {"a": 1}) == []
    assert differences({"a": 1}, {"b": 1}) == ["a: 1, now None", "b: None, now 1"]
    assert differences({"a": [1]}, {"a": [1, 2]}) == ["a: [1], now [1, 2]"]


def test_a_full_disk_is_told_with_the_file_that_it_broke(path, monkeypatch):
    journal = Journal(path, SETTINGS)

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match="scores.csv.part"),
    ):
        patch.setattr(journal, "_file", Full())
        journal.add("one", SCORED)
    journal.close()
