"""Images to look at beside the figures: the surest and the most wrong of each class.

A figure says how often a model errs, not how. Of the positives those of highest and of
lowest score are chosen, of the negatives those of lowest and of highest; which of them
count as errors depends on a threshold, and none is needed here. Maps are computed for
the chosen images only. What could not be read or mapped is said, and the next image in
order takes its place.

Of a patient nothing is shown but the image's id, side, view and density.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dm_preprocess import images as pixels
from dm_preprocess import tables
from dm_training import gallery_pictures
from dm_training.image_maps import MapError
from dm_training.outlines import Outlines
from dm_training.prediction_rows import check_rows
from dm_training.report_parts import GalleryItem

FOUND, PASSED = "positive, highest score", "negative, lowest score"
MISSED, ALARM = "positive, lowest score", "negative, highest score"
# Kind -> (class, whether its scores are taken from the highest down).
KINDS = {FOUND: (1, True), MISSED: (1, False), PASSED: (0, False), ALARM: (0, True)}
TRUTHS = ("negative", "positive")
OUTLINES = "outlines"
_FACTS = ("view", "laterality", "density", "note")


def gallery_items(
    rows: pd.DataFrame, images_csv: str | os.PathLike, *,
    lesions_csv: str | os.PathLike | None = None, model=None, contract=None,
    patch_model=None, patch_contract=None, number: int = 6, layer: str | None = None,
    say: Callable[[str], None] | None = None,
) -> list[GalleryItem]:  # fmt: skip
    """Choose images and picture them.

    Args:
        rows: image_id, y_true, y_score and, so that a woman comes once in a kind,
            patient_id; of one split.
        images_csv: Where the images are.
        lesions_csv: For the overlay "outlines"; None for none.
        model: A whole-image classifier, for the overlay "Grad-CAM"; None for none.
        contract: Its contract.
        patch_model: A patch classifier, for "patch heat map"; None for none.
        patch_contract: Its contract.
        number: Images of each kind at most; of a class with fewer than twice as many,
            half are of either kind and none of both.
        layer: Of Grad-CAM; None for the last map.
        say: Is told what was left out and why; None for a line on stderr.

    Returns:
        Items in the order of `KINDS`, each kind's most extreme score first.

    Raises:
        MetricError: An image twice, or a truth or score missing.
        TableError: A table that breaks a rule.
    """
    check_rows(rows)
    say = say or _to_stderr
    frame = tables.read_images(images_csv).set_index("image_id", drop=False)
    maker = _Maker(
        frame, Path(images_csv), Outlines(lesions_csv),
        _mappers(model, contract, patch_model, patch_contract, layer, say), say,
    )  # fmt: skip
    items = []
    for kind, candidates in choose(rows, number).items():
        wanted = min(number, candidates.attrs["wanted"])
        made = (maker.item(row, kind) for row in candidates.itertuples())
        items += _first(made, wanted)
    return items


def choose(rows: pd.DataFrame, number: int) -> dict[str, pd.DataFrame]:
    """Order the candidates of each kind, the first to be shown first.

    Args:
        rows: As `gallery_items`.
        number: Images of each kind.

    Returns:
        Kind -> its rows, most extreme score first, a woman's further images after all
        women's first; `attrs["wanted"]` says how many to show. No image is in two
        kinds: where a class is small, its upper half is one kind's, its lower half the
        other's.
    """
    found = {}
    for kind, (truth, from_highest) in KINDS.items():
        members = rows[rows["y_true"] == truth]
        members = members.sort_values(
            ["y_score", "image_id"], ascending=[False, True], kind="stable"
        )
        upper = (len(members) + (truth == 1)) // 2  # the odd one is the rightly scored
        half = members[:upper] if from_highest else members[upper:][::-1]
        found[kind] = _women_first(half)
        found[kind].attrs["wanted"] = min(number, len(half))
    return found


class _Maker:
    """Makes items of rows; None where an image cannot be shown, and says so."""

    def __init__(self, frame, images_csv: Path, outlines: Outlines, mappers, say):
        self.frame, self.images_csv, self.outlines = frame, images_csv, outlines
        self.mappers, self.say = mappers, say

    def item(self, row, kind: str) -> GalleryItem | None:
        if row.image_id not in self.frame.index:
            self.say(f"{row.image_id}: not in {self.images_csv}")
            return None
        facts = self.frame.loc[row.image_id]
        try:
            image = pixels.read_png(tables.resolve(facts["path"], self.images_csv))
        except (OSError, pixels.ImageError) as err:
            self.say(f"{row.image_id}: left out of the gallery: {err}")
            return None
        truth = TRUTHS[int(row.y_true)]
        return GalleryItem(
            name=row.image_id, kind=kind, image=gallery_pictures.shown_jpeg(image),
            overlays=self._overlays(row.image_id, image),
            facts=_facts(row, truth, facts),
            alt=f"Mammogram {row.image_id}, {truth}, score {row.y_score:.2f}",
        )  # fmt: skip

    def _overlays(self, image_id: str, image: np.ndarray) -> dict[str, bytes]:
        found = {}
        for mapped in self.mappers:
            try:
                heat = mapped(image)
            except MapError as err:
                self.say(f"{image_id}: no map: {err}")
                continue
            found[heat.kind] = gallery_pictures.map_png(heat, image.shape)
        try:
            lesions = self.outlines.of(image_id, image.shape)
        except (OSError, pixels.ImageError, tables.TableError) as err:
            self.say(f"{image_id}: no outlines: {err}")
            lesions = []
        if lesions:
            found[OUTLINES] = gallery_pictures.outlines_png(lesions, image.shape)
        return found


def _mappers(model, contract, patch_model, patch_contract, layer, say) -> list:
    """What maps images; a model without such a map is told and left out."""
    from dm_training import image_maps

    mappers = []
    if patch_model is not None:
        mappers.append(lambda: image_maps.patch_mapper(patch_model, patch_contract))
    if model is not None:
        mappers.append(lambda: image_maps.cam_mapper(model, contract, layer=layer))
    made = []
    for mapper in mappers:
        try:
            made.append(mapper())
        except MapError as err:
            say(f"an overlay is left out: {err}")
    return made


def _women_first(rows: pd.DataFrame) -> pd.DataFrame:
    if "patient_id" not in rows:
        return rows.copy()
    again = rows["patient_id"].duplicated() & (rows["patient_id"].fillna("") != "")
    return pd.concat([rows[~again], rows[again]])


def _first(made: Iterator[GalleryItem | None], wanted: int) -> list[GalleryItem]:
    """The first items that could be made; no more are tried than needed."""
    found: list[GalleryItem] = []
    while len(found) < wanted:
        item = next(made, False)
        if item is False:
            break
        if item is not None:
            found.append(item)
    return found


def _facts(row, truth: str, facts: pd.Series) -> dict[str, str | float]:
    known = {name: str(facts[name]) for name in _FACTS if str(facts[name]) != ""}
    return {"score": float(row.y_score), "truth": truth} | known


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
