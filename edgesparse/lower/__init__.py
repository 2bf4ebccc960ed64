"""Lowering: every node of the optimised graph becomes kernel calls.

`LOWERINGS` is one table, operator -> function; one file holds the functions of one family.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from edgesparse.geometry import operator_of
from edgesparse.lower import activation, attention, linear, movement, pool, reduce, topi
from edgesparse.lower.builder import PlanBuilder, shape_of, wanted_layout
from edgesparse.lower.placement import find_places
from edgesparse.plan import Layer, Plan
from edgesparse.target import Target
from edgesparse.verify import verify_plan

Lowering = Callable[[PlanBuilder, ir.Node], None]

LOWERINGS: dict[str, Lowering] = {
    **topi.LOWERINGS,  # first: a family with kernels of its own wins
    **linear.LOWERINGS,
    **activation.LOWERINGS,
    **pool.LOWERINGS,
    **reduce.LOWERINGS,
    **attention.LOWERINGS,
    **movement.LOWERINGS,
}

# Other operators of our own domain (Silu, Gelu, ...) mean what ONNX's of that name mean or would.
SUPPORTED = frozenset(LOWERINGS) | {f"edgesparse::{name}" for name in LOWERINGS if "::" not in name}


def lower(model: ir.Model, target: Target, name: str) -> Plan:
    """Return the plan of an optimised model.

    Args:
        model: What `passes.run` returned.
        target: What is compiled for.
        name: C identifier that prefixes every symbol.
    """
    places = find_places(model.graph, lambda value: wanted_layout(value, target.lanes))
    builder = PlanBuilder(name, target, places)
    builder.begin_layer(_bookkeeping("inputs", "Copy", "the caller's arrays go into the arena"))
    inputs = builder.add_inputs(model.graph.inputs)
    for node in model.graph:
        builder.begin_layer(layer_of(node))
        lowering_of(node)(builder, node)
    builder.begin_layer(_bookkeeping("outputs", "Copy", "results go to the caller's arrays"))
    outputs = builder.write_outputs(model.graph.outputs)
    plan = builder.finish(inputs, outputs)
    verify_plan(plan)
    return plan


def lowering_of(node: ir.Node) -> Lowering:
    """Return the function that lowers a node; the caller made sure that it is supported."""
    return LOWERINGS.get(f"{node.domain}::{node.op_type}") or LOWERINGS[node.op_type]


def layer_of(node: ir.Node) -> Layer:
    """Return how people see a node: its name, operators, work, and the decision taken for it."""
    before, after = (
        node.metadata_props.get(f"edgesparse.{key}", "").split(",")
        for key in ("fused_before", "fused")
    )
    own = node.metadata_props.get("edgesparse.spelled", node.op_type)
    op = "+".join(part for part in (*before, own, *after) if part)
    shape = shape_of(node.outputs[0])
    decision: dict[str, Any] = {"reason": "no weights; computed as it is", "format": ""}
    macs = nonzero = 0
    if "edgesparse.decision" in node.metadata_props:
        decision = json.loads(node.metadata_props["edgesparse.decision"])
        macs = operator_of(node, 1).macs
        nonzero = round(macs * (1 - decision["zeros"]))
        macs = nonzero if decision.get("own_zeros") else macs
    if "edgesparse.order" in node.metadata_props:
        decision["order"] = json.loads(node.metadata_props["edgesparse.order"])
    if "edgesparse.removed" in node.metadata_props:
        decision["removed"] = int(node.metadata_props["edgesparse.removed"])
    declined = {
        key.rpartition(".")[2]: reason
        for key, reason in node.metadata_props.items()
        if key.startswith("edgesparse.declined.")
    }
    if declined:
        decision = {**decision, "declined": declined}
    return Layer(node.name or node.op_type, op, shape, macs, nonzero, decision)


def _bookkeeping(name: str, op: str, reason: str) -> Layer:
    return Layer(name, op, (), 0, 0, {"reason": reason, "format": ""})
