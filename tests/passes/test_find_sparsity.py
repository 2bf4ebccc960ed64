import numpy as np
import pytest
import texts

from edgesparse.passes.canonicalise_linear import CanonicaliseLinearPass
from edgesparse.passes.find_sparsity import FindSparsityPass, describe

RNG = np.random.default_rng(0)


def blocks(rows: int, cols: int, size: int, density: float = 0.5) -> np.ndarray:
    few = RNG.random((-(-rows // size), cols)) < density
    return np.repeat(few, size, axis=0)[:rows]


def runs(rows: int, cols: int, used: int, run: int) -> np.ndarray:
    order = RNG.random((rows, cols // run, run)).argsort(axis=-1)
    return (order < used).reshape(rows, cols)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.ones((8, 8), bool), "dense"),
        (np.zeros((8, 8), bool), "unstructured"),
        (RNG.random((16, 32)) < 0.5, "unstructured"),
        (RNG.random((64, 64)) < 0.05, "unstructured"),
        (blocks(16, 32, 2), "block2"),
        (blocks(16, 32, 4), "block4"),
        (blocks(16, 32, 8), "block8"),
        (blocks(18, 32, 4), "block4"),
        (blocks(32, 32, 16), "block16"),
        (np.roll(blocks(16, 32, 4), 1, axis=0), "block4 scattered"),
        (blocks(32, 64, 4)[RNG.permutation(32)], "block4 scattered"),
        (np.roll(blocks(16, 32, 4), 1, axis=0) ^ np.eye(16, 32, dtype=bool), "unstructured"),
        (blocks(8, 32, 4).T, "quad4"),
        (np.kron(RNG.random((8, 8)) < 0.5, np.ones((4, 4))) > 0, "block4 quad4"),
        (runs(16, 32, 2, 8), "2:8"),
        (runs(16, 32, 3, 8), "3:8"),
        (runs(16, 32, 1, 16), "1:16"),
        (runs(16, 32, 2, 4), "2:4"),
        (runs(16, 32, 1, 4), "1:4"),
        (runs(16, 32, 4, 8), "4:8"),
        (runs(16, 32, 1, 2), "2:4"),
    ],
)
def test_structure(mask, expected):
    assert describe(mask)["edgesparse.structure"] == expected


def test_runs_go_along_input_channels_not_taps():
    mask = np.repeat(runs(8, 16, 2, 4)[:, :, np.newaxis, np.newaxis], 9, axis=2)
    assert describe(mask)["edgesparse.structure"] == "kernels 2:4"


def test_whole_kernels():
    kernels = np.repeat((RNG.random((16, 16, 1)) < 0.4), 9, axis=2).reshape(16, 16, 3, 3)
    assert describe(kernels)["edgesparse.structure"] == "kernels"
    blocked = np.repeat(kernels[::4], 4, axis=0)
    assert describe(blocked)["edgesparse.structure"] == "kernels block4"


def test_blocks_do_not_span_groups():
    mask = RNG.random((8, 1, 3, 3)) < 0.5
    assert describe(mask, groups=8)["edgesparse.structure"] == "unstructured"
    assert describe(np.repeat(mask, 4, axis=0), groups=8)["edgesparse.structure"] == "block4"


def test_metadata_of_a_node():
    weight = texts.random(8, 5)
    weight[weight < 0.2] = 0
    model = texts.model("(float[2, 8] x) => (float[2, 5] y) { y = MatMul(x, w) }", w=weight)
    CanonicaliseLinearPass()(model)
    assert FindSparsityPass()(model).modified
    assert not FindSparsityPass()(model).modified
    (node,) = model.graph
    assert int(node.metadata_props["edgesparse.nnz"]) == np.count_nonzero(weight)
    assert float(node.metadata_props["edgesparse.zeros"]) == np.mean(weight == 0)
    assert node.metadata_props["edgesparse.structure"] == "unstructured"
