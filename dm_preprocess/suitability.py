"""Which DICOM images a model of mammograms should not judge, by what the header says.

Networks here learned from whole mammograms, CC and MLO above all. A magnified spot, an
implant or a CT slice gets a probability from them too, and it means nothing. Reasons
are words of ours; no value of the header is in them but what the standard defines.

Source: DICOM PS3.3 A.26 (digital mammography), PS3.6 A (SOP classes), C.8.11.7.1.
"""

from __future__ import annotations

from typing import NamedTuple

from dm_preprocess.dicom_facts import is_specimen_view, modifiers_of
from dm_preprocess.dicom_values import MODALITIES, items, number, text, uid_name, words

MAMMOGRAPHY = frozenset({
    "1.2.840.10008.5.1.4.1.1.1.2",  # for presentation
    "1.2.840.10008.5.1.4.1.1.1.2.1",  # for processing
})  # fmt: skip
# With Modality MG: cassettes, general detectors, and films that were digitised.
_ALSO = frozenset({
    "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1.1", "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.2", "1.2.840.10008.5.1.4.1.1.7.3",
})  # fmt: skip
# A breast on its support, 0 to 10 cm above the detector at 65 to 70 cm from the source,
# is magnified 1.0 to 1.18 times; magnification stands begin at 1.4.
MAX_CONTACT_MAGNIFICATION = 1.3
_UNFIT_MODIFIERS = frozenset(
    {"magnification", "spot compression", "implant displaced", "tangential"}
)
_DESCRIPTIONS = {  # CBIS-DDSM's, and biopsy rooms'
    "roi mask": "a mask of a lesion, no mammogram (its series description)",
    "cropped image": "a cut-out of a lesion, no mammogram (its series description)",
    "specimen": "a specimen, no breast (its series description)",
    "scout": "a scout image (its series description)",
    "localizer": "a localizer image (its series description)",
}
_IMAGE_TYPES = {
    "LOCALIZER": "a localizer image (its image type)",
    "SCOUT": "a scout image (its image type)",
    "SPECIMEN": "a specimen, no breast (its image type)",
    "TOMOSYNTHESIS": "an image of tomosynthesis (its image type)",
    "TOMO": "an image of tomosynthesis (its image type)",
    "TOMO_PROJ": "an image of tomosynthesis (its image type)",
}


class Judgement(NamedTuple):
    """What speaks against an image, and what is only worth a note.

    Attributes:
        reasons: Why a model should not judge it; empty where it may.
        notes: What is unusual.
        burned_in: Whether the header says that text is part of the picture.
    """

    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    burned_in: bool


def judge(dataset) -> Judgement:
    """Judge an image by its header.

    Args:
        dataset: As `dicom_header.open_dicom` gives it; tags that are absent speak
            neither for nor against it.
    """
    reasons = [
        *_kind(dataset), *_views(dataset), *_breast(dataset), *_described(dataset),
    ]  # fmt: skip
    notes = list(_notes(dataset))
    burned_in = text(dataset, "BurnedInAnnotation").upper() == "YES"
    if burned_in:
        notes.append(
            "burned-in annotation: the header says that text is part of the picture; "
            "it may name the patient"
        )
    return Judgement(tuple(dict.fromkeys(reasons)), tuple(notes), burned_in)


def _kind(dataset):
    """By modality and SOP class."""
    modality, known = text(dataset, "Modality").upper(), text(dataset, "SOPClassUID")
    if modality and modality != "MG":
        word = modality if modality in MODALITIES else "another one that is not shown"
        yield f"no mammogram: its modality is {word}, not MG"
    if known and known not in MAMMOGRAPHY | _ALSO:
        name = uid_name(known) or "one that the standard does not define"
        yield f"no mammogram: its SOP class is {name}"


def _views(dataset):
    unfit = [word for word in modifiers_of(dataset) if word in _UNFIT_MODIFIERS]
    for modifier in unfit:
        yield f"no ordinary view: {modifier}"
    factor = number(dataset, "EstimatedRadiographicMagnificationFactor") or 1.0
    if factor > MAX_CONTACT_MAGNIFICATION and "magnification" not in unfit:
        yield (
            f"no ordinary view: magnified {factor:g} times, above the "
            f"{MAX_CONTACT_MAGNIFICATION:g} of a breast on its support"
        )


def _breast(dataset):
    if text(dataset, "BreastImplantPresent").upper() == "YES":
        yield "a breast implant is present"
    specimen = "SPECIMEN" in words(dataset, "BodyPartExamined")
    if specimen or is_specimen_view(dataset) or (
        items(dataset, "SpecimenDescriptionSequence")
    ):  # fmt: skip
        yield "a specimen, no breast"


def _described(dataset):
    description = text(dataset, "SeriesDescription").lower()
    yield from (why for part, why in _DESCRIPTIONS.items() if part in description)
    kinds = words(dataset, "ImageType")
    yield from (why for word, why in _IMAGE_TYPES.items() if word in kinds)


def _notes(dataset):
    if not text(dataset, "Modality"):
        yield "Modality is absent"
    if not text(dataset, "SOPClassUID"):
        yield "SOP class is absent"
    if text(dataset, "PartialView").upper() == "YES":
        yield "a partial view: the breast did not fit on one image"
    if "GENERATED_2D" in words(dataset, "ImageType"):
        yield "a synthetic image, computed from tomosynthesis"
    for modifier in modifiers_of(dataset):
        if modifier not in _UNFIT_MODIFIERS:
            yield f"view modifier: {modifier}"
