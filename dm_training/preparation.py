"""How the images of a training were made from their files, as their table says.

`dm-convert --crop-breast`, `--grey auto-level` and `--voi` change what a network sees,
and so do a table's own rows about them: columns `crop_breast`, `grey` and `voi`, which
the converter writes where they differ from its defaults. They become part of the
model's input contract, so that whoever scores a file prepares it alike.
"""

from __future__ import annotations

from collections.abc import Callable

from dm_models.inputs import GREYS, PREPARATION, InputContract
from dm_training.samples import Samples, SamplesError

_YES, _NO = ("1", "1.0", "true"), ("", "0", "0.0", "false", "nan")
# A column that the converter alone writes: where it is, no word means the default.
_CONVERTED = "row_scale"


def preparation_of(samples: Samples) -> dict[str, bool | str]:
    """Read the settings that images were converted with.

    Args:
        samples: Rows of a table, or of class folders.

    Returns:
        `crop_breast`, `grey` and `voi`; nothing where the table does not say and is
        none of the converter's.

    Raises:
        SamplesError: Two rows differ, or a cell holds something else; both are named.
    """
    frame = samples.frame
    known = [name for name in PREPARATION if name in frame]
    if not known and _CONVERTED not in frame:
        return {}
    found = dict(PREPARATION)
    for name in known:
        cells = [str(cell).strip().lower() for cell in frame[name]]
        counts: dict[bool | str, int] = {}
        for value in (_value(name, cell, samples.where) for cell in cells):
            counts[value] = counts.get(value, 0) + 1
        if len(counts) > 1:
            told = " and ".join(f"{_word(v)} ({n} rows)" for v, n in counts.items())
            raise SamplesError(
                f"{samples.where}, column {name}: all images of a training must be "
                f"prepared alike, received {told}; convert all of them with the same "
                "options"
            )
        found[name] = next(iter(counts), PREPARATION[name])
    return found


def with_preparation(
    contract: InputContract, samples: dict[str, Samples], say: Callable
) -> InputContract:
    """A contract that says how the training images were made.

    Args:
        contract: What is not told by the table stays as it is.
        samples: By role; those of val and test that differ from train are said.
        say: Takes a line for the log.

    Raises:
        SamplesError: As `preparation_of`.
    """
    told = preparation_of(samples["train"])
    changed = contract.replace(**told)
    options = [f"{k} {_word(v)}" for k, v in told.items() if v != PREPARATION[k]]
    if options:
        say(f"images were converted with {', '.join(options)}")
    for role in ("val", "test"):
        other = preparation_of(samples[role]) if role in samples else {}
        for line in _differences(told, other):
            say(f"warning: {role} images are not prepared as train's: {line}")
    return changed


def say_new_preparation(before: InputContract, after: InputContract, say: Callable):
    """Warn where a model is trained on with images made otherwise than its own."""
    names = (*PREPARATION, "fit")
    old, new = ({n: getattr(c, n) for n in names} for c in (before, after))
    for line in _differences(old, new):
        say(
            f"warning: the starting model was trained on images prepared otherwise: "
            f"{line}; the new model is for images like these"
        )


def _differences(old: dict, new: dict) -> list[str]:
    return [
        f"{name} was {_word(old[name])}, is {_word(new[name])}"
        for name in old
        if name in new and old[name] != new[name]
    ]


def _value(name: str, cell: str, where: str) -> bool | str:
    if name == "grey":
        cell = cell if cell not in _NO else PREPARATION[name]
        if cell in GREYS:
            return cell
    elif cell in (*_YES, *_NO):
        return cell in _YES
    rule = " or ".join(GREYS) if name == "grey" else "0 or 1"
    raise SamplesError(f"{where}, column {name}: must be {rule}, received {cell!r}")


def _word(value: bool | str) -> str:
    return value if isinstance(value, str) else "yes" if value else "no"
