"""A trained model for other people's programs: SavedModel, ONNX, `.keras`, `.h5`.

Every form takes RAW 16-bit grey levels as float32, (N, H, W, 1), and gives float32
probabilities, of an image of any size where the net takes any. The SavedModel is laid
out for TensorFlow Serving, `MODELS/NAME/1`, with the signatures and side files of
`saved_model_layout`; beside NAME lie the files that the server is started with
(`serving_files`). Its signatures refuse images on another grey scale.

Any other form gets its card as `NAME.MODEL_CARD.md`. The figures on a card are those of
the run folder that the model lies in, and of folders given by `--card-from`. A model
trained in mixed precision is exported in float32. Each form is loaded
again as a stranger would, and must give the model's own scores on a random image.
A SavedModel is TensorFlow's: the command computes by Keras's TensorFlow backend,
whatever `KERAS_BACKEND` says; a model file is the same on all backends.

Command: `dm-export runs/image/best.keras --out models/demo --onnx demo.onnx`
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dm_models import export_check, model_card, onnx_export, serving_files
from dm_models import saved_model_layout as layout
from dm_models.decision import FLIPS, Decision, read_decision, store_decision
from dm_models.inputs import ContractError, InputContract
from dm_models.model_paths import model_file
from dm_models.quiet_import import import_tensorflow
from dm_models.saved_model_writer import (
    ExportError,
    by_flips,
    check_backend,
    export_saved_model,
    float32_copy,
    scores_of_saved_model,
    version_folder,
)
from dm_models.weights import (
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

__all__ = [
    "ExportError", "export_saved_model", "float32_copy", "main",
    "scores_of_saved_model", "stored_decisions",
]  # fmt: skip
TOLERANCE = 1e-5


@dataclass(frozen=True)
class _Source:
    """The model that is exported.

    Attributes:
        plain: It, in float32.
        contract: Its input contract.
        decisions: Flips -> decision.
        evidence: What was measured of it.
        notes: Sentences for its cards.
    """

    plain: keras.Model
    contract: InputContract
    decisions: Mapping[int, Decision]
    evidence: Sequence[model_card.Evidence]
    notes: Sequence[str]


def stored_decisions(path: str | Path) -> dict[int, Decision]:
    """Read the decisions stored with a model: the number of flips -> the one for it.

    Raises:
        ModelFileError: What is there cannot be read.
    """
    return by_flips(*(read_decision(path, flips) for flips in FLIPS))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    arguments = _parser().parse_args(argv)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    import_tensorflow()
    try:
        check_backend()
        targets = _checked_targets(arguments)
        arguments.model = model_file(arguments.model)
        source = _opened(arguments)
        differences = _export_all(source, targets, arguments)
        server = _serving_files(arguments)
    except (ModelFileError, WeightsError, ContractError, ExportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    wrong = [name for name, (value, limit) in differences.items() if not value <= limit]
    for name, (value, _) in differences.items():
        verdict = "OTHER SCORES" if name in wrong else "same scores"
        print(f"{name}: {verdict} (largest difference {value:.1e})")
    if wrong:
        print(f"error: other scores than the model's: {wrong}", file=sys.stderr)
        return 1
    print(_cards_line(len(targets), [each.name for each in source.evidence]))
    written = [*map(str, targets.values()), *server]
    print(f"exported {arguments.model} to {', '.join(written)}")
    return 0


def _cards_line(count: int, sources: Sequence[str]) -> str:
    cards = f"{count} model card{'s' if count != 1 else ''}"
    if sources:
        return f"{cards}, figures from {', '.join(sources)}"
    return (
        f"{cards} without figures: no run folder beside the model, so that they say "
        "'not measured' (--card-from DIR names one)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dm-export", description="Export a trained model; check every form of it."
    )
    parser.add_argument(
        "model", type=Path, help="a .keras or .h5 of this project, or a run folder"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="MODELS/NAME",
        help="folder of the SavedModel's versions; this one becomes 1, or the next "
        "free number, or the number that the folder is named by",
    )  # fmt: skip
    parser.add_argument("--onnx", type=Path, help="also an ONNX file (extra `onnx`)")
    parser.add_argument(
        "--serving-files", action=argparse.BooleanOptionalAction, default=True,
        help="write or refresh models.config, batching.config, Dockerfile and "
        "compose.yaml of TensorFlow Serving in MODELS",
    )  # fmt: skip
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
        "--overwrite", action=argparse.BooleanOptionalAction, default=False,
        help="replace the version named, else the highest, and the other files, those "
        "of the server too where they were edited",
    )  # fmt: skip
    return parser


def _checked_targets(arguments: argparse.Namespace) -> dict[str, Path]:
    """What is to be written: form (as a card calls it) -> path.

    Refuses before an hour's work what cannot be written after it.
    """
    version = version_folder(arguments.out, overwrite=arguments.overwrite)
    wanted = {
        "onnx": arguments.onnx, "weights": arguments.weights_h5,
        "backbone": arguments.backbone_h5, "keras": arguments.keras,
    }  # fmt: skip
    files = {form: path for form, path in wanted.items() if path}
    for form, path in files.items():
        for each in (path, model_card.card_path(path, form)):
            if each.exists() and not arguments.overwrite:
                raise ExportError(f"{each} exists; give --overwrite to replace it")
    if arguments.onnx:
        onnx_export.check_installed()
    targets = {"saved_model": version, **files}
    for path in targets.values():
        _check_writable(path)
    return targets


def _check_writable(path: Path) -> None:
    """Refuse a path whose folder cannot be made or written to."""
    folder = next(each for each in path.absolute().parents if each.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise ExportError(f"{path} cannot be written: {folder} is no writable folder")


def _opened(arguments: argparse.Namespace) -> _Source:
    """Load the model and what is known of it; say what a reader should know."""
    model, contract = load_model(arguments.model)
    evidence, remarks = model_card.gather_evidence(
        arguments.model, model_card.weights_digest(model), arguments.card_from
    )
    for remark in remarks:
        print(f"warning: {remark}", file=sys.stderr)
    plain, notes = float32_copy(model), list(arguments.card_note)
    if _is_mixed(model):
        images = export_check.random_images(model, contract, 2)
        ours = (export_check.scores_of(each, images) for each in (model, plain))
        own = export_check.largest_difference(*ours)
        notes.append(f"exported in float32; in its own precision scores differ by up "
                     f"to {own:.1e} on random images")  # fmt: skip
        print(notes[-1])
    if contract.crop_breast:
        print("without the signature `png`: this model's images are cropped to the "
              "breast first, which no graph does")  # fmt: skip
    decisions = stored_decisions(arguments.model)
    return _Source(plain, contract, decisions, evidence, notes)


def _export_all(
    source: _Source, targets: Mapping[str, Path], arguments: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Write each form asked for: what -> (difference from the model, its limit)."""
    single, mean = (source.decisions.get(flips) for flips in (1, 4))
    subject = model_card.Subject.of(
        source.plain, source.contract, single, source.notes, mean
    )
    found = {}
    for form, path in targets.items():
        is_folder = form == "saved_model"
        name = f"{layout.served_name(path)}/{path.name}" if is_folder else path.name
        card = model_card.render_card(subject, source.evidence, name=name, form=form)
        if is_folder:
            found |= _written_saved_model(source, arguments, card)
        else:
            found |= _written_file(source, form, path)
            model_card.card_path(path, form).write_text(card, encoding="utf-8")
    return found


