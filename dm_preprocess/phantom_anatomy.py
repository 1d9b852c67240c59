"""Synthetic breasts: outline, thickness, pectoral muscle and tissue.

A breast is a field of attenuation: thickness that rolls off at the skin, times fat and
glandular tissue whose texture has the power spectrum 1/f^3 of real mammograms
(Burgess, Jacobson and Judy, Med Phys 28, 2001), plus thin curved ligaments, the skin
line and, in MLO, the pectoral muscle. How film or a digital detector shows it is the
business of `phantom_rendering`.

Shapes are in fractions of the image's height or width, so that a woman looks the same
at every size. Everything is drawn with the chest wall on the left (a left breast);
a right breast is mirrored at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy import fft

EXPONENT = 3.1
"""Of the tissue's power spectrum."""
VIEWS = ("CC", "MLO")


@dataclass(frozen=True)
class Anatomy:
    """What a woman's breast is like in every view.

    Attributes:
        reach: From chest wall to nipple, fraction of the width.
        half_height: Of the breast on the chest wall in CC, fraction of the height.
        glandular: Amount of dense tissue, 0 to 1 (BI-RADS density A to D).
        ligaments: Strength of the thin curved structures.
        muscle: Width of the pectoral muscle at the top in MLO, fraction of the width.
        roundness: Exponent of the outline; 2 is an ellipse.
    """

    reach: float
    half_height: float
    glandular: float
    ligaments: float
    muscle: float
    roundness: float


@dataclass(frozen=True)
class Breast:
    """One view of a breast before any detector.

    Attributes:
        attenuation: float32 (H, W); 0 outside, about 1 in fat at full thickness.
        mask: bool (H, W), the breast with skin and muscle.
        muscle: bool (H, W), the pectoral muscle and its soft edge.
        thickness: float32 (H, W), 0 to 1.
        skin: Column of the skin in each row; 0 where there is no breast.
        chest: Column where gland begins in each row: chest wall or muscle.
        rows: First and last row in which lesions may lie, pixels.
    """

    attenuation: np.ndarray
    mask: np.ndarray
    muscle: np.ndarray
    thickness: np.ndarray
    skin: np.ndarray
    chest: np.ndarray
    rows: tuple[float, float]

    def mirrored(self) -> Breast:
        """The pixel arrays with the chest wall on the other side."""
        flip = [
            np.ascontiguousarray(a[:, ::-1])
            for a in (self.attenuation, self.mask, self.muscle, self.thickness)
        ]
        return replace(
            self, attenuation=flip[0], mask=flip[1], muscle=flip[2], thickness=flip[3]
        )


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a woman's anatomy; nothing of it depends on her lesions."""
    return Anatomy(
        reach=rng.uniform(0.58, 0.88),
        half_height=rng.uniform(0.36, 0.46),
        glandular=rng.beta(1.6, 1.6),
        ligaments=rng.uniform(0.5, 1.0),
        muscle=rng.uniform(0.3, 0.45),
        roundness=rng.uniform(1.8, 2.3),
    )


def draw_breast(
    anatomy: Anatomy,
    rng: np.random.Generator,
    *,
    view: str,
    height: int,
    width: int,
    ligaments: float = 1.0,
    field: float = 1.0,
) -> Breast:
    """Draw one view of a breast.

    Args:
        anatomy: The woman's.
        rng: Of this view.
        view: "CC" or "MLO".
        height: Rows.
        width: Columns.
        ligaments: Factor on the woman's; digital detectors show more of them.
        field: Size of the breast in the image; smaller on a larger detector.

    Returns:
        The breast, chest wall on the left.

    Raises:
        ValueError: An unknown view.
    """
    if view not in VIEWS:
        raise ValueError(f"view: must be one of {', '.join(VIEWS)}, received {view!r}")
    anatomy = replace(
        anatomy,
        reach=anatomy.reach * field,
        half_height=anatomy.half_height * field,
        muscle=anatomy.muscle * field,
    )
    centre = 0.5 + rng.uniform(-0.02, 0.02)
    if view == "CC":
        skin, rows = _outline_cc(anatomy, centre, height, width)
        chest = np.zeros(height, np.float32)
    else:
        skin, rows = _outline_mlo(anatomy, rng, height, width)
        chest = _muscle_edge(anatomy, rng, height, width)
    skin = skin + _bumps(rng, skin, height) * (skin > 0)
    mask = np.arange(width)[None, :] < skin[:, None]
    depth = _skin_distance(mask) / height
    thickness = _thickness(depth, rng.uniform(0.10, 0.15))
    tissue = _tissue(anatomy, rng, skin, chest, rows, (height, width), ligaments)
    attenuation = thickness * tissue + _skin_line(depth, mask)
    if view == "MLO":
        attenuation = _add_muscle(attenuation, chest, mask, rng, width)
    soft_edge = (chest + 0.04 * width) * (chest > 0)
    muscle = np.arange(width)[None, :] < soft_edge[:, None]
    attenuation = attenuation.astype(np.float32) * mask
    return Breast(attenuation, mask, muscle, thickness, skin, chest, rows)


