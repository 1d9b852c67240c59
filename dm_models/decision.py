"""From a score to a decision: temperature and threshold, stored with the model.

Both are fitted on validation images (`dm_training.operating_point`) and never on what
a figure is reported for; whoever applies them finds here how they came about. They
travel inside a `.keras` file, beside its input contract, and in an export's folder.

Source: temperature scaling: Guo, Pleiss, Sun and Weinberger, On calibration of modern
neural networks, ICML 2017.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dm_models.layer_files import ModelFileError

DECISION_FORMAT = 1
DECISION_MEMBER = "decision.json"
# Scores of 0 and 1 have no logit; float32 cannot tell closer ones from them.
_EDGE = 1e-7


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
        how: How images make a breast or a woman: "mean" or "max".
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
        if not 0 < self.temperature < math.inf:
            raise DecisionError(
                f"temperature must be positive, received {self.temperature!r}"
            )
        if not 0 <= self.threshold <= 1:
            raise DecisionError(
                f"threshold must lie in [0, 1], received {self.threshold!r}"
            )

    def calibrated(self, scores) -> np.ndarray:
        """Scores in [0, 1], (N,) -> calibrated probabilities, float64 (N,)."""
        return scaled_scores(scores, self.temperature)

    def calls(self, scores) -> np.ndarray:
        """Scores, uncalibrated, (N,) -> whether each is called positive, bool (N,)."""
        return self.calibrated(scores) >= self.threshold

    def to_json(self) -> str:
        """Return the decision as JSON text, with its format number."""
        fields = {"format": DECISION_FORMAT, **dataclasses.asdict(self)}
        return json.dumps(fields, indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Decision:
        """Read what `to_json` wrote.

        Raises:
            DecisionError: No JSON object, a later format, or unknown fields.
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            raise DecisionError(f"no JSON: {error}") from error
        if not isinstance(found, dict) or found.pop("format", None) != DECISION_FORMAT:
            raise DecisionError(f"format must be {DECISION_FORMAT}")
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
    return 1 / (1 + np.exp(-logits / temperature))


def store_decision(path: str | Path, decision: Decision) -> None:
    """Put a decision into a `.keras` file, in place of an earlier one.

    The file is written anew aside and then renamed; all other members stay as they are.

    Raises:
        ModelFileError: Not a `.keras` file.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(aside, "w") as new:
            for member in old.infolist():
                if member.filename != DECISION_MEMBER:
                    new.writestr(member, old.read(member.filename))
            new.writestr(DECISION_MEMBER, decision.to_json())
        os.replace(aside, path)
    except zipfile.BadZipFile as error:
        raise ModelFileError(f"{path}: not a .keras file: {error}") from error
    finally:
        aside.unlink(missing_ok=True)


def read_decision(path: str | Path) -> Decision | None:
    """Read the decision stored with a model; None where there is none.

    Args:
        path: A `.keras` file, an export's folder, or a JSON file.

    Raises:
        ModelFileError: Missing, or what is there cannot be read; the file is named.
    """
    path = Path(path)
    try:
        text = _stored_text(path)
        return None if text is None else Decision.from_json(text)
    except (zipfile.BadZipFile, OSError, DecisionError) as error:
        raise ModelFileError(f"{path}: decision cannot be read: {error}") from error


def _stored_text(path: Path) -> str | bytes | None:
    if path.is_dir():
        path = path / DECISION_MEMBER
        return path.read_text(encoding="utf-8") if path.is_file() else None
    if path.suffix == ".json":
        return path.read_text(encoding="utf-8")
    if path.suffix == ".h5":
        return None
    with zipfile.ZipFile(path) as archive:
        if DECISION_MEMBER not in archive.namelist():
            return None
        return archive.read(DECISION_MEMBER)
