"""How sparse each weight is, and in which structure it was pruned.

Metadata of every edgesparse::Conv and Linear:

* `edgesparse.zeros`: fraction of zeros, repr of a float;
* `edgesparse.nnz`: number of non-zeros;
* `edgesparse.structure`: `dense` (no zeros), `block2`, `block4` or `block8` (zeros come in aligned
  blocks of that many output rows), `1:4`, `2:4`, `4:8` or `1:2` (so many non-zeros in every aligned
  run of input channels), or `unstructured`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.passes import editing

ZEROS = "edgesparse.zeros"
NNZ = "edgesparse.nnz"
STRUCTURE = "edgesparse.structure"

Mask = npt.NDArray[np.bool_]

_BLOCKS = (8, 4, 2)
_RUNS = ((1, 4), (2, 4), (4, 8), (1, 2))
# A random mask also stays under the limit in most runs; a pruned one reaches it nearly everywhere.
_FULL_RUNS = 0.9


class FindSparsityPass(ir.passes.InPlacePass):
    """Record the sparsity of every weight that is a constant."""

    def call(self, model: ir.Model) -> editing.Result:
        """Write the metadata."""
        modified = False
        for node in editing.linear_nodes(model.graph):
            weight = editing.float_constant(node.inputs[1])
            if weight is not None:
                found = describe(weight != 0, node.attributes.get_int("group", 1) or 1)
                modified |= not found.items() <= node.metadata_props.items()
                node.metadata_props.update(found)
        return editing.Result(model, modified)


def describe(mask: Mask, groups: int = 1) -> dict[str, str]:
    """Return the metadata of a weight.

    Args:
        mask: (out, in / groups, ...) which weights are not zero.
        groups: Groups of a grouped convolution; a block never spans two.
    """
    nnz = int(np.count_nonzero(mask))
    rows = mask.reshape(groups, mask.shape[0] // groups, mask.shape[1], -1)
    return {
        ZEROS: repr((mask.size - nnz) / mask.size),
        NNZ: str(nnz),
        STRUCTURE: _structure(rows) if 0 < nnz < mask.size else _trivial(nnz),
    }


def _trivial(nnz: int) -> str:
    return "dense" if nnz else "unstructured"


def _structure(mask: Mask) -> str:
    """Return the structure of a (groups, rows, channels, taps) mask."""
    for block in _BLOCKS:
        if mask.shape[1] >= block and _is_blocked(mask, block):
            return f"block{block}"
    for used, run in _RUNS:
        if mask.shape[2] % run == 0 and _is_run_limited(mask, used, run):
            return f"{used}:{run}"
    return "unstructured"


def _is_blocked(mask: Mask, block: int) -> bool:
    starts = range(0, mask.shape[1], block)
    parts = (mask[:, start : start + block] for start in starts)
    return all(bool(np.all(part == part[:, :1])) for part in parts)


def _is_run_limited(mask: Mask, used: int, run: int) -> bool:
    groups, rows, channels, taps = mask.shape
    counts = mask.reshape(groups, rows, channels // run, run, taps).sum(axis=3)
    return bool(counts.max() <= used and np.mean(counts == used) >= _FULL_RUNS)
