"""What was unusual about many images, told once a kind and counted.

Of a thousand images with the same trouble the first is named as it comes; how many they
were is said at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dm_training.check_rules import CAUSES
from dm_training.predictor import Prediction

SAME_PIXELS = "same pixels as "
_NAMED = 3


@dataclass
class Noted:
    """Images with one kind of note: how many, and the names of the first."""

    count: int = 0
    names: list[str] = field(default_factory=list)


def kinds_of(prediction: Prediction) -> list[str]:
    """Its notes without what is the image's own: a value, another image's name."""
    found = [CAUSES[cause].what for cause in prediction.causes]
    for note in prediction.notes:
        if note.startswith(SAME_PIXELS):
            found.append(f"{SAME_PIXELS}another image")
        elif not note.startswith(tuple(found)):
            found.append(note)
    return list(dict.fromkeys(found))


def take(noted: dict[str, Noted], prediction: Prediction) -> bool:
    """Count an image's notes.

    Returns:
        Whether one of them is of a kind that was not met before.
    """
    kinds = kinds_of(prediction)
    new = [kind for kind in kinds if kind not in noted]
    for kind in kinds:
        held = noted.setdefault(kind, Noted())
        held.count += 1
        if len(held.names) < _NAMED:
            held.names.append(prediction.image_id)
    return bool(new)


def lines(noted: dict[str, Noted], most: int) -> list[str]:
    """A line for each kind that several images have, the commonest first."""
    several = [(kind, held) for kind, held in noted.items() if held.count > 1]
    several.sort(key=lambda pair: -pair[1].count)
    said = []
    for kind, held in several[:most]:
        more = held.count - len(held.names)
        names = ", ".join(held.names) + (f" and {more} more" if more else "")
        said.append(f"{held.count} images: {kind}: {names}")
    if len(several) > most:
        said.append(f"{len(several) - most} more kinds of notes stand in the table")
    return said