def power_law_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    exponent: float = EXPONENT,
    stretch: float = 1.0,
    lowest: float = 1.5,
    highest: float = np.inf,
) -> np.ndarray:
    """Gaussian noise whose power falls as 1/f^exponent.

    Args:
        rng: Of the noise.
        height: Rows.
        width: Columns.
        exponent: Of the power, not of the amplitude.
        stretch: How much longer structures are along a row than along a column.
        lowest: Frequency in cycles a height below which the power stays level.
        highest: Frequency in cycles a height above which there is none.

    Returns:
        float32 (height, width), mean 0, deviation 1.
    """
    rows = np.fft.fftfreq(height)[:, None] * height
    cols = np.fft.rfftfreq(width)[None, :] * height * stretch
    frequency = np.sqrt(rows**2 + cols**2).astype(np.float32)
    gain = np.maximum(frequency, np.float32(lowest)) ** np.float32(-exponent / 2)
    gain[frequency > highest] = 0
    gain[0, 0] = 0
    white = rng.standard_normal((height, width), dtype=np.float32)
    noise = fft.irfft2(fft.rfft2(white) * gain, s=(height, width))
    return noise / noise.std()


def _outline_cc(anatomy: Anatomy, centre: float, height: int, width: int):
    row = (np.arange(height) + 0.5) / height
    away = np.abs(row - centre) / anatomy.half_height
    power = anatomy.roundness
    skin = anatomy.reach * np.clip(1 - away**power, 0, 1) ** (1 / power)
    half = 0.8 * anatomy.half_height
    rows = ((centre - half) * height, (centre + half) * height)
    return (skin * width).astype(np.float32), rows


def _outline_mlo(anatomy: Anatomy, rng, height: int, width: int):
    """Axilla at the top, nipple below the middle, fold at the bottom."""
    row = (np.arange(height) + 0.5) / height
    nipple, fold = rng.uniform(0.56, 0.64), rng.uniform(0.93, 0.98)
    top = rng.uniform(0.62, 0.8) * anatomy.reach
    rise = np.clip(row / nipple, 0, 1)
    upper = top + (anatomy.reach - top) * np.sin(rise * np.pi / 2) ** 1.6
    fall = np.clip((row - nipple) / (fold - nipple), 0, 1)
    power = anatomy.roundness
    lower = anatomy.reach * (1 - fall**power) ** (1 / power)
    skin = np.where(row < nipple, upper, lower)
    return (skin * width).astype(np.float32), (0.2 * height, (fold - 0.1) * height)


def _bumps(rng: np.random.Generator, skin: np.ndarray, height: int) -> np.ndarray:
    """The nipple, and the unevenness of every outline, in columns."""
    row = np.arange(height) / height
    at = float(skin.argmax()) / height + rng.normal(0, 0.01)
    nipple = rng.uniform(0.0, 0.016) * np.exp(-(((row - at) / 0.016) ** 4))
    uneven = rng.normal(0, 0.006) * np.sin(2 * np.pi * (row * 2 + rng.uniform()))
    uneven += rng.normal(0, 0.003) * np.sin(2 * np.pi * (row * 5 + rng.uniform()))
    return ((nipple + uneven) * height).astype(np.float32)


