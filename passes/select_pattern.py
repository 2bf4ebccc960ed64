"""Choose group, pattern set and tile of every linear operator from the cost model.

Every candidate is lossless: the pattern set either holds every mask that occurs, or the full mask,
under which rarer masks are stored with explicit zeros. The choice, its reason and the runner-up are
written to the node as JSON; lowering obeys it and the report shows it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse import cost, kernels_arm, kernels_wasm
from edgesparse.formats import all_patterns, full_pattern
from edgesparse.geometry import Operator, matrix_of, operator_of
from edgesparse.target import Target
from edgesparse.tiling import row_starts

DECISION_KEY = "edgesparse.decision"
LINEAR_OPS = ("Conv", "Linear")
GROUPS = (1, 2, 4, 8)
GEMV_LANES = (1, 4, 8, 16)
X86_TILES: dict[int, tuple[int, ...]] = dict.fromkeys(GROUPS, (1, 2, 3, 4, 5, 6, 7, 8, 10, 12))
# More bucket loops than this cost more code and mispredictions than the cost model sees.
MAX_PATTERNS = 24
# Predicted speed-up from which on a format that skips zeros is preferred to one that does not.
MIN_GAIN = 1.08
# ... where at least this share of the weights is not zero.
FEW_ZEROS = 0.75
# Blocks of columns, and how many columns one must have to be worth a loop of its own.
K_BLOCKS = (1, 2, 4, 8, 16)
MIN_COLUMNS = 32
# Rows of a depthwise tile: at a stride fewer rows of a window overlap.
DEPTHWISE_ROWS = 4
DEPTHWISE_ROWS_STRIDED = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One way to compile a linear operator.

    Attributes:
        group: Rows of a group.
        patterns: Pattern set.
        tile_vectors: Vectors of a tile.
        k_blocks: Blocks that the columns come in.
        cycles: Predicted.
        label: For people.
    """

    group: int
    patterns: tuple[int, ...]
    tile_vectors: int
    k_blocks: int
    cycles: float
    label: str


class SelectPatternPass(ir.passes.InPlacePass):
    """Write `edgesparse.decision` on every linear operator."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Decide for every linear operator that has no decision yet."""
        modified = False
        for node in model.graph:
            if node.domain != "edgesparse" or node.op_type not in LINEAR_OPS:
                continue
            if DECISION_KEY in node.metadata_props:
                continue
            node.metadata_props[DECISION_KEY] = json.dumps(decide(node, self.target))
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def decide(node: ir.Node, target: Target) -> dict[str, Any]:
    """Return the decision for one canonical Conv or Linear node."""
    operator = operator_of(node, target.lanes)
    if operator.kind == "depthwise":
        return {**_facts(node, operator), **_depthwise_decision(operator, target)}
    ranked = ranked_candidates(node, target)
    return decision_of(node, target, ranked[0], ranked)


def ranked_candidates(node: ir.Node, target: Target) -> list[Candidate]:
    """Return every candidate for a node that is not depthwise, the best predicted first.

    Where zeros are few and skipping them is predicted to gain next to nothing, the kernel that
    skips none comes first: predictions are not that exact, and a sparse build must not be slower
    than a dense one.
    """
    operator = operator_of(node, target.lanes)
    weight = matrix_of(node)
    ranked = sorted(_candidates(operator, weight, target), key=lambda c: c.cycles)
    if operator.groups * np.count_nonzero(weight) < FEW_ZEROS * weight.size:
        return ranked
    safe = next((c for c in ranked if len(c.patterns) == 1 and c.group > 1), ranked[0])
    if safe.cycles < MIN_GAIN * ranked[0].cycles:
        ranked.remove(safe)
        ranked.insert(0, safe)
    return ranked


def decision_of(
    node: ir.Node, target: Target, chosen: Candidate, ranked: list[Candidate]
) -> dict[str, Any]:
    """Return the decision that `chosen` stands for, explained beside its rivals.

    Args:
        node: A canonical Conv or Linear, not depthwise.
        target: What is compiled for.
        chosen: One of `ranked`.
        ranked: What `ranked_candidates` returned.
    """
    operator = operator_of(node, target.lanes)
    dense = min(_candidates(operator, _dense_form(operator), target), key=lambda c: c.cycles)
    return {**_facts(node, operator), **_explain(chosen, ranked, dense, target)}


def _facts(node: ir.Node, operator: Operator) -> dict[str, Any]:
    return {
        "weight_shape": list(node.inputs[1].shape.numpy()),  # type: ignore[union-attr]
        "zeros": float(node.metadata_props.get("edgesparse.zeros", "0")),
        "structure": node.metadata_props.get("edgesparse.structure"),
        "kernel": operator.kind,
    }


