"""From a score to a decision: temperature and threshold, stored with the model.

Both are fitted on validation images (`dm_training.operating_point`) and never on what
a figure is reported for; whoever applies them finds here how they came about. They
travel inside a model file, beside its input contract: a member `decision.json` of a
`.keras`, an attribute of a full `.h5`, a file in an export's folder. The mean over four
flips is another score with a decision of its own, `decision_tta.json`. They belong to
the weights they were fitted with: a model that is saved anew holds none until it is
given one, so that training on never carries an old threshold along.

Source: temperature scaling: Guo, Pleiss, Sun and Weinberger, On calibration of modern
neural networks, ICML 2017.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

import numpy as np

from dm_models.layer_files import ModelFileError, opened_h5

DECISION_FORMAT = 1
DECISION_MEMBER = "decision.json"
DECISION_TTA_MEMBER = "decision_tta.json"
MEMBERS = {1: DECISION_MEMBER, 4: DECISION_TTA_MEMBER}  # by flips
ATTRIBUTES = {1: "dm_decision", 4: "dm_decision_tta"}
LEVELS, HOWS, FLIPS = ("image", "breast", "patient"), ("mean", "max"), (1, 4)
# Scores of 0 and 1 have no logit; float32 cannot tell closer ones from them.
_EDGE = 1e-7
_LARGEST_BYTES = 2**20
# What zipfile raises for a damaged file, damaged data in it, or an unknown packing.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


class DecisionError(ValueError):
    """A decision is malformed; the message says how."""


@dataclass(frozen=True)
class Decision:
    """How a model's score becomes a calibrated probability and a call.

    Attributes:
        threshold: On the calibrated probability: positive where it is reached.
        temperature: Divides the score's logit; 1 leaves the score as it is.
        rule: How the threshold was chosen, such as "sensitivity 0.90" or "youden".
        level: "image", "breast" or "patient": what the threshold is meant for.
        how: How calibrated images make a breast or a woman: "mean" or "max".
        flips: 1 or 4: of which prediction the scores were.
        fitted_on: Where it comes from: split, n, positives, women, and the model's
            figures there. Empty where nobody knows.
    """

    threshold: float
    temperature: float = 1.0
    rule: str = "given"
    level: str = "image"
    how: str = "mean"
    flips: int = 1
    fitted_on: Mapping = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 < self.temperature < math.inf):
            raise DecisionError(
                f"temperature must be positive, received {self.temperature!r}"
            )
        if not (_is_number(self.threshold) and 0 <= self.threshold <= 1):
            raise DecisionError(
                f"threshold must lie in [0, 1], received {self.threshold!r}"
            )
        for name, known in (("level", LEVELS), ("how", HOWS), ("flips", FLIPS)):
            if getattr(self, name) not in known:
                raise DecisionError(
                    f"{name} must be one of {', '.join(map(str, known))}, received "
                    f"{getattr(self, name)!r}"
                )
        if not isinstance(self.rule, str) or not isinstance(self.fitted_on, Mapping):
            raise DecisionError(
                f"rule must be text and fitted_on an object, received {self.rule!r} "
                f"and {self.fitted_on!r}"
            )

    def calibrated(self, scores) -> np.ndarray:
        """Scores in [0, 1], (N,) -> calibrated probabilities, float64 (N,)."""
        return scaled_scores(scores, self.temperature)

    def calls(self, scores) -> np.ndarray:
        """Scores, uncalibrated, (N,) -> whether each is called positive, bool (N,).

        For images, and for breasts or women by their maximum. A mean over images is
        that of calibrated probabilities, which is held against the threshold.
        """
        return self.calibrated(scores) >= self.threshold

    def to_json(self) -> str:
        """Return the decision as JSON text, with its format number.

        Raises:
            DecisionError: `fitted_on` holds what is no JSON, such as NaN.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["fitted_on"] = dict(self.fitted_on)
        fields["threshold"] = float(self.threshold)
        fields["temperature"] = float(self.temperature)
        fields["flips"] = int(self.flips)
        try:
            return json.dumps(
                {"format": DECISION_FORMAT, **fields}, indent=2, allow_nan=False
            )
        except (TypeError, ValueError) as error:
            raise DecisionError(f"fitted_on must be JSON: {error}") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> Decision:
        """Read what `to_json` wrote.

        Raises:
            DecisionError: No JSON object, more than 1 MiB, a later format, unknown
                fields, or values that cannot be.
        """
        if len(text) > _LARGEST_BYTES:
            raise DecisionError(
                f"more than {_LARGEST_BYTES:,} bytes long: it is none of ours"
            )
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DecisionError(f"no JSON: {error}") from error
        if not isinstance(found, dict):
            raise DecisionError(
                f"must be a JSON object, received {type(found).__name__}"
            )
        received = found.pop("format", None)
        if received != DECISION_FORMAT:
            raise DecisionError(
                f"format {received!r} is not known; this version reads "
                f"{DECISION_FORMAT}"
            )
        known = {each.name for each in dataclasses.fields(cls)}
        if not {"threshold"} <= set(found) <= known:
            raise DecisionError(
                f"fields must be among {', '.join(sorted(known))}, with threshold; "
                f"received {', '.join(sorted(found))}"
            )
        return cls(**found)


