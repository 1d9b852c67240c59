"""A synthetic woman, and the pictures of her breast.

Every woman and every view has its own random stream, keyed on (seed, domain, index,
view), so that an image is the same whatever is made with it, before it or beside it.
Malignant and benign women come in pairs with one plan (number and kinds of lesions),
placed at random within blocks of `BLOCK` women: the classes agree in all but nature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dm_preprocess.phantom_anatomy import (
    VIEWS,
    Anatomy,
    Breast,
    draw_anatomy,
    draw_breast,
)
from dm_preprocess.phantom_lesions import (
    FINE_ROWS,
    Lesion,
    draw_lesion,
    lesion_grade,
)
from dm_preprocess.phantom_rendering import DOMAINS, show_digital, show_film
from dm_preprocess.phantom_specks import calcify_vessels, scatter_specks

DIFFICULTY = 0.1
LESIONS = 6
"""Findings of every woman, benign or not: as in a real breast, most are harmless, and
an image's label does not say which of them it means."""
BLOCK = 20
"""Women within whom the labels are balanced; ten pairs."""
RADIUS_RANGE = (12 / 384, 20 / 384)
MASS_CONTRAST, CALC_CONTRAST = 2.3, 4.4
LIGAMENTS = {"film": (1.4, 0.3), "digital": (1.8, 0.45)}
SPECKS = {"film": (4, 0.8), "digital": (10, 0.8)}
"""Median and logarithmic spread in a view, whatever the label: what a detector shows
of ligaments and lone specks differs between the detectors, and from image to image."""
MOST_SPECKS = 120
VESSELS = {"film": 0.15, "digital": 0.6}
"""Calcified vessels a view, on average."""
FIELD = {"film": 1.0, "digital": 0.9}
"""Size of things in the image: a film scan is cut to the film, a digital image shows
the whole detector, which is larger."""


@dataclass(frozen=True)
class PhantomImage:
    """One rendered view.

    Attributes:
        image: float32 (H, W) in [0, 1], bright where dense.
        breast: bool (H, W).
        lesion_masks: One bool (H, W) a lesion, the region a radiologist would mark.
        circles: (row, col, radius) of each lesion in pixels.
    """

    image: np.ndarray
    breast: np.ndarray
    lesion_masks: tuple[np.ndarray, ...]
    circles: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class PhantomCase:
    """One woman, of whom one breast is imaged in two views.

    Attributes:
        seed: Key of all her random streams.
        domain: "film" or "digital".
        laterality: "LEFT" or "RIGHT".
        malignant: 1 where any of her lesions is.
        pair: Number of the benign-malignant pair within her block.
    """

    seed: tuple[int, int, int]
    domain: str
    laterality: str
    malignant: int
    pair: int
    lesions: tuple[Lesion, ...]
    anatomy: Anatomy


def draw_case(seed: int, index: int, *, domain: str = "film") -> PhantomCase:
    """Draw a woman.

    Args:
        seed: Of the whole collection.
        index: Of the woman; tells nothing of her label.
        domain: "film" or "digital": other women, not the same in another rendering.

    Returns:
        The woman; the same for the same arguments, always.

    Raises:
        ValueError: An unknown domain.
    """
    _check_domain(domain)
    key = (seed, DOMAINS.index(domain), index)
    block, place = divmod(index, BLOCK)
    order = np.random.default_rng([*key[:2], block, 101]).permutation(BLOCK)
    pair, malignant = divmod(int(order[place]), 2)
    plan = np.random.default_rng([*key[:2], block, pair, 102])
    rng = np.random.default_rng([*key, 103])
    lesions = _draw_lesions(rng, _draw_kinds(plan), malignant)
    laterality = "LEFT" if rng.uniform() < 0.5 else "RIGHT"
    return PhantomCase(
        key, domain, laterality, malignant, pair, lesions, draw_anatomy(rng)
    )


