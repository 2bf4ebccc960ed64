"""What an exported network answers under onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def run_onnx(file: Path, inputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Return the outputs of a network with one input and one output, one sample a run.

    Args:
        file: ONNX file whose batch is 1.
        inputs: (samples, ...).
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample[None]})[0] for sample in inputs])
