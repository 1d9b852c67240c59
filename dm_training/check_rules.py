"""What is unusual about one image, why, and what to do: the rule of `dm-check`.

An image is measured as the model would see it and held to the ranges that the model's
input contract carries of its training images. Where grey levels are out of range, the
usual mistakes are undone one by one, and the one whose undoing brings the image back is
the one that is named. `dm-predict` and `dm-serve` warn by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dm_models.inputs import InputContract
from dm_preprocess import images
from dm_training import grey_stats
from dm_training.grey_stats import Excess

UNSCALED_BITS = (8, 10, 12, 14)


@dataclass(frozen=True)
class Cause:
    """Why an image is out of range.

    Attributes:
        what: What it looks like, in a few words.
        cure: What to do.
    """

    what: str
    cure: str


CAUSES = {
    "inverted": Cause(
        "inverted polarity: dense tissue is dark",
        "Set monochrome1 to 1 for these files in the images.csv given to `dm-convert "
        "generic`; in a DICOM file, (0028,0004) Photometric Interpretation must say "
        "MONOCHROME1.",
    ),
    "unscaled": Cause(
        "fewer bits stored unscaled in 16-bit files (12-bit data: no value above 4095)",
        "Convert from the DICOM, whose header gives the bits stored, or multiply by "
        "65535 / (2**bits - 1), as `dm_preprocess.images.to_u16` does.",
    ),
    "border": Cause(
        "more air, black background, and less breast than trained on: a wide border",
        "Cut it away; `dm-convert ... --crop-breast` does, for a model trained on such "
        "images.",
    ),
    "levels": Cause(
        "another range of grey levels than trained on; stretching each image's own "
        "range helps",
        "Convert with `dm-convert ... --grey auto-level`, and train or fine-tune on "
        "images made the same way.",
    ),
    "stretched": Cause(
        "stretched to its own range of grey levels (auto-level), as hardly a training "
        "image was",
        "Give the files as they were, or `dm-convert ... --grey full-range`.",
    ),
    "cropped": Cause(
        "less air, black background, and more breast than trained on: cropped tighter",
        "Give the whole images, or train on images cropped alike.",
    ),
    "dark": Cause(
        "darker than trained on, and no usual mistake explains it",
        "Another machine, a raw (FOR PROCESSING) image, or a wrong window: fine-tune "
        "on such images.",
    ),
    "bright": Cause(
        "brighter than trained on, and no usual mistake explains it",
        "Another machine, saturated values or a wrong window: fine-tune on such "
        "images.",
    ),
    "other": Cause(
        "grey levels spread otherwise than in training, and no usual mistake explains "
        "it",
        "Another machine or processing: look at them; fine-tune on such images.",
    ),
    "8-bit": Cause(
        "few grey levels are left (an 8-bit copy has 256 at most)",
        "Convert from the original; many programs save 16-bit PNG as 8-bit unasked.",
    ),
    "aspect": Cause(
        "another shape than trained on: lying on its side, two views in one file, or a "
        "border at one side",
        "Turn or cut it.",
    ),
    "small": Cause(
        "fewer pixels than the training images: it is enlarged, and fine "
        "calcifications are lost already",
        "Use the original, not a preview.",
    ),
}  # fmt: skip
# Of air and breast. Cutting a border lifts dark percentiles too, whatever the reason:
# only where one of these is out of range may a border be the cause.
_FRAME = frozenset(("background_share", "breast_share", "breast_rows", "breast_cols"))
# What shows a cause best, where it is not a matter of the grey levels.
_SHOWN_BY = {"8-bit": ("levels",), "aspect": ("aspect",), "small": ("height", "width")}


@dataclass(frozen=True)
class Checked:
    """One image held to the training images.

    Attributes:
        image_id: As in the table, or the path below the given root.
        row: Its statistics, of `grey_stats.image_statistics`.
        excesses: What is out of range.
        causes: Keys of `CAUSES`.
        notes: What its file says that matters, in words.
        unsuitable: Whether the file says that no model should judge it: then no
            preparation helps.
    """

    image_id: str
    row: dict[str, float]
    excesses: list[Excess]
    causes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unsuitable: bool = False

    @property
    def warnings(self) -> list[str]:
        """A short sentence a cause, with the statistic that shows it best."""
        return [_sentence(cause, self.excesses) for cause in self.causes]


def warnings_of(
    prepared: np.ndarray, contract: InputContract, source_shape: Sequence[int]
) -> list[str]:
    """Say what is unusual about one image, by the same rule as `dm-check`.

    Args:
        prepared: uint16 (H, W), as `scorers.prepare` gives it.
        contract: The model's.
        source_shape: (height, width) of the file that it was made of.

    Returns:
        Short sentences; none where all is in range, or where the contract carries no
        statistics of the training images.
    """
    checked = checked_if_known(prepared, contract, source_shape)
    return [] if checked is None else checked.warnings


def checked_if_known(
    prepared: np.ndarray, contract: InputContract, source_shape: Sequence[int]
) -> Checked | None:
    """As `check_prepared`; None where the contract carries no statistics."""
    if not grey_stats.has_statistics(contract.grey_stats):
        return None
    return check_prepared(prepared, contract, source_shape)


def check_image(
    image: np.ndarray, contract: InputContract, image_id: str = "",
    notes: Sequence[str] = (),
) -> Checked:  # fmt: skip
    """Hold one image to a model's training images.

    Args:
        image: uint16 (H, W), raw grey levels of the file at its own size.
        contract: The model's, with `grey_stats` of `grey_stats.measure`.
        image_id: To name it by.
        notes: To be told with it.
    """
    from dm_training.scorers import prepare

    prepared = prepare(image, contract)
    return check_prepared(prepared, contract, image.shape, image_id, notes)


def check_prepared(
    prepared: np.ndarray, contract: InputContract, source_shape: Sequence[int],
    image_id: str = "", notes: Sequence[str] = (),
) -> Checked:  # fmt: skip
    """As `check_image`, of an image that is prepared already."""
    stored = contract.grey_stats
    row = grey_stats.image_statistics(prepared, source_shape=tuple(source_shape))
    excesses = grey_stats.compare(row, stored)
    causes = _causes(prepared, stored, row, excesses)
    return Checked(image_id, row, excesses, causes, tuple(notes))


def _causes(prepared, stored: Mapping, row: Mapping, excesses) -> tuple[str, ...]:
    names = {excess.name for excess in excesses}
    causes = [_grey_cause(prepared, stored, excesses)] if _grey(excesses) else []
    if "levels" in names and not ("unscaled" in causes and row["levels"] > 256):
        causes.append("8-bit")
    if "aspect" in names:
        causes.append("aspect")
    if names & {"height", "width"}:
        causes.append("small")
    return tuple(causes)


def _grey_cause(prepared: np.ndarray, stored: Mapping, excesses) -> str:
    """The mistake whose undoing leaves least out of range, and at most half.

    Stretching an image's own range mends much whatever the reason, so it is tried last.
    """
    left, names = {}, {excess.name for excess in excesses}
    for name, change in _remedies(prepared, stored):
        if name == "border" and not names & _FRAME:
            continue
        row = grey_stats.image_statistics(change(prepared))
        left[name] = len(_grey(grey_stats.compare(row, stored)))
    helped = {n: k for n, k in left.items() if k <= len(_grey(excesses)) // 2}
    stretched = helped.pop("levels", None)
    if helped:
        return min(helped, key=helped.get)
    if stretched is not None:
        return "levels"
    return _unexplained({excess.name: excess.by for excess in excesses})


def _remedies(image: np.ndarray, stored: Mapping) -> Iterable[tuple[str, Callable]]:
    """What can be tried on this image, the commonest mistake first."""
    yield "inverted", lambda grey: images.U16_MAX - grey
    top = int(image.max())
    bits = next((b for b in UNSCALED_BITS if top < 2**b), None)
    if top and bits:
        yield "unscaled", lambda grey: images.to_u16(grey, bits)
    row0, col0, row1, col1 = _usual_frame(image, stored)
    if (row1 - row0) * (col1 - col0) < image.size:
        yield "border", lambda grey: grey[row0:row1, col0:col1]
    if top and (image.min() or top < images.U16_MAX):
        yield "levels", images.auto_level


def _usual_frame(image: np.ndarray, stored: Mapping) -> tuple[int, int, int, int]:
    """The breast's box with as much air around it as training images have."""
    mask = images.small_breast_mask(image)
    box = images.mask_box(mask) or (0, 0, *mask.shape)
    ends = []
    for axis, name in enumerate(("breast_rows", "breast_cols")):
        low, high, whole = box[axis], box[axis + 2], mask.shape[axis]
        share = stored["statistics"].get(name, {"median": 1.0})["median"]
        air = max(0.0, (high - low) / share - (high - low))
        centre = np.average(np.arange(whole), weights=mask.sum(axis=1 - axis) + 1e-9)
        # The chest wall has no air: it lies where most of the breast does.
        before = 0.5 if axis == 0 else float(centre > (low + high) / 2)
        scale = image.shape[axis] / whole
        ends.append((round(max(0, low - air * before) * scale),
                     round(min(whole, high + air * (1 - before)) * scale)))  # fmt: skip
    (row0, row1), (col0, col1) = ends
    return row0, col0, row1, col1


