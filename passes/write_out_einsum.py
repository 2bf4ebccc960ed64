"""Einsum -> MatMul, Mul and ReduceSum, which the passes after this one know.

Of two operands, letters that both have and the result keeps are a batch, letters that both have and
the result lacks are summed over, all others are kept of the one that has them:

    "bld,dk->blk"     x[b, l, d] ─ MatMul ─ y[b, l, k]         the weight a constant: a layer
    "bqhd,bkhd->bhqk" q ─ Transpose [b, h, q, d] ─ MatMul ─ y[b, h, q, k]
                      k ─ Transpose [b, h, d, k] ┘

Nothing summed is a Mul; letters of one operand alone that the result lacks are summed before.
"""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.passes import editing


@dataclasses.dataclass(frozen=True)
class _Term:
    """A tensor with a letter for each of its axes."""

    value: ir.Value
    letters: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of all axes."""
        return editing.shape_of(self.value)

    def extents(self, letters: str) -> tuple[int, ...]:
        """Return the extents of these axes."""
        return tuple(self.shape[self.letters.index(letter)] for letter in letters)


class WriteOutEinsumPass(ir.passes.InPlacePass):
    """Write every Einsum as products; more than two operands are multiplied from left to right.

    Declined: an operand that has a letter twice (a diagonal) or is not float32, and axes of extent
    one that `...` would repeat.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all of them."""
        return editing.rewrite_all(model, "Einsum", type(self).__name__, _why_not, _rewrite)


def _why_not(node: ir.Node) -> str:
    terms, _ = _parse(node)
    if any(term.value.dtype != ir.DataType.FLOAT for term in terms):
        return "an operand is not float32"
    extents: dict[str, int] = {}
    for term in terms:
        if len(set(term.letters)) < len(term.letters):
            return "an operand has a letter twice"
        for letter, extent in zip(term.letters, term.shape, strict=True):
            if extents.setdefault(letter, extent) != extent:
                return "an axis of extent one would be repeated"
    return ""


def _parse(node: ir.Node) -> tuple[list[_Term], str]:
    """Return the operands with their letters, and the result's letters; `...` gets letters, too."""
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    left, arrow, result = equation.partition("->")
    values = [editing.taken(node, index) for index in range(len(node.inputs))]
    spare = "".join(sorted(set(string.ascii_letters) - set(equation)))
    spelled: list[str] = []
    widest = 0
    for letters, value in zip(left.split(","), values, strict=True):
        hidden = len(editing.shape_of(value)) - len(letters.replace("...", ""))
        widest = max(widest, hidden if "..." in letters else 0)
        spelled.append(letters.replace("...", spare[-hidden:] if hidden else ""))
    if not arrow:
        once = (each for each in sorted(set(left)) if each.isalpha() and left.count(each) == 1)
        result = "..." + "".join(once)
    result = result.replace("...", spare[-widest:] if widest else "")
    return [_Term(*pair) for pair in zip(values, spelled, strict=True)], result


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    (product, *others), result = _parse(node)
    writer = _Writer(graph, node)
    while others:
        other, *others = others
        product = writer.multiply(product, other, set(result).union(*(o.letters for o in others)))
    product = writer.transpose(writer.sum(product, result), result)
    if product.value.producer() is None or product.value in node.inputs:  # nothing was inserted
        editing.make_like("Identity", [product.value], node)
    else:
        editing.take_place(product.value, node)


@dataclasses.dataclass
class _Writer:
    """Inserts nodes before an Einsum, named after it; of constants it makes constants."""

    graph: ir.Graph
    node: ir.Node
    inserted: int = 0

    def multiply(self, left: _Term, right: _Term, wanted: Collection[str]) -> _Term:
        """Return the product of two terms, of whose letters only those `wanted` are needed."""
        left = self.sum(left, {*wanted, *right.letters})
        right = self.sum(right, {*wanted, *left.letters})
        if editing.constant(left.value) is not None:
            left, right = right, left
        common = [letter for letter in left.letters if letter in right.letters]
        batch, summed = (
            "".join(each for each in common if (each in wanted) is is_kept)
            for is_kept in (True, False)
        )
        rows, cols = (_without(term.letters, common) for term in (left, right))
        if not summed:
            return self._scale(left, right, batch + rows + cols)
        a, b = (
            self.transpose(left, batch + rows + summed),
            self.transpose(right, batch + summed + cols),
        )
        outer, depth = a.extents(batch), math.prod(a.extents(summed))
        lines = (math.prod(a.extents(rows)),) if batch else a.extents(rows) or (1,)
        x = self._reshape(a.value, (*outer, *lines, depth))
        y = self._reshape(b.value, (*outer, depth, math.prod(b.extents(cols))))
        product = self._insert("MatMul", [x, y], (*outer, *lines, editing.shape_of(y)[-1]))
        shape = (*outer, *a.extents(rows), *b.extents(cols))
        return _Term(self._reshape(product, shape), batch + rows + cols)

    def _scale(self, left: _Term, right: _Term, letters: str) -> _Term:
        """Return the elementwise product of two terms, each repeated along letters it lacks."""
        extents = dict(zip(left.letters + right.letters, left.shape + right.shape, strict=True))
        factors = []
        for term in (left, right):
            own = self.transpose(term, "".join(each for each in letters if each in term.letters))
            shape = [extents[each] if each in term.letters else 1 for each in letters]
            factors.append(self._reshape(own.value, shape))
        shape = [extents[each] for each in letters]
        return _Term(self._insert("Mul", factors, shape), letters)

    def sum(self, term: _Term, wanted: Collection[str]) -> _Term:
        """Return the sum of a term over the letters that are not `wanted`."""
        kept = "".join(letter for letter in term.letters if letter in wanted)
        if kept == term.letters:
            return term
        axes = [axis for axis, letter in enumerate(term.letters) if letter not in wanted]
        operands = [term.value, self._numbers(axes)]
        attributes = {"keepdims": 0}
        return _Term(self._insert("ReduceSum", operands, term.extents(kept), attributes), kept)

    def transpose(self, term: _Term, letters: str) -> _Term:
        """Return a term with its axes in the order of `letters`."""
        if letters == term.letters:
            return term
        order = [term.letters.index(letter) for letter in letters]
        array = editing.constant(term.value)
        if array is not None:
            return _Term(self._constant(term.value, array.transpose(order)), letters)
        attributes = {"perm": order}
        value = self._insert("Transpose", [term.value], term.extents(letters), attributes)
        return _Term(value, letters)

    def _reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        if editing.shape_of(value) == tuple(shape):
            return value
        array = editing.constant(value)
        if array is not None:
            return self._constant(value, array.reshape(shape))
        return self._insert("Reshape", [value, self._numbers(shape)], shape)

    def _insert(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        shape: Sequence[int],
        attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
    ) -> ir.Value:
        self.inserted += 1
        name = f"{self.node.name}_{op_type}_{self.inserted}"
        return editing.insert_before(
            self.node, op_type, inputs, name=name, shape=shape, attributes=attributes
        )

    def _constant(self, like: ir.Value, array: npt.NDArray[np.generic]) -> ir.Value:
        return editing.add_constant(self.graph, f"{like.name}_{self.node.name}", array)

    def _numbers(self, numbers: Sequence[int]) -> ir.Value:
        return editing.add_constant(
            self.graph, f"{self.node.name}_numbers", np.array(numbers, np.int64)
        )


def _without(letters: str, others: Collection[str]) -> str:
    return "".join(letter for letter in letters if letter not in others)
