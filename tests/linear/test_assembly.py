"""The machine code of the SpMM family: vector multiply-adds, no vector on the stack."""

import dataclasses
import re

import pytest
from kernel_runner import AVX2, AVX512

from edgesparse import codegen, cost, formats, kernels_arm, tiling
from edgesparse.kernels.gemv import Gemv
from edgesparse.kernels.spmm import Spmm
from edgesparse.passes.candidates import GEMM_TILES
from edgesparse.target import resolve_target

NEON_FMLA = r"fmla\tv\d+\.4s, v\d+\.4s, v\d+\.(4s|s\[\d\])"
NEON_SPILL = r"\bq\d+,.*\[sp"
X86_SPILL = r"\(%rsp\).*%[xyz]mm|%[xyz]mm.*\(%rsp\)"

# Target, its multiply-add, and a vector moved to or from the stack.
TARGETS = {
    "arm64": (resolve_target("arm64"), NEON_FMLA, NEON_SPILL),
    "avx512": (AVX512, r"vfmadd\w+ps\t.*%zmm", X86_SPILL),
    "avx2": (AVX2, r"vfmadd\w+ps\t.*%ymm", X86_SPILL),
}


def assembly(kernel, target):
    module = codegen.build_module({"kernel": kernel.emit("kernel")}, target)
    text = module.inspect_source("s")
    code = text[text.index("\nkernel:") : text.index(".Lfunc_end0")]
    # The base pointer is a register like others where no frame starts there.
    return re.sub("%[re]bp", "%rsp", code) if re.search(r"mov\w\t%rsp, %rbp", code) else code


def spmm(group, vectors, patterns, lanes):
    pixels = 8 * vectors * lanes
    return Spmm(64, group, patterns, lanes, tiling.flat_blocks(pixels, lanes, vectors), pixels)


def offered(name, group, vectors):
    """Return a kernel as the pattern pass asks for it, or skip what it never asks for."""
    core = TARGETS[name][0].core
    if not cost.fits_registers(group, vectors, core):
        pytest.skip("the cost model does not offer this tile for this target")
    patterns = formats.full_pattern(group) if group == 8 else formats.all_patterns(group)
    kernel = spmm(group, vectors, patterns, TARGETS[name][0].lanes)
    ahead, rolled = core.prefetch_bytes // 4, core.rolled_steps > 0
    return dataclasses.replace(kernel, ahead=ahead, rolled=rolled)


def multiply_adds(kernel):
    """Return how many there are in one step of every bucket."""
    (block,) = {len(block.vectors) for block in kernel.blocks}
    return block * sum(pattern.bit_count() for pattern in kernel.patterns)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize("vectors", [1, 2, 3, 4, 5, 6, 8, 12])
def test_no_spill_and_only_fused_multiply_adds(name, group, vectors):
    target, multiply_add, spill = TARGETS[name]
    if name == "avx2" and group * vectors > 11 and group > 1:
        pytest.skip("all sixteen registers are taken: between two loops LLVM moves some")
    kernel = offered(name, group, vectors)
    code = assembly(kernel, target)
    assert len(re.findall(multiply_add, code)) >= multiply_adds(kernel)
    assert re.findall(spill, code) == []
    assert not re.search(r"\n\t(call\w*|bl)\t", code)


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("vectors", [3, 6, 12])
def test_where_registers_are_few_no_loop_spills(group, vectors):
    target, multiply_add, spill = TARGETS["avx2"]
    kernel = offered("avx2", group, vectors)
    loops = inner_loops(assembly(kernel, target))
    assert sum(len(re.findall(multiply_add, code)) for code in loops) >= multiply_adds(kernel)
    assert [code for code in loops if re.search(spill, code)] == []


@pytest.mark.parametrize("name", ["avx2", "avx512"])
@pytest.mark.parametrize(("vectors", "pixels"), GEMM_TILES)
def test_with_rows_in_the_lanes_no_loop_spills(name, vectors, pixels):
    target, multiply_add, spill = TARGETS[name]
    if not cost.fits_registers(vectors, pixels, target.core):
        pytest.skip("the cost model does not offer this tile for this target")
    blocks = tiling.flat_blocks(4 * pixels, 1, pixels)
    group = vectors * target.lanes
    kernel = Gemv(8 * group, target.lanes, vectors=vectors, blocks=blocks, out_stride=4 * pixels)
    loops = inner_loops(assembly(kernel, target))
    (products,) = (code for code in loops if re.search(multiply_add, code))
    assert len(re.findall(multiply_add, products)) >= vectors * pixels
    assert not re.search(spill, products)


