"""Check a plan without knowing how it was made.

Its steps are replayed over a map of the arena.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgesparse.plan import ALIGNMENT_BYTES, Arg, Call, Plan, Step, align_up, parts_of


def verify_plan(plan: Plan) -> None:
    """Check a plan by replaying it over a map of who wrote each aligned block of the arena.

    A read must find every block last written by the same buffer; a write claims its blocks. So a
    buffer whose contents were overwritten while still needed is found however offsets were chosen.

    Raises:
        ValueError: The plan is wrong; this is a bug of the compiler, not of the model.
    """
    written_outputs: set[int] = set()
    for index, step in enumerate(plan.steps):
        if step.symbol not in plan.kernels:
            raise ValueError(f"step {index} calls unknown kernel {step.symbol}")
        if step.parts != parts_of(plan.kernels[step.symbol]) or (step.parts or 1) < 1:
            raise ValueError(f"step {index} ({step.symbol}) has {step.parts} parts")
        for arg in step.args:
            if arg.space == "output" and "w" in arg.access:
                written_outputs.add(arg.index)
    _replay(plan, list(enumerate(plan.steps)))
    if plan.chains:
        _replay(plan, _with_chains(plan))
    if missing := set(range(len(plan.outputs))) - written_outputs:
        raise ValueError(f"outputs {sorted(missing)} are never written")


def _with_chains(plan: Plan) -> list[tuple[int, Step | Call]]:
    order: list[tuple[int, Step | Call]] = []
    chains = {step: chain for chain in plan.chains for step in range(chain.first, chain.last)}
    for index, step in enumerate(plan.steps):
        chain = chains.get(index)
        if chain is None:
            order.append((index, step))
        elif index == chain.first:
            order += [(call.step, call) for call in itertools.chain(*chain.shares)]
    return order


def _replay(plan: Plan, order: Sequence[tuple[int, Step | Call]]) -> None:
    owner = np.full(plan.arena_bytes // ALIGNMENT_BYTES, -1, np.int64)
    for index, step in order:
        for arg in step.args:
            _check_bounds(plan, index, arg)
        _check_aliasing(index, step)
        for arg in step.args:
            if arg.space == "arena" and "r" in arg.access:
                blocks = owner[_blocks(arg)]
                if not np.all(blocks == id(arg.buffer)):
                    name = arg.buffer.name if arg.buffer else "?"
                    raise ValueError(
                        f"step {index} ({step.symbol}) reads clobbered bytes of {name}"
                    )
        for arg in step.args:
            if arg.space == "arena" and "w" in arg.access:
                owner[_blocks(arg)] = id(arg.buffer)


def _blocks(arg: Arg) -> slice:
    start = arg.arena_offset_bytes
    return slice(start // ALIGNMENT_BYTES, -(-(start + arg.span_bytes) // ALIGNMENT_BYTES))


def _check_bounds(plan: Plan, index: int, arg: Arg) -> None:
    if arg.space == "arena":
        assert arg.buffer is not None
        end, limit = arg.offset_bytes + arg.span_bytes, align_up(arg.buffer.size_bytes)
        if arg.arena_offset_bytes + arg.span_bytes > plan.arena_bytes:
            raise ValueError(f"step {index} leaves the arena")
    elif arg.space == "weights":
        end, limit = arg.offset_bytes + arg.size_bytes, len(plan.weights)
    else:
        tensors = plan.inputs if arg.space == "input" else plan.outputs
        end, limit = arg.offset_bytes + arg.size_bytes, tensors[arg.index].size_bytes
    if arg.offset_bytes < 0 or end > limit:
        raise ValueError(f"step {index} touches {arg.space} bytes up to {end} of {limit}")
    if arg.space in ("weights", "input") and "w" in arg.access:
        raise ValueError(f"step {index} writes to {arg.space}")


def _check_aliasing(index: int, step: Step | Call) -> None:
    """A kernel is compiled as if its pointers never alias: what it writes nobody else may touch."""
    spans = [
        (arg.arena_offset_bytes, arg.arena_offset_bytes + arg.span_bytes, arg.access)
        for arg in step.args
        if arg.space == "arena"
    ]
    for i, (start, end, access) in enumerate(spans):
        for other_start, other_end, other_access in spans[i + 1 :]:
            overlaps = start < other_end and other_start < end
            if overlaps and ("w" in access or "w" in other_access):
                raise ValueError(f"step {index} ({step.symbol}) has overlapping arguments")
