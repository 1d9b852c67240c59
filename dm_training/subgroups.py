"""For whom the model works: figures by view, density, lesion, vendor and age.

What belongs to an image or a woman (view, density, vendor, age) divides the rows. What
belongs to a lesion (abnormality, subtlety, assessment) cannot divide them all, for an
image without a lesion has none. There a group holds the images, positive and negative,
whose worst lesion has that value, and the negatives without any lesion, which every
group shares; so malignant masses are told from benign masses and from normal images.
Against all negatives a model that merely knows a mass from a calcification would shine.
An image whose worst lesions are of two kinds, mass and calcification, is in both
groups. Where every negative has a lesion, as in CBIS-DDSM, none is shared by all.

Small groups prove little: fewer than 10 of a class, or of its women, carry a warning,
one class alone has no AUC, and several groups are several questions
(`comparison.adjust_p`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dm_training.metrics import auc_figure
from dm_training.prediction_rows import (
    MetricError,
    aggregate,
    check_rows,
    has_patients,
    texts,
)

LESION_COLUMNS = ("abnormality", "subtlety", "assessment")
SUBGROUP_COLUMNS = ("view", "density", *LESION_COLUMNS, "vendor", "age")
NOT_GIVEN = "not given"
FEW = 10
_AGES = {"<50": 50, "50-59": 60, "60-69": 70, ">=70": np.inf}
_KINDS = ("mass", "calc", "other")


@dataclass(frozen=True)
class Subgroup:
    """One group of one column.

    Attributes:
        column: Such as "density".
        group: Its value, an age band, or "not given".
        n: Images, breasts or women.
        positives: Of them.
        women: Of them; None where the rows name none.
        figure: The AUC as a figure, or None where only one class is there.
        warning: What to know before reading it; empty for nothing.
    """

    column: str
    group: str
    n: int
    positives: int
    women: int | None
    figure: dict | None
    warning: str = ""


def subgroup_figures(
    rows: pd.DataFrame, columns: Sequence[str] | None = None, *, level: str = "image",
    split: str = "test", n: int = 2000, seed: int = 0, how: str = "mean",
) -> list[Subgroup]:  # fmt: skip
    """The AUC within each group of each column.

    Images are chosen first and put together afterwards: at level "breast", group CC of
    column view is the breasts as seen in their CC images.

    Args:
        rows: A prediction table, an image a row, of one split.
        columns: Which to divide by; None takes those of `SUBGROUP_COLUMNS` that the
            rows have and that are not empty throughout.
        level: "image", "breast" or "patient".
        split: What the rows are; goes into each figure.
        n: Bootstrap draws.
        seed: Of the draws.
        how: How images make a breast or woman: "mean" or "max".

    Returns:
        Groups by column, in order of their names (ages ascending), "not given" last.
        Ages that are no number count as not given.

    Raises:
        MetricError: A column asked for that is not there, rows of another split, an
            image twice, NaN, or a level whose ids are missing.
    """
    check_rows(rows)
    if columns is None:
        columns = [name for name in SUBGROUP_COLUMNS if name in rows]
        columns = [name for name in columns if (texts(rows[name]) != "").any()]
    missing = [name for name in columns if name not in rows]
    if missing:
        raise MetricError(
            f"no column {', '.join(missing)} to divide by; the rows have "
            f"{', '.join(map(str, rows.columns))}"
        )
    options = {"level": level, "split": split, "n": n, "seed": seed, "how": how}
    return [
        _measure(column, group, chosen, **options)
        for column in columns
        for group, chosen in _groups(rows, column)
    ]


def join_lesions(rows: pd.DataFrame, lesions: pd.DataFrame) -> pd.DataFrame:
    """Give each image the facts of its worst lesion.

    The worst are the malignant ones, where there are any. Their kinds make the
    abnormality ("mass+calc" for both); subtlety and assessment are those of the one
    with the highest assessment, of equals with the highest subtlety (the most obvious).

    Args:
        rows: A prediction table, an image a row.
        lesions: Rows of lesions.csv: image_id, abnormality, malignant, and subtlety and
            assessment where there are any.

    Returns:
        The rows with abnormality, subtlety and assessment, empty for an image without
        a lesion. Lesions of images that are not among the rows are not used.

    Raises:
        MetricError: An image twice, no column image_id, or not one lesion's image_id
            among the rows: then the tables do not belong together.
    """
    check_rows(rows)
    for name, frame in (("rows", rows), ("lesions", lesions)):
        if "image_id" not in frame:
            raise MetricError(f"the {name} have no column image_id to join by")
    ids = rows["image_id"].astype(str)
    here = lesions[lesions["image_id"].astype(str).isin(set(ids))]
    if len(lesions) and not len(here):
        raise MetricError(
            f"not one of {lesions['image_id'].nunique()} image_id(s) with a lesion, "
            f"such as {lesions['image_id'].iloc[0]!r}, is among the rows, such as "
            f"{rows['image_id'].iloc[0]!r}: the tables do not belong together"
        )
    worst = {str(name): _worst(group) for name, group in here.groupby("image_id")}
    found = [worst.get(image, dict.fromkeys(LESION_COLUMNS, "")) for image in ids]
    columns = pd.DataFrame(found, index=rows.index, columns=list(LESION_COLUMNS))
    return rows.assign(**{name: columns[name] for name in LESION_COLUMNS})


def _worst(lesions: pd.DataFrame) -> dict[str, str]:
    """Abnormality, subtlety and assessment of one image's lesions."""
    malignant = pd.to_numeric(lesions["malignant"], errors="coerce").fillna(0)
    worst = lesions[malignant == malignant.max()]
    worst = worst.assign(**{
        name: texts(worst[name]) for name in LESION_COLUMNS if name in worst
    })  # fmt: skip
    kinds = set(worst["abnormality"])
    ordered = [kind for kind in _KINDS if kind in kinds] + sorted(kinds - set(_KINDS))
    facts = [
        {name: lesion[name] if name in worst else "" for name in LESION_COLUMNS}
        for _, lesion in worst.iterrows()
    ]
    most = max(facts, key=lambda f: (_rank(f["assessment"]), _rank(f["subtlety"])))
    return most | {"abnormality": "+".join(ordered)}


