"""MatMul of two activations; products with a constant matrix are `edgesparse::Linear`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.errors import UnsupportedModelError
from edgesparse.kernels.matmul import MatMul
from edgesparse.layout import Layout
from edgesparse.lower.builder import PlanBuilder, Tensor, dtype_of, shape_of

# Accumulators are rows x vectors; 32 registers hold twice as many as 16.
TILES = {32: (6, 4), 16: (4, 2)}


@dataclasses.dataclass(frozen=True, slots=True)
class _Matrix:
    """An operand: extents and strides of (rows, columns), strides of the batch."""

    extents: tuple[int, int]
    strides: tuple[int, int]
    batch: tuple[int, ...]

    def transposed(self) -> _Matrix:
        return _Matrix(self.extents[::-1], self.strides[::-1], self.batch)


def lower_matmul(b: PlanBuilder, node: ir.Node) -> None:
    """Lower MatMul of any ranks, batches broadcast; y decides which way vectors lie."""
    left, right = (_operand(node, index) for index in (0, 1))
    result = node.outputs[0]
    batch = np.broadcast_shapes(shape_of(left)[:-2], shape_of(right)[:-2])
    layout = b.wanted(result)
    y_matrix = _result_matrix(layout, len(shape_of(left)), len(shape_of(right)))
    flipped = y_matrix.strides[1] != 1 and y_matrix.strides[0] == 1
    if not flipped and y_matrix.strides[1] != 1:
        layout = Layout.flat(shape_of(result))
        y_matrix = _result_matrix(layout, len(shape_of(left)), len(shape_of(right)))
    a = _contiguous(b, left, 0, along=0, batch=len(batch)) if flipped else b.tensor(left)
    c = b.tensor(right) if flipped else _contiguous(b, right, 1, along=1, batch=len(batch))
    y = b.output(result, layout)
    matrices = [_matrix(a, 0, len(batch)), _matrix(c, 1, len(batch)), y_matrix]
    tensors = [a, c]
    if flipped:
        matrices = [matrices[1].transposed(), matrices[0].transposed(), y_matrix.transposed()]
        tensors.reverse()
    kernel = _kernel(b, tuple(batch), matrices)
    b.call(kernel, *(tensor.read() for tensor in tensors), y.write())


def _kernel(b: PlanBuilder, batch: tuple[int, ...], matrices: Sequence[_Matrix]) -> MatMul:
    left, right, result = matrices
    registers = 32 if b.target.core.registers >= 32 else 16
    return MatMul(
        batch=batch,
        rows=left.extents[0],
        cols=right.extents[1],
        depth=left.extents[1],
        a_batch=left.batch,
        b_batch=right.batch,
        y_batch=result.batch,
        a_strides=left.strides,
        b_stride=right.strides[0],
        y_stride=result.strides[0],
        lanes=b.lanes,
        tile=TILES[registers],
    )


def _operand(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"input {index} of {node.name} is absent")
    if dtype_of(value) != "float32":
        raise UnsupportedModelError(
            f"lowering {node.op_type} {node.name!r}: element type {dtype_of(value)} is not"
            " supported",
            hint="export the model in float32",
        )
    return value


def _matrix(tensor: Tensor, index: int, batch: int) -> _Matrix:
    """Return an operand; a vector is a row on the left and a column on the right."""
    shape, strides = tensor.shape, tensor.layout.strides
    if len(shape) == 1:
        row = _Matrix((1, shape[0]), (0, strides[0]), (0,) * batch)
        return row if index == 0 else row.transposed()
    outer = [
        0 if extent == 1 else stride
        for extent, stride in zip(shape[:-2], strides[:-2], strict=True)
    ]
    steps = (*[0] * (batch - len(outer)), *outer)
    return _Matrix((shape[-2], shape[-1]), (strides[-2], strides[-1]), steps)


def _result_matrix(layout: Layout, left_rank: int, right_rank: int) -> _Matrix:
    """Return y with the axes that vectors take away put back, with extent 1."""
    shape, strides = list(layout.shape), list(layout.strides)
    if right_rank == 1:
        shape.append(1)
        strides.append(1)
    if left_rank == 1:
        shape.insert(-1, 1)
        strides.insert(-1, 0)
    rows, cols = shape[-2:]
    steps = [
        1 if extent == 1 else step for extent, step in zip((rows, cols), strides[-2:], strict=True)
    ]
    return _Matrix((rows, cols), (steps[0], steps[1]), tuple(strides[:-2]))


def _contiguous(b: PlanBuilder, value: ir.Value, index: int, *, along: int, batch: int) -> Tensor:
    """Return an operand contiguous along its rows (0) or columns (1); a copy if need be."""
    tensor = b.tensor(value)
    matrix = _matrix(tensor, index, batch)
    if matrix.strides[along] == 1 or matrix.extents[along] == 1:
        return tensor
    shape = shape_of(value)
    return b.tensor(value, Layout.planes(shape, -1, b.lanes) if along == 0 else Layout.flat(shape))


LOWERINGS = {"MatMul": lower_matmul}