def _unexplained(by: Mapping[str, float]) -> str:
    if by.get("breast_share", 0) < 0:
        return "border"
    tight = by.get("breast_cols", 0) > 0 or by.get("breast_rows", 0) > 0
    if tight or by.get("background_share", 0) < 0 or by.get("breast_share", 0) > 0:
        return "cropped"
    if "stretched" in by:
        return "stretched"
    shifts = [by[name] for name in ("mean", "p75", "p95", "p99") if name in by]
    if shifts and max(shifts) < 0:
        return "dark"
    return "bright" if shifts and min(shifts) > 0 else "other"


def _grey(excesses: Iterable[Excess]) -> list[Excess]:
    return [e for e in excesses if e.name in grey_stats.GREY_STATISTICS]


def _sentence(cause: str, excesses: Sequence[Excess]) -> str:
    names = _SHOWN_BY.get(cause, grey_stats.GREY_STATISTICS)
    worst = max((e for e in excesses if e.name in names), key=_distance)
    return f"{CAUSES[cause].what} ({told(worst)})"


def _distance(excess: Excess) -> float:
    """How far out of range, in widths of what is allowed."""
    least = max(excess.least, 0.0) if np.isinf(excess.least) else excess.least
    most = excess.low if np.isinf(excess.most) else excess.most
    return abs(excess.by) / max(most - least, 1e-9)


def told(excess: Excess) -> str:
    """One excess in words: the value, and the training images' range."""
    title = grey_stats.STATISTICS[excess.name].title
    low, high = number(excess.low), number(excess.high)
    usual = low if low == high else f"{low} to {high}"
    return f"{title} {number(excess.value)}, in training {usual}"


def number(value: float) -> str:
    """Three digits for what is small, none behind the point for what is large."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
