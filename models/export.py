"""Torch module -> one ONNX file, by torch's own exporters, with nothing beside it.

What is written is the graph users have. By `dynamo`, today's exporter: torch.export-based, opset
20, BatchNorm folded into the convolutions, ReduceMean for global pooling. By `torchscript`, its
predecessor: opset 17 or older, GlobalAveragePool, shapes computed from constants. Only the stack
traces are dropped, because they hold paths of the machine that ran the exporter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn

from edgesparse.errors import UsageError
from edgesparse.files import whole_file

OPSETS = {"dynamo": 20, "torchscript": 17}
_MACHINE_DEPENDENT = "pkg.torch.onnx.stack_trace"


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How a graph is written.

    Attributes:
        keep_batchnorm: Leave BatchNormalization nodes in the graph instead of folding them.
        exporter: A key of `OPSETS`.
        opset: ONNX operator set; the exporter's usual one if None.
        input_name: Of the input.
        output_name: Of the output.
    """

    keep_batchnorm: bool = False
    exporter: str = "dynamo"
    opset: int | None = None
    input_name: str = "image"
    output_name: str = "logits"

    def __post_init__(self) -> None:
        if self.exporter not in OPSETS:
            raise UsageError(
                f"exporter '{self.exporter}' is unknown", hint=f"use one of: {', '.join(OPSETS)}"
            )

    @property
    def resolved_opset(self) -> int:
        """The operator set that is written."""
        return OPSETS[self.exporter] if self.opset is None else self.opset


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
    model: nn.Module, shape: tuple[int, ...], output: Path, settings: Settings = Settings()
) -> Export:
    """Write an eval-mode model with one static input and one output.

    Args:
        model: Left in eval mode.
        shape: Of the input.
        output: The file; its folder is created.
        settings: What else is to be chosen.

    Raises:
        OutputError: The file cannot be written.
    """
    trace = _trace if settings.exporter == "dynamo" else _trace_script
    with quiet_exporter():
        graph_model = trace(model.eval(), shape, settings)
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
    with whole_file(output, "choose another output path") as partial:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)


def _trace(model: nn.Module, shape: tuple[int, ...], settings: Settings) -> ir.Model:
    """Return the exporter's graph; unoptimized, it keeps BatchNormalization."""
    program = torch.onnx.export(
        model,
        (torch.zeros(shape),),
        dynamo=True,
        opset_version=settings.resolved_opset,
        input_names=[settings.input_name],
        output_names=[settings.output_name],
        optimize=not settings.keep_batchnorm,
        verbose=False,
    )
    traced: ir.Model = program.model
    if settings.keep_batchnorm:
        _fold_constants(traced)
    return traced


def _trace_script(model: nn.Module, shape: tuple[int, ...], settings: Settings) -> ir.Model:
    """Return the graph of the exporter before torch.export, which traces TorchScript."""
    mode = torch.onnx.TrainingMode
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.zeros(shape),),
        buffer,
        dynamo=False,
        opset_version=settings.resolved_opset,
        input_names=[settings.input_name],
        output_names=[settings.output_name],
        training=mode.PRESERVE if settings.keep_batchnorm else mode.EVAL,
    )
    return ir.serde.deserialize_model(onnx.load_from_string(buffer.getvalue()))


def _fold_constants(model: ir.Model) -> None:
    """Fold what the unoptimized graph computes at run time: zero biases, the bounds of Clip."""
    optimizer.fold_constants(model)
    common.RemoveUnusedNodesPass()(model)


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence the exporters' talk about themselves, which no user can act on.

    torch 2.13 warns about torchvision's absence, calls its own deprecated functions, and says of
    the older exporter that it is old, fixes shapes, and leaves constants to others to fold.
    """
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            yield
    finally:
        logger.setLevel(level)