def _rank(text: str) -> tuple[float, str]:
    """Order of such as 2, 4a, 4c, 5; what is no number comes first."""
    number = text.rstrip("abcABC")
    return (float(number), text) if number.isdigit() else (-1.0, text)


def _groups(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each group's name and image rows."""
    bands = _age_bands if column == "age" else texts
    value = bands(rows[column])
    kinds = value.str.split("+", regex=False) if column == "abnormality" else None
    names = sorted(set(value if kinds is None else kinds.explode()) - {""})
    if column == "age":
        names = [band for band in _AGES if band in names]
    shared = np.zeros(len(rows), bool)
    if column in LESION_COLUMNS:
        shared = ((value == "") & (rows["y_true"] == 0)).to_numpy()
    for name in names:
        own = value == name if kinds is None else kinds.map(lambda k, n=name: n in k)
        yield name, rows[own.to_numpy() | shared]
    rest = (value == "").to_numpy()
    if (rest & ~shared).any():
        yield NOT_GIVEN, rows[rest]


def _measure(
    column: str, group: str, rows: pd.DataFrame, *, level: str, split: str, how: str,
    n: int, seed: int,
) -> Subgroup:  # fmt: skip
    units = aggregate(rows, level, how=how)
    count, positives = len(units), int(units["y_true"].sum())
    women = rows["patient_id"].nunique() if has_patients(rows) else None
    about = (column, group, count, positives, women)
    few = min(positives, count - positives)
    if not few:
        side = "positive" if positives == 0 else "negative"
        return Subgroup(*about, None, f"no {side}: there is no AUC")
    if women == 1:
        return Subgroup(*about, None, "one woman only: there is no interval")
    found = auc_figure(rows, level, split, how=how, n=n, seed=seed)
    return Subgroup(*about, found, _warning(rows, positives, count - positives))


def _warning(rows: pd.DataFrame, positives: int, negatives: int) -> str:
    for count, name in ((positives, "positives"), (negatives, "negatives")):
        if count < FEW:
            return f"only {count} {name}: read with care"
    if has_patients(rows):
        for truth, name in ((1, "a positive"), (0, "a negative")):
            women = rows.loc[rows["y_true"] == truth, "patient_id"].nunique()
            if women < FEW:
                return f"only {women} women with {name}: read with care"
    return ""


def _age_bands(column: pd.Series) -> pd.Series:
    """Ages such as 57, "57" or DICOM's "057Y" as bands; "" for what is no age."""
    text = texts(column).str.removesuffix("Y")
    years = pd.to_numeric(text, errors="coerce").to_numpy(float)
    ends = np.array(list(_AGES.values()))
    names = np.array([*_AGES, ""])
    at = np.where(years >= 0, np.searchsorted(ends, years, side="right"), len(ends))
    return pd.Series(names[at], index=column.index)
