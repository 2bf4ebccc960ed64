from __future__ import annotations

import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.gather_patches import GatherPatchesPass

PATCHES = ["SpaceToDepth", "edgesparse::Conv"]


def gather(attributes: str, *, extents: str = "8, 12", weight=(5, 3, 4, 4)):
    model = texts.model(
        f"(float[2, 3, {extents}] x) => (float[2, c, h, v] y)"
        f" {{ y = Conv <{attributes}> (x, w, b) }}",
        w=texts.random(*weight),
        b=texts.random(weight[0]),
    )
    CanonicaliseConvPass()(model)
    with oracle.same_results(model):
        model.meta["modified"] = GatherPatchesPass()(model).modified
    pass_spec.check(model)
    assert not GatherPatchesPass()(model).modified
    return model


@pytest.mark.parametrize("size", [3, 4, 6])
def test_patches(size):
    extents = f"{2 * size}, {3 * size}"
    model = gather(f"strides = [{size}, {size}]", extents=extents, weight=(5, 3, size, size))
    assert texts.ops(model) == PATCHES
    assert model.graph[1].inputs[1].shape == (5, 3 * size * size, 1, 1)


@pytest.mark.parametrize(
    "attributes",
    [
        "strides = [4, 2]",
        "strides = [2, 2]",
        "strides = [4, 4], pads = [2, 0, 2, 0]",
        "strides = [4, 4], dilations = [2, 2]",
    ],
)
def test_windows_that_are_no_patches(attributes):
    model = gather(attributes)
    assert texts.ops(model) == ["edgesparse::Conv"]
    assert not model.graph[0].metadata_props


@pytest.mark.parametrize(("size", "groups"), [(2, 1), (4, 3)])
def test_small_patches_and_groups_stay(size, groups):
    model = gather(
        f"strides = [{size}, {size}], group = {groups}", weight=(6, 3 // groups, size, size)
    )
    assert texts.ops(model) == ["edgesparse::Conv"]


def test_declines_what_leaves_pixels_out():
    model = gather("strides = [4, 4]", extents="8, 13")
    assert not model.meta["modified"]
    reason = model.graph[0].metadata_props["edgesparse.declined.gather_patches"]
    assert reason == "its 4x4 windows leave a part of the 8x13 plane out"
