"""A model as an ONNX file, for programs without TensorFlow.

Raw grey levels in, any number and (where the net takes it) any size; scores out, and
for whole images the calibrated probability. ONNX has no way to refuse an image on
another grey scale: only the SavedModel does. The input contract and the decision lie in
the file's metadata.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dm_models import saved_model_layout as layout
from dm_models.decision import MEMBERS, Decision
from dm_models.inputs import InputContract
from dm_models.model_card_evidence import weights_digest
from dm_models.saved_model_writer import ExportError
from dm_models.weights import CONTRACT_MEMBER

if TYPE_CHECKING:
    import keras

OPSET = 18
TOLERANCE = 1e-4
_AXES = ("batch", "height", "width")


def export_onnx(
    model: keras.Model,
    path: str | Path,
    *,
    contract: InputContract,
    decisions: Mapping[int, Decision],
) -> Path:
    """Write an ONNX file, aside and then renamed.

    Args:
        model: In float32.
        path: The file; one that is there is replaced.
        contract: For the metadata.
        decisions: Flips -> decision; that of 1 calibrates the output `probability`.

    Returns:
        The path.

    Raises:
        ExportError: tf2onnx or onnxruntime is not installed.
    """
    check_installed()
    path = Path(path)
    made = _converted(model, contract, decisions)
    texts = {CONTRACT_MEMBER: contract.to_json()}
    facts = layout.ModelFacts(path.stem, weights_digest(model))
    texts[layout.MODEL_FILE] = facts.to_json()
    for flips, decision in decisions.items():
        texts[MEMBERS[flips]] = decision.to_json()
    for name, text in texts.items():
        made.metadata_props.add(key=name, value=text)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.write_bytes(made.SerializeToString())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def onnx_outputs(path: str | Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Score raw grey levels by ONNX Runtime on the processor.

    Args:
        path: The file.
        images: float32 (N, H, W, 1).

    Returns:
        Output name -> array.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {layout.GREY_INPUT: images}),
                    strict=True))  # fmt: skip


def onnx_scores(path: str | Path, images: np.ndarray) -> np.ndarray:
    """Only the scores of `onnx_outputs`, float32 (N, classes)."""
    return onnx_outputs(path, images)[layout.SCORES]


def check_installed() -> None:
    """Refuse where a package of the extra `onnx` is missing.

    Raises:
        ExportError: It is named.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"--onnx needs the package {error.name}: pip install "
            "'dm-mammography[onnx]', or tf2onnx and onnxruntime"
        ) from error


def _converted(model: keras.Model, contract: InputContract, decisions):
    import tf2onnx

    from dm_models.serving_graph import bare_function

    # Its lines on every optimisation are of no use here.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = bare_function(model, contract, decisions.get(1))
    made, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET
    )
    dims = made.graph.input[0].type.tensor_type.shape.dim
    for dim, name in zip(dims, _AXES, strict=False):
        if not dim.dim_value:
            dim.dim_param = name
    made.producer_name = "dm-export"
    return made
