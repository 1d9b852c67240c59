import numpy as np
import pandas as pd
import pytest
from simulated_scores import prediction_table

from dm_training import metrics
from dm_training.subgroups import (
    SUBGROUP_COLUMNS,
    join_lesions,
    subgroup_figures,
)

FAST = {"n": 100}


def lesions(*rows):
    names = ["image_id", "abnormality", "malignant", "subtlety", "assessment"]
    return pd.DataFrame(rows, columns=names)


def by_group(found):
    return {one.group: one for one in found}


def test_groups_of_a_column_divide_the_rows():
    rows = prediction_table(40)
    found = by_group(subgroup_figures(rows, ["view"], **FAST))
    assert list(found) == ["CC", "MLO"]
    for view, one in found.items():
        chosen = rows[rows["view"] == view]
        expected = metrics.auc_figure(chosen, n=100)
        assert one.figure == expected and one.column == "view"
        assert (one.n, one.positives, one.women) == (40, 20, 40)
        assert one.warning == ""


def test_without_a_list_all_columns_that_say_something_are_taken():
    rows = prediction_table(40, density=["2", "3"] * 40, vendor="", age=np.nan)
    assert {one.column for one in subgroup_figures(rows, **FAST)} == {"view", "density"}
    assert SUBGROUP_COLUMNS == (
        "view", "density", "abnormality", "subtlety", "assessment", "vendor", "age",
    )  # fmt: skip


def test_ages_fall_into_bands():
    ages = [49, "50", "059Y", 59.5, 60, 69, 70, "101"] + ["", "unknown", -1, np.nan]
    rows = prediction_table(24, age=np.repeat(np.array(ages, object), 4))
    found = by_group(subgroup_figures(rows, ["age"], **FAST))
    counts = {name: one.n for name, one in found.items()}
    assert counts == {"<50": 4, "50-59": 12, "60-69": 8, ">=70": 8, "not given": 16}


def test_numbers_name_groups_without_a_point():
    rows = prediction_table(40, density=np.repeat([2.0, np.nan], 40))
    found = subgroup_figures(rows, ["density"], **FAST)
    assert [one.group for one in found] == ["2", "not given"]


def test_few_of_a_class_carry_a_warning():
    rows = prediction_table(20)  # 20 positives in 10 women
    assert subgroup_figures(rows, ["laterality"], **FAST)[0].warning == ""
    rows = prediction_table(18)
    warned = subgroup_figures(rows, ["laterality"], **FAST)[0].warning
    assert warned == "only 9 women with a positive: read with care"
    one = subgroup_figures(rows, ["view"], **FAST)[0]
    assert one.warning == "only 9 positives: read with care" and one.figure
    fewer = rows.drop(rows.index[rows["y_true"] == 0][:10])
    one = subgroup_figures(fewer, ["laterality"], **FAST)[0]
    assert one.warning == "only 8 negatives: read with care"


@pytest.mark.parametrize(
    ("kept", "reason"),
    [(1, "no negative: there is no AUC"), (0, "no positive: there is no AUC")],
)
def test_a_group_of_one_class_has_no_figure_but_the_reason(kept, reason):
    rows = prediction_table(40)
    rows["vendor"] = np.where(rows["y_true"] == kept, "A", "B")
    one = by_group(subgroup_figures(rows, ["vendor"], **FAST))["A"]
    assert one.figure is None and one.warning == reason
    assert (one.n, one.positives) == (40, 40 * kept)


def test_a_group_of_one_woman_has_no_figure():
    rows = prediction_table(20, y_true=[0, 1] * 20)
    rows["vendor"] = ["A"] * 2 + ["B"] * 38
    one = by_group(subgroup_figures(rows, ["vendor"], **FAST))["A"]
    assert one.figure is None and one.warning.startswith("one woman only")


def with_lesions():
    """40 images each: positive masses, positive calcs, benign masses, normal."""
    rows = prediction_table(80, y_true=np.repeat([1, 1, 0, 0], 40))
    return rows.assign(abnormality=np.repeat(["mass", "calc", "mass", ""], 40))


def test_lesion_groups_hold_negatives_of_their_kind_and_those_without_a_lesion():
    rows = with_lesions()
    found = by_group(subgroup_figures(rows, ["abnormality"], **FAST))
    assert list(found) == ["calc", "mass"]  # normal images are no group of their own
    masses = rows[rows["abnormality"].isin(["mass", ""])]
    assert found["mass"].figure == metrics.auc_figure(masses, n=100)
    assert (found["mass"].n, found["mass"].positives) == (120, 40)
    # calcifications: no benign ones, so the normal images alone
    assert (found["calc"].n, found["calc"].positives) == (80, 40)


