"""Notes of many images, told once a kind."""

from dm_training import desk_notes
from dm_training.check_rules import CAUSES
from dm_training.predictor import Prediction


def cropped(name, value, *notes):
    said = f"{CAUSES['cropped'].what} (share of air {value}, in training 0.4 to 0.7)"
    return Prediction(name, notes=(*notes, said), causes=("cropped",))


def test_one_cause_with_other_values_is_one_kind():
    noted = {}
    assert desk_notes.take(noted, cropped("a", 0.1))
    assert not desk_notes.take(noted, cropped("b", 0.2))
    assert desk_notes.take(noted, cropped("c", 0.3, "odd"))
    assert not desk_notes.take(noted, Prediction("d"))
    assert desk_notes.lines(noted, 9) == [
        f"3 images: {CAUSES['cropped'].what}: a, b, c"
    ]


def test_the_commonest_come_first_and_the_rest_are_counted():
    noted = {}
    for number in range(5):
        other = f"{desk_notes.SAME_PIXELS}{number}"
        notes = ("rare", "odd", other) if number < 2 else ("odd",)
        desk_notes.take(noted, Prediction(str(number), notes=notes))
    assert desk_notes.lines(noted, 1) == [
        "5 images: odd: 0, 1, 2 and 2 more",
        "2 more kinds of notes stand in the table",
    ]
    assert "2 images: same pixels as another image: 0, 1" in desk_notes.lines(noted, 9)


def test_air_is_explained():
    assert all(
        "air, black background," in CAUSES[c].what for c in ("border", "cropped")
    )
