"""Why are my scores low? Holds images to those that a model was trained on.

    dm-check runs/whole/best.keras scans/            # a folder, any depth
    dm-check exported scan.dcm other.png             # files of any format
    dm-check runs/whole/best.keras data/images.csv   # a table

Nearly always it is preparation: polarity, bit depth, border, size. Each image is
measured as the model would see it and compared with the ranges stored in the model's
input contract. Where grey levels are out of range, the usual mistakes are undone one
by one; the one that brings the image back into range is what is reported.
Exit status: 0 all in range, 1 something is not or cannot be read, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_preprocess import images, tables
from dm_training import grey_stats

if TYPE_CHECKING:
    from dm_models.inputs import InputContract
    from dm_training.samples import Samples

UNSCALED_BITS = (8, 10, 12, 14)
NAMED = 3  # images named a line

ADVICE = {
    "inverted": (
        "inverted polarity: dense tissue is dark. Set monochrome1 to 1 for these files "
        "in the images.csv given to `dm-convert generic`; in a DICOM file, "
        "(0028,0004) Photometric Interpretation must say MONOCHROME1."
    ),
    "unscaled": (
        "fewer bits stored unscaled in 16-bit files (12-bit data: no value above "
        "4095). Convert from the DICOM, whose header gives the bits stored, or "
        "multiply by 65535 / (2**bits - 1), as `dm_preprocess.images.to_u16` does."
    ),
    "border": (
        "more air and less breast than trained on: a wide border. Cut it away; "
        "`dm-convert ... --crop-breast` does, for a model trained on such images."
    ),
    "levels": (
        "another range of grey levels than trained on: stretching each image's own "
        "range helps. Convert with `dm-convert ... --grey auto-level`, and train or "
        "fine-tune on images made the same way."
    ),
    "cropped": (
        "less air and more breast than trained on: these are cropped tighter. Give the "
        "whole images, or train on images cropped alike."
    ),
    "dark": (
        "darker than trained on, and no usual mistake explains it: another machine, a "
        "raw (FOR PROCESSING) image, or a wrong window. Fine-tune on such images."
    ),
    "bright": (
        "brighter than trained on, and no usual mistake explains it: another machine, "
        "saturated values or a wrong window. Fine-tune on such images."
    ),
    "other": (
        "grey levels spread otherwise than in training, and no usual mistake explains "
        "it: another machine or processing. Look at them; fine-tune on such images."
    ),
    "8-bit": (
        "few grey levels are left (an 8-bit copy has 256 at most). Convert from the "
        "original; many programs save 16-bit PNG as 8-bit unasked."
    ),
    "aspect": (
        "another shape than trained on: lying on its side, two views in one file, or a "
        "border at one side. Turn or cut it."
    ),
    "small": (
        "fewer pixels than the training images: it will be enlarged, and fine "
        "calcifications are lost already. Use the original, not a preview."
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """One image held to the training images.

    Attributes:
        image_id: As in the table, or the path below the given root.
        row: Its statistics, of `grey_stats.image_statistics`.
        excesses: What is out of range.
        causes: Keys of `ADVICE`.
    """

    image_id: str
    row: dict[str, float]
    excesses: list[grey_stats.Excess]
    causes: tuple[str, ...]


def check_image(
    image: np.ndarray, contract: InputContract, image_id: str = ""
) -> Checked:
    """Hold one image to a model's training images.

    Args:
        image: uint16 (H, W), raw grey levels of the file at its own size.
        contract: The model's, with `grey_stats` of `grey_stats.measure`.
        image_id: To name it by.
    """
    row = _statistics(image, contract)
    excesses = grey_stats.compare(row, contract.grey_stats)
    causes = _causes(image, contract, excesses)
    return Checked(image_id, row, excesses, causes)


def check_samples(
    samples: Samples, contract: InputContract, *, jobs: int = -1
) -> tuple[list[Checked], list[tuple[str, str]]]:
    """Check files one by one; no more than a few are in memory at a time.

    Returns:
        (what could be read, [(image_id, reason), ...] of what could not).
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from dm_training.reading import read_grey

    todo = list(zip(samples.frame["image_id"], samples.paths, strict=True))
    parallel = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    work = parallel(delayed(_check_file)(read_grey, *item, contract) for item in todo)
    checked, failed = [], []
    for result in tqdm(work, total=len(todo), desc="check", disable=len(todo) < 20):
        (checked if isinstance(result, Checked) else failed).append(result)
    return checked, failed