def scaled_scores(scores, temperature: float) -> np.ndarray:
    """Divide the logits of scores by a temperature.

    Args:
        scores: (N,) in [0, 1]; ends are taken as 1e-7 from them.
        temperature: 1 returns the scores themselves.

    Returns:
        float64 (N,).

    Raises:
        DecisionError: A score outside [0, 1] or NaN: it is no probability.
    """
    scores = np.asarray(scores, np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DecisionError(
            "temperature scaling needs probabilities in [0, 1]; received scores from "
            f"{np.min(scores):g} to {np.max(scores):g}"
        )
    if temperature == 1:
        return scores
    inside = np.clip(scores, _EDGE, 1 - _EDGE)
    logits = np.log(inside) - np.log1p(-inside)
    return np.exp(-np.logaddexp(0, -logits / temperature))


def store_decision(path: str | Path, decision: Decision | None) -> None:
    """Put a decision into a model file, in place of an earlier one of as many flips.

    The file is written anew aside and then renamed; all else in it stays as it is, byte
    for byte in a `.keras`.

    Args:
        path: A `.keras` file, or a full `.h5` of `dm_models.weights.save_model`.
        decision: The one for other flips stays; None takes away both.

    Raises:
        ModelFileError: Missing, no model file, or damaged; it is left as it is.
        DecisionError: `fitted_on` holds what is no JSON.
    """
    from dm_models.weights import check_model_ending

    path = Path(path)
    check_model_ending(path)
    new = {} if decision is None else {int(decision.flips): decision.to_json()}
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    rewrite = _rewritten_h5 if path.suffix == ".h5" else _rewritten_zip
    try:
        old = {} if decision is None else _stored_texts(path)
        rewrite(path, aside, old | new)
        shutil.copymode(path, aside)
        os.replace(aside, path)
    except _DAMAGED as error:
        raise ModelFileError(
            f"{path}: not a .keras file, or damaged: {error}"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def read_decision(path: str | Path, flips: int = 1) -> Decision | None:
    """Read the decision stored with a model; None where there is none.

    Args:
        path: A model file (`.keras`, `.h5`), an export's folder, or a JSON file, which
            holds one and gives it whatever its flips.
        flips: 1 or 4: for which predictions. A decision of four flips that stands in
            the place of the other, as in older files, is the one for four.

    Raises:
        ModelFileError: Missing, or what is there cannot be read; the file is named.
        ValueError: `flips` is neither 1 nor 4.
    """
    path = Path(path)
    if flips not in FLIPS:
        raise ValueError(f"flips must be 1 or 4, received {flips!r}")
    try:
        if path.suffix == ".json" and not path.is_dir():
            return Decision.from_json(path.read_bytes())
        text = _stored_texts(path).get(flips)
        return None if text is None else Decision.from_json(text)
    except (*_DAMAGED, OSError, DecisionError) as error:
        raise ModelFileError(f"{path}: decision cannot be read: {error}") from error


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _rewritten_zip(path: Path, aside: Path, texts: Mapping[int, str | bytes]) -> None:
    """Copy every other member as it comes, so that memory does not grow with it."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(aside, "w") as new:
        for member in old.infolist():
            if member.filename in MEMBERS.values():
                continue
            entry = copy.copy(member)  # writing changes it, reading still needs it
            entry.extra = b""  # sizes beyond 4 GiB, which writing states anew
            with old.open(member) as source, new.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 2**20)
        for flips, text in texts.items():
            new.writestr(MEMBERS[flips], text)


def _rewritten_h5(path: Path, aside: Path, texts: Mapping[int, str | bytes]) -> None:
    import h5py

    with opened_h5(path):
        shutil.copyfile(path, aside)
    with h5py.File(aside, "a") as file:
        for name in ATTRIBUTES.values():
            file.attrs.pop(name, None)
        for flips, text in texts.items():
            file.attrs[ATTRIBUTES[flips]] = text


def _stored_texts(path: Path) -> dict[int, str | bytes]:
    """The stored decisions by their flips, as text."""
    with _reader(path) as read:
        found = {flips: read(flips) for flips in FLIPS}
    texts = {flips: text for flips, text in found.items() if text is not None}
    if 1 in texts and _is_of_four_flips(texts[1]):
        old = texts.pop(1)
        texts.setdefault(4, old)
    return texts


def _is_of_four_flips(text: str | bytes) -> bool:
    """Whether an older file's one decision is for the mean over four flips."""
    try:
        return Decision.from_json(text).flips == 4
    except DecisionError:  # what is wrong is said where it is asked for
        return False


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[Callable[[int], str | bytes | None]]:
    """Open a model: flips -> the text that stands in their place, None for none."""
    if path.is_dir():
        yield lambda flips: _read_file(path / MEMBERS[flips])
    elif path.suffix == ".h5":
        with opened_h5(path) as file:
            yield lambda flips: file.attrs.get(ATTRIBUTES[flips])
    else:
        with zipfile.ZipFile(path) as archive:
            yield lambda flips: _read_member(archive, MEMBERS[flips])


def _read_file(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """A member, a huge one cut where it is refused."""
    if name not in archive.namelist():
        return None
    with archive.open(name) as member:
        return member.read(_LARGEST_BYTES + 1)