def inner_loops(code):
    """Return the code of the loops that hold no other: from a label to where it is jumped to."""
    loop = r"\n(\.LBB\w+):((?:(?!\n\.LBB).)*?\tj\w+\t\1)\n"
    return [match[2] for match in re.finditer(loop, code, re.DOTALL)]


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_loops_of_buckets_are_not_unrolled(name):
    target, multiply_add, _ = TARGETS[name]
    kernel = spmm(2, 2, formats.all_patterns(2), target.lanes)  # 2, 2 and 4 of them a column
    written, unrolled = (
        len(re.findall(multiply_add, assembly(dataclasses.replace(kernel, rolled=ask), target)))
        for ask in (True, False)
    )
    assert (written, unrolled > 8) == (8, True)


@pytest.mark.parametrize("ahead", [0, 1024])
def test_weights_are_asked_for_ahead_of_their_use(ahead):
    target, _, _ = TARGETS["avx512"]
    sparse = spmm(4, 3, formats.all_patterns(4), target.lanes)
    few = Gemv(64, target.lanes, vectors=2, blocks=tiling.flat_blocks(14, 1, 14), out_stride=16)
    for kernel, lines in (sparse, 15), (few, 2):
        code = assembly(dataclasses.replace(kernel, ahead=ahead), target)
        asked = re.findall(r"\tprefetcht0\t", code)
        assert len(asked) >= lines if ahead else not asked  # LLVM unrolls some loops


@pytest.mark.parametrize("name", ["avx512", "arm64"])
def test_a_rows_weights_are_loaded_by_vectors(name):
    code = assembly(Gemv(64, 1), TARGETS[name][0])
    multiply_add = {"avx512": r"vfmadd\w+ps\t\d*\(%.*%xmm", "arm64": NEON_FMLA}[name]
    assert len(re.findall(multiply_add, code)) >= 3  # two a step, and one


def test_a_tile_that_does_not_fit_would_be_noticed():
    target, _, spill = TARGETS["avx512"]
    code = assembly(spmm(8, 4, formats.full_pattern(8), target.lanes), target)
    assert re.search(spill, code)


@pytest.mark.parametrize(("name", "instruction"), [("arm64", "fmax"), ("avx512", "vmaxps")])
def test_relu_is_one_instruction_a_vector(name, instruction):
    target, _, _ = TARGETS[name]
    kernel = dataclasses.replace(spmm(4, 3, (15,), target.lanes), activation="Relu")
    code = assembly(kernel, target)
    assert len(re.findall(rf"\t{instruction}\t", code)) == 12
    assert not re.search(r"\t(fcm\w+|bic|vcmp\w+)\t(v\d|.*zmm)", code)


IN_ORDER = [(g, v) for g, tiles in kernels_arm.IN_ORDER_TILES.items() for v in tiles]


@pytest.mark.parametrize(("group", "vectors"), IN_ORDER)
def test_an_in_order_core_loads_halves_from_a_panel_and_spills_none(group, vectors):
    patterns = formats.full_pattern(group) if group == 8 else formats.all_patterns(group)
    kernel = dataclasses.replace(
        spmm(group, vectors, patterns, 4), panel=64, halves=True, by_lane=True
    )
    code = assembly(kernel, resolve_target("arm64-a55"))
    assert len(re.findall(NEON_FMLA, code)) >= vectors * sum(p.bit_count() for p in patterns)
    assert len(re.findall(r"ld1\t{ v\d+.d }\[1\]", code)) >= vectors
    assert re.findall(NEON_SPILL, code) == []


@pytest.mark.parametrize(
    ("name", "instruction"), [("wasm", "f32x4.mul"), ("wasm-relaxed", "f32x4.relaxed_madd")]
)
def test_wasm_uses_its_simd(name, instruction):
    target = resolve_target(name)
    code = codegen.build_module(
        {"kernel": spmm(2, 4, formats.all_patterns(2), 4).emit("kernel")}, target
    ).inspect_source("s")
    assert code.count(instruction) >= 16
