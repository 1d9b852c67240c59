"""A study's pictures: the surest and the most wrong images, and where maps point.

Models are loaded once for both; without one there are images and outlines alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dm_models.decision import Decision
from dm_training.report_parts import Bar, Gallery, GalleryItem, Section, Table

if TYPE_CHECKING:
    from dm_training.study import Study

_MAP_WORDS = {"any": "any outlined lesion", "malignant": "a malignant lesion"}


@dataclass(frozen=True)
class _Nets:
    """The models that make overlays, each with its contract; None for none."""

    model: object = None
    contract: object = None
    patch_model: object = None
    patch_contract: object = None


def gallery_sections(study: Study) -> tuple[list[Section], dict]:
    """The gallery and, where lesions are outlined and a map can be had, localisation.

    Args:
        study: With an image table.

    Returns:
        (sections, the localisation's figures or {}).

    Raises:
        ModelFileError: A model cannot be read.
        TableError: A table that breaks a rule.
    """
    request, sections = study.request, []
    located = bool(request.lesions and request.localisation)
    if not (request.gallery or located):
        return [], {}
    nets = _load(study)
    if request.gallery:
        sections.append(_gallery(study, nets))
    found = _localised(study, nets) if located else {}
    if found:
        sections.append(_localisation(found))
    return sections, found


def _load(study: Study) -> _Nets:
    from dm_models.weights import load_model

    request, given = study.request, {}
    if request.model:
        given["model"], given["contract"] = load_model(request.model)
    if request.patch_model:
        loaded = load_model(request.patch_model)
        given["patch_model"], given["patch_contract"] = loaded
    return _Nets(**given)


def _gallery(study: Study, nets: _Nets) -> Section:
    from dm_training.gallery import gallery_items

    said: list[str] = []
    items = gallery_items(
        study.rows, study.request.images, lesions_csv=study.request.lesions,
        model=nets.model, contract=nets.contract, patch_model=nets.patch_model,
        patch_contract=nets.patch_contract, number=study.request.gallery,
        say=said.append,
    )  # fmt: skip
    items = [_with_call(item, study.decision) for item in items]
    text = [
        "The positives of highest and of lowest score, and the negatives of lowest and "
        "of highest: what the model is surest of, and its worst mistakes. Scores are "
        "as they come, not calibrated. A map is no outline of a lesion, and on a "
        "negative image it is bright somewhere too."
    ]
    if nets.model is not None:
        text.append("Grad-CAM shows what moves this model's score.")
    if nets.patch_model is not None:
        text.append(
            "The patch heat map shows where the patch classifier, another network than "
            "the one that gave the score, sees a malignant lesion."
        )
    return Section("Images to look through", text,
                   galleries=[Gallery(items)] if items else [],
                   notices=list(dict.fromkeys(said)))  # fmt: skip


def _with_call(item: GalleryItem, decision: Decision | None) -> GalleryItem:
    """What the threshold calls an image, where there is one for images."""
    if decision is None or decision.level != "image":
        return item
    if not 0 <= item.facts["score"] <= 1:
        return item
    called = bool(decision.calls([item.facts["score"]])[0])
    return replace(item, facts={
        "score": item.facts["score"], "called": "positive" if called else "negative",
        **item.facts,
    })  # fmt: skip


def _localised(study: Study, nets: _Nets) -> dict:
    from dm_training import localisation

    request, mappers = study.request, _mappers(nets)
    if not mappers:
        return {}
    split = study.choices.split
    try:
        rows, left_out = localisation.localise_images(
            mappers, request.images, request.lesions, split=split
        )
    except localisation.LocalisationError as why:
        print(f"no localisation: {why}", file=sys.stderr)
        return {}
    return {"maps": localisation.localisation(rows, split=split), "left_out": left_out}


def _mappers(nets: _Nets) -> list:
    """What maps images; a net without such a map is told and left out."""
    from dm_training import image_maps

    makers = [(image_maps.patch_mapper, nets.patch_model, nets.patch_contract),
              (image_maps.cam_mapper, nets.model, nets.contract)]  # fmt: skip
    made = []
    for maker, model, contract in makers:
        try:
            made += [maker(model, contract)] if model is not None else []
        except image_maps.MapError as why:
            print(f"an overlay points nowhere: {why}", file=sys.stderr)
    return made


def _localisation(found: Mapping) -> Section:
    rows, maps = [], found["maps"]
    alike = all(f["any_chance"] == f["malignant_chance"] for f in maps.values())
    for kind, facts in maps.items():
        for lesions, words in _MAP_WORDS.items():
            figure, chance = facts[lesions], facts[f"{lesions}_chance"]
            if figure is not None and not (alike and lesions == "malignant"):
                rows.append([f"{kind}, {words}", figure, Bar(figure), f"{chance:.3f}",
                             figure["n"]])  # fmt: skip
    steps = ", ".join(
        f"{kind} {facts['step'][0]:.0f} x {facts['step'][1]:.0f}"
        for kind, facts in maps.items()
    )
    failed = [f"{name}: {why}" for name, why in found["left_out"]["failed"].items()]
    text = (
        "How often the hottest place of a map lies in an outlined lesion, over the "
        "positive images that have one; by chance, a place drawn from the breast would "
        f"(the lesions' share of its area). From cell to cell, in pixels: {steps}."
    )
    columns = ["map points at", "share of images", "", "by chance", "n"]
    said = (
        "Every outlined lesion of these images counts as malignant: the source has no "
        "pathology of single lesions, or they have no others."
    )
    text = [text, said] if alike else [text]
    return Section("Where the maps point", text, [Table(columns, rows)],
                   notices=failed)  # fmt: skip