def _muscle_edge(anatomy: Anatomy, rng, height: int, width: int) -> np.ndarray:
    """Column of the muscle's edge in each row: a slightly bent line to the wall."""
    row = (np.arange(height) + 0.5) / height
    end, bend = rng.uniform(0.5, 0.68), rng.uniform(0.85, 1.25)
    edge = anatomy.muscle * np.clip(1 - row / end, 0, 1) ** bend
    return (edge * width).astype(np.float32)


def _skin_distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the skin; the image's border is no skin."""
    pad = 8
    wide = cv2.copyMakeBorder(
        mask.astype(np.uint8), 0, 0, pad, 0, cv2.BORDER_REPLICATE
    )  # fmt: skip
    return cv2.distanceTransform(wide, cv2.DIST_L2, 5)[:, pad:]


def _thickness(depth: np.ndarray, roll_off: float) -> np.ndarray:
    inward = np.clip(depth / roll_off, 0, 1)
    return np.sqrt(1 - (1 - inward) ** 2).astype(np.float32)


def _skin_line(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return 0.13 * np.exp(-((depth / 0.006 - 0.9) ** 2)) * mask


def _tissue(anatomy, rng, skin, chest, rows, shape, ligaments: float) -> np.ndarray:
    """Fat of 1, glandular tissue above it, texture on both, ligaments on top."""
    height, width = shape
    texture = power_law_noise(rng, height, width)
    gland = _gland(anatomy, rng, skin, chest, rows, shape)
    lines = _ligaments(rng, skin, rows, shape)
    fibre = 0.10 * ligaments * anatomy.ligaments * (0.35 + 0.65 * gland)
    return 1 + 0.35 * gland + (0.07 + 0.09 * gland) * texture + fibre * lines


def _gland(anatomy, rng, skin, chest, rows, shape) -> np.ndarray:
    """Share of glandular tissue: a smooth cone behind the nipple, broken at random."""
    height, width = shape
    middle, half = (rows[0] + rows[1]) / 2, (rows[1] - rows[0]) / 2
    up = ((np.arange(height, dtype=np.float32) - middle) / half)[:, None]
    span = np.maximum(skin - chest, 0.1 * width)
    column = np.arange(width, dtype=np.float32)[None, :]
    inward = (column - chest[:, None]) / span[:, None]
    cone = 1.1 - 0.9 * up**2 - 2.2 * (inward - 0.6) ** 2
    patches = power_law_noise(rng, height, width, lowest=3, highest=24)
    level = 3 * (cone + 0.3 * patches + 1.1 * (anatomy.glandular - 1.0))
    return 0.5 + 0.5 * np.tanh(level / 2)


def _ligaments(rng, skin, rows, shape) -> np.ndarray:
    """Thin bright curves that run toward the nipple: zero lines of smooth noise."""
    height, width = shape
    coarse = _fibres(rng, shape, highest=16)
    fine = _fibres(rng, shape, highest=40)
    lines = coarse + 0.6 * fine
    nipple = (rows[0] + rows[1]) / 2
    column = np.arange(width, dtype=np.float32)[None, :]
    narrow = 1 - 0.6 * np.clip(column / max(float(skin.max()), 1.0), 0, 1)
    row = np.arange(height, dtype=np.float32)[:, None]
    source = (nipple + (row - nipple) / narrow).astype(np.float32)
    across = np.broadcast_to(column, shape).astype(np.float32)
    return cv2.remap(lines, across, source, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)


def _fibres(rng, shape, *, highest: float) -> np.ndarray:
    smooth = power_law_noise(
        rng, *shape, exponent=3.2, stretch=2.2, lowest=highest / 5, highest=highest
    )
    patchy = power_law_noise(rng, *shape, lowest=3, highest=12)
    lines = np.exp(-((smooth / 0.11) ** 2)) * np.clip(0.5 + 0.6 * patchy, 0, 1.6)
    return lines - lines.mean()


def _add_muscle(attenuation, chest, mask, rng, width: int) -> np.ndarray:
    """The muscle is denser than fat and hides the gland's texture in part."""
    column = np.arange(width, dtype=np.float32)[None, :]
    inside = 0.5 - 0.5 * np.tanh((column - chest[:, None]) / (0.02 * width))
    level = rng.uniform(1.35, 1.6)
    muscle = level * np.minimum(attenuation, 1) ** 0.5 + 0.15 * (attenuation - 1)
    return np.where(mask, attenuation + inside * (muscle - attenuation), attenuation)
