import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from desk_support import MeanScorer, contract

from dm_training import desk_stream
from dm_training.desk_paths import Item
from dm_training.desk_stream import Opened, open_image, opened_batches, scores_of
from dm_training.intake import NO_PATIENT, PLACEHOLDER, Intake, IntakeError
from dm_training.patient_keys import KeyFileError
from dm_training.predictor import Prediction
from dm_training.scorers import RefusedError

GREY = np.full((48, 40), 30000, np.uint16)


def opened(value, shape=(48, 40)):
    image = np.full(shape, value, np.uint16)
    return Opened(Item(str(value), ""), Prediction(), (image,))


def read(monkeypatch, answer, item=None, **options):
    """Open one image whose reading answers or raises."""

    def read_intake(source, *, patient_key=None, keep=False, voi=False):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(desk_stream, "read_intake", read_intake)
    item = item or Item("a.png", "/x/P1_L_CC.png")
    return open_image(item, item.path, Prediction(), contracts=[contract()], **options)


def test_batches_keep_the_order_however_long_each_file_takes():
    def slow(number):
        time.sleep(0.002 * (number % 5))
        return number

    batches = list(opened_batches(iter(range(23)), slow, size=4, jobs=5))
    assert [len(batch) for batch in batches] == [4] * 5 + [3]
    assert [number for batch in batches for number in batch] == list(range(23))


def test_no_more_than_a_few_batches_are_read_ahead():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    batches = opened_batches(endless(), lambda number: number, size=4, jobs=3)
    for batch in range(1, 20):
        next(batches)
        assert taken <= 4 * batch + 2 * 4 + 3
    batches.close()


def test_reading_goes_on_while_the_net_works():
    begun = threading.Semaphore(0)
    batches = opened_batches(range(100), lambda number: begun.release(), size=2, jobs=1)
    next(batches)  # 2 given out; the window of 2 * 2 + 1 behind them gets read
    assert all(begun.acquire(timeout=5) for _ in range(2 + 5))
    batches.close()


def test_images_of_one_size_go_through_the_net_together():
    scorer = MeanScorer(contract(None))
    sizes = [(8, 8), (6, 8), (8, 8), (6, 8), (8, 8)]
    batch = [opened(6553.5 * (k + 1), size) for k, size in enumerate(sizes)]
    batch.insert(2, Opened(Item("bad", ""), Prediction(status="failed")))
    found = scores_of(scorer, batch, flips=1)
    assert sorted(scorer.batches) == [(2, 6, 8, 1), (3, 8, 8, 1)]
    assert found[2] is None
    expected = [0.1, 0.2, 0.3, 0.4, 0.5]
    np.testing.assert_allclose(found[:2] + found[3:], expected, atol=1e-4)


def test_an_image_that_the_net_cannot_take_costs_no_other():
    class Choosy(MeanScorer):
        def scores(self, prepared, *, flips):
            if (prepared[0] == 7).any():
                raise RuntimeError("secret detail")
            return super().scores(prepared, flips=flips)

    found = scores_of(Choosy(), [opened(100), opened(7), opened(200)], flips=1)
    assert found[0] == pytest.approx(100 / 65535)
    assert found[2] == pytest.approx(200 / 65535)
    assert (
        found[1] == "the network cannot take an image of 48 x 40 pixels (RuntimeError)"
    )


