"""A small vocabulary over TVM's IR builder: what every emitter is written in.

An emitter is a pure function from a frozen dataclass to one PrimFunc. It writes loops and vector
expressions; every stride, count and tile is a Python int and so a constant in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as builder

from edgesparse.kernels import operators

Expr = Any  # a TIR expression, or a Python number where TIR takes one
Buffer = Any  # a TIR buffer
PrimFunc = Any

# TIR wants an extent for a pointer; nothing reads it once the buffer is flattened.
_UNBOUNDED = 1 << 30


def function(
    symbol: str, params: Mapping[str, str], body: Callable[..., None], *, ranged: bool = False
) -> PrimFunc:
    """Return a PrimFunc whose parameters are pointers that never alias.

    Args:
        symbol: C symbol.
        params: Parameter name -> element type.
        body: Called with one buffer per parameter; writes the statements.
        ranged: Whether int32 `first` and `last` follow, the parts to compute; the body is then
            called with them before the buffers.
    """
    with IRBuilder() as ir, builder.prim_func(is_private=False, s_tir=True):
        builder.func_name(symbol)
        builder.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        pointers = {
            name: builder.arg(name, builder.handle(dtype)) for name, dtype in params.items()
        }
        bounds = [builder.arg(n, builder.int32()) for n in ("first", "last")] if ranged else []
        body(
            *bounds,
            *(
                builder.decl_buffer((_UNBOUNDED,), dtype, data=pointers[name])
                for name, dtype in params.items()
            ),
        )
    return ir.get()


@contextmanager
def loop(extent: Expr) -> Iterator[Expr]:
    """A loop from 0; a constant extent of 1 costs nothing."""
    if isinstance(extent, int) and extent == 1:
        yield 0
        return
    with builder.serial(0, extent) as i:
        yield i


@contextmanager
def between(first: Expr, last: Expr) -> Iterator[Expr]:
    """A loop over first <= i < last, both natural numbers."""
    with builder.serial(natural(first), last) as i:
        yield i


# Gives back what it is given, and LLVM cannot tell.
_OPAQUE = """
define i32 @opaque(i32 %value) alwaysinline nounwind willreturn memory(none) {
  %same = call i32 asm "", "=r,0"(i32 %value) nounwind willreturn memory(none)
  ret i32 %same
}
"""


def opaque_values(ask: bool) -> AbstractContextManager[None]:
    """Statements that may hold `rolled` loops, if `ask`."""
    return importing(_OPAQUE if ask else "")


@contextmanager
def importing(text: str) -> Iterator[None]:
    """Statements that may call the functions of some LLVM text, if there is any."""
    if not text:
        yield
        return
    with builder.attr({"pragma_import_llvm": text}):
        yield


@contextmanager
def rolled(cursor: Buffer, at: int, times: Expr) -> Iterator[None]:
    """A loop that LLVM does not unroll, for it cannot tell how often it runs.

    Where a loop's end is hard to predict, whether there is a remainder of an unrolled one is
    another thing to predict. Statements around it say `opaque_values`.

    Args:
        cursor: int32; the loop's statements move an entry of it on by one.
        at: That entry.
        times: How often.
    """
    end = local(1, "int32")
    store(end, 0, load(cursor, at) + times)
    with builder.While(load(cursor, at) != load(end, 0)):
        yield
        store(end, 0, tirx.call_extern("int32", "opaque", load(end, 0)))


@contextmanager
def overlap(first: Expr, last: Expr, start: int, count: int) -> Iterator[Expr]:
    """A loop over the i in [0, count) for which start + i lies in [first, last)."""
    low = natural(maximum(first - start, 0))
    high = minimum(last - start, count)
    with builder.serial(low, high) as i:
        yield i


def natural(value: Expr) -> Expr:
    """Return an int32 that is not negative, and say so.

    In WebAssembly a load then takes what is added to its address as part of the instruction, which
    LLVM does only where no sum wraps; other targets' addresses wrap as sums do.
    """
    if isinstance(value, int):
        return value
    operators.register("edgesparse.natural", _lower_natural)
    return tirx.call_intrin("int32", "edgesparse.natural", value)


def _lower_natural(call: Any) -> Expr:
    (value,) = call.args
    return _without_sign(value) if operators.current_triple().startswith("wasm32") else value


def _without_sign(value: Expr) -> Expr:
    """Return an int32 that is not negative, in a way that LLVM sees it."""
    return tirx.bitwise_and(value, const_i32((1 << 31) - 1))


def divide(value: Expr, by: int) -> tuple[Expr, Expr]:
    """Return quotient and remainder of a value that is not negative."""
    if by == 1:
        return value, 0
    if isinstance(value, int):
        return divmod(value, by)
    return tirx.truncdiv(value, const_i32(by)), tirx.truncmod(value, const_i32(by))


def minimum(value: Expr, limit: Expr) -> Expr:
    """Return the smaller one of two int32."""
    return tirx.min(value, _i32(limit))


def maximum(value: Expr, limit: Expr) -> Expr:
    """Return the larger one of two int32."""
    return tirx.max(value, _i32(limit))


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    """Statements for when a condition holds; a Python bool decides now."""
    if condition is True:
        yield
        return
    with builder.If(condition), builder.Then():
        yield


def choose(
    ask: bool, condition: Expr, then: Callable[[], None], otherwise: Callable[[], None]
) -> None:
    """Emit `then`, or where `ask` says that it depends, a branch between the two."""
    if not ask:
        then()
        return
    with builder.If(condition):
        with builder.Then():
            then()
        with builder.Else():
            otherwise()


def lanes_of(value: Expr) -> int:
    """Return the lanes of a vector, 1 of a scalar."""
    return int(value.ty.dtype.lanes)


def keep(value: Expr) -> Expr:
    """Emit a value now and return its name: an array of its own that LLVM keeps in registers.

    TVM's `Let` would do, but its analyses write a bound value out wherever its name stands: a chain
    of n squares takes them 2^n steps.
    """
    lanes = lanes_of(value)
    register = local(lanes, str(value.ty.dtype).partition("x")[0])
    store(register, 0, value, lanes)
    return load(register, 0, lanes)


def grid(*extents: int) -> Any:
    """Nest loops that start at 0; the value is the tuple of their variables."""
    return _grid(extents)


@contextmanager
def _grid(extents: tuple[int, ...]) -> Iterator[tuple[Expr, ...]]:
    if not extents:
        yield ()
        return
    with loop(extents[0]) as first, _grid(extents[1:]) as rest:
        yield (first, *rest)


def local(size: int, dtype: str = "float32") -> Buffer:
    """Registers: an array that LLVM promotes when every index is a constant.

    Keep it under 1 KiB: from there on TVM makes it a workspace call.
    """
    return builder.alloc_buffer((size,), dtype)


def load(buffer: Buffer, index: Expr, lanes: int = 1) -> Expr:
    """Return `lanes` consecutive elements from `index`."""
    return buffer[index] if lanes == 1 else buffer[tirx.Ramp(_i32(index), 1, lanes)]


def count(buffer: Buffer, index: Expr) -> Expr:
    """Return an int32 that is not negative, and say so: a loop's end is then a sum of counts.

    Else LLVM, which tells where a cursor is after several loops from how often each of them runs,
    sums up the greater of zero and each count.
    """
    return _without_sign(load(buffer, index))


def load_halves(buffer: Buffer, index: Expr, lanes: int) -> Expr:
    """Return `lanes` float32, four as two halves: on aarch64 `ldr d` and `ld1 {v.d}[1]`."""
    if lanes < 4:
        return load(buffer, index, lanes)
    halves = [load(buffer, index + at, 2) for at in range(0, lanes, 2)]
    # As float64 the halves are lanes of one register; as float32 pairs LLVM would move them there.
    pair = tirx.Shuffle([tirx.reinterpret("float64", half) for half in halves], [0, 1])
    return tirx.reinterpret(f"float32x{lanes}", pair)


def store(buffer: Buffer, index: Expr, value: Expr, lanes: int = 1) -> None:
    """Write `lanes` consecutive elements from `index`."""
    builder.buffer_store(buffer, value, [index if lanes == 1 else tirx.Ramp(_i32(index), 1, lanes)])


def prefetch(buffer: Buffer, index: Expr) -> None:
    """Ask for the cache line of an element that is read soon; behind an array it does nothing."""
    address = tirx.address_of(buffer[index])
    builder.evaluate(tirx.call_intrin("void", "tirx.prefetch", address, 0, 3, 1))


def splat(value: Expr, lanes: int = 1) -> Expr:
    """Return `value` in every lane; a Python number becomes float32."""
    scalar = tirx.const(value, "float32") if isinstance(value, int | float) else value
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def splat_lane(vector: Expr, lane: int, lanes: int) -> Expr:
    """Return one lane of a vector in every lane."""
    return tirx.Shuffle([vector], [lane] * lanes)


# Columns as offsets, or as numbers to be scaled.
COLUMN_KINDS = ("int32", "uint16")


def column_offset(columns: Buffer, index: Expr, scale: int) -> Expr:
    """Return the offset that a column stands for: stored as it is (scale 0), or divided."""
    column = load(columns, index)
    return i32(column) * const_i32(scale) if scale else natural(column)


def i32(value: Expr) -> Expr:
    """Return `value` as int32."""
    return value.astype("int32")


def _i32(value: Expr) -> Expr:
    return tirx.const(value, "int32") if isinstance(value, int) else value


def const_i32(value: int) -> Expr:
    """Return an int32 constant."""
    return tirx.const(value, "int32")


# Distances between elements that are loaded as vectors.
STRIDES = (1, 2, 4)


def load_strided(buffer: Buffer, index: Expr, lanes: int, stride: int) -> Expr:
    """Return every `stride`-th element (of `STRIDES`) from `index`; reads `stride · lanes`."""
    if stride == 1:
        return load(buffer, index, lanes)
    if lanes == 1:
        return load(buffer, index)
    vectors = [load(buffer, index + k * lanes, lanes) for k in range(stride)]
    return tirx.Shuffle(vectors, list(range(0, stride * lanes, stride)))


def is_nan(x: Expr) -> Expr:
    """Return whether each lane is NaN: from the bits, because TVM takes x != x for false."""
    lanes = x.ty.dtype.lanes
    kind = str(x.ty.dtype).split("x")[0]
    if kind not in _EXPONENT_BITS:
        return splat(tirx.const(False, "bool"), lanes)
    bits, integer = kind.replace("float", ""), kind.replace("float", "int")
    magnitude = splat(tirx.const((1 << (int(bits) - 1)) - 1, integer), lanes)
    infinite = splat(tirx.const(_EXPONENT_BITS[kind], integer), lanes)
    vector = integer if lanes == 1 else f"{integer}x{lanes}"
    return (tirx.reinterpret(vector, x) & magnitude) > infinite


# The bits of infinity.
_EXPONENT_BITS = {"float32": 0xFF << 23, "float64": 0x7FF << 52}
