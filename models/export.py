"""Torch module -> one ONNX file, by torch's own exporter, with nothing beside it.

What is written is the graph users have: torch.export-based, opset 20, BatchNorm folded into the
convolutions, ReduceMean for global pooling. Only the exporter's stack traces are dropped, because
they hold paths of the machine that ran it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn

from edgesparse.errors import OutputError

OPSET = 20
INPUT_NAME = "image"
OUTPUT_NAME = "logits"
_MACHINE_DEPENDENT = "pkg.torch.onnx.stack_trace"


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Attributes:
        size_bytes: Size of the file.
        ops: Operator -> how many nodes.
    """

    size_bytes: int
    ops: dict[str, int]


def export_onnx(
    model: nn.Module, shape: tuple[int, ...], output: Path, *, keep_batchnorm: bool = False
) -> Export:
    """Write an eval-mode model with one static input `image` and one output `logits`.

    Args:
        model: Left in eval mode.
        shape: Of the input.
        output: The file; its folder is created.
        keep_batchnorm: Leave BatchNormalization nodes in the graph instead of folding them.

    Raises:
        OutputError: The file cannot be written.
    """
    graph_model = _trace(model.eval(), shape, optimize=not keep_batchnorm)
    if keep_batchnorm:
        _fold_constants(graph_model)
    for node in graph_model.graph:
        node.metadata_props.pop(_MACHINE_DEPENDENT, None)
    data = ir.to_proto(graph_model).SerializeToString(deterministic=True)
    write_atomically(output, data)
    return Export(len(data), dict(Counter(node.op_type for node in graph_model.graph)))


def write_atomically(output: Path, data: bytes) -> None:
    """Write a file through a temporary neighbour, so that no reader ever sees half of it.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".writing-") as folder:
            part = Path(folder) / "part"
            part.write_bytes(data)
            os.replace(part, output)
    except OSError as error:
        raise OutputError(
            f"writing '{output}': {error.strerror}", hint="choose another output path"
        ) from error


def _trace(model: nn.Module, shape: tuple[int, ...], *, optimize: bool) -> ir.Model:
    """Return the exporter's graph; unoptimized, it keeps BatchNormalization."""
    with _quiet_exporter():
        program = torch.onnx.export(
            model,
            (torch.zeros(shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            optimize=optimize,
            verbose=False,
        )
    traced: ir.Model = program.model
    return traced


def _fold_constants(model: ir.Model) -> None:
    """Fold what the unoptimized graph computes at run time: zero biases, the bounds of Clip."""
    optimizer.fold_constants(model)
    common.RemoveUnusedNodesPass()(model)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's talk about its own dependencies, which no user can act on.

    torch 2.13 warns about torchvision's absence and calls its own deprecated pytree functions.
    """
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
