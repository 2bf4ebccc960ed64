"""The plan: kernel calls in order, packed constants, and one static arena with fixed offsets.

A plan is what lowering writes and code generation reads. `edgesparse.verify` checks it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, Protocol, SupportsIndex

import numpy as np
import numpy.typing as npt

ALIGNMENT_BYTES = 64

# A team's largest size; edgesparse.h spells it too.
MAX_THREADS = 64

# The C symbol of a WebAssembly bundle's image helper.
IMAGE_SYMBOL = "es_image_planes"

Space = Literal["arena", "weights", "input", "output"]


def align_up(size: int, alignment: int = ALIGNMENT_BYTES) -> int:
    """Return the smallest multiple of `alignment` that is not below `size`."""
    return -(-size // alignment) * alignment


def is_number_of_threads(threads: object) -> bool:
    """Return whether a model can be run on so many threads: an integer from 1 to MAX_THREADS."""
    return isinstance(threads, SupportsIndex) and 1 <= operator.index(threads) <= MAX_THREADS


class Kernel(Protocol):
    """A kernel's specification: hashable, equal when the code is equal.

    One whose work can be shared by threads has an int property `parts` (>= 1) too, and its
    PrimFunc takes two more parameters, int32 `first` and `last`: it computes parts
    first <= part < last only. Parts do not depend on each other and are about equally long.
    """

    @property
    def name(self) -> str:
        """Stem of the C symbol, e.g. `f32_spmm_g4_relu`; a plan makes it unique."""

    def emit(self, symbol: str) -> Any:
        """Return the TIR PrimFunc, one pointer parameter per argument of the call."""


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """What every part of a kernel reads and writes, in elements from the start of any plane.

    A kernel with parts in the order of the image's rows has one as its property `flow`.

    Attributes:
        begins: First element of an input plane that a part reads.
        ends: One past the last one.
        first: First element of an output plane that a part writes.
        last: One past the last one.
        planes: Output planes.
        read_stride: Elements between input planes.
        write_stride: Elements between output planes.
    """

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    planes: int
    read_stride: int
    write_stride: int

    @classmethod
    def of(cls, parts: Sequence[tuple[int, int, int, int]], *planes_and_strides: int) -> Flow:
        """Return the flow of parts (begin, end, first, last); the rest are the last fields."""
        begins, ends, first, last = zip(*parts, strict=True)
        return cls(begins, ends, first, last, *planes_and_strides)


def parts_of(kernel: Kernel) -> int | None:
    """Return into how many parts a kernel's work can be cut, or None if it takes no range."""
    return getattr(kernel, "parts", None)


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model input or output, in ONNX order, contiguous.

    Attributes:
        name: As in the ONNX graph.
        shape: Static extents.
        dtype: numpy's name, e.g. `float32`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size_bytes(self) -> int:
        """Size of the contiguous array."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclasses.dataclass(eq=False, slots=True)
class Buffer:
    """A piece of the arena.

    Attributes:
        name: For people.
        size_bytes: Rounded up to the alignment by the allocator.
        first: First step that touches it.
        last: Last step that touches it.
        offset_bytes: Set by the allocator; -1 before.
        chained: First and last step that touches it when chains run as such; None where that makes
            no difference.
    """

    name: str
    size_bytes: int
    first: int = -1
    last: int = -1
    offset_bytes: int = -1
    chained: tuple[int, int] | None = None

    @property
    def spans(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last step that touches it: with steps one by one, and with chains."""
        alone = (self.first, self.last)
        return alone, self.chained or alone