def read_contract_with_stats(path: str | Path) -> InputContract:
    """The contract of a model file or a SavedModel, which must carry statistics.

    Raises:
        ModelFileError: No model of ours, or one without statistics.
    """
    from dm_models import weights
    from dm_models.inputs import ContractError, InputContract

    path = Path(path)
    try:
        if path.is_dir():
            text = (path / weights.CONTRACT_MEMBER).read_text(encoding="utf-8")
            contract = InputContract.from_json(text)
        else:
            contract = weights.read_contract(path)
        stored = grey_stats.has_statistics(contract.grey_stats)
    except FileNotFoundError as err:
        raise weights.ModelFileError(
            f"{path}: no {weights.CONTRACT_MEMBER} in it, so it is no exported model"
        ) from err
    except (ContractError, grey_stats.GreyStatsError) as err:
        raise weights.ModelFileError(f"{path}: {err}") from err
    if not stored:
        raise weights.ModelFileError(
            f"{path}: carries no grey statistics of its training images, so there is "
            "nothing to compare with; train or fine-tune it again with this version, "
            "which stores them"
        )
    return contract


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 or 2 as the module says."""
    arguments = _parser().parse_args(argv)
    from dm_models.weights import ModelFileError
    from dm_training.samples import SamplesError
    from dm_training.scoring import samples_of_paths

    try:
        contract = read_contract_with_stats(arguments.model)
        samples = samples_of_paths(arguments.paths, arguments.split)
    except (ModelFileError, SamplesError, tables.TableError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    checked, failed = check_samples(samples, contract, jobs=arguments.jobs)
    for image_id, reason in failed:
        print(f"failed: {image_id}: {reason}", file=sys.stderr)
    out = [one for one in checked if one.excesses]
    if checked:
        print("\n".join(_report(checked, contract.grey_stats)))
    print(
        f"{len(checked)} images checked against {contract.grey_stats['images']} "
        f"training images of {arguments.model}: {len(out)} out of range, "
        f"{len(failed)} unreadable"
    )
    return 1 if out or failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a model of this project, or its SavedModel")
    parser.add_argument("paths", nargs="+", help="images.csv, a folder, or image files")
    parser.add_argument(
        "--split", default="all", choices=(*tables.SPLITS, "all"),
        help="rows of a table to check (default: all)",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=-1, help="threads (default: all)")
    return parser


def _check_file(read, image_id: str, path: str, contract) -> Checked | tuple[str, str]:
    try:
        image = read(path)
    except (ValueError, OSError) as err:
        return image_id, str(err)
    return check_image(image, contract, image_id)


def _statistics(image: np.ndarray, contract: InputContract) -> dict[str, float]:
    """Of the image as the model sees it, with the size that the file has."""
    seen = image
    if contract.height is not None and contract.width is not None:
        seen, _ = images.fit(image, contract.height, contract.width, mode=contract.fit)
    return grey_stats.image_statistics(seen, source_shape=image.shape)


def _causes(image, contract, excesses) -> tuple[str, ...]:
    names = {excess.name for excess in excesses}
    causes = [_grey_cause(image, contract, excesses)] if _grey(excesses) else []
    if "levels" in names and not ("unscaled" in causes and _many_levels(image)):
        causes.append("8-bit")
    if "aspect" in names:
        causes.append("aspect")
    if names & {"height", "width"}:
        causes.append("small")
    return tuple(causes)


def _many_levels(image: np.ndarray) -> bool:
    return np.count_nonzero(np.bincount(image.ravel())) > 256


def _grey_cause(image, contract, excesses) -> str:
    """The mistake whose undoing leaves least out of range, and at most half.

    Stretching an image's own range mends much whatever the reason, so it is tried last.
    """
    left = {}
    for name, change in _remedies(image):
        row = _statistics(change(image), contract)
        left[name] = len(_grey(grey_stats.compare(row, contract.grey_stats)))
    helped = {n: k for n, k in left.items() if k <= len(_grey(excesses)) // 2}
    stretched = helped.pop("levels", None)
    if helped:
        return min(helped, key=helped.get)
    if stretched is not None:
        return "levels"
    return _unexplained({excess.name: excess.by for excess in excesses})


def _remedies(image: np.ndarray) -> Iterable[tuple[str, Callable]]:
    """What can be tried on this image, the commonest mistake first."""
    yield "inverted", lambda grey: images.U16_MAX - grey
    top = int(image.max())
    bits = next((b for b in UNSCALED_BITS if top < 2**b), None)
    if top and bits:
        yield "unscaled", lambda grey: images.to_u16(grey, bits)
    row0, col0, row1, col1 = images.breast_box(image)
    if (row1 - row0) * (col1 - col0) < image.size:
        yield "border", lambda grey: grey[row0:row1, col0:col1]
    yield "levels", images.auto_level


def _unexplained(by: dict[str, float]) -> str:
    if by.get("breast_share", 0) < 0:
        return "border"
    if by.get("background_share", 0) < 0 or by.get("breast_share", 0) > 0:
        return "cropped"
    shifts = [by[name] for name in ("mean", "p75", "p95", "p99") if name in by]
    if shifts and max(shifts) < 0:
        return "dark"
    return "bright" if shifts and min(shifts) > 0 else "other"


def _grey(excesses) -> list[grey_stats.Excess]:
    return [e for e in excesses if e.name in grey_stats.GREY_STATISTICS]


def _report(checked: list[Checked], stored: dict) -> list[str]:
    """The table of statistics, then what to do, commonest first."""
    ends = "".join(f"{end:>9}" for end in ("1 %", "median", "99 %")).rjust(28)
    lines = [
        f"{'':22}{'trained on':>28}{'these images':>28}   out of range",
        f"{'':22}{ends}{ends}",
    ]
    for name in grey_stats.STATISTICS:
        lines.append(_statistic_line(name, checked, stored["statistics"][name]))
    found: dict[str, list[str]] = {}
    for one in checked:
        for cause in one.causes:
            found.setdefault(cause, []).append(one.image_id)
    if found:
        lines += ["", "What to do:"]
    for cause, ids in sorted(found.items(), key=lambda item: -len(item[1])):
        lines.append(f"- {_named(ids)}: {ADVICE[cause]}")
    return lines


def _statistic_line(name: str, checked: list[Checked], trained: dict) -> str:
    these = grey_stats.summary([one.row[name] for one in checked])
    out = [(one.image_id, e) for one in checked for e in one.excesses if e.name == name]
    line = f"{grey_stats.STATISTICS[name].title:22}{_range(trained)}{_range(these)}"
    if not out:
        return f"{line}   none"
    worst, excess = max(out, key=lambda item: abs(item[1].by))
    side = "above" if excess.by > 0 else "below"
    return (
        f"{line}   {len(out)} of {len(checked)}; {worst}: "
        f"{_number(abs(excess.by))} {side}"
    )


def _range(values: dict[str, float]) -> str:
    cells = (_number(values[end]) for end in ("low", "median", "high"))
    return "".join(f"{cell:>9}" for cell in cells).rjust(28)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _named(ids: list[str]) -> str:
    shown = ", ".join(ids[:NAMED])
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"{shown}{more}"


if __name__ == "__main__":
    sys.exit(main())
