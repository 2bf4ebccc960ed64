"""Bands: run consecutive steps a few rows at a time, so that what is read is still in the cache.

Each step, whenever its consumer asks for more rows, asks its own producer for what it needs and
computes a piece; nothing is computed twice. A plane between two steps of such a chain need not be
whole, then: it becomes a *ring*, the rows from the first one still wanted to the last one written.
When a ring is full, its rest is carried to its start.

          image     conv      depthwise 1x1        before: every plane goes to memory and back
    rows  1..9  ->  1..4  ->  1..3  ->  1..3       now: its ring is a few rows, and stays in L2
          10..17    5..8      4..7      4..7
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgesparse.kernels.bands import Carry
from edgesparse.plan import Arg, Buffer, Call, Chain, Flow, Kernel, Step, align_up

# A call with its parts in the order of rows, for planes that are so many elements apart where they
# are read and written; None leaves them as they are.
Rows = Callable[[int | None, int | None], tuple[Kernel, tuple[Arg, ...]]]

# Written at a time, at least; set by MobileNetV1 on AVX-512, where 32 KiB lose 1 % and 64 KiB 3 %.
PIECE_BYTES = 16 << 10
LINE = 16  # float32 of a cache line; a ring begins at such a multiple
NEVER = (1 << 30, -1)
_END = 1 << 40

Mask = npt.NDArray[np.bool_]


def add_chains(
    steps: Sequence[Step], rows: dict[int, Rows], symbol_of: Callable[[Kernel], str], budget: int
) -> tuple[tuple[Chain, ...], list[Buffer]]:
    """Find the steps that gain from bands, and change their buffers' lifetimes accordingly.

    Args:
        steps: Steps of the plan in order.
        rows: Step -> the same call by rows.
        symbol_of: Returns the C symbol of a kernel.
        budget: Bytes that the rings of a chain may take together; 0 for no chains.

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
            chains.append(draft.commit(symbol_of))
            rings += [ring.buffer for ring in draft.rings.values()]
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
        draft = _Draft(steps[first:last], rows, flow_of, first)
        is_whole = len(draft.rings) < last - first - 1  # would live as long as the chain
        if is_whole or sum(ring.buffer.size_bytes for ring in draft.rings.values()) > budget:
            break
        if draft.saved_bytes >= 2 * budget:
            best = draft
    return best


@dataclasses.dataclass(slots=True)
class _Ring:
    """The planes between two steps of a chain.

    Attributes:
        buffer: In the arena.
        planes: Planes.
        stride: Elements between them.
        shifts: For every piece of the chain, the element that stands at a plane's start.
        carries: Piece before which a rest moves -> its elements (first, one past the last).
    """

    buffer: Buffer
    planes: int
    stride: int
    shifts: list[int]
    carries: dict[int, tuple[int, int]]


