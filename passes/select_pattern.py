"""Choose group, pattern set and tile of every linear operator from the cost model.

The choice, its reason and the runner-up are written to the node as JSON; lowering obeys it and the
report shows it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse import cost
from edgesparse.geometry import Operator, matrix_of, operator_of
from edgesparse.passes import editing
from edgesparse.passes.candidates import Candidate, predicted_us, ranked
from edgesparse.target import Target
from edgesparse.tiling import row_starts
from edgesparse.winograd import TAPS, products_of

DECISION_KEY = "edgesparse.decision"
# Rows of a depthwise tile: at a stride fewer rows of a window overlap.
DEPTHWISE_ROWS = 4
DEPTHWISE_ROWS_STRIDED = 2


class SelectPatternPass(ir.passes.InPlacePass):
    """Write `edgesparse.decision` on every linear operator."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Decide for every linear operator that has no decision yet."""
        nodes = editing.linear_nodes(model.graph)
        open_nodes = [node for node in nodes if DECISION_KEY not in node.metadata_props]
        for node in open_nodes:
            node.metadata_props[DECISION_KEY] = json.dumps(self.decide(node))
        return ir.passes.PassResult(model, modified=bool(open_nodes))

    def decide(self, node: ir.Node) -> dict[str, Any]:
        """Return the decision for one canonical Conv or Linear node."""
        return decide(node, self.target)


class UnstructuredPatternPass(SelectPatternPass):
    """Write the decision that does without choosing: sparse operators row by row, others dense.

    The control that `SelectPatternPass` is compared with; depthwise ones are the same in both.
    """

    def decide(self, node: ir.Node) -> dict[str, Any]:
        """Return the decision for one canonical Conv or Linear node."""
        if operator_of(node, self.target.lanes).kind == "depthwise":
            return super().decide(node)
        found = ranked_candidates(node, self.target)
        wanted = bool((matrix_of(node) == 0).any())
        chosen = next((c for c in found if (c.group == 1) == wanted), found[0])
        return decision_of(node, self.target, chosen, found)


def decide(node: ir.Node, target: Target) -> dict[str, Any]:
    """Return the decision for one canonical Conv or Linear node."""
    operator = operator_of(node, target.lanes)
    if operator.kind == "depthwise":
        return {**_facts(node), **_depthwise_decision(operator, target)}
    found = ranked_candidates(node, target)
    return decision_of(node, target, found[0], found)


def ranked_candidates(node: ir.Node, target: Target) -> list[Candidate]:
    """Return every candidate for a node that is not depthwise, the best predicted first."""
    return ranked(operator_of(node, target.lanes), matrix_of(node), target)


def decision_of(
    node: ir.Node, target: Target, chosen: Candidate, rivals: list[Candidate]
) -> dict[str, Any]:
    """Return the decision that `chosen` stands for, explained beside its rivals.

    Args:
        node: A canonical Conv or Linear, not depthwise.
        target: What is compiled for.
        chosen: One of `rivals`.
        rivals: What `ranked_candidates` returned.
    """
    operator, own = operator_of(node, target.lanes), node.metadata_props.get(editing.OWN_ZEROS)
    dense = chosen if own else ranked(operator, _dense_form(operator), target)[0]
    explained = _explain(operator, chosen, rivals, dense, target)
    if own:
        explained |= {"own_zeros": True, "reason": _own_reason(own, explained)}
    return {**_facts(node), **explained}


def _own_reason(own: str, explained: dict[str, Any]) -> str:
    rival = f"; next best {explained['runner_up']}" if explained["runner_up"] else ""
    return f"{own}; predicted {explained['predicted_us']:.1f} us{rival}"


def _facts(node: ir.Node) -> dict[str, Any]:
    return {
        "weight_shape": list(node.inputs[1].shape.numpy()),  # type: ignore[union-attr]
        "zeros": float(node.metadata_props.get("edgesparse.zeros", "0")),
        "structure": node.metadata_props.get("edgesparse.structure"),
    }


def _dense_form(operator: Operator) -> npt.NDArray[np.float32]:
    """The operator's matrix with no zeros but those between convolution groups."""
    block = np.ones(
        (operator.rows // operator.groups, operator.cols // operator.groups), np.float32
    )
    return np.kron(np.eye(operator.groups, dtype=np.float32), block)


def _explain(
    operator: Operator,
    best: Candidate,
    rivals: list[Candidate],
    dense: Candidate,
    target: Target,
) -> dict[str, Any]:
    rival = next((c for c in rivals if _format_of(c) != _format_of(best)), None)
    best_us, dense_us = (predicted_us(operator, c, target) for c in (best, dense))
    rival_us = predicted_us(operator, rival, target) if rival else None
    runner_up = f"{rival.label}: {rival_us:.1f} us" if rival else None
    speedup = dense_us / best_us if best_us else 1.0
    reason = f"predicted {best_us:.1f} us; dense would take {dense_us:.1f} us ({speedup:.2f}x)"
    if runner_up:
        reason += f"; next best {runner_up}"
    if best.outputs:
        growth = products_of(best.outputs) / TAPS**2
        reason += f"; zeros are not skipped, and the weights take {growth:.1f} times the memory"
    single = next((c for c in rivals if c.group == 1), None)
    if single and 1 not in (best.group, rival.group if rival else 1) and speedup > 1:
        reason += f"; {single.label}: {predicted_us(operator, single, target):.1f} us"
    return {
        "kernel": best.kernel,
        "format": best.label,
        "group": best.group,
        "patterns": list(best.patterns),
        "tile": best.tile_vectors,
        "k_blocks": best.k_blocks,
        "panel": best.panel,
        **({"lone": True} if best.lone else {}),
        **({"outputs": best.outputs, "block": best.block} if best.outputs else {}),
        "predicted_us": best_us,
        "predicted_dense_us": dense_us,
        "speedup": speedup,
        "runner_up": runner_up,
        "reason": reason,
    }


def _format_of(candidate: Candidate) -> tuple[Any, ...]:
    """Return what sets a candidate apart from others for people."""
    if candidate.outputs:
        return (candidate.kernel,)
    return candidate.group, candidate.patterns


def _depthwise_decision(operator: Operator, target: Target) -> dict[str, Any]:
    window, lanes = operator.window, operator.out_layout.lanes
    rows = DEPTHWISE_ROWS if window.strides[0] == 1 else DEPTHWISE_ROWS_STRIDED
    vectors = window.out_height * len(row_starts(window.out_width, lanes)) * operator.images
    taps = window.kernel[0] * window.kernel[1]
    cycles = cost.depthwise_cycles(taps, vectors, operator.rows, target.core)
    size = "1 tap" if taps == 1 else f"{taps} taps"
    predicted = cost.microseconds(cycles, target.core, operator.moved_bytes)
    return {
        "kernel": "depthwise",
        "format": "depthwise",
        "group": 1,
        "patterns": [],
        "tile": rows,
        "predicted_us": predicted,
        "predicted_dense_us": predicted,
        "speedup": 1.0,
        "runner_up": None,
        "reason": f"depthwise: {size} a channel, computed dense; predicted {predicted:.1f} us",
    }
