"""One way to score, whatever form a whole-image model comes in.

A model of this project (`.keras`, full `.h5`, an imported Keras 2 file saved as one), a
run folder, an exported SavedModel, or several of them as an ensemble, the mean of whose
scores counts (Shen et al. 3.1.4). Pixels are brought to each model's own preparation by
`prepare`, the one place that does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dm_models import saved_model_layout as layout
from dm_models.decision import Decision, read_decision
from dm_models.inputs import InputContract
from dm_models.layer_files import ModelFileError
from dm_models.model_card_evidence import weights_digest
from dm_models.model_paths import BEST, best_of_run
from dm_preprocess import images as pixels
from dm_training.scoring import FLIPS, check_whole_image

if TYPE_CHECKING:
    from dm_training.image_maps import ImageMap

MODEL_SUFFIXES = (".keras", ".h5")


class RefusedError(ValueError):
    """A model's own graph refuses a batch; the message, if any, says why."""


class Scorer(Protocol):
    """A whole-image model, or several.

    Attributes:
        name: For tables.
        version: The first digits of the weights' SHA-256; of several, joined by "+".
        contracts: The input contract of each member, one for a single model.
    """

    name: str
    version: str
    contracts: tuple[InputContract, ...]

    def decision(self, flips: int) -> Decision | None:
        """The stored decision for predictions of that many flips (1 or 4), if any."""

    def scores(self, prepared: Sequence[np.ndarray], *, flips: int) -> np.ndarray:
        """Uncalibrated scores of the positive class.

        Args:
            prepared: For each of `contracts`, float32 (N, H, W, 1): raw grey levels
                as `prepare` gives them.
            flips: 1 or 4.

        Returns:
            float64 (N,).
        """

    def heat(self, image: np.ndarray) -> ImageMap:
        """Grad-CAM of the first member.

        Args:
            image: uint16 (H, W), as `prepare` gives it for `contracts[0]`.

        Returns:
            The map, its cells placed in pixels of `image`.

        Raises:
            MapError: The model has no such map.
        """


def prepare(grey: np.ndarray, contract: InputContract) -> np.ndarray:
    """Make of a file's grey levels what the converter made of the training images.

    An image of exactly the model's working size is taken as one that the converter
    made: it stays as it is, so that a DICOM file and the PNG made of it get the same
    score. Any other is levelled, cut to the breast and fitted, as the contract says.

    Args:
        grey: uint16 (H, W), a file's levels spread over 16 bits; of a DICOM file with
            its window applied where `contract.voi` says so.
        contract: The model's.

    Returns:
        uint16 of the contract's height and width, or of the cut's own size where it
        has none; the array itself where nothing is to be done.
    """
    if grey.shape == (contract.height, contract.width):
        return grey
    if contract.grey == "auto-level":
        grey = pixels.auto_level(grey)
    if contract.crop_breast:
        row0, col0, row1, col1 = pixels.breast_box(grey)
        grey = grey[row0:row1, col0:col1]
    if contract.height is None:
        return grey
    return pixels.fit(grey, contract.height, contract.width, mode=contract.fit)[0]


def is_model(path: str | Path) -> bool:
    """Whether a path is a model: a file by its ending, a run folder, a SavedModel."""
    path = Path(path)
    if path.is_dir():
        return (path / BEST).is_file() or layout.is_saved_model(path)
    return path.suffix.lower() in MODEL_SUFFIXES


def open_model(path: str | Path) -> Scorer:
    """Load one model in whatever form.

    Raises:
        ModelFileError: No model, no input contract, or no whole-image classifier.
    """
    path = best_of_run(path)
    return SavedModelScorer(path) if path.is_dir() else KerasScorer(path)


def open_models(paths: Sequence[str | Path]) -> Scorer:
    """Load one model, or several as an ensemble.

    Raises:
        ModelFileError: As `open_model`.
    """
    members = [open_model(path) for path in paths]
    return members[0] if len(members) == 1 else Ensemble(members)


class KerasScorer:
    """A model file of this project, run by Keras on whatever backend it has."""

    def __init__(self, path: Path):
        from dm_models import weights

        self.model, contract = weights.load_model(path)
        check_whole_image(contract, path)
        self.contracts = (contract,)
        self.name = path.parent.name if path.name == BEST else path.stem
        self.version = weights_digest(self.model)[: layout.VERSION_DIGITS]
        self._decisions = {flips: read_decision(path, flips) for flips in FLIPS}
        self._positive = contract.class_names.index("pos")
        self._forward = self._mapper = None

    def decision(self, flips: int) -> Decision | None:
        """As `Scorer.decision`."""
        return self._decisions[flips]

    def scores(self, prepared: Sequence[np.ndarray], *, flips: int) -> np.ndarray:
        """As `Scorer.scores`."""
        if self._forward is None:
            self._forward = forward_pass(self.model)
        total = 0.0
        for number in FLIPS[flips]:
            given = _flipped(prepared[0], number)
            total = total + np.asarray(self._forward(given), np.float64)
        return total[:, self._positive] / flips

    def heat(self, image: np.ndarray) -> ImageMap:
        """As `Scorer.heat`."""
        from dm_training.image_maps import cam_mapper

        if self._mapper is None:
            self._mapper = cam_mapper(self.model, self.contracts[0])
        return self._mapper(image)


