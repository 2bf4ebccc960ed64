"""The generic path: one line in `topi_operators.OPERATORS`, a TE / TOPI expression, is a kernel.

Correct before fast: flat row-major arrays of any element type, loops in output order, no tiling.
Stages that TVM can inline disappear; the others (the pairs of an ArgMax, say) live in scratch
arrays that the caller provides, because generated code allocates nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any

import tvm
from tvm import s_tir, te, tirx, topi

from edgesparse.kernels import tir
from edgesparse.kernels.movement import short
from edgesparse.kernels.topi_operators import OPERATORS, dtype_of

Array = tuple[tuple[int, ...], str]  # shape, element type

DTYPES = frozenset({
    "bool", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
})  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Topi:
    """One operator of the table over arrays of fixed shapes.

    Attributes:
        op: A key of OPERATORS.
        inputs: Shape and element type of every array that is read.
        shape: Extents of the output.
        dtype: Element type of the output.
        attributes: ONNX attributes, and constant inputs by their names in OPERATORS.
    """

    op: str
    inputs: tuple[Array, ...]
    shape: tuple[int, ...]
    dtype: str
    attributes: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        source = self.inputs[0][1] if self.inputs else self.dtype
        return f"{short(source)}_{self.op.lower()}"

    @property
    def scratch(self) -> tuple[Array, ...]:
        """Arrays the kernel needs between its inputs and its output."""
        params = _scheduled(self).params[len(self.inputs) : -1]
        return tuple(
            (tuple(int(extent) for extent in buffer.shape), str(buffer.dtype)) for buffer in params
        )

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return dict(self.attributes).get(name, default)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (inputs..., scratch..., output)."""
        return _with_pointers(_scheduled(self), symbol)


# -- from an expression to a PrimFunc of plain pointers


@functools.lru_cache(maxsize=256)
def _scheduled(kernel: Topi) -> tir.PrimFunc:
    """Return the function over buffers (inputs..., what could not be inlined..., output)."""
    inputs = [
        te.placeholder(shape, dtype, f"x{i}") for i, (shape, dtype) in enumerate(kernel.inputs)
    ]
    output = OPERATORS[kernel.op].expression(kernel, *inputs)
    if any(output.same_as(x) for x in inputs):
        output = topi.identity(output)
    if dtype_of(output) != kernel.dtype:
        raise ValueError(f"{kernel.op} makes {dtype_of(output)}, expected {kernel.dtype}")
    function = te.create_prim_func([*inputs, output])
    schedule = s_tir.Schedule(function)
    *stages, _ = schedule.get_child_blocks(schedule.get_sblock("root"))
    for stage in stages:
        with contextlib.suppress(s_tir.ScheduleError):  # a reduction: its result goes to scratch
            schedule.compute_inline(stage)
    return _expose_scratch(schedule.mod["main"])


def _expose_scratch(function: tir.PrimFunc) -> tir.PrimFunc:
    """Turn what the function would allocate into parameters before the last one."""
    realize = function.body
    root = realize.block
    bare = s_tir.SBlock(root.iter_vars, root.reads, root.writes, root.name_hint, root.body)
    body = s_tir.SBlockRealize(realize.iter_values, realize.predicate, bare)
    *inputs, output = function.params
    params = [*inputs, *root.alloc_buffers, output]
    return tirx.PrimFunc(params, body, attrs=function.attrs)


def _with_pointers(function: tir.PrimFunc, symbol: str) -> tir.PrimFunc:
    """Lower blocks to loops, and buffer parameters to pointers that never alias."""
    module = tvm.IRModule({"main": function})
    for step in (
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerOpaqueBlock(),
    ):
        module = step(module)
    lowered = module["main"]
    pointers = [
        tirx.Var(f"p{i}", tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype))))
        for i, buffer in enumerate(lowered.params)
    ]
    views = [
        tirx.DeclBuffer(buffer, data=pointer)
        for buffer, pointer in zip(lowered.params, pointers, strict=True)
    ]
    plain = tirx.PrimFunc(pointers, tirx.SeqStmt([*views, lowered.body]), attrs=lowered.attrs)
    return plain.with_attr("global_symbol", symbol)
