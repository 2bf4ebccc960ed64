"""Plan -> one TIR module with a `main` -> one object file, by TVM and LLVM.

Besides the kernels this is the only importer of tvm. The object holds plain C functions: no TVM
runtime and no packed calling convention.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as builder

from edgesparse.errors import OutputError
from edgesparse.files import temporary_folder
from edgesparse.kernels import math
from edgesparse.kernels.image import image_planes
from edgesparse.plan import (
    IMAGE_SYMBOL,
    MAX_THREADS,
    Arg,
    Call,
    Chain,
    Plan,
    Step,
    align_up,
    share_number,
)
from edgesparse.target import Target


def build_object(
    plan: Plan, target: Target, *, progress: Callable[[float], None] | None = None
) -> bytes:
    """Return the object file of a plan: `int32_t <name>_main(...)` and its kernels.

    A parallel plan's code calls `es_barrier` of edgesparse.h when it is given several threads.
    WebAssembly's has `es_image_planes`, too, where the model's first input is an image.

    Args:
        plan: What to call, in order.
        target: What to generate code for.
        progress: Told the finished fraction.
    """
    return build_objects(plan, (target,), progress=progress)[0]


def build_objects(
    plan: Plan, targets: Sequence[Target], *, progress: Callable[[float], None] | None = None
) -> list[bytes]:
    """Return one object file of a plan for each of several targets, as `build_object` does."""
    functions = {}
    for done, (symbol, kernel) in enumerate(plan.kernels.items()):
        functions[symbol] = kernel.emit(symbol)
        if progress:
            progress(0.3 * done / len(plan.kernels))
    functions |= {_chain_symbol(plan, chain): _emit_chain(plan, chain) for chain in plan.chains}
    functions[f"{plan.name}_main"] = _emit_main(plan)
    if targets[0].is_wasm and (image := image_planes(plan.inputs)):
        functions[IMAGE_SYMBOL] = image.emit(IMAGE_SYMBOL)
    objects = []
    for done, target in enumerate(targets):
        objects.append(object_bytes(build_module(functions, target)))
        if progress:
            progress(0.3 + 0.7 * (done + 1) / len(targets))
    return objects


def build_module(functions: dict[str, Any], target: Target) -> Any:
    """Return TVM's LLVM module for `functions` (C symbol -> PrimFunc)."""
    with _quiet_stderr():
        llvm_target = _llvm_target(target)
        module = tvm.IRModule(functions)
        module = tirx.transform.BindTarget(llvm_target)(module)
        with llvm_target:  # limits.py asks for it
            module = tvm.transform.Sequential(_lowering_passes())(module)
        return tvm.get_global_func("target.build.llvm")(module, llvm_target)


def object_bytes(module: Any) -> bytes:
    """Return the object file of an LLVM module.

    Raises:
        OutputError: The folder of temporary files has a name that TVM cannot be told.
    """
    with _object_file() as path:
        try:
            # TVM takes UTF-8, whatever the encoding of names is here.
            name = os.fsencode(path).decode()
        except UnicodeDecodeError as error:
            raise OutputError(
                f"cannot compile in {path.parent}: expected the name of a folder in UTF-8",
                hint="name another folder for temporary files with TMPDIR",
            ) from error
        module.write_to_file(name, "o")
        return path.read_bytes()