class SavedModelScorer:
    """An export, run by TensorFlow alone through its signatures."""

    def __init__(self, path: Path):
        import tensorflow as tf

        folder, number, name = layout.find_saved_model(path)
        contract = _exported_contract(folder)
        check_whole_image(contract, folder)
        self.contracts, facts = (contract,), layout.read_facts(folder)
        self.name, self.version = name, facts.version or str(number)
        self._facts = facts
        self._decisions = {flips: read_decision(folder, flips) for flips in FLIPS}
        try:
            self._loaded = tf.saved_model.load(str(folder))
        except (OSError, ValueError, tf.errors.OpError) as err:
            raise ModelFileError(f"{folder}: TensorFlow cannot load it: {err}") from err

    def decision(self, flips: int) -> Decision | None:
        """As `Scorer.decision`."""
        return self._decisions[flips]

    def scores(self, prepared: Sequence[np.ndarray], *, flips: int) -> np.ndarray:
        """As `Scorer.scores`."""
        suffix = layout.TTA if flips == 4 else ""
        outputs = self._call(layout.DEFAULT_SIGNATURE + suffix, prepared[0])
        at = self.contracts[0].class_names.index("pos")
        return outputs[layout.SCORES].numpy().astype(np.float64)[:, at]

    def heat(self, image: np.ndarray) -> ImageMap:
        """As `Scorer.heat`."""
        from dm_training.image_maps import GRAD_CAM, ImageMap, MapError, resized_centres

        if self._facts.cam_centres is None:
            raise MapError("exported without Grad-CAM")
        batch = image[None, ..., None].astype(np.float32)
        heat = self._call(layout.GRAD_CAM_SIGNATURE, batch)[layout.HEAT].numpy()[0]
        centres = resized_centres(
            self._facts.cam_centres, self._facts.cam_size, image.shape
        )
        return ImageMap(GRAD_CAM, heat, centres)

    def _call(self, signature: str, images: np.ndarray) -> dict:
        import tensorflow as tf

        given = tf.constant(images, tf.float32)
        try:
            return self._loaded.signatures[signature](**{layout.GREY_INPUT: given})
        except tf.errors.InvalidArgumentError as err:
            raise RefusedError(layout.refusal_of(err.message or "")) from err


class Ensemble:
    """The mean of several models' scores; no weight is fitted, no decision stored."""

    def __init__(self, members: Sequence[Scorer]):
        self.members = tuple(members)
        self.contracts = tuple(member.contracts[0] for member in members)
        self.name = "ensemble"
        self.version = "+".join(member.version for member in members)

    def decision(self, flips: int) -> Decision | None:
        """None: a mean of scores has no member's threshold."""
        return None

    def scores(self, prepared: Sequence[np.ndarray], *, flips: int) -> np.ndarray:
        """As `Scorer.scores`."""
        each = [
            member.scores([given], flips=flips)
            for member, given in zip(self.members, prepared, strict=True)
        ]
        return np.mean(each, axis=0)

    def heat(self, image: np.ndarray) -> ImageMap:
        """As `Scorer.heat`."""
        return self.members[0].heat(image)


def forward_pass(model) -> Callable[[np.ndarray], np.ndarray]:
    """What runs a net on float32 (N, H, W, 1) arrays, on whatever backend Keras has.

    On TensorFlow one graph is traced for all batch sizes, and nothing is compiled,
    which on a CPU takes a minute. JAX compiles for each size, and is slow without: a
    smaller batch is filled up to the largest that was met.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        return _traced(model)
    model.jit_compile = keras.backend.backend() == "jax"
    most = 0

    def run(images: np.ndarray) -> np.ndarray:
        nonlocal most
        most = max(most, len(images)) if model.jit_compile else len(images)
        blank = np.zeros((most - len(images), *images.shape[1:]), images.dtype)
        filled = np.concatenate([images, blank]) if len(blank) else images
        return np.asarray(model.predict_on_batch(filled))[: len(images)]

    return run


def _traced(model) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    wanted = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph = tf.function(
        lambda images: model(images, training=False),
        input_signature=[wanted], autograph=False, jit_compile=False,
    )  # fmt: skip
    return lambda images: graph(tf.constant(images, tf.float32)).numpy()


def _flipped(images: np.ndarray, number: int) -> np.ndarray:
    """Flip 0 is the image itself, 1 left-right, 2 up-down, 3 both (`augment.flip`)."""
    rows = slice(None, None, -1 if number & 2 else 1)
    cols = slice(None, None, -1 if number & 1 else 1)
    return np.ascontiguousarray(images[:, rows, cols])


def _exported_contract(folder: Path) -> InputContract:
    from dm_models.inputs import ContractError
    from dm_models.weights import CONTRACT_MEMBER

    for place in (folder, folder / layout.EXTRA):
        path = place / CONTRACT_MEMBER
        if path.is_file():
            try:
                return InputContract.from_json(path.read_text(encoding="utf-8"))
            except ContractError as err:
                raise ModelFileError(f"{path}: {err}") from err
    raise ModelFileError(
        f"{folder}: no {CONTRACT_MEMBER} in it, so nothing says which grey scale it "
        "was trained with; `dm-export` writes one"
    )