class _Draft:
    """A chain of steps first <= i < last: the order of its pieces, and its rings."""

    def __init__(
        self,
        steps: Sequence[Step],
        rows: dict[int, Rows],
        flow_of: Callable[[int], Flow],
        first: int,
    ) -> None:
        self.first, self.last = first, first + len(steps)
        self._rows = rows
        self._steps = dict(enumerate(steps, first))
        self._flows = {i: flow_of(i) for i in self._steps}
        self._spans = {i: _Spans.of(flow) for i, flow in self._flows.items()}
        self._writer = {id(step.args[-1].buffer): i for i, step in self._steps.items()}
        self.pieces = self._schedule()
        self._ringed = [i for i in self._steps if self._fits_a_ring(i)]
        made = {i: self._ring(i) for i in self._ringed}
        self.rings = {i: ring for i, ring in made.items() if ring is not None}

    @property
    def saved_bytes(self) -> int:
        """Bytes that need not go to memory and back."""
        return sum(self._steps[i].args[-1].size_bytes for i in self.rings)

    def _inputs(self, i: int) -> list[tuple[Buffer, bool]]:
        """Arena buffers that a step reads, and whether each is a residual."""
        args = [arg for arg in self._steps[i].args if "r" in arg.access]
        return [(a.buffer, k > 0) for k, a in enumerate(args) if a.buffer is not None]

    # -- the order of pieces

    def _schedule(self) -> list[tuple[int, Mask]]:
        """Return (step, its parts) in an order in which each finds what it reads."""
        undone = {i: np.ones(len(spans.first), bool) for i, spans in self._spans.items()}
        pieces: list[tuple[int, Mask]] = []

        def produce(i: int, wanted: int) -> None:
            spans = self._spans[i]
            while (ready := spans.ready(undone[i])) < wanted:
                size = PIECE_BYTES // (4 * self._flows[i].planes)
                parts = undone[i] & (spans.first < ready + max(1, size))
                for buffer, is_residual in self._inputs(i):
                    if id(buffer) in self._writer:
                        ends = spans.last if is_residual else spans.ends
                        # A row of zeros needs none, but only what was begun counts as written.
                        produce(self._writer[id(buffer)], max(1, int(ends[parts].max())))
                pieces.append((i, parts))
                undone[i] &= ~parts

        for i in reversed(self._steps):
            produce(i, _END)
        return pieces

    # -- rings

    def _fits_a_ring(self, writer: int) -> bool:
        """Whether only this chain reads what a step writes, at a stride of its own."""
        buffer = self._steps[writer].args[-1].buffer
        if buffer is None or buffer.first < self.first or buffer.last >= self.last:
            return False
        uses = [use for i in self._steps for use in self._inputs(i) if use[0] is buffer]
        has_residual = any(is_residual for _, is_residual in self._inputs(writer))
        return not has_residual and not any(is_residual for _, is_residual in uses)

    def _readers(self, buffer: Buffer | None) -> list[int]:
        return [i for i in self._steps if any(b is buffer for b, _ in self._inputs(i))]

    def _bursts(self, writer: int) -> list[tuple[int, int, int]]:
        """Return what a ring must hold: (piece, first element still wanted, one past the last).

        A burst is what is written between two reads; only before one can a rest be carried.
        """
        readers = self._readers(self._steps[writer].args[-1].buffer)
        undone = {i: np.ones(len(self._spans[i].first), bool) for i in (writer, *readers)}
        bursts: list[tuple[int, int, int]] = []
        was_read = True
        for piece, (i, parts) in enumerate(self.pieces):
            if i == writer:
                high = int(self._spans[i].last[parts].max())
                if was_read:
                    low = self._spans[i].ready(undone[i])
                    low = min(low, *(self._spans[r].low(undone[r]) for r in readers))
                    bursts.append((piece, low // LINE * LINE, high))
                else:
                    bursts[-1] = (*bursts[-1][:2], max(high, bursts[-1][2]))
            if i in undone:
                was_read = i != writer
                undone[i] &= ~parts
        return bursts

    def _ring(self, writer: int) -> _Ring | None:
        bursts, flow = self._bursts(writer), self._flows[writer]
        highs = [high for _, _, high in bursts]
        grown = max(np.diff(highs), default=0)  # room for one burst more: half as much to carry
        lines = -(-(max(high - low for _, low, high in bursts) + int(grown)) // LINE)
        stride = (lines | 1) * LINE  # an odd number of lines: planes do not alias in the cache
        if stride > flow.write_stride // 2:
            return None
        at = dict((piece, (low, high)) for piece, low, high in bursts)
        shift, held, shifts, carries = 0, 0, [], {}
        for piece in range(len(self.pieces)):
            if piece in at:
                low, high = at[piece]
                if high - shift > stride:
                    if held > low:
                        carries[piece] = (low - shift, align_up(held - shift, LINE))
                    shift = low
                held = high
            shifts.append(shift)
        size = align_up(4 * flow.planes * stride) + 4 * LINE
        buffer = Buffer(f"ring of step {writer}", size, *NEVER, chained=(self.first, self.last - 1))
        return _Ring(buffer, flow.planes, stride, shifts, carries)

    # -- the result

    def commit(self, symbol_of: Callable[[Kernel], str]) -> Chain:
        """Return the chain; buffers that it leaves out or needs for longer are told so."""
        of_buffer = {id(self._steps[i].args[-1].buffer): ring for i, ring in self.rings.items()}
        made: dict[int, tuple[str, tuple[Arg, ...]]] = {}
        for i, step in self._steps.items():
            rings = [of_buffer.get(id(step.args[k].buffer)) for k in (0, -1)]
            kernel, args = self._rows[i](*(ring.stride if ring else None for ring in rings))
            made[i] = symbol_of(kernel), args
            for arg in args:
                if arg.buffer is not None:
                    self._set_lifetime(arg.buffer, id(arg.buffer) in of_buffer)
        calls: list[Call] = []
        for piece, (i, parts) in enumerate(self.pieces):
            symbol, args = made[i]
            ring = self.rings.get(i)
            if ring and piece in ring.carries:
                carry = symbol_of(Carry(ring.planes, ring.stride, LINE))
                arg = Arg("arena", 0, ring.buffer.size_bytes, "rw", ring.buffer)
                calls.append(Call(i, carry, (arg,), (0,), *ring.carries[piece], carries=True))
            placed = [_placed(arg, of_buffer.get(id(arg.buffer)), piece) for arg in args]
            moved, shifts = zip(*placed, strict=True)
            calls += [Call(i, symbol, moved, shifts, *span) for span in _ranges(parts)]
        return Chain(self.first, self.last, tuple(calls))

    def _set_lifetime(self, buffer: Buffer, has_ring: bool) -> None:
        first, last = buffer.spans[1]
        extended = (min(first, self.first), max(last, self.last - 1))
        buffer.chained = NEVER if has_ring else extended


@dataclasses.dataclass(frozen=True, slots=True)
class _Spans:
    """A flow as arrays, one element a part."""

    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @classmethod
    def of(cls, flow: Flow) -> _Spans:
        return cls(*(np.array(v) for v in (flow.begins, flow.ends, flow.first, flow.last)))

    def ready(self, undone: Mask) -> int:
        """Elements at the start of every output plane that are final."""
        return int(self.first[undone].min(initial=_END))

    def low(self, undone: Mask) -> int:
        """First element of an input plane that is still wanted."""
        return int(self.begins[undone].min(initial=_END))


def _flow_of(kernel: Kernel) -> Flow:
    flow = getattr(kernel, "flow", None)
    if not isinstance(flow, Flow):
        raise ValueError(f"kernel {kernel.name} does not say what its parts touch")
    return flow


def _placed(arg: Arg, ring: _Ring | None, piece: int) -> tuple[Arg, int]:
    """Return where an argument points to in a piece of the chain, and its shift."""
    if ring is None:
        return arg, 0
    size = ring.buffer.size_bytes
    return dataclasses.replace(arg, buffer=ring.buffer, size_bytes=size), ring.shifts[piece]


def _ranges(parts: Mask) -> list[tuple[int, int]]:
    """Return the runs of a mask: (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], parts, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
