"""A Concat of what another Concat joins already reads that one's result instead.

    p = Concat(a, b)   q = Concat(a, b, c)   ->   p = Concat(a, b)   q = Concat(p, c)

A value lies in one place. Concats that share inputs, as those of all layers of a DenseNet do, each
want a copy of them; nested, each lies in the next larger one, and nothing is copied.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import onnx_ir as ir

from edgesparse.passes import editing
from edgesparse.passes.choose_layout import LAYOUT_KEY


class Join(NamedTuple):
    """What a Concat joins, seen through the Concats it reads.

    Attributes:
        axis: Not negative.
        values: In order.
    """

    axis: int
    values: tuple[ir.Value, ...]


class NestConcatsPass(ir.passes.InPlacePass):
    """Nest the Concats that join planes along their channels; others copy all the same.

    Any run of inputs is replaced that is all of another Concat, that of most channels first.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Nest smaller ones first: larger ones then hold them with what is in them."""
        joins = _find_joins(model.graph)
        wholes: dict[Join, ir.Value] = {}
        modified = False
        for node, join in sorted(joins.items(), key=lambda item: len(item[1].values)):
            result = node.outputs[0]
            if result.metadata_props.get(LAYOUT_KEY) != f"planes:{join.axis}":
                continue
            while (run := _largest_run(node, joins, wholes)) is not None:
                _replace(node, *run)
                modified = True
            wholes.setdefault(join, result)
        if modified:
            model.graph.sort()  # a smaller one may come behind a larger one
        return editing.Result(model, modified)


def _find_joins(graph: ir.Graph) -> dict[ir.Node, Join]:
    joins: dict[ir.Node, Join] = {}
    for node in graph:
        if editing.is_op(node, "Concat"):
            axis = node.attributes["axis"].as_int() % len(editing.shape_of(node.outputs[0]))
            parts = [_parts(editing.taken(node, i), axis, joins) for i in range(len(node.inputs))]
            joins[node] = Join(axis, tuple(itertools.chain(*parts)))
    return joins


def _parts(value: ir.Value, axis: int, joins: dict[ir.Node, Join]) -> tuple[ir.Value, ...]:
    """Return what a value joins along an axis, itself where it joins nothing."""
    maker = value.producer()
    join = None if maker is None else joins.get(maker)
    return join.values if join is not None and join.axis == axis else (value,)


def _largest_run(
    node: ir.Node, joins: dict[ir.Node, Join], wholes: dict[Join, ir.Value]
) -> tuple[int, int, ir.Value] | None:
    """Return the inputs first <= i < last that are all of another Concat, and its result."""
    axis, values = joins[node]
    counts = [len(_parts(editing.taken(node, i), axis, joins)) for i in range(len(node.inputs))]
    bounds = [0, *itertools.accumulate(counts)]
    sizes = {len(whole.values) for whole in wholes}
    runs = [
        (first, last, whole)
        for first, last in itertools.combinations(range(len(bounds)), 2)
        if last > first + 1
        and bounds[last] - bounds[first] in sizes  # a Concat may have thousands of inputs
        and (whole := wholes.get(Join(axis, values[bounds[first] : bounds[last]]))) is not None
    ]
    return max(runs, key=lambda run: editing.shape_of(run[2])[axis], default=None)


def _replace(node: ir.Node, first: int, last: int, whole: ir.Value) -> None:
    inputs = (*node.inputs[:first], whole, *node.inputs[last:])
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