@contextlib.contextmanager
def _object_file() -> Iterator[Path]:
    """Give a file in memory where there is such a thing: on a full disk LLVM ends the process."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("model.o"), "rb") as file:
            yield Path(f"/proc/self/fd/{file.fileno()}")
        return
    with temporary_folder() as folder:
        yield folder / "model.o"


def _llvm_target(target: Target) -> Any:
    options: dict[str, Any] = {"kind": "llvm", "mtriple": target.triple}
    if target.cpu:
        options["mcpu"] = target.cpu
    if target.features:
        options["mattr"] = list(target.features)
    return tvm.target.Target(options)


def _lowering_passes() -> list[Any]:
    """The passes of TVM's own pipeline up to LowerIntrin, without MakePackedAPI."""
    return [
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.NarrowDataType(32),
        tirx.transform.VectorizeLoop(True),
        tirx.transform.StorageRewrite(),
        tirx.transform.UnrollLoop(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        tirx.transform.CommonSubexprElim(),
        math.ExpandMathFunctions(),
        tirx.transform.LowerTVMBuiltin(),
        tirx.transform.LowerIntrin(),
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class _Range:
    """The parameters of `main` behind its pointers; a serial plan has only the first two."""

    first: Any
    last: Any
    thread: Any = None
    threads: Any = None
    team: Any = None


def _emit_main(plan: Plan) -> Any:
    """Emit `main(weights, arena, inputs..., outputs..., first, last)`: steps first <= i < last.

    A parallel plan's has three more parameters, `thread, threads, team`, and does one thread's
    share: its parts of the shared steps and, on thread 0, the others.
    """
    with IRBuilder() as ir, builder.prim_func(is_private=False, s_tir=True):
        builder.func_name(f"{plan.name}_main")
        builder.func_attr({"global_symbol": f"{plan.name}_main"})
        builder.func_ret(tvm.ir.PrimType("int32"))
        pointers = _pointers(plan)
        numbers = ["first", "last", *(["thread", "threads"] if plan.is_parallel else [])]
        arguments = [builder.arg(name, builder.int32()) for name in numbers]
        team = [builder.arg("team", builder.handle("uint8"))] if plan.is_parallel else []
        span = _Range(*arguments, *team)
        buffers = _declared(pointers)
        chains = {chain.first: chain for chain in plan.chains}
        index = 0
        while index < len(plan.steps):
            chain = chains.get(index, Chain(index, index + 1, ()))
            _emit_steps(plan, chain, buffers, span)
            index = chain.last
        builder.Return(tirx.const(0, "int32"))
    return ir.get()


def _pointers(plan: Plan) -> dict[str, Any]:
    """Emit the pointer parameters `weights, arena, inputs..., outputs...`."""
    names = ["weights", "arena"]
    names += [f"input{i}" for i in range(len(plan.inputs))]
    names += [f"output{i}" for i in range(len(plan.outputs))]
    return {name: builder.arg(name, builder.handle("uint8")) for name in names}


def _declared(pointers: dict[str, Any]) -> dict[str, Any]:
    """Emit the buffers that pointers point to, by the same names."""
    return {
        name: builder.decl_buffer((1 << 40,), "uint8", data=pointer)
        for name, pointer in pointers.items()
    }


def _chain_symbol(plan: Plan, chain: Chain) -> str:
    return f"{plan.name}_chain{chain.first}"


def _emit_chain(plan: Plan, chain: Chain) -> Any:
    """Emit `chain(table, bounds, weights, ..., outputs..., share, thread)`, which makes the calls.

    They are the share's rows of the table, between its bounds; `thread` has its pieces of rings.
    Thousands of calls one after the other were a function that V8 never optimises, with small
    kernels inlined into it over and over.
    """
    with IRBuilder() as ir, builder.prim_func(is_private=False, s_tir=True):
        builder.func_name(_chain_symbol(plan, chain))
        builder.func_attr({"global_symbol": _chain_symbol(plan, chain)})
        table, ends = (builder.arg(n, builder.handle("int32")) for n in ("table", "bounds"))
        pointers = _pointers(plan)
        share, thread = (builder.arg(name, builder.int32()) for name in ("share", "thread"))
        buffers = _declared(pointers)
        calls, columns = chain.rows.shape
        rows = builder.decl_buffer((calls, columns), "int32", data=table)
        bounds = builder.decl_buffer(chain.row_bounds.shape, "int32", data=ends)
        with builder.serial(bounds[share], bounds[share + 1]) as i:
            routine, *row = (rows[i, column] for column in range(columns))
            _emit_routines(list(enumerate(chain.routines)), routine, row, buffers, thread)
    return ir.get()


def _emit_routines(
    routines: list[tuple[int, Call]],
    wanted: Any,
    row: list[Any],
    buffers: dict[str, Any],
    thread: Any,
) -> None:
    """Emit the call of the routine that is wanted, by halves."""
    if len(routines) == 1:
        (_, call), (first, last, read, written) = routines[0], row
        shifts = [read, *[0] * (len(call.args) - 2), written][: len(call.args)]
        pairs = zip(call.args, shifts, strict=True)
        pointers = [_shifted(buffers, arg, shift, thread) for arg, shift in pairs]
        builder.evaluate(builder.call_extern("void", call.symbol, *pointers, first, last))
        return
    half = len(routines) // 2
    with builder.If(wanted < routines[half][0]):
        with builder.Then():
            _emit_routines(routines[:half], wanted, row, buffers, thread)
        with builder.Else():
            _emit_routines(routines[half:], wanted, row, buffers, thread)


def _emit_steps(plan: Plan, chain: Chain, buffers: dict[str, Any], span: _Range) -> None:
    """Emit a chain's calls for threads that run all of it and are few, and its steps one by one."""

    def one_by_one() -> None:
        for index in range(chain.first, chain.last):
            with builder.If(tirx.And(span.first <= index, index < span.last)), builder.Then():
                if needs_barrier(plan, index):
                    _emit_barrier(span, index)
                step = plan.steps[index]
                pointers = [_address(buffers, arg, span.thread) for arg in step.args]
                _emit_call(step, pointers, span)

    if not chain.shares:
        one_by_one()
        return
    takes = tirx.And(span.first <= chain.first, chain.last <= span.last)
    if span.threads is not None:
        takes = tirx.And(takes, span.threads <= chain.most_threads)
    with builder.If(takes):
        with builder.Then():
            if needs_barrier(plan, chain.first):
                _emit_barrier(span, chain.first)
            _emit_bands(plan, chain, buffers, span)
        with builder.Else():
            one_by_one()


def _emit_bands(plan: Plan, chain: Chain, buffers: dict[str, Any], span: _Range) -> None:
    """Emit the call that makes this thread's calls of a chain."""
    assert chain.table is not None  # the builder has placed them
    assert chain.bounds is not None
    tables = [_address(buffers, arg) for arg in (chain.table, chain.bounds)]
    pointers = [*tables, *(buffer.data for buffer in buffers.values())]
    thread = tirx.const(0, "int32") if span.thread is None else span.thread
    share = thread if span.threads is None else share_number(thread, span.threads)
    builder.evaluate(
        builder.call_extern("void", _chain_symbol(plan, chain), *pointers, share, thread)
    )


def _shifted(buffers: dict[str, Any], arg: Arg, shift: Any, thread: Any) -> Any:
    """Return the pointer from which element `shift` of a plane is the first one in memory."""
    moved = dataclasses.replace(arg, offset_bytes=arg.offset_bytes - 4 * shift)
    return _address(buffers, moved, thread)


def needs_barrier(plan: Plan, index: int) -> bool:
    """Whether the threads meet before a step: not between two that thread 0 does alone."""
    shared = {i for chain in plan.chains for i in range(chain.first, chain.last)}
    either = (index - 1, index)
    return index > 0 and any(i in shared or plan.steps[i].is_shared for i in either)


def _emit_barrier(span: _Range, index: int) -> None:
    with builder.If(tirx.And(span.threads > 1, span.first < index)), builder.Then():
        builder.evaluate(builder.call_extern("void", "es_barrier", span.team, span.threads))


def _emit_call(step: Step, pointers: list[Any], span: _Range) -> None:
    """Call a kernel on this thread's parts, or on all of them where this is thread 0."""
    call = functools.partial(builder.call_extern, "void", step.symbol, *pointers)
    if step.is_shared:
        builder.evaluate(call(_share(step, span.thread, span), _share(step, span.thread + 1, span)))
        return
    bounds = [] if step.parts is None else [tirx.const(bound, "int32") for bound in (0, 1)]
    if span.thread is None:
        builder.evaluate(call(*bounds))
        return
    with builder.If(span.thread == 0), builder.Then():
        builder.evaluate(call(*bounds))


def _share(step: Step, thread: Any, span: _Range) -> Any:
    """Return the first part of a thread's share; that of the next one is where it ends."""
    threads = span.threads
    if step.most_threads < MAX_THREADS:
        threads = tirx.min(threads, step.most_threads)
        thread = tirx.min(thread, threads)
    parts = tirx.const(step.parts, "int32")
    if (step.parts or 0) * MAX_THREADS < 1 << 31:
        return tirx.truncdiv(parts * thread, threads)
    rest = tirx.truncmod(parts, threads)  # the product of all parts and a thread would wrap
    return tirx.truncdiv(parts, threads) * thread + tirx.truncdiv(rest * thread, threads)


def _address(buffers: dict[str, Any], arg: Arg, thread: Any = None) -> Any:
    """Return where an argument points; where threads have pieces of it, at this thread's."""
    if arg.space == "arena":
        piece = 0
        if arg.pieces > 1 and thread is not None:
            piece = tirx.min(thread, arg.pieces - 1) * align_up(arg.size_bytes)
        return builder.address_of(buffers["arena"][arg.arena_offset_bytes + piece])
    if arg.space == "weights":
        return builder.address_of(buffers["weights"][arg.offset_bytes])
    return builder.address_of(buffers[f"{arg.space}{arg.index}"][arg.offset_bytes])


class _quiet_stderr:  # noqa: N801 - reads as a statement
    """Swallow what LLVM's C++ side prints to file descriptor 2 (a vector-width note for wasm)."""

    def __enter__(self) -> None:
        self._saved = os.dup(2)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
