"""One-shot pruning of a trained ONNX model: fewer weights, the same graph, no retraining.

    sparsify("model.onnx", data="calib.npz", output="sparse.onnx", latency="0.6x")

ONNX file -> layers -> moments of what they read -> curves (error and predicted time over density)
-> choices that meet the goal -> layers pruned in order -> the same file with other numbers.
"""

from __future__ import annotations

import importlib
import os
import pathlib
from typing import TYPE_CHECKING, Any

from edgesparse.errors import UsageError

if TYPE_CHECKING:
    from edgesparse.pruning.network import Limits
    from edgesparse.pruning.pruner import Options, Progress, Pruner
    from edgesparse.pruning.result import SparsifyResult

__all__ = ["Limits", "Options", "Pruner", "SparsifyResult", "sparsify"]

# Names are imported when first used: training recipes need `patterns` only, and no compiler.
_LAZY = {"Limits": "network", "Options": "pruner", "Pruner": "pruner", "SparsifyResult": "result"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'edgesparse.pruning' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"edgesparse.pruning.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def sparsify(
    model: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    sparsity: float | None = None,
    latency: str | None = None,
    max_drop: float | None = None,
    options: Options | None = None,
    masks: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> SparsifyResult:
    """Prune a trained model without retraining; the result is the same graph with other weights.

    Args:
        model: ONNX file, dense or sparse.
        data: npz with one array per input, samples in the place of the batch, and maybe `label`.
        output: ONNX file to write.
        sparsity: Zeros as a share of all weights that may be pruned.
        latency: Predicted time: `0.6x` that of the model as given, or `2.5ms`.
        max_drop: Accuracy that may be lost, in percentage points; needs labels.
        options: How to prune.
        masks: npz to write with a boolean array for every pruned weight, False where it is zero.
        progress: Told the stage and the finished fraction.

    Raises:
        UsageError: Not exactly one goal, or an option or a file is wrong.
        ModelError: The model cannot be read, compiled or run.
        LatencyError: The latency cannot be reached.
        AccuracyError: Even the least pruning loses more accuracy than allowed.
        OutputError: A file cannot be written.
        DeviceError: onnxruntime is not installed.
    """
    from edgesparse.pruning.goals import Goal, reach
    from edgesparse.pruning.pruner import Pruner
    from edgesparse.pruning.result import describe
    from edgesparse.pruning.writing import check_outputs_writable, write_masks, write_model

    _check_outputs(model, data, output, masks)
    model_file, masks_file = pathlib.Path(output), None if masks is None else pathlib.Path(masks)
    check_outputs_writable(model_file, masks_file)
    goal = Goal.of(sparsity=sparsity, latency=latency, max_drop=max_drop)
    pruner = Pruner(model, data, options, progress)
    pruned = reach(goal, pruner)
    result = describe(pruner, pruned, str(output), None if masks is None else str(masks))
    write_model(pruner.network, pruned.constants, model_file)
    if masks_file is not None:
        write_masks(pruner.network, pruned.constants, masks_file)
    return result


def _check_outputs(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    masks: str | os.PathLike[str] | None,
) -> None:
    """Refuse to write one file over another; only the pruned model may replace the model.

    Raises:
        UsageError: That is what would happen.
    """
    from edgesparse.model_files import model_path

    taken = {pathlib.Path(data).resolve(): "the samples"}
    for what, path in (("the model", output), ("the masks", masks)):
        if path is None:
            continue
        place = pathlib.Path(path).resolve()
        if place in taken:
            raise UsageError(
                f"{path} would hold both {taken[place]} and {what}",
                hint="name files of their own with `--output` and `--emit-masks`",
            )
        taken |= {place: what, model_path(model).resolve(): "the model"}
