"""Synthetic lesions: one continuous family from textbook benign to textbook malignant.

A lesion has a `grade` in [0, 1] and every property that tells its nature is drawn from
that one number, so that a benign and a malignant lesion leave the same code, with the
same size, the same integrated signal and the same region marked by the radiologist.
Masses go from a smooth oval with a sharp border to an irregular core with an
ill-defined margin and spicules; calcifications from few, round and coarse to many,
fine, pleomorphic and aligned along ducts (the signs of the BI-RADS lexicon).

Lesions are drawn at `FINE_ROWS` rows an image (4 times the 384 rows of the demo) and
area-averaged by the caller, so that spicules and fine calcifications keep their energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FINE_ROWS = 1536
FILL = 0.5
"""Mean signal of a mass of contrast 1 over its circle; the same for every grade."""
CALC_AREA = 820.0
"""Fine pixels that a cluster's calcifications cover together, whatever their number."""
WINDOW = 2.1
"""Half side of the drawn square in lesion radii: spicules reach no farther."""
GRADE_SPREAD = 0.16


@dataclass(frozen=True)
class Lesion:
    """One finding of a woman, seen in both views.

    Attributes:
        abnormality: "mass" or "calc".
        malignant: 0 or 1.
        depth: 0 at the chest wall (MLO: pectoral muscle), 1 at the skin.
        across: Row in CC, -1 to 1 from one end of the breast to the other.
        along: Row in MLO, -1 to 1.
        radius: Radius of the marked region, as a fraction of the image's height.
        contrast: Signal in deviations of the tissue around it: the mean over the
            circle for a mass, the brightness of one piece for a calcification.
        deviation: Standard normal; how far its grade lies from its nature's.
        subtlety: 1 (subtle) to 5 (obvious), as CBIS-DDSM rates it.
        seed: Of its shape.
    """

    abnormality: str
    malignant: int
    depth: float
    across: float
    along: float
    radius: float
    contrast: float
    deviation: float
    subtlety: int
    seed: int


def lesion_grade(lesion: Lesion, difficulty: float) -> float:
    """Where a lesion lies between textbook benign (0) and textbook malignant (1).

    Args:
        lesion: Its nature and its own deviation.
        difficulty: 0 leaves the natures at the two ends, 1 moves them to 0.45 and
            0.55, well inside one another's spread.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: The difficulty is outside [0, 1].
    """
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty: must lie in [0, 1], received {difficulty!r}")
    half = 0.5 - 0.45 * difficulty
    middle = 0.5 + (half if lesion.malignant else -half)
    return float(np.clip(middle + GRADE_SPREAD * lesion.deviation, 0.0, 1.0))


