"""A pixel more than whole vectors of sixteen, computed with rows in the lanes."""

import dataclasses
import re

import numpy as np
import pytest
from compiled import assert_same_as_onnxruntime
from kernel_runner import AVX512
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import codegen, cost, formats, tiling
from edgesparse.kernels.shares import touched
from edgesparse.kernels.spmm import Spmm
from edgesparse.passes import candidates
from edgesparse.target import X86_AVX512, resolve_target


@pytest.fixture
def only(monkeypatch):
    """A host for which nothing but tiles of so many rows and vectors are offered."""

    def target_of(group, vectors, k_blocks=1):
        monkeypatch.setattr(candidates, "GROUPS", (group,))
        monkeypatch.setattr(candidates, "X86_TILES", {group: (vectors,)})
        monkeypatch.setattr(candidates, "GEMM_TILES", ())
        monkeypatch.setattr(candidates, "K_BLOCKS", (k_blocks,))
        monkeypatch.setattr(candidates, "MIN_COLUMNS", 1)
        host = resolve_target("host")
        return dataclasses.replace(host, lanes=16, core=X86_AVX512)

    return target_of


def lone_of(plan):
    (kernel,) = (kernel for kernel in plan.kernels.values() if isinstance(kernel, Spmm))
    (block,) = kernel.blocks
    return kernel, block.lone


@pytest.mark.parametrize("k_blocks", [1, 2])
@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("missing", [0, 1, 3])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_pointwise(only, group, missing, density, k_blocks):
    """Whole groups and a smaller last one, of each pattern; partial sums wait in the output."""
    rows = 5 * group - missing
    model = conv_model([1, 40, 7, 7], sparse((rows, 40, 1, 1), density), relu=True)
    plan = assert_same_as_onnxruntime(model, target=only(group, 3, k_blocks))
    kernel, lone = lone_of(plan)
    assert (kernel.group, kernel.k_blocks, lone) == (group, k_blocks, (48, 48))


@pytest.mark.parametrize(("size", "vectors"), [((1, 17), 1), ((3, 11), 2), ((9, 9), 5)])
def test_planes(only, size, vectors):
    model = conv_model([1, 9, *size], sparse((6, 9, 1, 1), 0.6))
    _, lone = lone_of(assert_same_as_onnxruntime(model, target=only(2, vectors)))
    assert lone == (16 * vectors,) * 2


@pytest.mark.parametrize("images", [1, 2])
def test_tight_windows(only, images):
    """Seven elements a row, of which five are outputs: the last of 33 is alone."""
    model = conv_model([images, 6, 5, 5], sparse((11, 6, 3, 3), 0.6), relu=True, pads=[1] * 4)
    _, lone = lone_of(assert_same_as_onnxruntime(model, target=only(2, 2)))
    assert lone == (32, 32)


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish"])
def test_residual_before_activation(only, activation):
    shape = [1, 10, 7, 7]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Add", ["c", "r"], ["s"], "add"),
        helper.make_node(activation, ["s"], ["y"], "activation"),
    ]
    weight = sparse((10, 6, 1, 1), 0.5)
    model = model_of(nodes, {"x": [1, 6, 7, 7], "r": shape}, {"y": shape}, {"w": weight})
    _, lone = lone_of(assert_same_as_onnxruntime(model, target=only(4, 3)))
    assert lone


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads(only, threads):
    model = conv_model([1, 40, 7, 7], sparse((70, 40, 1, 1), 0.5), relu=True)
    assert_same_as_onnxruntime(model, target=only(4, 3), threads=threads)


def test_panels_do_without(only):
    """They hold vectors."""
    target = only(2, 3)
    core = dataclasses.replace(target.core, panel_cycles=1e-9)
    model = conv_model([1, 40, 7, 7], sparse((16, 40, 1, 1), 0.6))
    _, lone = lone_of(
        assert_same_as_onnxruntime(model, target=dataclasses.replace(target, core=core))
    )
    assert lone


def test_only_where_a_vector_is_wide_and_one_tile_holds_the_rest():
    assert [block.lone for block in tiling.flat_blocks(49, 16, 3)] == [(48, 48)]
    for pixels, lanes, vectors in [(49, 16, 4), (50, 16, 3), (48, 16, 3), (49, 4, 12)]:
        blocks = tiling.flat_blocks(pixels, lanes, vectors)
        assert not any(block.lone for block in blocks)
        assert sum(block.tiles * len(block.vectors) for block in blocks) == -(-pixels // lanes)


def test_parts_touch_it():
    (block,) = tiling.flat_blocks(49, 16, 3)
    assert set(touched((block,), 16, 2, 0)) == {(0, 49, 0, 49)}


def test_it_costs_less_than_a_vector():
    work = cost.work_of(np.ones((64, 64), np.float32), 4)
    with_one, with_four = (
        cost.spmm_cycles(work, tiling.flat_blocks(49, 16, vectors), 16, X86_AVX512)
        for vectors in (3, 4)
    )
    without = cost.spmm_cycles(work, tiling.flat_blocks(48, 16, 3), 16, X86_AVX512)
    assert without < with_one < with_four


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_no_spill_and_a_multiply_add_a_column(group):
    patterns = formats.full_pattern(group)
    kernel = Spmm(64, group, patterns, 16, tiling.flat_blocks(49, 16, 3), 64, rolled=True)
    code = codegen.build_module({"k": kernel.emit("k")}, AVX512).inspect_source("s")
    assert len(re.findall(r"\tvfmadd\w+\t.*%zmm", code)) == 3 * group
    assert len(re.findall(r"\tvfmadd\w+\t.*%[xy]mm\d+$", code, re.M)) == 1
    assert not re.search(r"vmov\w+\t[^\n]*\(%rsp\)[^\n]*%zmm|%zmm\d+, [^\n]*\(%rsp\)", code)
