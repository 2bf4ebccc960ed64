"""The allocator never overlaps live buffers, and the verifier would notice if it did."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesparse.plan import Arg, Buffer, Plan, Step, TensorSpec, align_up, allocate
from edgesparse.verify import verify_plan

lifetimes = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=25
)


def buffers_of(spans):
    return [
        Buffer(f"b{i}", size, first, first + length)
        for i, (size, first, length) in enumerate(spans)
    ]


@given(lifetimes)
def test_live_buffers_never_overlap(spans):
    buffers = buffers_of(spans)
    arena, bound = allocate(buffers)
    for a, b in itertools.combinations(buffers, 2):
        if a.first <= b.last and b.first <= a.last:
            a_end = a.offset_bytes + align_up(a.size_bytes)
            b_end = b.offset_bytes + align_up(b.size_bytes)
            assert a_end <= b.offset_bytes or b_end <= a.offset_bytes
    assert bound <= arena
    assert all(buffer.offset_bytes % 64 == 0 for buffer in buffers)


def test_a_chain_needs_two_buffers():
    buffers = [Buffer(f"b{i}", 640, i, i + 1) for i in range(10)]
    assert allocate(buffers) == (1280, 1280)


def chain():
    """in -> a -> b -> out."""
    a, b = Buffer("a", 64, 0, 1), Buffer("b", 64, 1, 2)
    steps = (
        Step("k", (Arg("input", 0, 64, "r", index=0), Arg("arena", 0, 64, "w", a)), 0),
        Step("k", (Arg("arena", 0, 64, "r", a), Arg("arena", 0, 64, "w", b)), 0),
        Step("k", (Arg("arena", 0, 64, "r", b), Arg("output", 0, 64, "w", index=0)), 0),
    )
    arena, bound = allocate([a, b])
    tensor = TensorSpec("x", (16,))
    return Plan("m", (tensor,), (tensor,), {"k": None}, steps, (), b"", arena, bound), a, b


def test_a_right_plan_passes():
    verify_plan(chain()[0])


def test_overlapping_arguments_are_found():
    plan, a, b = chain()
    b.offset_bytes = a.offset_bytes
    with pytest.raises(ValueError, match="overlapping"):
        verify_plan(plan)


def test_a_clobbered_buffer_is_found():
    plan, a, _ = chain()
    late = Step("k", (Arg("arena", 0, 64, "r", a), Arg("output", 0, 64, "w", index=0)), 0)
    clobber = Buffer("c", 64, 3, 3, a.offset_bytes)
    write = Step("k", (Arg("arena", 0, 64, "w", clobber),), 0)
    plan.steps = (*plan.steps, write, late)
    with pytest.raises(ValueError, match="clobbered"):
        verify_plan(plan)


def test_reading_what_was_never_written_is_found():
    plan, _, _ = chain()
    plan.steps = plan.steps[1:]
    with pytest.raises(ValueError, match="clobbered"):
        verify_plan(plan)


def test_leaving_a_buffer_is_found():
    plan, _, _ = chain()
    long = dataclasses.replace(plan.steps[2].args[0], size_bytes=128)
    plan.steps = (*plan.steps[:2], Step("k", (long, plan.steps[2].args[1]), 0))
    with pytest.raises(ValueError, match=r"leaves the arena|touches arena"):
        verify_plan(plan)


def test_an_output_nobody_writes_is_found():
    plan, _, _ = chain()
    plan.steps = plan.steps[:2]
    with pytest.raises(ValueError, match="never written"):
        verify_plan(plan)


def test_an_unknown_kernel_is_found():
    plan, _, _ = chain()
    plan.kernels = {}
    with pytest.raises(ValueError, match="unknown kernel"):
        verify_plan(plan)


def test_writing_to_weights_is_found():
    plan, _, _ = chain()
    plan.weights = bytes(64)
    plan.steps = (*plan.steps, Step("k", (Arg("weights", 0, 64, "w"),), 0))
    with pytest.raises(ValueError, match="writes to weights"):
        verify_plan(plan)
