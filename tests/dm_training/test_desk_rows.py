import pytest

from dm_models.decision import Decision
from dm_training.desk_paths import Item
from dm_training.desk_rows import (
    IMAGE_COLUMNS,
    image_frame,
    image_line,
    image_row,
    unit_dicts,
    unit_frames,
    unit_path,
)
from dm_training.predictor import Prediction


def row(name, patient="W1", side="L", view="CC", p=0.5, truth=None, **changes):
    status = "scored" if p is not None else "failed"
    prediction = Prediction(
        name, patient, side, view, p and p / 2, p, model="m", version="v", status=status
    )
    item = Item(name, "/x", y_true=truth)
    return image_row(item, prediction.replace(**changes))


def test_the_columns_are_those_of_the_contract_and_of_predictions():
    frame = image_frame([row("a")])
    assert tuple(frame.columns) == IMAGE_COLUMNS
    kept = Item("a", "/x", kept=(("density", "3"), ("vendor", ""), ("age", "")))
    frame = image_frame([image_row(kept, Prediction("a"))])
    assert tuple(frame.columns) == (*IMAGE_COLUMNS, "density")


def test_breasts_and_women_are_means_of_probabilities():
    frame = image_frame([
        row("a", p=0.2), row("b", view="MLO", p=0.4), row("c", side="R", p=0.9),
        row("d", patient="W2", p=0.1),
    ])  # fmt: skip
    units = unit_frames(frame, None)
    breasts = units["breast"].set_index(["patient_id", "laterality"])
    assert breasts["probability"].to_dict() == pytest.approx(
        {("W1", "L"): 0.3, ("W1", "R"): 0.9, ("W2", "L"): 0.1}
    )
    assert breasts.loc[("W1", "L"), ["images", "views"]].tolist() == [2, "CC MLO"]
    women = units["patient"].set_index("patient_id")
    assert women["probability"].to_dict() == pytest.approx({"W1": 0.5, "W2": 0.1})
    assert women.loc["W1", "y_score"] == pytest.approx(0.25)  # half of each


@pytest.mark.parametrize(
    ("level", "how", "breast", "patient"),
    [
        ("image", "max", (0.3, ""), (0.3, "")),
        ("breast", "mean", (0.3, "negative"), (0.3, "")),
        ("breast", "max", (0.4, "positive"), (0.3, "")),
        ("patient", "max", (0.3, ""), (0.4, "positive")),
    ],
)
def test_a_threshold_holds_for_its_own_level_and_way_alone(level, how, breast, patient):
    frame = image_frame([row("a", p=0.2), row("b", view="MLO", p=0.4)])
    units = unit_frames(frame, Decision(0.35, level=level, how=how))
    for name, unit in units.items():
        assert unit["threshold"].fillna(0).tolist() == [0.35 * (name == level)]
    for name, (probability, said) in {"breast": breast, "patient": patient}.items():
        found = units[name].iloc[0]
        assert found["probability"] == pytest.approx(probability)
        assert found["decision"] == said


@pytest.mark.parametrize(
    ("truths", "expected"),
    [((0, 0), 0), ((0, 1), 1), ((None, 1), 1), ((0, None), None), ((None, None), None)],
    ids=str,
)
def test_a_woman_is_positive_with_any_image_and_negative_with_all(truths, expected):
    frame = image_frame([row(str(k), truth=t) for k, t in enumerate(truths)])
    assert unit_dicts("patient", unit_frames(frame, None)["patient"])[0]["y_true"] == (
        expected
    )


def test_images_without_a_score_make_no_unit_and_are_counted_where_they_are_hers():
    frame = image_frame([
        row("a", p=0.2), row("b", view="MLO", p=None), row("c", patient=""),
        row("d", patient="W2", p=None), row("e", patient="W3", side=""),
    ])  # fmt: skip
    units = unit_frames(frame, None)
    breasts, women = units["breast"], units["patient"]
    assert breasts["patient_id"].tolist() == ["W1"]
    assert breasts["note"].tolist() == ["1 image(s) without a score"]
    assert women["patient_id"].tolist() == ["W1", "W3"]
    assert women["note"].tolist() == ["1 image(s) without a score", ""]


def test_units_count_their_images_that_are_unlike_the_training_images():
    odd = {"causes": ("cropped", "8-bit")}
    frame = image_frame([
        row("a", **odd), row("b", **odd), row("c", side="R"),
        row("d", side="R", p=None, **odd),
    ])  # fmt: skip
    assert frame["causes"].tolist() == ["cropped 8-bit", "cropped 8-bit", "",
                                        "cropped 8-bit"]  # fmt: skip
    units = unit_frames(frame, None)
    assert units["breast"]["note"].tolist() == [
        "2 of 2 image(s) unlike the training images", "1 image(s) without a score",
    ]  # fmt: skip
    assert units["patient"]["note"].tolist() == [
        "2 of 3 image(s) unlike the training images; 1 image(s) without a score"
    ]


def test_without_ids_there_are_no_units():
    assert unit_frames(image_frame([row("a", patient="")]), None) == {}
    assert list(unit_frames(image_frame([row("a", side="")]), None)) == ["patient"]


def test_the_tables_of_units_lie_beside_that_of_images(tmp_path):
    assert unit_path(tmp_path / "s.csv", "breast") == tmp_path / "s_breast.csv"


def test_the_screen_says_no_certainty():
    line = image_line(Prediction(image_id="a", probability=0.99999999), 5)
    assert "> 0.9999" in line and "1.0000" not in line
