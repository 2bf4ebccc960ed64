"""A pixel more than whole vectors, computed with rows in the lanes."""

import dataclasses
import re

import numpy as np
import onnx_ir as ir
import pytest
from compiled import assert_same_as_onnxruntime
from kernel_runner import AVX512
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import codegen, cost, formats, passes, tiling
from edgesparse.cpu_model import V8_X86, X86_AVX512
from edgesparse.geometry import operator_of
from edgesparse.kernels.shares import touched
from edgesparse.kernels.spmm import Spmm
from edgesparse.passes import candidates, editing
from edgesparse.target import resolve_target


@pytest.fixture
def only(monkeypatch):
    """A host for which nothing but tiles of so many rows and vectors, and one, are offered."""

    def target_of(group, vectors, k_blocks=1, lanes=16):
        monkeypatch.setattr(candidates, "GROUPS", (group,))
        monkeypatch.setattr(candidates, "X86_TILES", {group: (vectors,)})
        monkeypatch.setattr(candidates, "GEMM_TILES", ())
        monkeypatch.setattr(candidates, "K_BLOCKS", (k_blocks,))
        monkeypatch.setattr(candidates, "MIN_COLUMNS", 1)
        monkeypatch.setattr(candidates, "_lone", lambda operator: (operator.may_be_lone,))
        host = resolve_target("host")
        return dataclasses.replace(host, lanes=lanes, core=X86_AVX512)

    return target_of


def lone_of(plan):
    """The product of a plan, and the pixel that has no vector."""
    (kernel,) = (kernel for kernel in plan.kernels.values() if isinstance(kernel, Spmm))
    assert all(block.lone is None and block.vectors for block in kernel.blocks[:-1])
    assert (len(kernel.blocks) == 1) == bool(kernel.blocks[-1].vectors)
    return kernel, kernel.blocks[-1].lone


@pytest.mark.parametrize("k_blocks", [1, 2])
@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("missing", [0, 1, 3])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize("lanes", [4, 16])
def test_pointwise(only, lanes, group, missing, density, k_blocks):
    """Whole groups and a smaller last one, of each pattern; partial sums wait in the output."""
    rows = 5 * group - missing
    model = conv_model([1, 40, 7, 7], sparse((rows, 40, 1, 1), density), relu=True)
    plan = assert_same_as_onnxruntime(model, target=only(group, 3, k_blocks, lanes))
    kernel, lone = lone_of(plan)
    assert (kernel.group, kernel.k_blocks, lone) == (group, k_blocks, (48, 48))


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize(("size", "vectors"), [((1, 17), 1), ((3, 11), 2), ((9, 9), 5)])
def test_planes(only, size, vectors, lanes):
    model = conv_model([1, 9, *size], sparse((6, 9, 1, 1), 0.6))
    kernel, lone = lone_of(assert_same_as_onnxruntime(model, target=only(2, vectors, 1, lanes)))
    assert lone == (16 * vectors,) * 2
    assert len(kernel.blocks) == (1 if lanes == 16 else 2)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("vectors", [1, 2])
def test_tight_windows(only, images, vectors):
    """Seven elements a row, of which five are outputs: the last of 33 is alone."""
    model = conv_model([images, 6, 5, 5], sparse((11, 6, 3, 3), 0.6), relu=True, pads=[1] * 4)
    _, lone = lone_of(assert_same_as_onnxruntime(model, target=only(2, vectors)))
    assert lone == (32, 32)


def test_columns_that_no_pixel_shares(only):
    """Buckets of none, of fewer than there are chains, and of a multiple of them."""
    weight = np.zeros((16, 24, 1, 1), np.float32)
    for row, columns in enumerate([0, 1, 3, 4, 5, 7, 8, 24] * 2):
        weight[row, :columns] = sparse((columns, 1, 1), 1.0)
    plan = assert_same_as_onnxruntime(conv_model([1, 24, 7, 7], weight), target=only(2, 3, 1, 4))
    assert lone_of(plan)[1]


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
@pytest.mark.parametrize("lanes", [4, 16])
def test_threads(only, threads, lanes):
    model = conv_model([1, 40, 7, 7], sparse((70, 40, 1, 1), 0.5), relu=True)
    assert_same_as_onnxruntime(model, target=only(4, 3, 1, lanes), threads=threads)


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("density", [0.5, 1.0])
@pytest.mark.parametrize("k_blocks", [1, 2])
def test_a_panel_holds_it_where_it_stands_alone(only, group, density, k_blocks):
    target = only(group, 2, k_blocks, lanes=4)
    core = dataclasses.replace(target.core, in_order=True, panel_cycles=1)
    model = conv_model([1, 40, 7, 7], sparse((23, 40, 1, 1), density), relu=True)
    kernel, lone = lone_of(
        assert_same_as_onnxruntime(model, target=dataclasses.replace(target, core=core))
    )
    assert (kernel.panel, kernel.halves, lone) == (40, True, (48, 48))


