"""What training images look like in numbers, and how far another image is from it.

Low scores on one's own images nearly always come from their preparation: depth, scale,
polarity, border or size. So a model's contract carries these statistics of its training
images, `measure`, and `compare` holds any image to them. Grey levels are on the 0-255
scale of the network's contract, 16-bit levels times 255/65535.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from dm_preprocess.images import breast_mask

FORMAT = 1
FULL_SCALE = 255 / 65535
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BACKGROUND_LEVEL = 2.0  # of 255: at most this is air
LOW, HIGH = 0.01, 0.99  # the range is made of these quantiles over the images
_LEVELS = 65536


@dataclass(frozen=True)
class Statistic:
    """How one statistic is named and how far beyond the training range it may lie.

    Attributes:
        title: For people.
        floor: Allowed beyond the range whatever its width, in the statistic's unit;
            a quarter of the range's width is allowed besides.
        factors: Where given, the lower end divided and the upper end multiplied by
            these is allowed instead; None leaves that end open.
    """

    title: str
    floor: float = 0.0
    factors: tuple[float | None, float | None] | None = None


# Aspect: films are up to twice as tall as the working size they are squashed to, but
# never lie on their side. Size: what is larger is shrunk as in training. Grey levels
# used: an 8-bit copy has 256 of them.
STATISTICS = {
    **{f"p{q:02d}": Statistic(f"grey level, {q} %", 4.0) for q in PERCENTILES},
    "mean": Statistic("mean grey level", 4.0),
    "background_share": Statistic("share of air", 0.05),
    "breast_share": Statistic("share of breast", 0.05),
    "corner_minus_centre": Statistic("corners minus centre", 8.0),
    "levels": Statistic("grey levels used", factors=(4.0, None)),
    "height": Statistic("height", factors=(1.1, None)),
    "width": Statistic("width", factors=(1.1, None)),
    "aspect": Statistic("height / width", factors=(1.2, 2.0)),
}
GREY_STATISTICS = tuple(
    name for name in STATISTICS if name not in ("levels", "height", "width", "aspect")
)


class GreyStatsError(ValueError):
    """Statistics cannot be measured or are not of a known form."""


@dataclass(frozen=True)
class Excess:
    """One statistic of one image that lies out of the training range.

    Attributes:
        name: A key of `STATISTICS`.
        value: The image's.
        low, high: The training range: the 1 % and 99 % quantiles over its images.
    """

    name: str
    value: float
    low: float
    high: float

    @property
    def by(self) -> float:
        """How far beyond the nearer end: above is positive, below negative."""
        return self.value - (self.high if self.value > self.high else self.low)


def measure(images: Iterable[np.ndarray]) -> dict:
    """Measure images as a model sees them: what its contract stores.

    Args:
        images: uint16 (H, W), raw grey levels at the working size; 200 are plenty.

    Returns:
        JSON-able: `format`, `images` (how many), and `statistics`: name -> its
        `low` (1 %), `median` and `high` (99 %) quantile over the images.

    Raises:
        GreyStatsError: There is no image, or one is not uint16 of two axes.
    """
    rows = [image_statistics(image) for image in images]
    if not rows:
        raise GreyStatsError("grey statistics need at least one image, received none")
    return {
        "format": FORMAT,
        "images": len(rows),
        "statistics": {
            name: summary([row[name] for row in rows]) for name in STATISTICS
        },
    }


def summary(values: list[float]) -> dict[str, float]:
    """The low (1 %), median and high (99 %) quantile of one statistic's values."""
    quantiles = np.quantile(values, (LOW, 0.5, HIGH))
    names = ("low", "median", "high")
    return {n: round(float(q), 4) for n, q in zip(names, quantiles, strict=True)}