@pytest.mark.parametrize("score", [np.nan, np.inf, 1.5, -0.1])
def test_a_score_that_is_no_probability_is_a_failure(score):
    class Wrong(MeanScorer):
        def scores(self, prepared, *, flips):
            return np.array([score])

    assert scores_of(Wrong(), [opened(1)], flips=1) == [
        "the network's score is no probability"
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IntakeError("a rule\nof ours"), "a rule of ours"),
        (FileNotFoundError(2, "No such file or directory", "/home/Smith^Ann"),
         "No such file or directory"),
        (MemoryError(), "the image needs more memory than there is"),
        (KeyError("Smith^Ann"), "unexpected KeyError while reading"),
    ],
    ids=["ours", "the system's", "memory", "a library's"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_a_failure_in_words_that_may_be_told(
    monkeypatch, error, reason
):
    found = read(monkeypatch, error)
    assert found.prediction.status == "failed" and found.prepared == ()
    assert found.prediction.notes == (reason,)


def test_a_missing_key_is_nobodys_own_failure(monkeypatch):
    with pytest.raises(KeyFileError):
        read(monkeypatch, KeyFileError("gone"))


def test_what_should_not_be_judged_is_refused_or_flagged(monkeypatch):
    intake = Intake(GREY, notes=("odd",), unsuitable=("implant",))
    refused = read(monkeypatch, intake)
    assert (refused.prediction.status, refused.prepared) == ("refused", ())
    assert refused.prediction.notes == ("implant", "odd")
    flagged = read(monkeypatch, intake, refuse=False)
    assert flagged.prediction.status == "scored" and len(flagged.prepared) == 1
    assert flagged.prediction.notes == ("implant", "odd")


def test_ids_are_a_tables_before_a_headers_before_a_names(monkeypatch):
    def ids(intake, item=None):
        found = read(monkeypatch, intake, item, patient_key=str.lower).prediction
        return found.patient_id, found.laterality, found.view

    header = Intake(GREY, "hashed", "R", "MLO")
    path = "/x/P1_L_CC.png"
    assert ids(Intake(GREY)) == ("p1", "L", "CC")
    assert ids(header) == ("hashed", "R", "MLO")
    assert ids(header, Item("a", path, "W1", "L", "ML")) == ("W1", "L", "ML")
    assert ids(Intake(GREY, "hashed"), Item("a", path)) == ("hashed", "L", "CC")


def test_without_a_key_no_patient_id_of_a_name_is_given(monkeypatch):
    found = read(monkeypatch, Intake(GREY)).prediction
    assert (found.patient_id, found.laterality) == ("", "L")


def test_sides_that_contradict_each_other_are_noted(monkeypatch):
    found = read(monkeypatch, Intake(GREY, "", "R", "CC")).prediction
    assert found.notes == ("laterality R by the header, L by the file name",)
    item = Item("a", "/x/y.png", "W", "R", "CC")
    assert read(monkeypatch, Intake(GREY, "", "R"), item).prediction.notes == ()


def test_a_header_that_names_no_one_gives_way_to_the_files_name(monkeypatch):
    """INbreast's headers say "removed"; its file names still tell the women apart."""

    def patient(path, *notes, **options):
        intake = Intake(GREY, "of the study", notes=notes, patient_raw="REMOVED")
        item, key = Item("a", path), str.upper
        found = read(monkeypatch, intake, item, patient_key=key, **options).prediction
        return found.patient_id, found.notes

    joined = ("no patient id in the header: joined by the file's name",)
    for weak in (PLACEHOLDER, NO_PATIENT):
        assert patient("/x/p1_L_CC.dcm", weak) == ("P1", joined)
        assert patient("/x/p1_L_CC.dcm", weak, keep=True) == ("p1", joined)
        assert patient("/x/scan.dcm", weak) == ("of the study", (weak,))
        assert patient("/x/scan.dcm", weak, keep=True) == ("OF THE STUDY", (weak,))
    assert patient("/x/p1_L_CC.dcm") == ("of the study", ())
    assert patient("/x/p1_L_CC.dcm", keep=True) == ("REMOVED", ())


def test_the_shape_to_draw_is_that_of_the_cut(monkeypatch):
    grey = np.zeros((96, 80), np.uint16)
    grey[10:70, :40] = 40000
    monkeypatch.setattr(desk_stream, "read_intake", lambda source, **o: Intake(grey))
    shapes = [
        open_image(
            Item("a", "/x/a.png"),
            "",
            Prediction(),
            contracts=[contract(crop_breast=cut)],
        ).source_shape
        for cut in (False, True)
    ]
    assert shapes[0] == (96, 80)
    assert shapes[1][0] < 80 and shapes[1][1] < 60


def test_a_models_own_words_of_refusal_are_the_images_reason():
    class Refusing(MeanScorer):
        def scores(self, prepared, *, flips):
            raise RefusedError("image 0 of the batch has levels of at most 200")

    found = scores_of(Refusing(), [opened(200)], flips=1)
    assert found == ["the image has levels of at most 200"]


def test_what_training_images_say_is_told_apart_from_other_notes(monkeypatch):
    said = SimpleNamespace(warnings=["dark (mean 0.1)"], causes=("dark",))
    monkeypatch.setattr(
        "dm_training.check_rules.checked_if_known", lambda *given: said
    )
    found = read(monkeypatch, Intake(GREY, notes=("odd",))).prediction
    assert found.warnings == ("dark (mean 0.1)",)
    assert found.notes == ("odd", "dark (mean 0.1)")
    assert Prediction.from_dict(found.as_dict()) == found