def test_panels_do_without_where_it_joins_a_tile(only):
    target = only(2, 3)
    core = dataclasses.replace(target.core, panel_cycles=1e-9)
    model = conv_model([1, 40, 7, 7], sparse((16, 40, 1, 1), 0.6))
    _, lone = lone_of(
        assert_same_as_onnxruntime(model, target=dataclasses.replace(target, core=core))
    )
    assert lone


@pytest.mark.parametrize(
    ("pixels", "lanes"), [(50, 16), (48, 16), (50, 4), (48, 4), (51, 4), (49, 1), (1, 4), (5, 8)]
)
def test_only_of_one_pixel_more_than_whole_vectors(pixels, lanes):
    assert not tiling.leaves_one(pixels, lanes)
    assert tiling.leaves_one(3 * lanes + 1, lanes) == (lanes > 1)


@pytest.mark.parametrize(("lanes", "vectors"), [(4, 12), (4, 2), (4, 5), (8, 6), (16, 2), (16, 3)])
def test_it_joins_the_only_tile_where_vectors_are_wide(lanes, vectors):
    *tiles, last = tiling.flat_blocks(49, lanes, vectors, lone=True)
    assert last.lone == (48, 48)
    if (lanes, vectors) == (16, 3):
        assert (tiles, len(last.vectors)) == ([], 3)
        return
    assert last.vectors == ()
    assert tuple(tiles) == tiling.flat_blocks(48, lanes, vectors)


@pytest.mark.parametrize(("width", "worth"), [(49, True), (253, True), (257, False), (252, False)])
def test_only_where_vectors_are_few(width, worth):
    target = resolve_target("wasm")
    weight = sparse((8, 16, 1, 1), 1.0)
    model = passes.run(ir.from_proto(conv_model([1, 16, 1, width], weight)), target)
    (node,) = editing.linear_nodes(model.graph)
    found = candidates.candidates(operator_of(node, 4), weight.reshape(8, 16), target)
    assert any(candidate.lone for candidate in found) == worth


def test_parts_touch_it():
    blocks = tiling.flat_blocks(49, 16, 3, lone=True)
    assert touched(blocks, 16, 2, 0) == [(0, 49, 0, 49)] * 6
    blocks = tiling.flat_blocks(49, 16, 2, lone=True)
    assert touched(blocks, 16, 2, 5)[-2:] == [(48, 54, 48, 49)] * 2
    assert len(touched(blocks, 16, 2, 5)) == 2 * 4


@pytest.mark.parametrize(
    ("lanes", "core", "vectors", "instead"),
    [(16, X86_AVX512, 3, 4), (16, X86_AVX512, 3, 3), (4, V8_X86, 2, 2)],
)
def test_it_costs_less_than_a_vector(lanes, core, vectors, instead):
    work = cost.work_of(np.ones((64, 64), np.float32), 4)
    fewer, with_one, more = (
        cost.spmm_cycles(work, blocks, lanes, core)
        for blocks in (
            tiling.flat_blocks(48, lanes, vectors),
            tiling.flat_blocks(49, lanes, vectors, lone=True),
            tiling.flat_blocks(49, lanes, instead),
        )
    )
    assert fewer < with_one < more


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_no_spill_and_a_multiply_add_a_column(group):
    blocks = tiling.flat_blocks(49, 16, 3, lone=True)
    kernel = Spmm(64, group, formats.full_pattern(group), 16, blocks, 64, rolled=True)
    code = codegen.build_module({"k": kernel.emit("k")}, AVX512).inspect_source("s")
    assert len(re.findall(r"\tvfmadd\w+\t.*%zmm", code)) == 3 * group
    assert len(re.findall(r"\tvfmadd\w+\t.*%[xy]mm\d+$", code, re.M)) == 1
    assert not re.search(r"vmov\w+\t[^\n]*\(%rsp\)[^\n]*%zmm|%zmm\d+, [^\n]*\(%rsp\)", code)
