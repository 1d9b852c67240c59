"""Files in threads, the net in one: images on their way to a score.

Decoders release the interpreter's lock, so that files are read and prepared while the
net works on the batch before. What is read ahead is bounded by a few batches, however
many files there are. Images of one size go through the net together; of models that
take any size, each size makes a batch of its own.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from dm_preprocess.images import breast_box
from dm_training.desk_paths import printable
from dm_training.intake import (
    NO_PATIENT,
    NO_STUDY,
    PLACEHOLDER,
    Intake,
    IntakeError,
    read_intake,
    reason_of,
)
from dm_training.patient_keys import KeyFileError
from dm_training.samples import ids_of_name

if TYPE_CHECKING:
    from dm_models.inputs import InputContract
    from dm_training.check_rules import Checked
    from dm_training.desk_paths import Item
    from dm_training.predictor import Prediction
    from dm_training.scorers import Scorer

_MOST_JOBS = 8


@dataclass(frozen=True)
class Opened:
    """A file that was read, or what kept it from being scored.

    Attributes:
        item: Which.
        prediction: All but the score.
        prepared: For each contract uint16 (H, W); empty where it gets no score.
        is_dicom: Whether the file is DICOM.
        source_shape: (rows, columns) of what the first contract's image was fitted of:
            the file, or its cut to the breast.
        digest: Of the first contract's pixels, by which a second copy is known; "".
    """

    item: Item
    prediction: Prediction
    prepared: tuple[np.ndarray, ...] = ()
    is_dicom: bool = False
    source_shape: tuple[int, int] = (0, 0)
    digest: str = ""


def open_image(
    item: Item, source, blank: Prediction, *, contracts: Sequence[InputContract],
    patient_key=None, keep: bool = False, refuse: bool = True,
) -> Opened:  # fmt: skip
    """Read one file and bring it to each model's own preparation.

    Args:
        item: What is known of it.
        source: Its path or bytes.
        blank: A prediction with what is the same for all images.
        contracts: The models'.
        patient_key: Makes ids; None for none.
        keep: Give a header's or name's patient id as it is.
        refuse: Whether an unsuitable image gets no score.

    Returns:
        The image, or a prediction of status "failed" or "refused" with the reason.

    Raises:
        KeyFileError: The key is no longer there: no file would get an id.
    """
    known = blank.replace(
        image_id=item.image_id, patient_id=item.patient_id,
        laterality=item.laterality, view=item.view,
    )  # fmt: skip
    try:
        read = _read(source, contracts, patient_key, keep)
        intake = next(iter(read.values()))
        known = _with_ids(known, item, intake, patient_key, keep)
        if intake.unsuitable and refuse:
            return Opened(item, known.replace(status="refused"))
        prepared, checked = _prepared(read, contracts)
    except KeyFileError:
        raise
    except Exception as err:  # one file's trouble, whatever it is, is its own
        return Opened(
            item, known.replace(status="failed", notes=(_reason(err, source),))
        )
    if checked is not None:
        notes = (*known.notes, *checked.warnings)
        known = known.replace(
            notes=notes, warnings=tuple(checked.warnings), causes=checked.causes
        )
    shape = _fitted_shape(read[contracts[0].voi].grey, contracts[0])
    digest = hashlib.blake2b(prepared[0].tobytes(), digest_size=12).hexdigest()
    return Opened(item, known, prepared, intake.is_dicom, shape, digest)


def opened_batches(
    items: Iterable[Item], open_one: Callable[[Item], Opened], *, size: int,
    jobs: int | None = None,
) -> Iterator[list[Opened]]:  # fmt: skip
    """Read files in threads, in order, no more than a few batches ahead.

    Args:
        items: Which; taken one by one as there is room.
        open_one: `open_image` of one.
        size: Of a batch; the last may be smaller.
        jobs: Threads; None for one a core, 8 at most.
    """
    from joblib import cpu_count

    jobs = min(cpu_count(), _MOST_JOBS) if jobs is None else jobs
    source, window = iter(items), 2 * size + jobs
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="desk")
    try:
        ahead = deque(pool.submit(open_one, item) for item in islice(source, window))
        while ahead:
            batch = []
            while ahead and len(batch) < size:
                batch.append(ahead.popleft().result())
                ahead.extend(pool.submit(open_one, item) for item in islice(source, 1))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def scores_of(
    scorer: Scorer, batch: Sequence[Opened], *, flips: int
) -> list[float | str | None]:
    """Score a batch, whatever sizes are in it.

    Returns:
        For each image its score, None where nothing was to be scored, or in words why
        the net could not.
    """
    found: list[float | str | None] = [None] * len(batch)
    groups: dict[tuple, list[int]] = {}
    for at, opened in enumerate(batch):
        if opened.prepared:
            shapes = tuple(image.shape for image in opened.prepared)
            groups.setdefault(shapes, []).append(at)
    for places in groups.values():
        images = [batch[at].prepared for at in places]
        for at, score in zip(places, _together(scorer, images, flips), strict=True):
            found[at] = score
    return found


def _together(scorer, images: list[tuple], flips: int) -> list[float | str]:
    """One call for all; where that fails each alone, so that one costs no other."""
    stacked = [
        np.stack(members)[..., None].astype(np.float32)
        for members in zip(*images, strict=True)
    ]
    try:
        scores = scorer.scores(stacked, flips=flips)
    except Exception as err:  # a backend's own kinds: too small, too large, ...
        if len(images) > 1:
            return [_together(scorer, [one], flips)[0] for one in images]
        return [_refusal(err, images[0][0].shape)]
    return [
        float(score) if 0 <= score <= 1 else "the network's score is no probability"
        for score in scores
    ]


def _refusal(err: Exception, shape: tuple[int, int]) -> str:
    """Why the net took no image: a model's own words, and of a library none."""
    from dm_training.scorers import RefusedError

    if isinstance(err, RefusedError) and err.args[0]:
        return err.args[0].replace("image 0 of the batch", "the image")
    height, width = shape
    return (
        f"the network cannot take an image of {height} x {width} pixels "
        f"({type(err).__name__})"
    )


