"""What a table needs to know about a DICOM image: side, view, spacing, whose it is.

Side and view are terms that the standard or the field knows, or "". The patient and
study identifiers are read apart from all else, by the one function that is asked for
them; nothing here puts them into a record or a message.

Source: DICOM CID 4014 (views) and CID 4015 (view modifiers), with the older SNOMED-RT
codes of each; PS3.3 C.8.11.7 (mammography image).
"""

from __future__ import annotations

from dataclasses import dataclass

from dm_preprocess.dicom_values import items, number, text

VIEW_CODES = {
    "399162004": "CC", "399368009": "MLO", "399260004": "ML", "399352003": "LM",
    "399099002": "LMO", "399196006": "FB", "399192008": "XCCL", "399101009": "XCCM",
    "399188001": "SIO", "441555000": "ISO", "R-10242": "CC", "R-10226": "MLO",
    "R-10224": "ML", "R-10228": "LM", "R-10230": "LMO", "R-10244": "FB",
    "R-1024A": "XCCL", "R-1024B": "XCCM", "R-102D0": "SIO", "R-40AAA": "ISO",
}  # fmt: skip
SPECIMEN_CODES = frozenset({"127457009", "G-8310"})
MODIFIER_CODES = {
    "399163009": "magnification", "R-102D6": "magnification",
    "399055006": "spot compression", "R-102D7": "spot compression",
    "399209000": "implant displaced", "R-102D5": "implant displaced",
    "399110001": "tangential", "R-102C2": "tangential",
    "399226006": "rolled medial", "R-102D4": "rolled medial",
    "399197002": "rolled lateral", "R-102D3": "rolled lateral",
    "414493004": "rolled inferior", "R-102CA": "rolled inferior",
    "415670009": "rolled superior", "R-102C9": "rolled superior",
    "399161006": "cleavage", "R-102D2": "cleavage",
    "399011000": "axillary tail", "R-102D1": "axillary tail",
    "442580003": "axillary tissue", "R-40AB2": "axillary tissue",
    "442581004": "nipple in profile", "R-40AB3": "nipple in profile",
    "441752004": "anterior compression", "P2-00161": "anterior compression",
    "442593008": "infra-mammary fold", "R-40ABE": "infra-mammary fold",
}  # fmt: skip
VIEWS = tuple(dict.fromkeys(VIEW_CODES.values()))
# How technologists write a modifier into (0018,5101) View Position.
_AFFIXES = {
    "magnification": ("M{}", "{}M", "{} MAG", "MAG {}"),
    "spot compression": ("S{}", "{}S", "{} SPOT", "SPOT {}"),
    "implant displaced": ("{}ID", "{} ID", "ID {}"),
    "tangential": ("{}TAN", "{} TAN"),
    "rolled medial": ("{}RM", "{} RM"),
    "rolled lateral": ("{}RL", "{} RL"),
}
_POSITIONS = {view: (view, "") for view in VIEWS} | {
    "XCC": ("XCCL", ""), "TAN": ("", "tangential"), "CV": ("", "cleavage"),
    "AT": ("", "axillary tail"), "MAG": ("", "magnification"),
    "SPOT": ("", "spot compression"),
}  # fmt: skip
for _modifier, _patterns in _AFFIXES.items():
    for _pattern in _patterns:
        for _view in VIEWS:
            _POSITIONS.setdefault(_pattern.format(_view), (_view, _modifier))


@dataclass(frozen=True, repr=False)  # a record of secrets is not printed by accident
class Identity:
    """Whose image it is; nothing of it may be shown.

    Attributes:
        patient: (0010,0020) Patient ID, or "".
        issuer: (0010,0021) Issuer of Patient ID, or "".
        study: (0020,000D) Study Instance UID, or "".
    """

    patient: str
    issuer: str
    study: str


def identity_of(dataset) -> Identity:
    """The identifiers of a data set, "" where it gives none."""
    return Identity(
        text(dataset, "PatientID"),
        text(dataset, "IssuerOfPatientID"),
        text(dataset, "StudyInstanceUID"),
    )


def spacing_of(dataset) -> float | None:
    """Row spacing of a pixel at the detector in mm, or None."""
    for name in ("ImagerPixelSpacing", "PixelSpacing"):
        value = number(dataset, name)
        if value is not None and value > 0:
            return value
    return None


def laterality_of(dataset) -> str:
    """ "L", "R" or "" where the file does not say."""
    for name in ("ImageLaterality", "Laterality"):
        side = text(dataset, name).upper()[:1]
        if side in ("L", "R"):
            return side
    return ""


def view_of(dataset) -> str:
    """One of `VIEWS`, or ""."""
    view = _position(dataset)[0]
    codes = (text(item, "CodeValue") for item in items(dataset, "ViewCodeSequence"))
    return view or next((VIEW_CODES[c] for c in codes if c in VIEW_CODES), "")


def modifiers_of(dataset) -> list[str]:
    """The view's modifiers, as CID 4015 words them, each once."""
    views = items(dataset, "ViewCodeSequence")
    found = [_position(dataset)[1]]
    for holder in (*views, dataset):  # the standard's place is inside the view's item
        for item in items(holder, "ViewModifierCodeSequence"):
            found.append(_modifier_of(item))
    return [word for word in dict.fromkeys(found) if word]


def is_specimen_view(dataset) -> bool:
    """Whether the view's code says that tissue outside the body was imaged."""
    views = items(dataset, "ViewCodeSequence")
    return any(text(item, "CodeValue") in SPECIMEN_CODES for item in views)


def _position(dataset) -> tuple[str, str]:
    written = text(dataset, "ViewPosition").upper()
    return _POSITIONS.get(written.replace("-", " ").replace("_", " "), ("", ""))


def _modifier_of(item) -> str:
    code, meaning = text(item, "CodeValue"), text(item, "CodeMeaning").lower()
    known = set(MODIFIER_CODES.values())
    return MODIFIER_CODES.get(code) or (meaning if meaning in known else "")
