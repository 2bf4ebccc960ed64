"""Bands: run consecutive steps a few rows at a time, so that what is read is still in the cache.

Each step, whenever its consumer asks for more rows, asks its own producer for what it needs and
computes a piece. A plane between two steps of such a chain need not be whole, then: it becomes a
*ring*, the rows from the first one still wanted to the last one written. When a ring is full, its
rest is carried to its start.

A few threads share a chain by the rows of what it writes in the end. Each has rings of its own and
computes all it needs for its rows, so that none waits for another in between; what lies between
two threads' rows is computed twice.

          image     conv      depthwise 1x1        before: every plane goes to memory and back
    rows  1..9  ->  1..4  ->  1..3  ->  1..3       now: its ring is a few rows, and stays in L2
          10..17    5..8      4..7      4..7
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from edgesparse.kernels.bands import Carry
from edgesparse.lower.pieces import LINE, Links, Mask, Pieces, Spans, schedule
from edgesparse.plan import Arg, Buffer, Call, Chain, Flow, Kernel, Step, align_up

# A call with its parts in the order of rows, for planes that are so many elements apart where they
# are read and written; None leaves them as they are.
Rows = Callable[[int | None, int | None], tuple[Kernel, tuple[Arg, ...]]]

# Written at a time, at least; set by MobileNetV1 on AVX-512, where 32 KiB lose 1 % and 64 KiB 3 %.
PIECE_BYTES = 16 << 10
NEVER = (1 << 30, -1)
# Threads for which there are rings and tables; a phone rarely has more cores that are fast.
MOST_THREADS = 4


def add_chains(
    steps: Sequence[Step], rows: dict[int, Rows], symbol_of: Callable[[Kernel], str], budget: int
) -> tuple[tuple[Chain, ...], list[Buffer]]:
    """Find the steps that gain from bands, and change their buffers' lifetimes accordingly.

    Args:
        steps: Steps of the plan in order.
        rows: Step -> the same call by rows.
        symbol_of: Returns the C symbol of a kernel.
        budget: Bytes that a thread's rings may take together in a chain; 0 for no chains.

    Returns:
        The chains, and the rings.
    """
    chains: list[Chain] = []
    rings: list[Buffer] = []
    flow_of = functools.cache(lambda step: _flow_of(rows[step](None, None)[0]))
    first = 0
    while budget and first < len(steps):
        draft = _longest(steps, rows, flow_of, first, budget)
        if draft:
            chain, made = draft.commit(symbol_of)
            chains.append(chain)
            rings += made
        first = draft.last if draft else first + 1
    return tuple(chains), rings


def _longest(
    steps: Sequence[Step],
    rows: dict[int, Rows],
    flow_of: Callable[[int], Flow],
    first: int,
    budget: int,
) -> _Draft | None:
    """Return the longest chain from a step whose rings fit, if it saves twice the budget."""
    best = None
    last = first + 1
    while last < len(steps) and last - 1 in rows and last in rows:
        last += 1
        if steps[last - 2].args[-1].size_bytes < budget // 2:
            break  # fits in the cache as it is
        draft = _Draft(steps[first:last], rows, flow_of, first, budget)
        # A whole plane would live as long as the chain, and threads would write to it side by side.
        is_whole = len(draft.strides) < last - first - 1
        if is_whole or draft.ring_bytes > budget:
            break
        if draft.saved_bytes >= 2 * budget:
            best = draft
    return best


@dataclasses.dataclass(slots=True)
class _Ring:
    """The planes between two steps of a chain; every thread has some of its own.

    Attributes:
        buffer: In the arena.
        planes: Planes.
        stride: Elements between them.
        size_bytes: Bytes of one thread's.
    """

    buffer: Buffer
    planes: int
    stride: int
    size_bytes: int


class _Draft:
    """A chain of steps first <= i < last.

    Attributes:
        first: First step.
        last: One past the last step.
        strides: Step that writes to a ring -> elements between its planes, for one thread.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        rows: dict[int, Rows],
        flow_of: Callable[[int], Flow],
        first: int,
        budget: int,
    ) -> None:
        self._is_tight = False  # no room to spare
        self.first, self.last = first, first + len(steps)
        self._rows = rows
        self._steps = dict(enumerate(steps, first))
        self._flows = {i: flow_of(i) for i in self._steps}
        self._links = Links(
            {i: Spans.of(flow) for i, flow in self._flows.items()},
            {i: self._sources(i) for i in self._steps},
        )
        alone = self._share(0, 1)
        self.strides = self._worthwhile(alone)
        if self.ring_bytes > budget:
            self._is_tight = True
            self.strides = self._worthwhile(alone)

    @property
    def ring_bytes(self) -> int:
        """Bytes of one thread's rings."""
        return sum(_ring_bytes(self._flows[i].planes, s) for i, s in self.strides.items())

    @property
    def saved_bytes(self) -> int:
        """Bytes that need not go to memory and back."""
        return sum(self._steps[i].args[-1].size_bytes for i in self.strides)

    def _inputs(self, i: int) -> list[tuple[Arg, bool]]:
        """What a step reads in the arena, and whether each is a residual."""
        args = [arg for arg in self._steps[i].args if "r" in arg.access]
        return [(arg, k > 0) for k, arg in enumerate(args) if arg.buffer is not None]

    def _sources(self, i: int) -> list[tuple[int, bool]]:
        """Return the chain's steps that write what a step reads, and whether it is a residual."""
        return [
            (writer, is_residual)
            for arg, is_residual in self._inputs(i)
            for writer, step in self._steps.items()
            if arg.meets(step.args[-1])
        ]

    def _share(self, thread: int, threads: int) -> Pieces:
        sizes = {i: max(1, PIECE_BYTES // (4 * flow.planes)) for i, flow in self._flows.items()}
        return schedule(self._links, sizes, thread, threads)

    # -- rings

    def _fits_a_ring(self, writer: int) -> bool:
        """Whether only this chain reads what a step writes, at a stride of its own."""
        buffer = self._steps[writer].args[-1].buffer
        if buffer is None or buffer.first < self.first or buffer.last >= self.last:
            return False
        steps = self._steps.values()
        if any(arg.offset_bytes for step in steps for arg in step.args if arg.buffer is buffer):
            return False  # who reads some of the planes only would look for them elsewhere
        uses = [use for i in self._steps for use in self._inputs(i) if use[0].buffer is buffer]
        has_residual = any(is_residual for _, is_residual in self._inputs(writer))
        return not has_residual and not any(is_residual for _, is_residual in uses)

    def _stride(self, writer: int, shares: Sequence[Pieces]) -> int:
        """Return the elements between a ring's planes."""
        room = max(pieces.room(writer, spare=not self._is_tight) for pieces in shares)
        return (-(-room // LINE) | 1) * LINE  # an odd number of lines: planes do not alias

    def _worthwhile(self, alone: Pieces) -> dict[int, int]:
        """Return the strides of all rings that are smaller than half of the planes."""
        strides = {i: self._stride(i, [alone]) for i in self._steps if self._fits_a_ring(i)}
        return {i: s for i, s in strides.items() if s <= self._flows[i].write_stride // 2}

    def _rings(self, shares: Sequence[Pieces]) -> dict[int, _Ring]:
        rings = {}
        for i in self.strides:
            planes, stride = self._flows[i].planes, self._stride(i, shares)
            size = _ring_bytes(planes, stride)
            buffer = Buffer(f"ring of step {i}", align_up(size) * MOST_THREADS, *NEVER)
            buffer.chained = (self.first, self.last - 1)
            rings[i] = _Ring(buffer, planes, stride, size)
        return rings

    # -- the result

    def commit(self, symbol_of: Callable[[Kernel], str]) -> tuple[Chain, list[Buffer]]:
        """Return the chain and its rings; buffers it leaves out or needs longer are told so."""
        teams = range(1, MOST_THREADS + 1)
        shares = [self._share(thread, team) for team in teams for thread in range(team)]
        rings = self._rings(shares)
        writers = {id(self._steps[i].args[-1].buffer): i for i in rings}
        made: dict[int, _Made] = {}
        for i, step in self._steps.items():
            around = [writers.get(id(step.args[k].buffer)) for k in (0, -1)]
            kernel, args = self._rows[i](*(None if w is None else rings[w].stride for w in around))
            at = tuple(writers.get(id(arg.buffer)) for arg in args)
            placed = tuple(
                arg if w is None else _in_ring(arg, rings[w])
                for arg, w in zip(args, at, strict=True)
            )
            made[i] = _Made(symbol_of(kernel), placed, at)
            for arg, w in zip(args, at, strict=True):
                if arg.buffer is not None:
                    self._set_lifetime(arg.buffer, w is not None)
        calls = tuple(_calls(pieces, rings, made, symbol_of) for pieces in shares)
        return Chain(self.first, self.last, calls), [ring.buffer for ring in rings.values()]

    def _set_lifetime(self, buffer: Buffer, has_ring: bool) -> None:
        first, last = buffer.spans[1]
        extended = (min(first, self.first), max(last, self.last - 1))
        buffer.chained = NEVER if has_ring else extended


@dataclasses.dataclass(frozen=True, slots=True)
class _Made:
    """What all calls of a step have in common.

    Attributes:
        symbol: C symbol of the kernel.
        args: Its pointers.
        writers: For every pointer, the step whose ring it points to, or None.
    """

    symbol: str
    args: tuple[Arg, ...]
    writers: tuple[int | None, ...]


def _calls(
    pieces: Pieces,
    rings: dict[int, _Ring],
    made: dict[int, _Made],
    symbol_of: Callable[[Kernel], str],
) -> tuple[Call, ...]:
    """Return a share's calls."""
    moves = {i: pieces.moves(i, ring.stride) for i, ring in rings.items()}
    calls: list[Call] = []
    for piece, (i, parts) in enumerate(pieces.order):
        if i in rings and piece in moves[i].carries:
            carry = symbol_of(Carry(rings[i].planes, rings[i].stride, LINE))
            arg = _in_ring(Arg("arena", 0, 0, "rw"), rings[i])
            calls.append(Call(i, carry, (arg,), (0,), *moves[i].carries[piece], carries=True))
        step = made[i]
        shifts = tuple(0 if w is None else moves[w].shifts[piece] for w in step.writers)
        calls += [Call(i, step.symbol, step.args, shifts, *span) for span in _ranges(parts)]
    return tuple(calls)


def _ring_bytes(planes: int, stride: int) -> int:
    return align_up(4 * planes * stride) + 4 * LINE


def _in_ring(arg: Arg, ring: _Ring) -> Arg:
    """Return an argument that points to a thread's ring instead."""
    return dataclasses.replace(
        arg, buffer=ring.buffer, size_bytes=ring.size_bytes, pieces=MOST_THREADS
    )


def _flow_of(kernel: Kernel) -> Flow:
    flow = getattr(kernel, "flow", None)
    if not isinstance(flow, Flow):
        raise ValueError(f"kernel {kernel.name} does not say what its parts touch")
    return flow


def _ranges(parts: Mask) -> list[tuple[int, int]]:
    """Return the runs of a mask: (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], parts, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