def _written_saved_model(source: _Source, arguments, card: str) -> dict:
    folder = export_saved_model(
        source.plain, arguments.out, contract=source.contract,
        decision=source.decisions.get(1), decision_tta=source.decisions.get(4),
        card=card, overwrite=arguments.overwrite,
    )  # fmt: skip
    differences = export_check.signature_differences(
        folder, source.plain, source.contract, source.decisions
    )
    if layout.is_whole_image(source.contract.class_names) and (
        layout.GRAD_CAM_SIGNATURE not in differences
    ):
        print("without the signature `grad_cam`: this net reads no averaged map")
    return {f"{folder} {name}": (value, TOLERANCE)
            for name, value in sorted(differences.items())}  # fmt: skip


def _written_file(source: _Source, form: str, path: Path) -> dict:
    """Write one file, load it again, and compare."""
    images = export_check.random_images(source.plain, source.contract, 2)
    expected = export_check.scores_of(source.plain, images)
    if form == "onnx":
        onnx_export.export_onnx(source.plain, path, contract=source.contract,
                                decisions=source.decisions)  # fmt: skip
        scores, limit = onnx_export.onnx_scores(path, images), onnx_export.TOLERANCE
    else:
        again = _reloaded(source, form, path)
        scores, limit = export_check.scores_of(again, images), TOLERANCE
    return {str(path): (export_check.largest_difference(scores, expected), limit)}


def _serving_files(arguments: argparse.Namespace) -> list[str]:
    """Refresh the server's files; tell of those left alone, return the others."""
    if not arguments.serving_files:
        return []
    out = arguments.out
    models = out.absolute().parent.parent if layout.is_version(out) else out.parent
    done = serving_files.write_serving_files(models, overwrite=arguments.overwrite)
    for path, what in done.items():
        if what in (serving_files.EDITED, serving_files.FOREIGN):
            print(f"warning: {path} left as it is: {what}", file=sys.stderr)
    return [str(p) for p, what in done.items() if what == serving_files.WRITTEN]


def _reloaded(source: _Source, form: str, path: Path) -> keras.Model:
    """Write one file of arrays or a model, and load it again."""
    model = source.plain
    if form == "weights":
        return _reloaded_weights(model, save_weights_h5(model, path))
    if form == "backbone":
        return _reloaded_backbone(model, save_backbone_h5(model, path))
    save_model(model, path, source.contract)
    for decision in source.decisions.values():
        store_decision(path, decision)
    return load_model(path)[0]


def _is_mixed(model: keras.Model) -> bool:
    return any(
        layer.compute_dtype != "float32" for layer in model.layers if layer.weights
    )


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


if __name__ == "__main__":
    sys.exit(main())