def test_an_image_whose_worst_lesions_are_of_two_kinds_is_in_both_groups():
    kinds = ["mass", "calc", "mass+calc", "", "mass+calc", "calc"]
    rows = prediction_table(3, y_true=[1, 1, 0, 0, 1, 0], abnormality=kinds,
                            patient_id=list("uvwxyz"))  # fmt: skip
    found = by_group(subgroup_figures(rows, ["abnormality"], **FAST))
    assert list(found) == ["calc", "mass"]
    # calc: images 2, 3, 5, 6 and the negative without a lesion, 4
    assert (found["calc"].n, found["calc"].positives) == (5, 2)
    # mass: images 1, 3, 5 and 4
    assert (found["mass"].n, found["mass"].positives) == (4, 2)


def test_positives_without_a_recorded_lesion_are_a_group():
    rows = with_lesions().assign(abnormality=np.repeat(["mass", "", "mass", ""], 40))
    one = by_group(subgroup_figures(rows, ["abnormality"], **FAST))["not given"]
    assert (one.n, one.positives) == (80, 40)


def test_images_are_chosen_before_they_make_a_woman():
    rows = prediction_table(40)
    one = by_group(subgroup_figures(rows, ["view"], level="patient", **FAST))["CC"]
    seen = rows[rows["view"] == "CC"]
    assert one.figure == metrics.auc_figure(seen, "patient", n=100)
    assert (one.n, one.figure["level"]) == (40, "patient")


def test_women_are_not_counted_where_none_are_named():
    rows = prediction_table(40).drop(columns="patient_id")
    one = subgroup_figures(rows, ["view"])[0]
    assert one.women is None and one.figure["low"] < one.figure["value"]


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({}, ["ethnicity"], "no column ethnicity to divide by; the rows have image_id"),
        ({"split": "val"}, ["view"], "'test' holds rows of split val"),
        ({"image_id": "a"}, ["view"], "'a' stands twice"),
        ({"y_score": np.nan}, ["view"], "y_score: 80 NaN"),
    ],
    ids=["column", "split", "twice", "NaN"],
)
def test_rows_that_cannot_be_divided_are_refused(change, columns, message):
    with pytest.raises(metrics.MetricError, match=message):
        subgroup_figures(prediction_table(40).assign(**change), columns, **FAST)


def test_an_image_gets_the_facts_of_its_worst_lesion():
    rows = prediction_table(4)
    joined = join_lesions(rows, lesions(
        ("i0", "calc", 0, 5, 2), ("i0", "mass", 1, 3, 4),
        ("i1", "mass", 1, 2, 4), ("i1", "calc", 1, 4, 5),
        ("i2", "calc", 0, 1, 3), ("i2", "calc", 0, 4, 3),
        ("i3", "other", 1, "", "4b"), ("i3", "other", 1, 2, "4a"),
        ("i99", "mass", 1, 1, 1),
    ))  # fmt: skip
    facts = joined[["abnormality", "subtlety", "assessment"]].to_numpy().tolist()
    assert facts[:4] == [
        ["mass", "3", "4"],  # the malignant one
        ["mass+calc", "4", "5"],  # both kinds; facts of the higher assessment
        ["calc", "4", "3"],  # equal assessments: the most obvious
        ["other", "", "4b"],
    ]
    assert facts[4:] == [["", "", ""]] * 4
    assert joined[rows.columns].equals(rows)


def test_lesions_without_assessment_join_too():
    table = lesions(("i0", "mass", 1, 3, 4))[["image_id", "abnormality", "malignant"]]
    joined = join_lesions(prediction_table(2), table)
    assert joined.loc[0, ["abnormality", "assessment"]].tolist() == ["mass", ""]


def test_no_lesions_at_all_leave_the_columns_empty():
    joined = join_lesions(prediction_table(2), lesions())
    assert (joined["abnormality"] == "").all()


def test_tables_that_do_not_belong_together_are_refused():
    with pytest.raises(metrics.MetricError, match="not one of 2 .* 'x1'.* 'i0'"):
        join_lesions(prediction_table(2), lesions(
            ("x1", "mass", 1, 3, 4), ("x2", "mass", 1, 3, 4)))  # fmt: skip
    with pytest.raises(metrics.MetricError, match="'a' stands twice"):
        join_lesions(prediction_table(2, image_id="a"), lesions())
    with pytest.raises(metrics.MetricError, match="lesions have no column image_id"):
        join_lesions(prediction_table(2), lesions().drop(columns="image_id"))
