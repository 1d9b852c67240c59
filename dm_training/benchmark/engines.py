"""One whole-image network in several programs that run networks, as candidates.

Each gets `config` with the files `keras`, `onnx`, `openvino` and `images` (a NumPy
file), and yields its outputs first, so that they can be compared. All compute in
float32: OpenVINO would take bfloat16 of itself on a processor that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def ours(config: dict) -> Iterator:
    """The compiled call of Keras on TensorFlow that this project's commands use."""
    import keras

    model = keras.models.load_model(config["keras"], compile=False)
    model.jit_compile = False  # as `dm_training.predict`
    yield from _steps(config, model.predict_on_batch)


def onnx_runtime(config: dict) -> Iterator:
    """ONNX Runtime on the processor, or on CUDA where its package has it."""
    import onnxruntime

    chosen = [
        name for name in ("CUDAExecutionProvider", "CPUExecutionProvider")
        if name in onnxruntime.get_available_providers()
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(config["onnx"], providers=chosen)
    name = session.get_inputs()[0].name
    used = f"onnxruntime {onnxruntime.__version__} {session.get_providers()[0]}"
    yield from _steps(config, lambda x: session.run(None, {name: x})[0], used=used)


def openvino(config: dict) -> Iterator:
    """OpenVINO on the processor."""
    import openvino

    compiled = openvino.Core().compile_model(
        config["openvino"], "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
    )  # fmt: skip
    used = f"openvino {openvino.get_version()} CPU"
    yield from _steps(config, lambda x: compiled(x)[0], used=used)


def torch(config: dict) -> Iterator:
    """The same .keras file run by Keras on PyTorch; needs KERAS_BACKEND=torch."""
    import keras
    import torch as pytorch

    model = keras.models.load_model(config["keras"], compile=False)
    device = "cuda" if pytorch.cuda.is_available() else "cpu"
    model.to(device)

    def call(images: np.ndarray) -> np.ndarray:
        with pytorch.inference_mode():
            return model(pytorch.from_numpy(images).to(device)).cpu().numpy()

    used = f"torch {pytorch.__version__} {device}"
    yield from _steps(config, call, used=used)


def _steps(config: dict, call: Callable, *, used: str = "") -> Iterator:
    images = np.load(config["images"])
    yield {"outputs": np.asarray(call(images)).tolist(), "used": used}
    while True:
        call(images)
        yield len(images)
