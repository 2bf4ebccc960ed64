"""How sparse each weight is, and in which structure it was pruned.

Metadata of every edgesparse::Conv and Linear:

* `edgesparse.zeros`: fraction of zeros, repr of a float;
* `edgesparse.nnz`: number of non-zeros;
* `edgesparse.structure`: the narrowest of these that fits:

  * `dense`: no zeros;
  * `block2` to `block16`: zeros come in aligned blocks of that many output rows;
    `block4 scattered`: in as many rows that do not lie side by side;
  * `quad4`: zeros come in aligned runs of four input channels; `block4 quad4`: both;
  * `1:4`, `2:4`, `2:8`, ...: so many non-zeros in every aligned run of input channels;
  * `unstructured`.

  In a KxK convolution whose kernels are zero as a whole or not at all, `kernels` stands in front.

Sources of the names: N:M as in Mishra et al., Accelerating Sparse Deep Neural Networks, 2021;
blocks of rows as in Elsen et al., Fast Sparse ConvNets, 2019; kernels and groups of them as in Xu
et al., SparseByteNN, 2023.
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

_BLOCKS = (16, 8, 4, 2)
_QUAD = 4
_RUNS = ((1, 16), (1, 8), (2, 16), (1, 4), (2, 8), (4, 16), (3, 8), (2, 4), (4, 8), (1, 2))
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
                # What training left is named once: reordering rows must not give it another name.
                found[STRUCTURE] = node.metadata_props.get(STRUCTURE, found[STRUCTURE])
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
    structure = _structure(rows) if 0 < nnz < mask.size else _trivial(nnz)
    return {**count(mask), STRUCTURE: structure}


def count(mask: Mask) -> dict[str, str]:
    """Return the metadata of how many elements of a weight are zero; mask as in `describe`."""
    nnz = int(np.count_nonzero(mask))
    return {ZEROS: repr((mask.size - nnz) / mask.size), NNZ: str(nnz)}


def _trivial(nnz: int) -> str:
    return "dense" if nnz else "unstructured"


def _structure(mask: Mask) -> str:
    """Return the structure of a (groups, rows, channels, taps) mask."""
    if mask.shape[3] > 1 and bool(np.all(mask == mask[..., :1])):
        inner = _structure(mask[..., :1])
        return "kernels" if inner == "unstructured" else f"kernels {inner}"
    names = [name for name in (_rows(mask), _quads(mask)) if name]
    if names:
        return " ".join(names)
    for used, run in _RUNS:
        if mask.shape[2] % run == 0 and _is_run_limited(mask, used, run):
            return f"{used}:{run}"
    return "unstructured"


def _rows(mask: Mask) -> str:
    for block in _BLOCKS:
        if mask.shape[1] >= block and _is_blocked(mask, block):
            return f"block{block}"
    for block in _BLOCKS:
        if mask.shape[1] >= 2 * block and _is_scattered(mask, block):
            return f"block{block} scattered"
    return ""


def _quads(mask: Mask) -> str:
    groups, rows, channels, taps = mask.shape
    if channels % _QUAD or channels == _QUAD:
        return ""
    runs = mask.reshape(groups, rows, channels // _QUAD, _QUAD, taps)
    return f"quad{_QUAD}" if bool(np.all(runs == runs[:, :, :, :1])) else ""


def _is_blocked(mask: Mask, block: int) -> bool:
    starts = range(0, mask.shape[1], block)
    parts = (mask[:, start : start + block] for start in starts)
    return all(bool(np.all(part == part[:, :1])) for part in parts)


def _is_scattered(mask: Mask, block: int) -> bool:
    """Whether rows come in sets of `block` equal ones; rows without weights fit anywhere."""
    for rows in mask.reshape(*mask.shape[:2], -1):
        used = rows[rows.any(axis=1)]
        counts = np.unique(used, axis=0, return_counts=True)[1]
        if not len(counts) or np.any(counts % block):
            return False
    return True


def _is_run_limited(mask: Mask, used: int, run: int) -> bool:
    groups, rows, channels, taps = mask.shape
    counts = mask.reshape(groups, rows, channels // run, run, taps).sum(axis=3)
    return bool(counts.max() <= used and np.mean(counts == used) >= _FULL_RUNS)
