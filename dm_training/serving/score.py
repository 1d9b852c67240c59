"""One uploaded file judged: the steps that `dm-predict` takes, on a server's model.

The file is read as at the desk (`intake`), brought to the model's size (`prepare`) and
put through the export's own signatures, in the same queue as every other request. Only
what `Judgement` says leaves: no value of a header but side and view.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from dm_models import saved_model_layout as layout
from dm_models.inputs import ContractError, InputContract
from dm_training.check_rules import warnings_of
from dm_training.desk_overlays import (
    overlay_png,
    picture_of,
    shape_to_show,
    words_of,
)
from dm_training.desk_paths import printable
from dm_training.image_maps import GRAD_CAM, ImageMap, resized_centres
from dm_training.intake import Intake, IntakeError, read_intake
from dm_training.samples import ids_of_name
from dm_training.scorers import prepare
from dm_training.serving.errors import RequestError
from dm_training.serving.served_model import Call, ServedModel, contract_text
from dm_training.serving.upload import file_of

RESEARCH = "For research only: not a medical device, not for diagnosis."
POSITIVE, NEGATIVE = "positive", "negative"
Run = Callable[[Call], Awaitable[dict[str, np.ndarray]]]
InPool = Callable[..., Awaitable]


@dataclass(frozen=True)
class Judgement:
    """What is told of an upload.

    Attributes:
        probability: Of a positive finding, calibrated where a temperature is stored.
        decision: "positive", "negative", or None where no operating point is stored.
        threshold: Where the decision is made, or None.
        model: Its name.
        version: The first digits of its weights' SHA-256.
        flips: 1, or 4 for the mean over four flips.
        laterality: "L", "R" or "".
        view: "CC", "MLO", ... or "".
        notes: What was unusual.
        warnings: What lies outside of the training images' range.
        source_size: Rows and columns of the file.
    """

    probability: float
    decision: str | None
    threshold: float | None
    model: str
    version: str
    flips: int
    laterality: str
    view: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    source_size: tuple[int, int]


@dataclass(frozen=True)
class Wish:
    """What is asked for besides the file.

    Attributes:
        tta: The mean over four flips.
        overlay: A picture too.
        anyway: Judge images that the model should not.
    """

    tta: bool = False
    overlay: bool = True
    anyway: bool = False


class Desk:
    """Judges uploads.

    Args:
        model: An export of `dm-export`.
        run: Runs a call in the server's queue.
        in_pool: Runs a function off the event loop.

    Raises:
        RequestError: The model is none of `dm-export`'s.
    """

    def __init__(self, model: ServedModel, run: Run, in_pool: InPool):
        self.model, self._run, self._in_pool = model, run, in_pool
        self.contract = _contract_of(model)
        self.facts = layout.read_facts(model.folder)

    def read(self, body: bytes, content_type: str) -> Intake:
        """The image of an upload, as the model wants it read (`read_upload`)."""
        return read_upload(body, content_type, voi=self.contract.voi)

    async def judge(self, intake: Intake, wish: Wish) -> tuple[Judgement, bytes | None]:
        """Judge a file.

        Args:
            intake: What `read` gives. Held by no one else, its levels are gone
                before the queue is waited in.
            wish: What is asked for.

        Returns:
            (what is told of it, the overlay as PNG; None where there is none).

        Raises:
            RequestError: It should not be judged, or is too small (422).
        """
        if intake.unsuitable and not wish.anyway:
            reasons = list(intake.unsuitable)
            raise RequestError(
                f"not judged: {'; '.join(reasons)}", 422, facts={"unsuitable": reasons}
            )
        size = intake.grey.shape
        grey, shown, warned = await self._in_pool(
            _prepared, intake.grey, self.contract, wish.overlay
        )
        intake = replace(intake, grey=grey)
        name = layout.DEFAULT_SIGNATURE + (layout.TTA if wish.tta else "")
        outputs = await self._run(self._call(name, grey))
        told = self._told(intake, outputs, wish, warned, size)
        return told, await self._overlay(grey, shown, told) if wish.overlay else None

    def _call(self, name: str, grey: np.ndarray) -> Call:
        batch = grey[None, ..., None].astype(np.float32)
        call = Call(self.model.signature(name), {layout.GREY_INPUT: batch})
        try:
            self.model.check_size(call)
        except RequestError as err:
            raise RequestError(str(err), 422) from err
        return call

    def _told(self, intake: Intake, outputs, wish: Wish, warned, size) -> Judgement:
        decision = threshold = None
        if layout.POSITIVE in outputs:
            decision = POSITIVE if outputs[layout.POSITIVE][0] else NEGATIVE
            threshold = float(outputs[layout.THRESHOLD][0])
        reasons = [f"judged although: {reason}" for reason in intake.unsuitable]
        return Judgement(
            float(outputs[layout.PROBABILITY][0]), decision, threshold,
            self.model.name, self.facts.version or str(self.model.version),
            4 if wish.tta else 1, intake.laterality, intake.view,
            (*intake.notes, *reasons), tuple(warned), size,
        )  # fmt: skip

    async def _overlay(
        self, grey: np.ndarray, shown: np.ndarray, told: Judgement
    ) -> bytes | None:
        if not self.maps:
            return None
        outputs = await self._run(self._call(layout.GRAD_CAM_SIGNATURE, grey))
        centres = resized_centres(
            self.facts.cam_centres, self.facts.cam_size, shown.shape
        )
        found = ImageMap(GRAD_CAM, outputs[layout.HEAT][0], centres)
        return await self._in_pool(self._drawn, shown, found, told)

    def _drawn(self, grey: np.ndarray, found: ImageMap, told: Judgement) -> bytes:
        shape = shape_to_show(told.source_size, self.contract)
        return overlay_png(grey, found, **words_of(told), source_shape=shape)

    @property
    def maps(self) -> bool:
        """Whether the model gives heat maps."""
        has_map = layout.GRAD_CAM_SIGNATURE in self.model.signatures
        return has_map and self.facts.cam_centres is not None


def read_upload(body: bytes, content_type: str, *, voi: bool = False) -> Intake:
    """The image of an upload.

    Args:
        body: The request's.
        content_type: Its header; "" for none.
        voi: Apply a DICOM file's window, as the model's contract may say.

    Raises:
        RequestError: No file is in it (400), or it cannot be read (422).
    """
    data, name = file_of(body, content_type)
    try:
        return _with_name(read_intake(data, voi=voi), name)
    except IntakeError as err:
        raise RequestError(f"not readable: {err}", 422) from err


def _with_name(intake: Intake, name: str) -> Intake:
    """Side and view by the file's name, where the file itself tells none.

    The name goes no further.
    """
    _, side, view = ids_of_name(printable(name)) if name else ("", "", "")
    notes = intake.notes
    if side and intake.laterality and side != intake.laterality:
        told = f"laterality {intake.laterality} by the header, {side} by the file name"
        notes = (*notes, told)
    return replace(intake, laterality=intake.laterality or side,
                   view=intake.view or view, notes=notes)  # fmt: skip


def answer_of(told: Judgement, overlay: bytes | None, began: float) -> dict:
    """The JSON that answers `/score`.

    Args:
        told: The judgement.
        overlay: A PNG, or None.
        began: `time.monotonic()` when the request came.
    """
    body = {**asdict(told), "seconds": round(time.monotonic() - began, 3)}
    if overlay is not None:
        body["overlay"] = base64.b64encode(overlay).decode()
    return {**body, "purpose": RESEARCH}


def _prepared(
    grey: np.ndarray, contract: InputContract, picture: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The image for the model and to be shown, and what training images say of it."""
    prepared = prepare(grey, contract)
    shown = picture_of(grey, contract) if picture else prepared
    return prepared, shown, warnings_of(prepared, contract, grey.shape)


def _contract_of(model: ServedModel) -> InputContract:
    due = {layout.DEFAULT_SIGNATURE, layout.DEFAULT_SIGNATURE + layout.TTA}
    missing = sorted(due - set(model.signatures))
    if missing:
        raise RequestError(f"the model has no signature {', '.join(missing)}", 501)
    given = model.signatures[layout.DEFAULT_SIGNATURE].function.structured_outputs
    if layout.PROBABILITY not in given:
        raise RequestError(f"the model has no output {layout.PROBABILITY!r}", 501)
    text = contract_text(model.folder)
    try:
        return InputContract.from_json("" if text is None else text)
    except ContractError as err:
        raise RequestError("the model has no input contract", 501) from err