@dataclasses.dataclass(frozen=True, slots=True)
class Arg:
    """One pointer argument of a kernel call.

    Attributes:
        space: Where the pointer points.
        offset_bytes: Offset in the arena's buffer or in the weights; 0 for inputs and outputs.
        size_bytes: Bytes that a call of the kernel may touch from there.
        access: `r`, `w`, or `rw`.
        buffer: The arena buffer, for space `arena`.
        index: Position of the input or output, for those spaces.
        pieces: Pieces of `size_bytes`, aligned, that lie there side by side, one for each of so
            many threads; 1 where all threads have the same.
    """

    space: Space
    offset_bytes: int
    size_bytes: int
    access: Literal["r", "w", "rw"]
    buffer: Buffer | None = None
    index: int = -1
    pieces: int = 1

    @property
    def span_bytes(self) -> int:
        """Bytes that all threads together may touch."""
        return self.size_bytes if self.pieces == 1 else align_up(self.size_bytes) * self.pieces

    def meets(self, other: Arg) -> bool:
        """Whether both point into one buffer, to some of the same bytes."""
        return (
            self.buffer is not None
            and self.buffer is other.buffer
            and self.offset_bytes < other.offset_bytes + other.span_bytes
            and other.offset_bytes < self.offset_bytes + self.span_bytes
        )

    @property
    def arena_offset_bytes(self) -> int:
        """Offset from the start of the arena."""
        assert self.buffer is not None
        return self.buffer.offset_bytes + self.offset_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One kernel call.

    Attributes:
        symbol: C symbol of the kernel.
        args: Pointers in the order of the kernel's parameters.
        layer: Index into `Plan.layers`.
        parts: The kernel's `parts`, or None where it takes no range.
    """

    symbol: str
    args: tuple[Arg, ...]
    layer: int
    parts: int | None = None

    @property
    def is_shared(self) -> bool:
        """Whether several threads have work here; otherwise thread 0 does it all."""
        return (self.parts or 1) > 1

    @property
    def most_threads(self) -> int:
        """How many threads have memory for a share; others have no work here."""
        return min((arg.pieces for arg in self.args if arg.pieces > 1), default=MAX_THREADS)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A piece of a chain: some parts of one of its steps.

    Attributes:
        step: The step it belongs to.
        symbol: C symbol of the kernel.
        args: Pointers in the order of the kernel's parameters, to whole buffers.
        shifts: For every pointer, the element of a plane that stands at the plane's start.
        first: First part.
        last: One past the last part.
        carries: This moves elements first <= e < last of every plane to its start; no parts.
    """

    step: int
    symbol: str
    args: tuple[Arg, ...]
    shifts: tuple[int, ...]
    first: int
    last: int
    carries: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    """Another way to run consecutive steps: band by band, so that what is read is in the cache.

    Threads that are to run all these steps make the calls instead, each its own and without
    waiting for the others.

    Attributes:
        first: First step.
        last: One past the last step.
        shares: For teams of one thread, of two and so on, every thread's calls in order; see
            `share_number`.
        table: All calls, a row of int32 each, in the weights; None before they are placed.
        bounds: Where every share's rows begin, and the last one's end, as int32 beside it.
    """

    first: int
    last: int
    shares: tuple[tuple[Call, ...], ...]
    table: Arg | None = None
    bounds: Arg | None = None

    @property
    def most_threads(self) -> int:
        """The largest team."""
        return (math.isqrt(8 * len(self.shares) + 1) - 1) // 2

    @property
    def calls(self) -> tuple[Call, ...]:
        """What a thread does alone."""
        return self.shares[0] if self.shares else ()

    @property
    def routines(self) -> tuple[Call, ...]:
        """The first call of every kernel in every step: others differ in parts and shifts only."""
        first: dict[tuple[int, str], Call] = {}
        for call in itertools.chain(*self.shares):
            first.setdefault((call.step, call.symbol), call)
        return tuple(first.values())

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """Of each call: its routine, first part, last part, shift of its first and last pointer.

        Raises:
            ValueError: Another pointer is shifted.
        """
        numbers = {(call.step, call.symbol): i for i, call in enumerate(self.routines)}
        calls = list(itertools.chain(*self.shares))
        if any(any(call.shifts[1:-1]) for call in calls):
            raise ValueError(f"chain at step {self.first}: a residual moves")
        return np.array(
            [
                (numbers[c.step, c.symbol], c.first, c.last, c.shifts[0], c.shifts[-1])
                for c in calls
            ],
            np.int32,
        )

    @property
    def row_bounds(self) -> npt.NDArray[np.int32]:
        """Where every share begins in `rows`, and where the last one ends."""
        return np.cumsum([0, *(len(calls) for calls in self.shares)], dtype=np.int32)


def share_number(thread: Any, threads: Any) -> Any:
    """Return which of a chain's shares is a thread's: those of smaller teams come before."""
    return threads * (threads - 1) // 2 + thread


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """One operator of the optimised graph, as inspect, manifest and profile name it.

    Attributes:
        name: Node name.
        op: ONNX operator, with what was fused into it, e.g. `Conv+Relu`.
        output_shape: Shape of its first output.
        macs: Dense multiply-adds; 0 where that makes no sense.
        nonzero_macs: Multiply-adds with a non-zero weight.
        decision: Why it was compiled as it was; see `passes.select_pattern`. Always has `reason`.
    """

    name: str
    op: str
    output_shape: tuple[int, ...]
    macs: int
    nonzero_macs: int
    decision: dict[str, Any]


@dataclasses.dataclass(slots=True)
class Plan:
    """Everything code generation and the bundle need.

    Attributes:
        name: C identifier that prefixes every symbol of the model.
        inputs: Model inputs in order.
        outputs: Model outputs in order.
        kernels: symbol -> kernel.
        steps: Kernel calls in order.
        layers: Operators, in the order of their first step.
        weights: Packed constants; every piece 64-byte aligned.
        arena_bytes: Size of the arena.
        arena_bound_bytes: Largest live set: no allocation can be smaller.
        chains: Steps that are run band by band, where the threads are few enough.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: dict[str, Kernel]
    steps: tuple[Step, ...]
    layers: tuple[Layer, ...]
    weights: bytes
    arena_bytes: int
    arena_bound_bytes: int
    chains: tuple[Chain, ...] = ()

    @property
    def is_parallel(self) -> bool:
        """Whether several threads have work in some step; only then `main` knows of threads."""
        return any(step.is_shared for step in self.steps)


def allocate(buffers: list[Buffer]) -> tuple[int, int]:
    """Give every buffer an offset so that buffers alive at one step never overlap.

    Largest first, each at the lowest offset that is free during its lifetime.
    Source: Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020,
    section 5 (greedy by size for offset calculation).

    Returns:
        Bytes of the arena, and the largest live set in bytes, which bounds it from below.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: (-align_up(b.size_bytes), b.first, b.name)):
        size, offset = align_up(buffer.size_bytes), 0
        rivals = [p for p in placed if _meet(p, buffer)]
        for rival in sorted(rivals, key=lambda b: b.offset_bytes):
            if offset + size <= rival.offset_bytes:
                break
            offset = max(offset, rival.offset_bytes + align_up(rival.size_bytes))
        buffer.offset_bytes = offset
        placed.append(buffer)
    arena = max((b.offset_bytes + align_up(b.size_bytes) for b in buffers), default=0)
    return arena, _largest_live_set(buffers)


def _meet(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers are ever alive at one step."""
    return any(x[0] <= y[1] and y[0] <= x[1] for x, y in zip(a.spans, b.spans, strict=True))


def _largest_live_set(buffers: list[Buffer]) -> int:
    sizes = [
        sum(align_up(b.size_bytes) for b in buffers if b.spans[way][0] <= step <= b.spans[way][1])
        for way in (0, 1)
        for step in {b.spans[way][0] for b in buffers}
    ]
    return max(sizes, default=0)
