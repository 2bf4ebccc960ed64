"""Classes of channels that may be permuted among themselves.

Channels (ties resolved) belong to one class when every port meets them alike: the same ports, with
the same fingerprints. A class has as many *slots* as channels; a permutation says which channel
goes into each slot, and every constant that meets the class is permuted along. Nothing is inserted
into the graph, and what it computes stays the same up to the order in which sums are added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from edgesparse.channels.labels import Kinds, mix
from edgesparse.channels.rules import follow
from edgesparse.channels.trace import Port, Trace

Order = npt.NDArray[np.int64]
# Of one port: the channel at each position, and its fingerprint there.
Occurrences = tuple[Order, Kinds]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A class at one port.

    Attributes:
        port: Where.
        positions: (occurrences, slots): where along the port's axis each slot stands.
    """

    port: Port
    positions: Order


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class ChannelClass:
    """Channels that may be permuted among themselves.

    Attributes:
        channels: (slots,) numbers that tell channels apart, in the order of their first port.
        members: The ports that meet them.
    """

    channels: Order
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """Number of slots."""
        return len(self.channels)

    def of_role(self, role: str) -> list[Member]:
        """Return the members of one role."""
        return [member for member in self.members if member.port.role == role]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Channels:
    """What is known of the channels of a graph.

    Attributes:
        classes: All with two slots or more.
        trace: Labels and ports they were made from.
        channel_of: (atoms,) the channel of each atom, ties resolved.
        fixed: Operator -> why its output channels stay where they are.
    """

    classes: tuple[ChannelClass, ...]
    trace: Trace
    channel_of: Order
    fixed: Mapping[ir.Node, str]

    @property
    def count(self) -> int:
        """Number of channels."""
        return _count(self.channel_of)


def _count(channel_of: Order) -> int:
    return int(channel_of.max(initial=-1)) + 1


def analyse(graph: ir.Graph) -> Channels:
    """Follow the channels through a graph of canonical operators."""
    trace = Trace()
    for node in graph:
        follow(trace, node)
    for output in graph.outputs:
        trace.pin(trace.of(output), "they are an output of the model")
    channel_of = _resolve_ties(trace)
    occurrences = _occurrences(trace, channel_of)
    movable, pinned = _movable(trace, channel_of, occurrences)
    classes = _classes(trace, occurrences, movable)
    return Channels(classes, trace, channel_of, _why_fixed(trace, channel_of, movable, pinned))


def _resolve_ties(trace: Trace) -> Order:
    empty = np.zeros(0, np.int64)
    left = np.concatenate([empty, *(tie[0] for tie in trace.ties)])
    right = np.concatenate([empty, *(tie[1] for tie in trace.ties)])
    ones = np.ones(len(left), np.int8)
    edges = coo_array((ones, (left, right)), shape=(trace.count, trace.count))
    labels: npt.NDArray[Any] = connected_components(edges, directed=False)[1]
    return labels.astype(np.int64)


def _occurrences(trace: Trace, channel_of: Order) -> list[Occurrences]:
    """Return for every port the channel at each position, and its fingerprint there."""
    return [
        (channel_of[port.atoms], mix(port.kinds, number + 1))
        for number, port in enumerate(trace.ports)
    ]


def _movable(
    trace: Trace, channel_of: Order, occurrences: Sequence[Occurrences]
) -> tuple[npt.NDArray[np.bool_], dict[int, str]]:
    """Return which channels are not pinned, and for some of the others why they are."""
    movable = np.ones(_count(channel_of), bool)
    reasons: dict[int, str] = {}

    def pin(channels: Order, reason: str) -> None:
        fresh = channels[movable[channels]]
        movable[fresh] = False
        reasons.update(dict.fromkeys(fresh.tolist(), reason))

    for atoms, reason in trace.pinned:
        pin(np.unique(channel_of[atoms]), reason)
    for port, (channels, kinds) in zip(trace.ports, occurrences, strict=True):
        order = np.lexsort((kinds, channels))
        same = (np.diff(channels[order]) == 0) & (np.diff(kinds[order]) == 0)
        doubled = np.unique(channels[order][1:][same])
        pin(doubled, f"several of them are one channel to {port.node.op_type} {port.node.name}")
    return movable, reasons


def _classes(
    trace: Trace, occurrences: Sequence[Occurrences], movable: npt.NDArray[np.bool_]
) -> tuple[ChannelClass, ...]:
    signature = np.zeros(len(movable), np.uint64)
    seen = np.zeros(len(movable), bool)
    first = np.full(len(movable), np.iinfo(np.int64).max)
    start = 0
    for channels, kinds in occurrences:
        np.add.at(signature, channels, mix(kinds))
        seen[channels] = True
        np.minimum.at(first, channels, start + np.arange(len(channels)))
        start += len(channels)
    candidates = np.nonzero(movable & seen)[0]
    candidates = candidates[np.lexsort((first[candidates], signature[candidates]))]
    bounds = np.nonzero(np.diff(signature[candidates]))[0] + 1
    groups = [group for group in np.split(candidates, bounds) if len(group) > 1]
    groups.sort(key=lambda group: int(first[group[0]]))
    return _with_members(trace, occurrences, groups, len(movable))


def _with_members(
    trace: Trace,
    occurrences: Sequence[Occurrences],
    groups: Sequence[Order],
    count: int,
) -> tuple[ChannelClass, ...]:
    class_of, slot_of = np.full(count, -1), np.zeros(count, np.int64)
    for number, group in enumerate(groups):
        class_of[group], slot_of[group] = number, np.arange(len(group))
    members: list[list[Member]] = [[] for _ in groups]
    for port, (channels, kinds) in zip(trace.ports, occurrences, strict=True):
        classes = class_of[channels]
        for number in np.unique(classes[classes >= 0]).tolist():
            at = np.nonzero(classes == number)[0]
            order = np.lexsort((slot_of[channels[at]], kinds[at]))
            positions = at[order].reshape(-1, len(groups[number]))
            members[number].append(Member(port, positions))
    return tuple(
        ChannelClass(group, tuple(found)) for group, found in zip(groups, members, strict=True)
    )


def _why_fixed(
    trace: Trace,
    channel_of: Order,
    movable: npt.NDArray[np.bool_],
    reasons: Mapping[int, str],
) -> dict[ir.Node, str]:
    fixed = {}
    for port in trace.ports:
        channels = channel_of[port.atoms]
        pinned = channels[~movable[channels]]
        if port.role == "rows" and len(pinned):
            fixed[port.node] = reasons[int(pinned[0])]
    return fixed