def render_case(
    case: PhantomCase,
    view: str,
    *,
    height: int,
    width: int,
    difficulty: float = DIFFICULTY,
) -> PhantomImage:
    """Render one view of a woman of `draw_case`; arguments as `render`."""
    return render(
        case.seed,
        view=view,
        laterality=case.laterality,
        lesions=case.lesions,
        height=height,
        width=width,
        domain=case.domain,
        difficulty=difficulty,
        anatomy=case.anatomy,
    )


def render(
    seed: int | tuple[int, ...],
    *,
    view: str,
    laterality: str,
    lesions: tuple[Lesion, ...],
    height: int,
    width: int,
    domain: str = "film",
    difficulty: float = DIFFICULTY,
    anatomy: Anatomy | None = None,
) -> PhantomImage:
    """Render a breast with given lesions at any size.

    Args:
        seed: Of the woman; each view draws its own tissue from it.
        view: "CC" or "MLO".
        laterality: "LEFT" (chest wall on the left) or "RIGHT".
        lesions: What she has; empty for a normal breast.
        height: Rows.
        width: Columns.
        domain: "film" or "digital".
        difficulty: 0 textbook lesions to 1 nearly alike ones.
        anatomy: None draws one from the seed.

    Returns:
        The image, its breast and the marked region of every lesion.

    Raises:
        ValueError: An unknown view, domain or side, or a difficulty outside [0, 1].
    """
    _check_domain(domain)
    if laterality not in ("LEFT", "RIGHT"):
        raise ValueError(f"laterality: must be LEFT or RIGHT, received {laterality!r}")
    seed = (seed,) if isinstance(seed, int) else tuple(seed)
    if anatomy is None:
        anatomy = draw_anatomy(np.random.default_rng([*seed, 104]))
    view_index = VIEWS.index(view) if view in VIEWS else len(VIEWS)
    rng = np.random.default_rng([*seed, 200 + view_index])
    breast = draw_breast(
        anatomy,
        rng,
        view=view,
        height=height,
        width=width,
        ligaments=_around(rng, *LIGAMENTS[domain]),
        field=FIELD[domain],
    )
    scatter_specks(breast, rng, min(round(_around(rng, *SPECKS[domain])), MOST_SPECKS))
    calcify_vessels(breast, rng, int(rng.poisson(VESSELS[domain])))
    lesions = [replace(one, radius=one.radius * FIELD[domain]) for one in lesions]
    masks, circles = [], []
    for lesion in lesions:
        row, col = _place(lesion, breast, view)
        grade = lesion_grade(lesion, difficulty)
        signal, region = draw_lesion(
            lesion, grade=grade, view_index=view_index, scale=FIELD[domain]
        )
        masks.append(_add_lesion(breast, signal, region, row, col))
        circles.append((row, col, lesion.radius * height))
    return _show(breast, rng, masks, circles, domain, laterality == "RIGHT")


def _around(rng: np.random.Generator, median: float, spread: float) -> float:
    return float(median * np.exp(spread * rng.normal()))


def _check_domain(domain: str) -> None:
    if domain not in DOMAINS:
        known = ", ".join(DOMAINS)
        raise ValueError(f"domain: must be one of {known}, received {domain!r}")


def _draw_kinds(rng: np.random.Generator) -> list[str]:
    return [("mass", "calc")[int(rng.integers(2))] for _ in range(LESIONS)]


def _draw_lesions(rng, kinds: list[str], malignant: int) -> tuple[Lesion, ...]:
    """Lesions apart from one another; in a malignant woman one of them is malignant."""
    count = len(kinds)
    bad = int(rng.integers(count))
    across, along = (_apart(rng, count) for _ in range(2))
    return tuple(
        _draw_lesion(rng, kind, int(malignant and k == bad), across[k], along[k])
        for k, kind in enumerate(kinds)
    )


