"""Permute the channels of the whole network so that rows which use like columns share a group.

    rows of one class, R = 2:   a . b .      a . b .      union columns of the groups:
                                . c . d  ->  e . f .      4 + 4  ->  2 + 2
                                e . f .      . c . d
                                . g . h      . g . h

What the network computes stays the same, up to the order in which sums are added: a class of
channels (see `edgesparse.channels`) is permuted everywhere at once, in the rows that make it, in
the columns that read it, and in the constants it meets in between. A class is left alone where its
operators are not predicted to gain.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.channels import ChannelClass, Channels, analyse
from edgesparse.formats import union_columns
from edgesparse.geometry import Operator, matrix_of, operator_of
from edgesparse.passes import editing
from edgesparse.passes.candidates import GROUPS, Candidate, predicted_us, ranked
from edgesparse.passes.permuting import permute
from edgesparse.passes.row_groups import RowGrouper
from edgesparse.target import Target

ORDER_KEY = "edgesparse.order"
# Rows of a group that orders are sought for: pairs, and pairs of pairs.
MATCHED = (2, 4, 8)
# Predicted speed-up of a class's operators from which on its channels are permuted.
MIN_GAIN = 1.01
# Orders that are predicted to take at most so many times the best one's time are refined.
NEAR = 1.02

Order = npt.NDArray[np.int64]
Weight = npt.NDArray[np.float32]


class ReorderChannelsPass(ir.passes.InPlacePass):
    """Permute channels where that is predicted to gain; write `edgesparse.order` where it did."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Permute every class that gains."""
        channels = analyse(model.graph)
        orders: dict[ChannelClass, Order] = {}
        for one in channels.classes:
            producers = _producers(one, self.target)
            if any(ORDER_KEY in producer.node.metadata_props for producer in producers):
                continue  # decided by an earlier run
            if producers and (choice := _choose(one, producers, self.target)) is not None:
                orders[one] = choice.order
        _explain_fixed(channels)
        permute(orders)
        return ir.passes.PassResult(model, modified=bool(orders))


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Producer:
    """An operator whose output channels are of the class.

    Attributes:
        node: The operator.
        operator: What it is to the kernels.
        weight: Its matrix, all rows.
        rows: (slots,) the class's rows in it.
        before: Its best candidate in the order it has.
    """

    node: ir.Node
    operator: Operator
    weight: Weight
    rows: Order
    before: Candidate

    def ordered(self, order: Order) -> Weight:
        """Return the matrix with the class's rows in another order."""
        weight: Weight = self.weight.copy()
        weight[self.rows] = self.weight[self.rows[order]]
        return weight

    @property
    def tiles(self) -> float:
        """Vectors of pixels: how often a column is loaded."""
        return -(-self.operator.out_layout.pixels // self.operator.out_layout.lanes)


def _producers(one: ChannelClass, target: Target) -> list[Producer]:
    """Return the operators of a class for which the order of rows matters."""
    found = []
    for member in one.of_role("rows"):
        node = member.port.node
        operator = operator_of(node, target.lanes)
        weight = matrix_of(node)
        if operator.kind != "spmm" or len(member.positions) != 1 or weight.all():
            continue
        before = ranked(operator, weight, target)[0]
        found.append(Producer(node, operator, weight, member.positions[0], before))
    return found


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """An order of a class's channels.

    Attributes:
        order: (slots,) the slot whose channel comes into each slot.
        group: Rows of a group it was made for.
        after: The best candidate of every producer.
    """

    order: Order
    group: int
    after: tuple[Candidate, ...]

    @property
    def cycles(self) -> float:
        """Predicted, of all producers."""
        return sum(candidate.cycles for candidate in self.after)


def _choose(one: ChannelClass, producers: Sequence[Producer], target: Target) -> Choice | None:
    """Return the best order of a class, or None where the one it has is about as good."""
    before = sum(producer.before.cycles for producer in producers)
    grouper = RowGrouper(
        [producer.weight[producer.rows] for producer in producers],
        [producer.tiles for producer in producers],
    )

    def evaluate(order: Order, group: int) -> Choice:
        after = tuple(_best(producer, order, target) for producer in producers)
        return Choice(order, group, after)

    groups = [group for group in MATCHED if one.size >= 2 * group]
    found = [evaluate(grouper.matched(group), group) for group in groups]
    if not found:
        return None
    close = min(before, NEAR * min(choice.cycles for choice in found))
    found += [
        evaluate(grouper.exchanged(choice.order, choice.group), choice.group)
        for choice in tuple(found)
        if choice.cycles <= close
    ]
    best = min(found, key=lambda choice: choice.cycles)
    gain = before / best.cycles
    if gain >= MIN_GAIN:
        for producer, candidate in zip(producers, best.after, strict=True):
            _explain(one, producer, candidate, best.order, target)
        return best
    for producer in producers:
        reason = f"the best order is predicted {gain:.3f}x as fast, less than {MIN_GAIN}x"
        _keep(producer.node, reason)
    return None


def _best(producer: Producer, order: Order, target: Target) -> Candidate:
    """Return the best candidate in a new order; some are as fast in any."""
    found = ranked(producer.operator, producer.ordered(order), target, GROUPS[1:])
    if not _is_ordered(producer.before):
        found.append(producer.before)
    return min(found, key=lambda candidate: candidate.cycles)


def _is_ordered(candidate: Candidate) -> bool:
    """Whether the order of rows matters: neither one at a time, nor where all are used."""
    return candidate.group > 1 and not candidate.outputs


def _explain(
    one: ChannelClass,
    producer: Producer,
    candidate: Candidate,
    order: Order,
    target: Target,
) -> None:
    """Write what reordering did for an operator: union columns and predicted time."""
    group = candidate.group
    before = union_columns(producer.weight, group)
    after = union_columns(producer.ordered(order), group)
    was, now = (
        predicted_us(producer.operator, each, target) for each in (producer.before, candidate)
    )
    loads = "its order does not matter"
    if _is_ordered(candidate):
        loads = f"{before} -> {after} column loads"
    shared = f", with {len(one.of_role('rows')) - 1} more" if len(one.of_role("rows")) > 1 else ""
    facts = {
        "reordered": True,
        "channels": one.size,
        "shared_with": [
            str(member.port.node.name)
            for member in one.of_role("rows")
            if member.port.node is not producer.node
        ],
        "group": group,
        "union_columns_before": before,
        "union_columns_after": after,
        "predicted_us_before": was,
        "predicted_us_after": now,
        "reason": f"{one.size} output channels reordered{shared}: {loads} in groups of {group},"
        f" predicted {was:.1f} -> {now:.1f} us",
    }
    producer.node.metadata_props[ORDER_KEY] = json.dumps(facts)


def _explain_fixed(channels: Channels) -> None:
    for node, reason in channels.fixed.items():
        if editing.is_linear(node) and ORDER_KEY not in node.metadata_props:
            _keep(node, reason)


def _keep(node: ir.Node, reason: str) -> None:
    facts = {"reordered": False, "reason": f"output channels keep their order: {reason}"}
    node.metadata_props[ORDER_KEY] = json.dumps(facts)
