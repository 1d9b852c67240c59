"""The Structured Report of one prediction: what it says, in which codes.

A measurement report (TID 1500) in a Comprehensive SR with one measurement group (TID
1501) over the whole image: probability, the model's own score, the threshold, the
decision, the algorithm's identification (TID 4019), and sentences. The Mammography CAD
report (TID 4000) was not taken: it demands findings with places and a rendering intent
on the diagnostic workstation, where a reader would take it for the output of a cleared
product; this model gives one number for an image, and places only as a heat map.

Codes are the standard's where it has them: (111081, DCM, "CAD Operating Point
Description"). Where it has none they are of a private scheme, 99DM, explained by their
meanings; the report names the scheme. (111047, DCM, "Probability of cancer") was not
taken: a model gives the probability of what its training's labels call positive, which
may be biopsy, recall or a lesion. Probability, score and threshold are shares in one
unit, without dimension, of six digits. The title is one of these, since no title of CID
7021 says that a result is for research.

Source: DICOM PS3.16 TID 1500, 1501, 4019, CID 7021.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from dm_training.desk_overlays import RESEARCH, decision_words
from dm_training.shown_share import shown_share

SOFTWARE = "dm_training"
SCHEME = "99DM"
RESEARCH_SENTENCE = (
    f"{RESEARCH}. Output of an experimental model, checked by nobody; no decision "
    "about a patient may rest on it."
)
TITLE = ("RESEARCH", f"{RESEARCH}: output of a model")
PROBABILITY = ("PROBABILITY", "Probability of a positive finding, by the model")
SCORE = ("SCORE", "Score of the model before calibration")
THRESHOLD = ("THRESHOLD", "Threshold on the probability")
DECISION = ("DECISION", "Decision at the threshold")
_SIDES = {"L": "Left", "R": "Right"}
_DECISIONS = {"positive": "Positive", "negative": "Negative"}
_SERIES_NUMBER = 9002
_DIGITS = 6


def make_report(reference, prediction):
    """Make the report.

    Args:
        reference: A data set with the source's identity and UIDs and nothing else:
            what is in it is copied.
        prediction: With laterality, view, score, probability, decision, threshold,
            model, version, flips and notes.

    Returns:
        A `highdicom.sr.ComprehensiveSR`.
    """
    from highdicom import UID
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import ComprehensiveSR, MeasurementReport
    from pydicom.sr.codedict import codes

    content = MeasurementReport(
        _observer(), codes.SCT.Mammography, [_group(reference, prediction)],
        title=_private(TITLE),
    )  # fmt: skip
    return ComprehensiveSR(
        [reference], content, UID(), _SERIES_NUMBER, UID(), 1, SOFTWARE,
        is_complete=True, series_description=f"Model output: {RESEARCH.lower()}",
        manufacturer_model_name=SOFTWARE, content_qualification="RESEARCH",
        specific_character_set="ISO_IR 192",
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name=SOFTWARE)],
    )  # fmt: skip


def report_sentences(prediction) -> list[str]:
    """What the report says in words, the notice first."""
    where = " ".join(filter(None, (prediction.laterality, prediction.view)))
    return [
        RESEARCH_SENTENCE,
        f"Image: {where or 'side and view not known'}.",
        f"Probability of a positive finding, by the model: "
        f"{shown_share(prediction.probability)}. Positive is what the labels of its "
        "training images call so. It is an estimate for this one image, not for the "
        "breast or the woman, and depends on the share of positives among the images "
        "it was calibrated on.",
        *(f"Note: {note}" for note in prediction.notes),
    ]


def _observer():
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    # The same for every report: it names the program, not the machine it ran on.
    uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, SOFTWARE).int}"
    device = DeviceObserverIdentifyingAttributes(
        uid, name=SOFTWARE, manufacturer_name=SOFTWARE, model_name=SOFTWARE
    )
    return ObservationContext(
        observer_device_context=ObserverContext(codes.DCM.Device, device)
    )


def _group(reference, prediction):
    """The one measurement group, over the whole image."""
    from highdicom import UID
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    source = SourceImageForMeasurementGroup(
        reference.SOPClassUID, reference.SOPInstanceUID
    )
    group = MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(UID(), "whole image"), algorithm_id=_algorithm(prediction),
        finding_sites=_sites(prediction.laterality), source_images=[source],
        measurements=list(_measurements(prediction)),
        qualitative_evaluations=list(_evaluations(prediction)),
    )  # fmt: skip
    group[0].ContentSequence.extend(_texts(prediction))
    return group


def _algorithm(prediction):
    """TID 4019; the version is the beginning of the weights' digest."""
    from highdicom.sr import AlgorithmIdentification

    flips = "mean over 4 flips of the image" if prediction.flips == 4 else "no flips"
    return AlgorithmIdentification(
        prediction.model or "unnamed", prediction.version or "unknown",
        parameters=[f"weights: SHA-256 begins {prediction.version or '(unknown)'}",
                    flips],
    )  # fmt: skip


def _sites(laterality: str):
    from highdicom.sr import FindingSite
    from pydicom.sr.codedict import codes

    side = getattr(codes.SCT, _SIDES[laterality]) if laterality in _SIDES else None
    return [FindingSite(codes.SCT.Breast, laterality=side)]


def _measurements(prediction) -> Iterable:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    found = {PROBABILITY: prediction.probability, SCORE: prediction.score,
             THRESHOLD: prediction.threshold}  # fmt: skip
    for concept, value in found.items():
        if value is not None:
            share = round(float(value), _DIGITS)
            yield Measurement(_private(concept), share, codes.UCUM.NoUnits)


def _evaluations(prediction) -> Iterable:
    from highdicom.sr import QualitativeEvaluation
    from pydicom.sr.codedict import codes

    if prediction.decision in _DECISIONS:
        value = getattr(codes.SCT, _DECISIONS[prediction.decision])
        yield QualitativeEvaluation(_private(DECISION), value)


def _texts(prediction) -> Iterable:
    from highdicom.sr import TextContentItem
    from pydicom.sr.codedict import codes

    point = decision_words(prediction)
    yield TextContentItem(codes.DCM.CADOperatingPointDescription, point, "CONTAINS")
    for sentence in report_sentences(prediction):
        yield TextContentItem(codes.DCM.Comment, sentence, "CONTAINS")


def _private(concept: tuple[str, str]):
    from highdicom.sr import CodedConcept

    value, meaning = concept
    return CodedConcept(value, SCHEME, meaning)