def _apart(rng: np.random.Generator, count: int) -> np.ndarray:
    """Places from end to end of the breast, in random order, not on one another."""
    places = (np.arange(count) - (count - 1) / 2) * (1.3 / count)
    return rng.permutation(places) + rng.uniform(-0.12, 0.12, count)


def _draw_lesion(rng, kind: str, malignant: int, across, along) -> Lesion:
    subtlety = int(rng.integers(1, 6))
    middle = MASS_CONTRAST if kind == "mass" else CALC_CONTRAST
    contrast = middle * np.exp(0.12 * (subtlety - 3) + 0.12 * rng.normal())
    return Lesion(
        abnormality=kind,
        malignant=malignant,
        depth=float(rng.uniform(0.15, 0.85)),
        across=float(across),
        along=float(along),
        radius=float(rng.uniform(*RADIUS_RANGE)),
        contrast=float(contrast),
        deviation=float(rng.normal()),
        subtlety=subtlety,
        seed=int(rng.integers(2**31)),
    )


def _place(lesion: Lesion, breast: Breast, view: str) -> tuple[float, float]:
    """Centre of a lesion, clear of muscle and skin where there is room."""
    height = breast.mask.shape[0]
    first, last = breast.rows
    radius = lesion.radius * height
    where = lesion.across if view == "CC" else lesion.along
    row = (first + last) / 2 + where * max((last - first) / 2 - radius, 0)
    at = int(np.clip(row, 0, height - 1))
    low, high = breast.chest[at] + radius, breast.skin[at] - 1.3 * radius
    return row, max(float(low + lesion.depth * (high - low)), 0.9 * radius)


def _add_lesion(breast: Breast, signal, region, row: float, col: float) -> np.ndarray:
    """Area-average a lesion into the attenuation, in place; its mask is returned."""
    height, width = breast.mask.shape
    factor = FINE_ROWS / height
    half = signal.shape[0] // 2
    reach = int(np.ceil(half / factor)) + 2
    row0, col0 = round(row) - reach, round(col) - reach
    by_row = _area_share(2 * reach + 1, (row0 - row) * factor + half, signal, factor)
    by_col = _area_share(2 * reach + 1, (col0 - col) * factor + half, signal, factor)
    rows = slice(max(row0, 0), min(row0 + 2 * reach + 1, height))
    cols = slice(max(col0, 0), min(col0 + 2 * reach + 1, width))
    cut = (
        slice(rows.start - row0, rows.stop - row0),
        slice(cols.start - col0, cols.stop - col0),
    )
    around = breast.attenuation[rows, cols][breast.mask[rows, cols]]
    spread = np.hypot(0.8 * around.std(), 0.04) * breast.thickness[rows, cols]
    breast.attenuation[rows, cols] += spread * (by_row @ signal @ by_col.T)[cut]
    mask = np.zeros((height, width), bool)
    mask[rows, cols] = (by_row @ region.astype(np.float32) @ by_col.T)[cut] >= 0.5
    return mask & breast.mask


def _area_share(count: int, start: float, fine: np.ndarray, factor: float):
    """(count, n) weights of n fine pixels in `count` coarse ones from `start` on."""
    edges = start + (np.arange(count + 1) - 0.5) * factor + 0.5
    low = np.arange(fine.shape[0])
    share = np.minimum(edges[1:, None], low + 1) - np.maximum(edges[:-1, None], low)
    return (np.clip(share, 0, None) / factor).astype(np.float32)


def _show(breast: Breast, rng, masks, circles, domain: str, flipped: bool):
    """Turn to the right side, if it is a right breast, and expose."""
    if flipped:
        width = breast.mask.shape[1]
        breast = breast.mirrored()
        masks = [np.ascontiguousarray(mask[:, ::-1]) for mask in masks]
        circles = [(row, width - 1 - col, radius) for row, col, radius in circles]
    expose = show_film if domain == "film" else show_digital
    image = expose(breast, rng, flipped=flipped)
    return PhantomImage(image, breast.mask, tuple(masks), tuple(circles))
