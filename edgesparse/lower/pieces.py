"""The order in which a thread computes its share of a chain, piece by piece, and what rings hold.

This knows parts and elements of planes only; `bands.py` makes calls of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgesparse.plan import Flow, align_up

LINE = 16  # float32 of a cache line; a ring begins at such a multiple
_END = 1 << 40

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class Spans:
    """A flow as arrays, one element a part."""

    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @classmethod
    def of(cls, flow: Flow) -> Spans:
        """Return a flow's spans."""
        return cls(*(np.array(v) for v in (flow.begins, flow.ends, flow.first, flow.last)))

    def ready(self, undone: Mask) -> int:
        """Elements at the start of every output plane that are final."""
        return int(self.first[undone].min(initial=_END))

    def low(self, undone: Mask) -> int:
        """First element of an input plane that is still wanted."""
        return int(self.begins[undone].min(initial=_END))

    def share(self, thread: int, threads: int) -> Mask:
        """Return a thread's parts: a run of rows, about as many parts as every other thread's.

        What two threads write does not overlap.
        """
        order = np.argsort(self.first, kind="stable")
        first = self.first[order]
        reached = np.maximum.accumulate(self.last[order])
        # Between parts i - 1 and i a share may end if nobody writes on both sides.
        cuts = np.flatnonzero(np.concatenate([[True], reached[:-1] <= first[1:], [True]]))
        wanted = [len(first) * k / threads for k in (thread, thread + 1)]
        begin, end = (int(cuts[np.abs(cuts - at).argmin()]) for at in wanted)
        mask = np.zeros(len(first), bool)
        mask[order[begin:end]] = True
        return mask


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """The steps of a chain, and who reads what.

    Attributes:
        spans: Step -> what its parts touch, in order.
        sources: Step -> the steps that write what it reads, and whether each is a residual.
    """

    spans: Mapping[int, Spans]
    sources: Mapping[int, Sequence[tuple[int, bool]]]

    def readers(self, writer: int) -> list[int]:
        """Return the steps that read what a step writes."""
        return [i for i, sources in self.sources.items() if any(s == writer for s, _ in sources)]

    def wanted(self, thread: int, threads: int) -> dict[int, Mask]:
        """Return the parts of every step that a thread needs for its share of the last one."""
        steps = list(self.spans)
        masks = {i: np.zeros(len(spans.first), bool) for i, spans in self.spans.items()}
        masks[steps[-1]] = self.spans[steps[-1]].share(thread, threads)
        for i in reversed(steps):
            if not masks[i].any():
                continue
            for source, is_residual in self.sources[i]:
                low, high = self.read(i, masks[i], is_residual)
                spans = self.spans[source]
                masks[source] |= (spans.last > low) & (spans.first < high)
        return masks

    def read(self, step: int, parts: Mask, is_residual: bool) -> tuple[int, int]:
        """Return the elements that parts read: the first, and one past the last."""
        spans = self.spans[step]
        begins, ends = (spans.first, spans.last) if is_residual else (spans.begins, spans.ends)
        # A row of zeros needs none, but only what was begun counts as written.
        return int(begins[parts].min()), max(1, int(ends[parts].max()))


def schedule(links: Links, sizes: Mapping[int, int], thread: int, threads: int) -> Pieces:
    """Return a thread's share of a chain, in an order in which each piece finds what it reads.

    Args:
        links: The chain.
        sizes: Step -> elements of every plane that it writes at a time, at least.
        thread: 0 <= thread < threads.
        threads: That share the chain; one computes all parts of all steps.
    """
    whole = {i: np.ones(len(spans.first), bool) for i, spans in links.spans.items()}
    wanted = links.wanted(thread, threads) if threads > 1 else whole
    undone = {i: mask.copy() for i, mask in wanted.items()}
    order: list[tuple[int, Mask]] = []

    def produce(i: int, until: int) -> None:
        spans = links.spans[i]
        while (ready := spans.ready(undone[i])) < until:
            parts = undone[i] & (spans.first < ready + sizes[i])
            for source, is_residual in links.sources[i]:
                produce(source, links.read(i, parts, is_residual)[1])
            order.append((i, parts))
            undone[i] &= ~parts

    for i in reversed(list(links.spans)):
        produce(i, _END)
    return Pieces(links, wanted, order)


@dataclasses.dataclass(frozen=True, slots=True)
class Moves:
    """How the rows in a ring move.

    Attributes:
        shifts: For every piece, the element that stands at a plane's start.
        carries: Piece before which a rest moves -> its elements (first, one past the last).
    """

    shifts: list[int]
    carries: dict[int, tuple[int, int]]


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """A thread's share of a chain.

    Attributes:
        links: The chain.
        wanted: Step -> its parts that this thread computes.
        order: (step, its parts) in order.
    """

    links: Links
    wanted: dict[int, Mask]
    order: list[tuple[int, Mask]]

    def bursts(self, writer: int) -> list[tuple[int, int, int]]:
        """Return what a ring must hold: (piece, first element still wanted, one past the last).

        A burst is what is written between two reads; only before one can a rest be carried.
        """
        spans, readers = self.links.spans, self.links.readers(writer)
        undone = {i: self.wanted[i].copy() for i in (writer, *readers)}
        bursts: list[tuple[int, int, int]] = []
        was_read = True
        for piece, (i, parts) in enumerate(self.order):
            if i == writer:
                high = int(spans[i].last[parts].max())
                if was_read:
                    low = spans[i].ready(undone[i])
                    low = min(low, *(spans[r].low(undone[r]) for r in readers))
                    bursts.append((piece, low // LINE * LINE, high))
                else:
                    bursts[-1] = (*bursts[-1][:2], max(high, bursts[-1][2]))
            if i in undone:
                was_read = i != writer
                undone[i] &= ~parts
        return bursts

    def room(self, writer: int, *, spare: bool) -> int:
        """Return the elements that a plane of a step's ring must have.

        Args:
            writer: The step.
            spare: Whether to have room for one burst more, so that half as much is carried.
        """
        bursts = self.bursts(writer)
        grown = int(np.diff([high for _, _, high in bursts]).max(initial=0)) if spare else 0
        return max((high - low for _, low, high in bursts), default=0) + grown

    def moves(self, writer: int, stride: int) -> Moves:
        """Return how the rows move in a ring with `stride` elements a plane."""
        at = {piece: (low, high) for piece, low, high in self.bursts(writer)}
        shift, held, shifts, carries = 0, 0, [], {}
        for piece in range(len(self.order)):
            if piece in at:
                low, high = at[piece]
                if high - shift > stride:
                    if held > low:
                        carries[piece] = (low - shift, align_up(held - shift, LINE))
                    shift = low
                held = high
            shifts.append(shift)
        return Moves(shifts, carries)
