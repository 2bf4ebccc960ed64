"""Pooling: windows by the pool kernel, whole planes by the reductions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from edgesparse.geometry import pads_of
from edgesparse.kernels.lines import Lines
from edgesparse.kernels.pool import Axis, Pool
from edgesparse.kernels.reduce import Reduce
from edgesparse.layout import Layout
from edgesparse.lower.arguments import required, unsupported
from edgesparse.lower.builder import PlanBuilder, dtype_of, shape_of
from edgesparse.plan import Arg

# Vectors a reduction holds at once: several hide the latency of an addition.
SUM_VECTORS = 4


def lower_pool(b: PlanBuilder, node: ir.Node) -> None:
    """Lower MaxPool or AveragePool of [N, C, ...] on planes."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise unsupported(node, "the output Indices", "leave the optional output unused")
    source, sink = shape_of(required(node, 0)), shape_of(node.outputs[0])
    _check_float(node)
    x = b.tensor(required(node, 0), Layout.planes(source, 1, b.lanes))
    y = b.output(node.outputs[0], Layout.planes(sink, 1, b.lanes))
    kernel = Pool(
        op=node.op_type,
        planes=source[1],
        images=source[0],
        in_stride=x.layout.plane_stride,
        out_stride=y.layout.plane_stride,
        axes=_axes(node, source[2:], sink[2:]),
        lanes=b.lanes,
        include_pad=bool(node.attributes.get_int("count_include_pad", 0)),
    )
    args = (x.read(), y.write())

    def by_rows(read: int | None, write: int | None) -> tuple[Pool, tuple[Arg, ...]]:
        rows = dataclasses.replace(
            kernel,
            in_stride=kernel.in_stride if read is None else read,
            out_stride=kernel.out_stride if write is None else write,
            by_rows=True,
        )
        return rows, args

    is_whole = kernel.images > 1 or len(kernel.axes) == 1
    b.call(kernel, *args, rows=None if is_whole else by_rows)


def lower_global_pool(b: PlanBuilder, node: ir.Node) -> None:
    """Lower GlobalAveragePool or GlobalMaxPool: a reduction of every plane."""
    _check_float(node)
    x = b.tensor(required(node, 0))
    y = b.output(node.outputs[0], b.wanted(node.outputs[0]))
    axes = range(2, len(x.shape))
    results = [0 if axis in axes else stride for axis, stride in enumerate(y.layout.strides)]
    lines = Lines.of(x.shape, list(axes), [x.layout.strides, results], SUM_VECTORS * b.lanes)
    op = "ReduceMax" if node.op_type == "GlobalMaxPool" else "ReduceMean"
    b.call(Reduce(op, lines), x.read(), y.write())


def _axes(node: ir.Node, extents: Sequence[int], outputs: Sequence[int]) -> tuple[Axis, ...]:
    rank = len(extents)
    kernel = node.attributes.get_ints("kernel_shape") or ()
    strides = node.attributes.get_ints("strides") or (1,) * rank
    dilations = node.attributes.get_ints("dilations") or (1,) * rank
    pads = pads_of(node, extents, kernel, strides, dilations)
    return tuple(
        Axis(
            extents[i],
            outputs[i],
            kernel[i],
            strides[i],
            (pads[i], pads[rank + i]),
            dilations[i],
        )
        for i in range(rank)
    )


def _check_float(node: ir.Node) -> None:
    dtype = dtype_of(required(node, 0))
    if dtype != "float32":
        raise unsupported(node, f"element type {dtype}", "export the model in float32")


LOWERINGS = {
    "AveragePool": lower_pool,
    "GlobalAveragePool": lower_global_pool,
    "GlobalMaxPool": lower_global_pool,
    "MaxPool": lower_pool,
}
