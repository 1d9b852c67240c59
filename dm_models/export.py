"""A trained model for other people's programs: SavedModel, `.keras`, weights `.h5`.

Every form takes RAW 16-bit grey levels as float32, (N, H, W, 1), and gives float32
probabilities; the SavedModel keeps a variable image size (signature `serving_default`,
input `grey`). Beside it lies `input_contract.json`: size, grey scale, mean and class
names; where the model has a stored operating point, `decision.json`; and MODEL_CARD.md.
Any other form gets its card as `NAME.MODEL_CARD.md`. The figures on a card are those of
the run folder that the model lies in, and of folders given by `--card-from`. A model
trained in mixed precision is exported in float32. Each form is loaded
again as a stranger would, and must give the model's own scores on a random image.
A SavedModel is TensorFlow's: the command computes by Keras's TensorFlow backend,
whatever `KERAS_BACKEND` says; a model file is the same on all backends.

Command: `dm-export runs/image/best.keras --out saved_model --weights-h5 weights.h5`
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_models import model_card
from dm_models.decision import DECISION_MEMBER, Decision, read_decision, store_decision
from dm_models.inputs import InputContract
from dm_models.weights import (
    CONTRACT_MEMBER,
    ModelFileError,
    WeightsError,
    load_model,
    read_layer_file,
    save_backbone_h5,
    save_model,
    save_weights_h5,
    set_layers,
)

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-5
DEFAULT_SIDE = 256


class ExportError(ValueError):
    """An export cannot be written, or does not give the model's scores."""