def _dense_form(operator: Operator) -> npt.NDArray[np.float32]:
    """The operator's matrix with no zeros but those between convolution groups."""
    block = np.ones(
        (operator.rows // operator.groups, operator.cols // operator.groups), np.float32
    )
    return np.kron(np.eye(operator.groups, dtype=np.float32), block)


def _candidates(
    operator: Operator, weight: npt.NDArray[np.float32], target: Target
) -> Iterator[Candidate]:
    if operator.kind == "gemv":
        yield from _gemv_candidates(weight, target)
        return
    for group in GROUPS:
        if group > 1 and group > operator.rows:
            continue
        for label, patterns in _pattern_sets(weight, group):
            work = cost.work_of(weight, group, patterns, operator.window.kernel[1])
            for vectors in _tiles(target)[group]:
                if (group, vectors) == (1, 1) or cost.fits_registers(group, vectors, target.core):
                    yield from _tile_candidates(
                        operator, work, group, patterns, vectors, label, target
                    )


def _tile_candidates(
    operator: Operator,
    work: cost.Work,
    group: int,
    patterns: tuple[int, ...],
    vectors: int,
    label: str,
    target: Target,
) -> Iterator[Candidate]:
    lanes = operator.out_layout.lanes
    blocks = operator.blocks(vectors)
    for k_blocks in K_BLOCKS:
        if k_blocks > 1 and operator.cols < k_blocks * MIN_COLUMNS:
            break
        cycles = cost.spmm_cycles(work, blocks, lanes, target.core, k_blocks)
        cut = f", {k_blocks} column blocks" if k_blocks > 1 else ""
        name = f"{group}x{vectors * lanes}, {label}{cut}"
        yield Candidate(group, patterns, vectors, k_blocks, cycles, name)


def _tiles(target: Target) -> dict[int, tuple[int, ...]]:
    """Return group -> vectors of a tile worth trying."""
    tables = {"aarch64": kernels_arm.TILES, "wasm32": kernels_wasm.TILES}
    return tables.get(target.architecture, X86_TILES)


def _pattern_sets(
    weight: npt.NDArray[np.float32], group: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Lossless pattern sets: the masks that occur (when few), and the full mask alone."""
    occurring = tuple(m for m, n in cost.work_of(weight, group).steps.items() if n)
    full = full_pattern(group)
    if occurring and occurring != full and len(occurring) <= MAX_PATTERNS:
        label = "all patterns" if occurring == all_patterns(group) else f"{len(occurring)} patterns"
        yield label, occurring
    yield "unstructured" if group == 1 else "full pattern", full


def _gemv_candidates(weight: npt.NDArray[np.float32], target: Target) -> Iterator[Candidate]:
    for lanes in GEMV_LANES:
        if lanes > target.lanes:
            continue
        stored = sum(cost.work_of(weight, lanes, full_pattern(lanes)).steps.values()) * lanes
        cycles = cost.gemv_cycles(stored, lanes, target.core)
        label = f"{lanes} rows a vector" if lanes > 1 else "row by row"
        yield Candidate(lanes, full_pattern(lanes), 1, 1, cycles, label)


def _explain(
    best: Candidate, ranked: list[Candidate], dense: Candidate, target: Target
) -> dict[str, Any]:
    rival = next((c for c in ranked if (c.group, c.patterns) != (best.group, best.patterns)), None)
    best_us, dense_us = (cost.microseconds(c.cycles, target.core) for c in (best, dense))
    rival_us = cost.microseconds(rival.cycles, target.core) if rival else None
    runner_up = f"{rival.label}: {rival_us:.1f} us" if rival else None
    speedup = dense_us / best_us if best_us else 1.0
    reason = f"predicted {best_us:.1f} us; dense would take {dense_us:.1f} us ({speedup:.2f}x)"
    if runner_up:
        reason += f"; next best {runner_up}"
    return {
        "format": best.label,
        "group": best.group,
        "patterns": list(best.patterns),
        "tile": best.tile_vectors,
        "k_blocks": best.k_blocks,
        "predicted_us": best_us,
        "predicted_dense_us": dense_us,
        "speedup": speedup,
        "runner_up": runner_up,
        "reason": reason,
    }


def _depthwise_decision(operator: Operator, target: Target) -> dict[str, Any]:
    window, lanes = operator.window, operator.out_layout.lanes
    rows = DEPTHWISE_ROWS if window.strides[0] == 1 else DEPTHWISE_ROWS_STRIDED
    vectors = window.out_height * len(row_starts(window.out_width, lanes)) * operator.images
    taps = window.kernel[0] * window.kernel[1]
    cycles = cost.depthwise_cycles(taps, vectors, operator.rows, target.core)
    predicted = cost.microseconds(cycles, target.core)
    return {
        "format": "depthwise",
        "group": 1,
        "patterns": [],
        "tile": rows,
        "predicted_us": predicted,
        "predicted_dense_us": predicted,
        "speedup": 1.0,
        "runner_up": None,
        "reason": f"depthwise: {taps} taps a channel, computed dense; predicted {predicted:.1f} us",
    }
