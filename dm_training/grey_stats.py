"""What training images look like in numbers, and how far another image is from it.

Low scores on one's own images nearly always come from their preparation: depth, scale,
polarity, border or size. So a model's contract carries these statistics of its training
images, `measure`, and `compare` holds any image to them. Grey levels are on the 0-255
scale of the network's contract, 16-bit levels times 255/65535.

What is allowed reaches beyond the training images' 1 % and 99 % quantiles: by how far
these may be off themselves, being of a sample (1.5 times the standard error of a normal
distribution's quantile, with the bias of a small sample's), and by a slack besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dm_preprocess.images import U16_MAX, mask_box, small_breast_mask

FORMAT = 1
FULL_SCALE = 255 / 65535
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BACKGROUND_LEVEL = 2.0  # of 255: at most this is air
LOW, HIGH = 0.01, 0.99  # the range is made of these quantiles over the images
FEW = 50  # training images: below, a range says little of its ends
_LEVELS = 65536
_NORMAL = NormalDist()
# Density of the normal distribution at its 99 % quantile: the standard error of that
# quantile, of n draws, is sqrt(0.99 * 0.01 / n) / density, in standard deviations.
_ERROR_AT_END = (HIGH * LOW) ** 0.5 / _NORMAL.pdf(_NORMAL.inv_cdf(HIGH))


@dataclass(frozen=True)
class Statistic:
    """How one statistic is named and how far beyond the training range it may lie.

    Attributes:
        title: For people.
        floor: Allowed beyond the range whatever its width, in the statistic's unit,
            and more of it where the range rests on few images.
        share: Of the range's width, allowed where that is more than the floor.
        factors: Where given, the lower end divided and the upper end multiplied by
            these is allowed instead; None leaves that end open.
        least_images: A range of fewer training images is not used.
    """

    title: str
    floor: float = 0.0
    share: float = 0.25
    factors: tuple[float | None, float | None] | None = None
    least_images: int = 1


# Aspect: films are up to twice as tall as the working size they are squashed to, but
# never lie on their side. Size: what is larger is shrunk as in training. Grey levels
# used: an 8-bit copy has 256 of them.
STATISTICS = {
    **{f"p{q:02d}": Statistic(f"grey level, {q} %", 4.0) for q in PERCENTILES},
    "mean": Statistic("mean grey level", 4.0),
    "background_share": Statistic("share of air", 0.05),
    "breast_share": Statistic("share of breast", 0.05),
    "corner_minus_centre": Statistic("corners minus centre", 8.0),
    "breast_rows": Statistic("rows with breast", 0.02, share=0.05),
    "breast_cols": Statistic("columns with breast", 0.02, share=0.05),
    "stretched": Statistic("0 and 65535 both used", 0.5, least_images=100),
    "levels": Statistic("grey levels used", factors=(4.0, None)),
    "height": Statistic("height", factors=(1.1, None)),
    "width": Statistic("width", factors=(1.1, None)),
    "aspect": Statistic("height / width", factors=(1.2, 2.0)),
}
# Models of earlier versions do not carry these.
LATER_STATISTICS = ("breast_rows", "breast_cols", "stretched")
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
        least, most: What is allowed.
    """

    name: str
    value: float
    low: float
    high: float
    least: float
    most: float

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
        **_breast_statistics(image),
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
    needed = [name for name in STATISTICS if name not in LATER_STATISTICS]
    missing = [name for name in needed if name not in stored["statistics"]]
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
    for name in names_in(stored):
        trained = stored["statistics"][name]
        least, most = allowed(name, trained, stored["images"])
        if not least <= row[name] <= most:
            low, high = trained["low"], trained["high"]
            found.append(Excess(name, float(row[name]), low, high, least, most))
    return found


def names_in(stored: Mapping) -> list[str]:
    """The statistics that a model carries and that are compared, in order."""
    return [
        name
        for name, statistic in STATISTICS.items()
        if name in stored["statistics"] and stored["images"] >= statistic.least_images
    ]


def allowed(
    name: str, trained: Mapping[str, float], images: int
) -> tuple[float, float]:
    """The least and the largest value of a statistic that is not called unusual.

    Args:
        name: A key of `STATISTICS`.
        trained: Its low, median and high over the training images.
        images: How many these were.
    """
    low, median, high = (trained[end] for end in ("low", "median", "high"))
    statistic = STATISTICS[name]
    if statistic.factors is not None:
        below, above = statistic.factors
        return (
            -np.inf if below is None else low / below,
            np.inf if above is None else high * above,
        )
    floor = statistic.floor * (1 + 10 / images)
    slack = max(floor, statistic.share * (high - low))
    further = _further(images)
    return (
        low - slack - further * (median - low),
        high + slack + further * (high - median),
    )


def _further(images: int) -> float:
    """How much farther than the sample's a population's end may lie.

    Returns:
        A share of the distance from the median to the sample's end.
    """
    order = HIGH * (images - 1) + 1  # of which image a quantile is, by interpolation
    seen = _NORMAL.inv_cdf((order - 0.375) / (images + 0.25))  # where it is expected
    if seen <= 0:  # one image: its range has no width
        return 0.0
    reach = _NORMAL.inv_cdf(HIGH) + 1.5 * _ERROR_AT_END / images**0.5
    return max(0.0, reach / seen - 1)


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
        "stretched": float(bool(counts[0] and counts[U16_MAX])),
    }


def _breast_statistics(image: np.ndarray) -> dict[str, float]:
    """How much of the image is breast, and of how many rows and columns it takes."""
    mask = small_breast_mask(image)
    row0, col0, row1, col1 = mask_box(mask) or (0, 0, *mask.shape)
    return {
        "breast_share": float(mask.mean()),
        "breast_rows": (row1 - row0) / mask.shape[0],
        "breast_cols": (col1 - col0) / mask.shape[1],
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