def draw_lesion(
    lesion: Lesion, *, grade: float, view_index: int, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a lesion as one view shows it.

    Args:
        lesion: What to draw.
        grade: From `lesion_grade`.
        view_index: 0 for CC, 1 for MLO: other projections of one shape.
        scale: Of its fine parts (spicules, calcifications); the radius is the lesion's.

    Returns:
        Signal, float32 (n, n) in deviations of the tissue, and the marked region,
        bool (n, n), both at FINE_ROWS rows an image and centred on the lesion.
    """
    rng = np.random.default_rng([lesion.seed, view_index])
    radius = lesion.radius * FINE_ROWS
    if lesion.abnormality == "mass":
        signal = _mass(rng, radius, grade, scale)
        signal *= FILL * np.pi * radius**2 / signal.sum()
    else:
        signal = _calcifications(rng, radius, grade, CALC_AREA * scale**2)
        signal *= CALC_AREA * scale**2 / signal.sum()
    return signal * np.float32(lesion.contrast), _marked_region(rng, radius)


def measure_contrast(
    image: np.ndarray, breast: np.ndarray, row: float, col: float, radius: float
) -> float:
    """Contrast of a circled finding over the deviation of what surrounds it.

    (mean inside the circle - mean of the ring from 1 to 2 radii) / deviation of the
    ring, both within the breast: the figure that is compared with circled findings
    of real films.

    Args:
        image: (H, W), any grey scale.
        breast: bool (H, W).
        row: Centre of the circle.
        col: Centre of the circle.
        radius: Of the circle, pixels.

    Returns:
        The ratio; NaN where circle or ring hold no breast pixel.
    """
    rows, cols = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(rows - row, cols - col)
    inside = image[(distance <= radius) & breast]
    ring = image[(distance > radius) & (distance <= 2 * radius) & breast]
    if not inside.size or not ring.size or ring.std() == 0:
        return float("nan")
    return float((inside.mean() - ring.mean()) / ring.std())


def _polar(half: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(-half, half + 1, dtype=np.float32)
    cols, rows = np.meshgrid(axis, axis)
    return np.sqrt(rows**2 + cols**2), np.arctan2(rows, cols)


def _half_side(radius: float) -> int:
    return int(np.ceil(WINDOW * radius))


def _mass(rng, radius: float, grade: float, scale: float) -> np.ndarray:
    """Core of irregular outline and soft edge, and spicules, as the grade has them."""
    distance, angle = _polar(_half_side(radius))
    table = np.linspace(-np.pi, np.pi, 361)
    outline = _outline(rng, radius * (0.92 - 0.24 * grade), grade)
    border = np.interp(angle, table, outline).astype(np.float32)
    edge = radius * (0.05 + 0.33 * grade)
    step = np.clip((border - distance) / edge + 0.5, 0, 1)
    core = step * step * (3 - 2 * step) * (1 - 0.35 * np.minimum(distance / border, 1))
    return np.maximum(core, _spicules(rng, radius, grade, scale, distance.shape))


def _outline(rng: np.random.Generator, radius: float, grade: float) -> np.ndarray:
    """Distance of the border from the centre at 361 angles from -pi to pi."""
    angle = np.linspace(-np.pi, np.pi, 361)
    aspect, turn = rng.uniform(0.72, 0.95), rng.uniform(0, np.pi)
    oval = 1 / np.hypot(np.cos(angle - turn) * aspect, np.sin(angle - turn) / aspect)
    bumps = np.zeros_like(angle)
    for order in range(3, 10):
        size = rng.normal() / order**0.5
        bumps += size * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    bumps *= 1 / max(bumps.std(), 1e-6)
    return radius * oval * np.clip(1 + 0.17 * grade * bumps, 0.45, 1.6)


def _spicules(
    rng, radius: float, grade: float, scale: float, shape: tuple
) -> np.ndarray:
    """Tapering lines from the core outward: 1 to 2 core radii long at high grade."""
    canvas = np.zeros(shape, np.float32)
    strength = np.clip((grade - 0.2) / 0.6, 0, 1)
    count = int(round(rng.uniform(13, 20) * strength))
    start = rng.uniform(0, 2 * np.pi)
    for number in range(count):
        angle = start + 2 * np.pi * (number + rng.uniform(-0.35, 0.35)) / count
        length = radius * (0.7 + rng.uniform(0.55, 1.3) * strength)
        _spicule(canvas, rng, angle, min(length, radius * 2.0), 0.65 * strength, scale)
    return cv2.GaussianBlur(canvas, (0, 0), 1.2)


def _spicule(canvas, rng, angle, length, strength: float, scale: float) -> None:
    """One line, drawn tip first, so that the brighter part nearer the core stays."""
    centre = canvas.shape[0] // 2
    bend, width = rng.normal(0, 0.22), scale * rng.uniform(5.5, 8.5)
    steps = np.linspace(1, 0.15, 10)
    turned = angle + bend * steps**2
    points = centre + length * steps * np.stack([np.cos(turned), np.sin(turned)])
    whole = np.round(points.T).astype(int).tolist()
    for first, second, along in zip(whole[:-1], whole[1:], steps[:-1], strict=True):
        thickness = max(int(round(width * (1.15 - 0.6 * along))), 4)
        bright = strength * (1 - 0.6 * along) * 1.2
        cv2.line(canvas, first, second, float(bright), thickness)


def _calcifications(rng, radius: float, grade: float, total: float) -> np.ndarray:
    """Pieces that cover `total` pixels together; more and finer ones at high grade."""
    side = 2 * _half_side(radius) + 1
    canvas = np.zeros((side, side), np.float32)
    count = int(round(rng.uniform(3.4, 5.2) * 5.2**grade))
    area = total / count * np.exp(rng.normal(0, 0.1 + 0.5 * grade, count))
    area *= total / area.sum()
    points = _cluster(rng, radius, grade, count) + side // 2
    for point, size in zip(points, area, strict=True):
        stretch = np.exp(grade * rng.uniform(0, 0.65))
        axes = np.sqrt(size / np.pi) * np.array([stretch, 1 / stretch])
        bright = 1 - rng.uniform(0, 0.1 + 0.35 * grade)
        _piece(canvas, point, axes, rng.uniform(0, 180), bright)
    return cv2.GaussianBlur(canvas, (0, 0), 1.7)


def _piece(canvas, point, axes, turn_degrees: float, bright: float) -> None:
    """Draw an ellipse to a sixteenth of a pixel."""
    centre = tuple(np.round(point * 16).astype(int).tolist())
    size = tuple(np.round(axes * 16).astype(int).tolist())
    cv2.ellipse(canvas, centre, size, turn_degrees, 0, 360, bright, -1, cv2.LINE_8, 4)


def _cluster(rng, radius: float, grade: float, count: int) -> np.ndarray:
    """Places (x, y) in the marked region, apart from one another; partly on ducts."""
    ducts = rng.uniform(0, np.pi, 2)
    offsets = rng.uniform(-0.35, 0.35, 2) * radius
    apart = 1.15 * radius / np.sqrt(count)
    points: list[np.ndarray] = []
    for attempt in range(60 * count):
        place = _disc_point(rng, 0.86 * radius)
        if rng.uniform() < 0.6 * grade:
            duct = rng.integers(2)
            along = np.array([np.cos(ducts[duct]), np.sin(ducts[duct])])
            across = np.array([-along[1], along[0]])
            place = along * (place @ along) + across * (
                offsets[duct] + 0.05 * radius * rng.normal()
            )
        near = apart * (1 - attempt / (60 * count))
        if all(np.hypot(*(place - other)) > near for other in points):
            points.append(place)
        if len(points) == count:
            break
    while len(points) < count:
        points.append(_disc_point(rng, 0.86 * radius))
    return np.array(points)


def _disc_point(rng: np.random.Generator, radius: float) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return radius * np.sqrt(rng.uniform()) * np.array([np.cos(angle), np.sin(angle)])


def _marked_region(rng: np.random.Generator, radius: float) -> np.ndarray:
    """What a radiologist draws around it: a loose oval of the same size for all."""
    distance, angle = _polar(_half_side(radius))
    wobble = 0.04 * np.cos(2 * angle + rng.uniform(0, 6.28))
    wobble += 0.03 * np.cos(3 * angle + rng.uniform(0, 6.28))
    return distance <= radius * (1 + wobble)