def image_statistics(
    image: np.ndarray, *, source_shape: tuple[int, int] | None = None
) -> dict[str, float]:
    """Every statistic of one image.

    Args:
        image: uint16 (H, W), raw grey levels, as the model sees it.
        source_shape: (height, width) of the file where it was resized to `image`.

    Returns:
        One number for each key of `STATISTICS`.

    Raises:
        GreyStatsError: The image is empty or not uint16 of two axes.
    """
    if image.dtype != np.uint16 or image.ndim != 2 or not image.size:
        raise GreyStatsError(
            f"an image must be uint16 (H, W), received {image.dtype} {image.shape}"
        )
    height, width = source_shape or image.shape
    return {
        **_level_statistics(image),
        "breast_share": float(breast_mask(image).mean()),
        "corner_minus_centre": _corner_minus_centre(image),
        "height": float(height),
        "width": float(width),
        "aspect": height / width,
    }


def has_statistics(stored: Mapping | None) -> bool:
    """Whether a contract's `grey_stats` holds what `measure` writes.

    Raises:
        GreyStatsError: It does, in a later format or with statistics missing.
    """
    if not stored or "statistics" not in stored:
        return False
    if stored.get("format") != FORMAT:
        raise GreyStatsError(
            f"grey statistics of format {stored.get('format')!r} are not known; this "
            f"version reads {FORMAT}"
        )
    missing = [name for name in STATISTICS if name not in stored["statistics"]]
    if missing:
        raise GreyStatsError(f"grey statistics lack {', '.join(missing)}")
    return True


def compare(row: Mapping[str, float], stored: Mapping) -> list[Excess]:
    """What of one image lies out of the training images' range.

    Args:
        row: Of `image_statistics`.
        stored: Of `measure`, for the training images.

    Returns:
        One `Excess` a statistic that is out of range, in the order of `STATISTICS`.
    """
    found = []
    for name in STATISTICS:
        low, high = (stored["statistics"][name][end] for end in ("low", "high"))
        least, most = allowed(name, low, high)
        if not least <= row[name] <= most:
            found.append(Excess(name, float(row[name]), low, high))
    return found


def allowed(name: str, low: float, high: float) -> tuple[float, float]:
    """The least and the largest value of a statistic that is not called unusual."""
    statistic = STATISTICS[name]
    if statistic.factors is None:
        slack = max(statistic.floor, (high - low) / 4)
        return low - slack, high + slack
    below, above = statistic.factors
    return (
        -np.inf if below is None else low / below,
        np.inf if above is None else high * above,
    )


def _level_statistics(image: np.ndarray) -> dict[str, float]:
    """What the histogram tells; a percentile is the least level that reaches it."""
    counts = np.bincount(image.ravel(), minlength=_LEVELS)
    reached = counts.cumsum()
    wanted = np.ceil(np.array(PERCENTILES) / 100 * image.size)
    levels = np.searchsorted(reached, wanted) * FULL_SCALE
    last_of_air = int(BACKGROUND_LEVEL / FULL_SCALE + 0.5)
    return {
        **{f"p{q:02d}": float(v) for q, v in zip(PERCENTILES, levels, strict=True)},
        "mean": float(counts @ np.arange(_LEVELS) / image.size * FULL_SCALE),
        "background_share": float(reached[last_of_air] / image.size),
        "levels": float(np.count_nonzero(counts)),
    }


def _corner_minus_centre(image: np.ndarray) -> float:
    """The median corner minus the centre: air is dark, so tissue outshines it.

    Two corners at least lie in air, whichever side the breast is on; in an inverted
    image they are the brightest of all.
    """
    rows, cols = (max(1, n // 10) for n in image.shape)
    corners = [
        image[r, c].mean()
        for r in (slice(rows), slice(-rows, None))
        for c in (slice(cols), slice(-cols, None))
    ]
    height, width = image.shape
    centre = image[height // 3 : 1 + 2 * height // 3, width // 3 : 1 + 2 * width // 3]
    return float((np.median(corners) - centre.mean()) * FULL_SCALE)
