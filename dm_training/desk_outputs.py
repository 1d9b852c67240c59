"""Pictures and DICOM objects of images as they are scored, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dm_training.predictor import SCORED, Prediction, Result

if TYPE_CHECKING:
    from dm_models.inputs import InputContract
    from dm_training.desk_stream import Opened
    from dm_training.image_maps import ImageMap

ENDING = ".overlay.png"


class Outputs:
    """Where pictures go, and of what.

    Args:
        heat_of: Gives the map of an image (`Predictor.heat_of`).
        contract: Of the model whose map it is.
        overlays: Folder for PNGs, or None.
        dicom: Folder for DICOM objects, or None.
        overwrite: Whether to replace DICOM objects that are there.
    """

    def __init__(
        self, heat_of: Callable[[Opened], ImageMap], contract: InputContract, *,
        overlays: Path | None, dicom: Path | None, overwrite: bool,
    ):  # fmt: skip
        self.heat_of, self.contract, self.overwrite = heat_of, contract, overwrite
        self.overlays, self.dicom = overlays, dicom

    def write(self, result: Result) -> tuple[Prediction, str]:
        """Write what was asked for.

        Returns:
            (the prediction with notes of what could not be, what was not written).
        """
        opened, prediction = result.opened, result.prediction
        if prediction.status != SCORED or not (self.overlays or self.dicom):
            return prediction, ""
        try:
            image_map, note = self._map(opened)
            prediction = prediction.replace(notes=(*prediction.notes, *note))
            picture = self._picture(opened, prediction, image_map)
            if self.dicom and opened.is_dicom:
                self._write_dicom(opened, prediction, picture)
        except (ValueError, OSError) as err:
            problem = f"nothing drawn or written: {err}"
            return prediction.replace(notes=(*prediction.notes, problem)), problem
        return prediction, ""

    def _map(self, opened: Opened) -> tuple[ImageMap | None, tuple[str, ...]]:
        from dm_training.image_maps import MapError

        try:
            return self.heat_of(opened), ()
        except MapError as err:
            return None, (f"no heat map: {err}",)

    def _picture(self, opened: Opened, prediction: Prediction, image_map):
        """The picture, written as a PNG where that was asked for."""
        from dm_training import desk_overlays

        drawn = {
            **desk_overlays.words_of(prediction),
            "source_shape": desk_overlays.shape_to_show(
                opened.source_shape, self.contract
            ),
        }
        grey = self._shown(opened)
        if image_map is not None:
            seen = opened.prepared[0].shape
            image_map = desk_overlays.on_picture(image_map, seen, grey.shape)
        if not self.overlays:
            return desk_overlays.overlay_image(grey, image_map, **drawn)
        path = desk_overlays.path_for(self.overlays, prediction.image_id, ENDING)
        return desk_overlays.write_overlay(path, grey, image_map, **drawn)

    def _shown(self, opened: Opened):
        """What the model saw; of a small one, read again with more pixels."""
        from dm_training import desk_overlays
        from dm_training.intake import read_intake

        seen = opened.prepared[0]
        if (
            max(seen.shape) >= desk_overlays.LONGEST
            or opened.source_shape == seen.shape
        ):
            return seen
        read = read_intake(opened.item.path, voi=self.contract.voi)
        return desk_overlays.picture_of(read.grey, self.contract)

    def _write_dicom(self, opened: Opened, prediction: Prediction, picture) -> None:
        from dm_training import dicom_out

        dicom_out.write_dicom(
            self.dicom, Path(opened.item.path), picture, prediction,
            overwrite=self.overwrite,
        )  # fmt: skip