def export_saved_model(
    model: keras.Model,
    out: str | Path,
    *,
    contract: InputContract,
    decision: Decision | None = None,
    card: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a float32 SavedModel with its contract, aside and then renamed.

    Args:
        model: The model; under mixed precision, a float32 copy of it is written.
        out: The folder to make.
        contract: Written to `out/input_contract.json` and `out/assets.extra/`.
        decision: Written as `decision.json` to the same two places.
        card: The text of MODEL_CARD.md; None writes one without any figure.
        overwrite: Replace a folder that exists.

    Returns:
        The folder.

    Raises:
        ExportError: The folder exists, or Keras's backend is not TensorFlow.
    """
    out = Path(out)
    _check_backend()
    _check_free(out, overwrite)
    if card is None:
        subject = model_card.Subject.of(model, contract, decision)
        card = model_card.render_card(subject, name=out.name)
    texts = {CONTRACT_MEMBER: contract.to_json()}
    if decision:
        texts[DECISION_MEMBER] = decision.to_json()
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        float32_copy(model).export(aside, format="tf_saved_model", verbose=False)
        (aside / "assets.extra").mkdir()
        for place in (aside, aside / "assets.extra"):
            for name, text in texts.items():
                (place / name).write_text(text, encoding="utf-8")
        (aside / model_card.CARD_NAME).write_text(card, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def float32_copy(model: keras.Model) -> keras.Model:
    """Return the same net with the same weights, computing in float32 throughout."""
    copy = type(model).from_config(_in_float32(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def scores_of_saved_model(folder: str | Path, images: np.ndarray) -> np.ndarray:
    """Score raw grey levels by a SavedModel's `serving_default` alone, without Keras.

    Args:
        folder: The SavedModel.
        images: (N, H, W, 1) float32, 0..65535.

    Returns:
        Probabilities (N, classes).
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    outputs = loaded.signatures["serving_default"](tf.constant(images))
    return next(iter(outputs.values())).numpy()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    arguments = _parser().parse_args(argv)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        _check_backend()
        for form, path in _targets(arguments).items():
            for each in (path, model_card.card_path(path, form)):
                _check_free(each, arguments.overwrite)
        model, contract = load_model(arguments.model)
        decision = read_decision(arguments.model)
        evidence = _evidence(model, arguments)
        differences = _export_all(model, contract, decision, evidence, arguments)
    except (ModelFileError, WeightsError, ExportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, difference in differences.items():
        verdict = "same scores" if difference <= TOLERANCE else "OTHER SCORES"
        print(f"{path}: {verdict} (largest difference {difference:.1e})")
    wrong = [path for path, value in differences.items() if not value <= TOLERANCE]
    if wrong:
        print(f"error: other scores than the model's: {wrong}", file=sys.stderr)
        return 1
    figures = ", ".join(source.name for source in evidence) or "nowhere: not measured"
    print(f"{len(differences)} model card(s), figures from {figures}")
    print(f"exported {arguments.model} to {', '.join(map(str, differences))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-export", description="Export a trained model; check every form of it."
    )
    parser.add_argument("model", type=Path, help="a .keras or .h5 of this project")
    parser.add_argument("--out", type=Path, required=True, help="SavedModel folder")
    parser.add_argument("--weights-h5", type=Path, help="also the weights alone")
    parser.add_argument(
        "--backbone-h5", type=Path, help="also its backbone's, for a plain Keras net"
    )
    parser.add_argument("--keras", type=Path, help="also a float32 .keras file")
    parser.add_argument(
        "--card-from",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a run or evaluation of this very model, whose figures go on its card "
        "beside those of the run folder it lies in; may be repeated",
    )
    parser.add_argument(
        "--card-note",
        action="append",
        default=[],
        metavar="TEXT",
        help="a sentence for the card, such as whose images it was trained on",
    )
    parser.add_argument(
        "--overwrite", action=argparse.BooleanOptionalAction, default=False
    )
    return parser


def _targets(arguments: argparse.Namespace) -> dict[str, Path]:
    """What is to be written: form (as a card calls it) -> path."""
    wanted = {
        "saved_model": arguments.out, "weights": arguments.weights_h5,
        "backbone": arguments.backbone_h5, "keras": arguments.keras,
    }  # fmt: skip
    return {form: path for form, path in wanted.items() if path}


def _evidence(
    model: keras.Model, arguments: argparse.Namespace
) -> list[model_card.Evidence]:
    """What was measured of the model; says so where a run beside it is not its own."""
    found, remarks = model_card.gather_evidence(
        arguments.model, model_card.weights_digest(model), arguments.card_from
    )
    for remark in remarks:
        print(f"warning: {remark}", file=sys.stderr)
    return found


def _export_all(
    model: keras.Model,
    contract: InputContract,
    decision: Decision | None,
    evidence: Sequence[model_card.Evidence],
    arguments: argparse.Namespace,
) -> dict[Path, float]:
    """Write each form asked for; return its largest difference from the model."""
    plain, notes = float32_copy(model), list(arguments.card_note)
    images = _random_images(model, contract)
    expected = _scores(plain if _is_mixed(model) else model, images)
    if _is_mixed(model):
        own = _difference(_scores(model, images), expected)
        notes.append(f"exported in float32; in its own precision scores differ by up "
                     f"to {own:.1e} on random images")  # fmt: skip
        print(notes[-1])
    tta = read_decision(arguments.model, flips=4)
    subject = model_card.Subject.of(plain, contract, decision, notes, tta)
    found = {}
    for form, path in _targets(arguments).items():
        card = model_card.render_card(subject, evidence, name=path.name, form=form)
        if form == "saved_model":
            export_saved_model(plain, path, contract=contract, decision=decision,
                               card=card, overwrite=arguments.overwrite)  # fmt: skip
            scores = scores_of_saved_model(path, images)
        else:
            scores = _scores(_written(plain, form, path, contract, decision), images)
            model_card.card_path(path, form).write_text(card, encoding="utf-8")
        found[path] = _difference(scores, expected)
    return found


def _written(
    model: keras.Model, form: str, path: Path, contract, decision
) -> keras.Model:
    """Write one file, and load it again."""
    if form == "weights":
        return _reloaded_weights(model, save_weights_h5(model, path))
    if form == "backbone":
        return _reloaded_backbone(model, save_backbone_h5(model, path))
    save_model(model, path, contract)
    if decision:
        store_decision(path, decision)
    return load_model(path)[0]


def _random_images(model: keras.Model, contract: InputContract) -> np.ndarray:
    """Four images of raw grey levels, dark to bright, of the model's size."""
    height, width = model.input_shape[1:3]
    height = height or contract.height or DEFAULT_SIDE
    width = width or contract.width or DEFAULT_SIDE
    levels = np.random.default_rng(0).integers(0, 65536, (4, height, width, 1))
    brightness = np.array([0.1, 0.3, 0.6, 1.0]).reshape(4, 1, 1, 1)
    return np.round(levels * brightness).astype(np.float32)


def _is_mixed(model: keras.Model) -> bool:
    return any(
        layer.compute_dtype != "float32" for layer in model.layers if layer.weights
    )


def _scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Score without `predict`, which compiles first and takes longer."""
    return np.asarray(model(images, training=False))


def _difference(scores: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(scores - expected).max())


def _reloaded_weights(model: keras.Model, path: Path) -> keras.Model:
    """The architecture anew with random weights, then the file's, by Keras alone."""
    fresh = type(model).from_config(model.get_config())
    fresh.load_weights(path)
    return fresh


def _reloaded_backbone(model: keras.Model, path: Path) -> keras.Model:
    """The architecture anew, the file's arrays by name, the rest from the model."""
    from dm_models.backbones import backbone_layers

    fresh = type(model).from_config(model.get_config())
    ours = backbone_layers(fresh)
    set_layers(ours, read_layer_file(path), path)
    for layer in fresh.layers:
        if layer not in ours:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return fresh


def _check_backend() -> None:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "a SavedModel is written by Keras's TensorFlow backend, this process runs "
            f"{keras.backend.backend()!r}: save the model as .keras, the same on every "
            "backend, and export that file by dm-export"
        )


def _check_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ExportError(f"{path} exists; give --overwrite to replace it")


def _in_float32(config):
    """A model's configuration with every layer's dtype made float32."""
    if isinstance(config, dict):
        walk: Callable = _in_float32
        return {k: "float32" if k == "dtype" else walk(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(item) for item in config)
    return config


if __name__ == "__main__":
    sys.exit(main())
