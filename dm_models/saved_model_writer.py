"""Writing a SavedModel with its signatures, and trying every one of them.

A version is written aside and then renamed, so that a server that polls the folder
never sees half of one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_models import model_card
from dm_models import saved_model_layout as layout
from dm_models.decision import MEMBERS, Decision
from dm_models.inputs import InputContract
from dm_models.weights import CONTRACT_MEMBER

if TYPE_CHECKING:
    import keras

DEFAULT_SIDE = 256


class ExportError(ValueError):
    """An export cannot be written, or does not give the model's scores."""


def export_saved_model(
    model: keras.Model,
    out: str | Path,
    *,
    contract: InputContract,
    decision: Decision | None = None,
    decision_tta: Decision | None = None,
    card: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a float32 SavedModel with its contract, aside and then renamed.

    Args:
        model: The model; under mixed precision, a float32 copy of it is written.
        out: A folder of versions, made where it is not there: `out/1`, or the next
            free number. A folder named by a number is the version itself.
        contract: Written to `input_contract.json` of the version and its assets.extra.
        decision: For single predictions; written as `decision.json` to the same two.
            One fitted on four flips is taken for `decision_tta`.
        decision_tta: For the mean over four flips: `decision_tta.json`.
        card: The text of MODEL_CARD.md; None writes one without any figure.
        overwrite: Replace that version, or the highest there is.

    Returns:
        The version's folder.

    Raises:
        ExportError: The version exists, or Keras's backend is not TensorFlow.
    """
    check_backend()
    folder = version_folder(out, overwrite=overwrite)
    decisions = by_flips(decision, decision_tta)
    name = layout.served_name(folder)
    if card is None:
        single, mean = decisions.get(1), decisions.get(4)
        subject = model_card.Subject.of(model, contract, single, (), mean)
        card = model_card.render_card(subject, name=name)
    aside = _aside(Path(out), "part")
    try:
        facts = _save(float32_copy(model), aside, name, contract, decisions)
        _write_sidecars(aside, contract, decisions, facts)
        (aside / model_card.CARD_NAME).write_text(card, encoding="utf-8")
        _put_in_place(aside, folder, Path(out))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def float32_copy(model: keras.Model) -> keras.Model:
    """Return the same net with the same weights, computing in float32 throughout."""
    copy = type(model).from_config(_in_float32(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def version_folder(out: str | Path, *, overwrite: bool) -> Path:
    """Find the folder that an export to `out` makes.

    Args:
        out: As `export_saved_model`.
        overwrite: Whether the version named, or the highest, may be replaced.

    Raises:
        ExportError: It is there and may not be replaced, or `out` is a file.
    """
    out = Path(out)
    versions = {} if layout.is_version(out) else layout.versions_in(out)
    if layout.is_version(out):
        folder, taken = out, out.exists()
    else:
        number = max(versions, default=0) + 1
        folder = out / str(number)
        # A SavedModel without a version, as earlier releases wrote it, or a file.
        taken = (out / layout.SAVED_MODEL_FILE).is_file() or out.is_file()
    if taken and not (overwrite and out.is_dir()):
        raise ExportError(f"{out} exists; give --overwrite to replace it")
    return versions[max(versions)] if overwrite and versions else folder


def by_flips(*decisions: Decision | None) -> dict[int, Decision]:
    """Decisions by the number of flips that each is for; of equals the last."""
    return {each.flips: each for each in decisions if each is not None}


def saved_size(
    model: keras.Model, contract: InputContract, *, default: int = DEFAULT_SIDE
) -> tuple[int, int]:
    """The size that a model was trained on, or takes, or a likely one."""
    height, width = model.input_shape[1:3]
    return height or contract.height or default, width or contract.width or default


def scores_of_saved_model(folder: str | Path, images: np.ndarray) -> np.ndarray:
    """Score raw grey levels by a SavedModel's `serving_default` alone, without Keras.

    Args:
        folder: The SavedModel, or its folder of versions.
        images: (N, H, W, 1) float32, 0..65535.

    Returns:
        Probabilities (N, classes).
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(layout.find_saved_model(folder)[0]))
    outputs = loaded.signatures[layout.DEFAULT_SIGNATURE](tf.constant(images))
    return outputs[layout.SCORES].numpy()


def check_backend() -> None:
    """Refuse another backend than TensorFlow's.

    Raises:
        ExportError: It is another.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "a SavedModel is written by Keras's TensorFlow backend, this process runs "
            f"{keras.backend.backend()!r}: save the model as .keras, the same on every "
            "backend, and export that file by dm-export"
        )


def _save(
    model: keras.Model, aside: Path, name: str, contract: InputContract,
    decisions: Mapping[int, Decision],
) -> layout.ModelFacts:  # fmt: skip
    """Save the graph and its warm-up requests; tell what `model.json` says."""
    import tensorflow as tf

    from dm_models.serving_graph import ServingGraph
    from dm_models.serving_warmup import write_warmup

    size, digest = saved_size(model, contract), model_card.weights_digest(model)
    cam, centres = _grad_cam(model, contract, size)
    facts = layout.ModelFacts(name, digest, centres, centres and size)
    graph = ServingGraph(model, contract, decisions, facts.version, cam)
    tf.saved_model.save(graph.root, str(aside), signatures=graph.signatures)
    (aside / layout.EXTRA).mkdir()
    specs = {key: one.input_signature[0] for key, one in graph.signatures.items()}
    write_warmup(aside / layout.EXTRA / layout.WARMUP_FILE, name, specs, size)
    return facts


def _grad_cam(model: keras.Model, contract: InputContract, size: tuple[int, int]):
    """(layer, its cells' centres) of Grad-CAM; (None, None) where a net has none."""
    from dm_models.grad_cam import cam_layer
    from dm_models.receptive_field import cell_centres

    if not layout.is_whole_image(contract.class_names):
        return None, None
    try:
        layer = cam_layer(model)
        return layer, cell_centres(model, layer, size)
    except ValueError:  # a top of FC layers: there is no such signature
        return None, None


def _write_sidecars(aside: Path, contract, decisions, facts) -> None:
    texts = {CONTRACT_MEMBER: contract.to_json(), layout.MODEL_FILE: facts.to_json()}
    for flips, decision in decisions.items():
        texts[MEMBERS[flips]] = decision.to_json()
    for place in (aside, aside / layout.EXTRA):
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")


def _put_in_place(aside: Path, folder: Path, out: Path) -> None:
    """Rename; what is replaced, the whole of an `out` of the older form, goes last."""
    replaced = out if (out / layout.SAVED_MODEL_FILE).is_file() else folder
    former = _aside(out, "old")
    if replaced.exists():
        replaced.rename(former)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside.rename(folder)
    if former.exists():
        shutil.rmtree(former)


def _aside(out: Path, ending: str) -> Path:
    """A place beside `out` that no server takes for a model or a version."""
    return out.with_name(f".{out.name}.{os.getpid()}.{ending}")


def _in_float32(config):
    """A model's configuration with every layer's dtype made float32."""
    if isinstance(config, dict):
        walk: Callable = _in_float32
        return {k: "float32" if k == "dtype" else walk(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(item) for item in config)
    return config
