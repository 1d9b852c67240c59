"""Scores for mammograms from Python: one file, its bytes, or a stream of thousands.

    from dm_training.predict import Predictor
    predictor = Predictor("runs/whole/best.keras")
    print(predictor.predict("scan.dcm").probability)

A file that cannot be read or should not be judged is a `Prediction` that says so, not
an exception: of ten thousand files one bad one costs its own line.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_training.patient_keys import PatientKey

if TYPE_CHECKING:
    from dm_models.decision import Decision
    from dm_training.desk_paths import Item
    from dm_training.desk_stream import Opened
    from dm_training.image_maps import ImageMap

SCORED, REFUSED, FAILED = "scored", "refused", "failed"
POSITIVE, NEGATIVE = "positive", "negative"
UNSUITABLE = ("refuse", "flag")
_LISTS = ("notes", "warnings", "causes")


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        image_id: The path as it was given, or a table's id.
        patient_id: A keyed hash (`patient_keys`), a table's own id, or "".
        laterality: "L", "R" or "".
        view: "CC", "MLO", ... or "".
        score: The net's own, uncalibrated, in [0, 1]; None where there is none.
        probability: The score calibrated, where a temperature is stored for as many
            flips; else the score itself.
        decision: "positive", "negative", or "" where no threshold holds for images.
        threshold: What `probability` was held against, or None.
        model: The model's name.
        version: The first digits of its weights' SHA-256.
        flips: 1, or 4 for the mean over four flips.
        notes: What was unusual; of another status, why there is no score.
        warnings: Those of the notes that say what is unlike the training images
            (`check_rules.warnings_of`).
        status: "scored", "refused" (not what the model should judge) or "failed".
        causes: How it is unlike the training images: keys of `check_rules.CAUSES`.
    """

    image_id: str = ""
    patient_id: str = ""
    laterality: str = ""
    view: str = ""
    score: float | None = None
    probability: float | None = None
    decision: str = ""
    threshold: float | None = None
    model: str = ""
    version: str = ""
    flips: int = 1
    notes: tuple[str, ...] = ()
    status: str = SCORED
    causes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def replace(self, **changes) -> Prediction:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict:
        """The fields, ready for JSON."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {**dataclasses.asdict(self), **lists}

    @classmethod
    def from_dict(cls, found: dict) -> Prediction:
        """Read what `as_dict` gave."""
        tuples = {name: tuple(found.get(name, ())) for name in _LISTS}
        return cls(**{**found, **tuples})


@dataclass(frozen=True)
class Result:
    """A prediction and what it was made of, for whoever draws pictures of it."""

    opened: Opened
    prediction: Prediction


class Predictor:
    """A whole-image model, or several, ready to score.

    Args:
        *models: `.keras` or full `.h5` files, run folders or SavedModels; of several
            the mean score counts.
        flips: 1, or 4 for the mean over four flips.
        patient_key: A key file, or what makes an id of a patient id; None leaves
            patient ids of headers and file names out.
        keep_identifiers: Give patient ids of headers and names as they are; a key then
            hashes the study of files that name no patient.
        unsuitable: What becomes of images that no model should judge: "refuse" gives
            them no score, "flag" a score and a note.
        decision: Threshold and temperature to use instead of the model's own: a
            `Decision`, or a file that holds one.
        batch_size: Images at a time.
        jobs: Threads that read files; None for one a core.

    Raises:
        ModelFileError: No model, no input contract, or no whole-image classifier.
        ValueError: An argument outside what is said here, or a decision that is for
            another number of flips.

    Example:
        Predictor("runs/whole/best.keras", flips=4).predict("scan.dcm").probability
    """

    def __init__(
        self,
        *models: str | os.PathLike,
        flips: int = 1,
        patient_key=None,
        keep_identifiers: bool = False,
        unsuitable: str = "refuse",
        decision: Decision | str | os.PathLike | None = None,
        batch_size: int = 8,
        jobs: int | None = None,
    ):
        from dm_training.scorers import open_models

        _check(models, flips, unsuitable, batch_size, jobs)
        given = None if decision is None else _decision_of(decision, flips)
        self.scorer = open_models(models)
        self.flips, self.unsuitable = flips, unsuitable
        self.batch_size, self.jobs = batch_size, jobs
        self.patient_key = _key_of(patient_key)
        self.keep_identifiers = keep_identifiers
        self.decision = given or self.scorer.decision(flips)

    def predict(self, source: str | Path | bytes, *, image_id: str = "") -> Prediction:
        """Score one file.

        Args:
            source: A path, or a file's bytes, which are never written to a disk.
            image_id: To name it by; a path is named by itself.
        """
        opened = self._open(self._item(source, image_id), source)
        return self._scored([opened])[0]

    def stream(self, paths: Iterable[str | os.PathLike]) -> Iterator[Prediction]:
        """Score many files; reading runs ahead of the net by a few batches only.

        Returns:
            One prediction a path, in order.
        """
        items = (self._item(path) for path in paths)
        return (result.prediction for result in self.results(items))

    def results(self, items: Iterable[Item]) -> Iterator[Result]:
        """As `stream`, for `desk_paths.list_items`, with the images scored."""
        from dm_training.desk_stream import opened_batches

        batches = opened_batches(
            items, self._open, size=self.batch_size, jobs=self.jobs
        )
        for batch in batches:
            scored = self._scored(batch)
            yield from map(Result, batch, scored)

    def heat(self, source: str | Path | bytes) -> tuple[np.ndarray, ImageMap]:
        """Grad-CAM of the first model.

        Returns:
            uint16 (H, W), the image as that model sees it, and the map over it.

        Raises:
            ValueError: The file has no score, or the model no such map.
        """
        opened = self._open(self._item(source), source)
        if not opened.prepared:
            raise ValueError(f"no map: {'; '.join(opened.prediction.notes)}")
        return opened.prepared[0], self.heat_of(opened)

    def heat_of(self, opened: Opened) -> ImageMap:
        """As `heat`, for an image that is open already."""
        return self.scorer.heat(opened.prepared[0])

    def _item(self, source, image_id: str = "") -> Item:
        from dm_training.desk_paths import Item

        if isinstance(source, bytes):
            return Item(image_id, "")
        return Item(image_id or os.fspath(source), os.fspath(source))

    def _open(self, item: Item, source=None) -> Opened:
        from dm_training.desk_stream import open_image

        blank = Prediction(
            model=self.scorer.name, version=self.scorer.version, flips=self.flips
        )
        return open_image(
            item, item.path if source is None else source, blank,
            contracts=self.scorer.contracts, patient_key=self.patient_key,
            keep=self.keep_identifiers, refuse=self.unsuitable == "refuse",
        )  # fmt: skip

    def _scored(self, batch: list[Opened]) -> list[Prediction]:
        from dm_training.desk_stream import scores_of

        scores = scores_of(self.scorer, batch, flips=self.flips)
        return [
            self._judged(opened.prediction, score)
            for opened, score in zip(batch, scores, strict=True)
        ]

    def _judged(self, prediction: Prediction, score: float | str | None) -> Prediction:
        """Put a score, or why there is none, into a prediction."""
        if score is None:
            return prediction
        if isinstance(score, str):
            return prediction.replace(status=FAILED, notes=(score,))
        probability, said, threshold = score, "", None
        if self.decision is not None:
            probability = float(self.decision.calibrated([score])[0])
            if self.decision.level == "image":
                threshold = self.decision.threshold
                said = POSITIVE if probability >= threshold else NEGATIVE
        return prediction.replace(
            score=score, probability=probability, decision=said, threshold=threshold
        )


def _check(models, flips, unsuitable, batch_size, jobs) -> None:
    if not models:
        raise ValueError("models must name one model at least, received none")
    if flips not in (1, 4):
        raise ValueError(f"flips must be 1 or 4, received {flips!r}")
    if unsuitable not in UNSUITABLE:
        raise ValueError(
            f"unsuitable must be one of {', '.join(UNSUITABLE)}, received "
            f"{unsuitable!r}"
        )
    for name, value in (("batch_size", batch_size), ("jobs", jobs or 1)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, received {value!r}")


def _key_of(patient_key):
    if patient_key is None or callable(patient_key):
        return patient_key
    return PatientKey(patient_key)


def _decision_of(decision, flips: int) -> Decision:
    from dm_models.decision import read_decision

    where = ""
    if isinstance(decision, (str, os.PathLike)):
        where, decision = f"{decision}: ", read_decision(decision, flips)
    if decision is None:
        raise ValueError(f"{where}no decision is stored there; dm-decide stores one")
    if decision.flips != flips:
        raise ValueError(
            f"{where}the decision is for scores of {decision.flips} flip(s), these "
            f"are of {flips}"
        )
    return decision