def _read(source, contracts, patient_key, keep: bool) -> dict[bool, Intake]:
    """The file as each contract wants it: with its window applied, or as stored."""
    if keep and patient_key is not None:
        patient_key = _as_it_is  # what is kept needs no key, and none is made
    return {
        voi: read_intake(source, patient_key=patient_key, keep=keep, voi=voi)
        for voi in dict.fromkeys(contract.voi for contract in contracts)
    }


def _as_it_is(text: str) -> str:
    return text


def _with_ids(
    known: Prediction, item: Item, intake: Intake, patient_key, keep: bool
) -> Prediction:
    """Fill in ids: a table's before a header's before a file name's."""
    path = printable(item.path)
    named, side, view = ids_of_name(path) if path else ("", "", "")
    patient, notes = item.patient_id, [*intake.unsuitable, *intake.notes]
    if not patient and patient_key is not None:
        patient, notes = _patient(intake, named, notes, patient_key, keep)
    told, where = item.laterality or side, "table" if item.laterality else "file name"
    if intake.laterality and told and intake.laterality != told:
        notes.append(f"laterality {intake.laterality} by the header, {told} by the "
                     f"{where}")  # fmt: skip
    return known.replace(
        patient_id=patient,
        laterality=item.laterality or intake.laterality or side,
        view=item.view or intake.view or view,
        notes=tuple(notes),
    )


def _patient(
    intake: Intake, named: str, notes: list[str], patient_key, keep: bool
) -> tuple[str, list[str]]:
    """Whose it is by the header, else by the file's name, else by the study."""
    weak = {NO_PATIENT, PLACEHOLDER, NO_STUDY} & set(notes)
    if intake.patient and not weak:
        return (intake.patient_raw if keep else intake.patient), notes
    if named:
        notes = [note for note in notes if note not in weak]
        if weak:
            notes.append("no patient id in the header: joined by the file's name")
        return (named if keep else patient_key(named)), notes
    study = intake.patient
    return (patient_key(study) if keep and study else study), notes


def _prepared(
    read: dict[bool, Intake], contracts
) -> tuple[tuple[np.ndarray, ...], Checked | None]:
    """The image for each model, and what the first one's training images say of it."""
    from dm_training.check_rules import checked_if_known
    from dm_training.scorers import prepare

    greys = [read[contract.voi].grey for contract in contracts]
    prepared = tuple(map(prepare, greys, contracts))
    return prepared, checked_if_known(prepared[0], contracts[0], greys[0].shape)


def _fitted_shape(grey: np.ndarray, contract: InputContract) -> tuple[int, int]:
    if not contract.crop_breast or grey.shape == (contract.height, contract.width):
        return grey.shape
    row0, col0, row1, col1 = breast_box(grey)
    return row1 - row0, col1 - col0


def _reason(err: Exception, source) -> str:
    """What may be told: our own words and the system's, never a library's.

    A library's message may quote a header.
    """
    if isinstance(err, IntakeError):
        return reason_of(err, source)
    if isinstance(err, OSError):
        return err.strerror or type(err).__name__
    if isinstance(err, MemoryError):
        return "the image needs more memory than there is"
    return f"unexpected {type(err).__name__} while reading"
