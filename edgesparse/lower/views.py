"""Affine views: one array seen through other extents, strides and an offset."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.kernels.movement import Copy
from edgesparse.layout import Layout
from edgesparse.lower.builder import PlanBuilder, Tensor
from edgesparse.plan import ALIGNMENT_BYTES, Arg

# A tensor that is at most so many times larger is kept for the sake of a part of it.
MOST_KEPT = 2


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Elements of an array: element i lies at offset + i · strides.

    Attributes:
        arg: Where the array is.
        dtype: numpy's name.
        shape: Extents.
        strides: Elements between neighbours; 0 repeats, negative reverses.
        offset: First element.
        tensor: The activation behind it, None for a constant.
    """

    arg: Arg
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    tensor: Tensor | None = None

    @classmethod
    def of(cls, b: PlanBuilder, value: ir.Value) -> View:
        """Return all of a value, constants where they are stored, activations where they lie."""
        if value.const_value is not None:
            array = value.const_value.numpy()
            layout = Layout.flat(tuple(array.shape))
            return cls(b.constant(array), str(array.dtype), layout.shape, layout.strides)
        tensor = b.tensor(value)
        return cls(tensor.read(), tensor.dtype, tensor.shape, tensor.layout.strides, tensor=tensor)

    def seen(self, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> View:
        """Return the same array through other extents and strides, `offset` elements further."""
        return dataclasses.replace(
            self, shape=tuple(shape), strides=tuple(strides), offset=self.offset + offset
        )

    def transposed(self, axes: Sequence[int]) -> View:
        """Return the view with its axes in another order."""
        return self.seen([self.shape[i] for i in axes], [self.strides[i] for i in axes])

    def split(self, factors: Sequence[int]) -> View:
        """Return the view with every axis split into the next of its factors."""
        strides: list[int] = []
        for extent, stride in zip(self.shape, self.strides, strict=True):
            rest = extent
            while rest > 1:
                rest //= factors[len(strides)]
                strides.append(stride * rest)
        return self.seen(factors, strides)

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """Return the elements in ONNX order under another shape, None if that is not affine."""
        split = common_factors(self.shape, shape)
        if split is None:
            return None
        factors, groups = split
        strides = self.split(factors).strides
        joined = [_join([(factors[i], strides[i]) for i in group]) for group in groups]
        if any(stride is None for stride in joined):
            return None
        return self.seen(shape, [stride or 0 for stride in joined])


def common_factors(
    left: Sequence[int], right: Sequence[int]
) -> tuple[list[int], list[list[int]]] | None:
    """Return the coarsest extents that refine both shapes, None if there are none.

    Returns:
        The extents, and for every axis of `right` which of them it consists of.
    """
    factors: list[int] = []
    groups: list[list[int]] = [[] for _ in right]
    sources = [extent for extent in left if extent != 1]
    rest = sources.pop(0) if sources else 1
    for axis, extent in enumerate(right):
        missing = extent
        while missing > 1:
            step = math.gcd(rest, missing)
            if step not in (rest, missing):
                return None
            groups[axis].append(len(factors))
            factors.append(step)
            missing, rest = missing // step, rest // step
            if rest == 1 and sources:
                rest = sources.pop(0)
    return factors, groups


def _join(axes: Sequence[tuple[int, int]]) -> int | None:
    """Return the stride of nested loops seen as one, None if they are not evenly spaced."""
    for (_, outer), (extent, inner) in itertools.pairwise(axes):
        if outer != inner * extent:
            return None
    return axes[-1][1] if axes else 1


def move(b: PlanBuilder, view: View, target: Tensor, strides: Sequence[int], offset: int) -> None:
    """Copy a view to part of a tensor: its element i goes to offset + i · strides."""
    if not math.prod(view.shape):
        return
    kernel = Copy.between(
        view.shape,
        view.strides,
        strides,
        src_offset=view.offset,
        dst_offset=offset,
        dtype=view.dtype,
    )
    b.call(kernel, view.arg, target.write())


def produce(b: PlanBuilder, result: ir.Value, view: View) -> None:
    """Make `result` the elements of a view: by name if memory agrees, else by one copy."""
    layout = b.wanted(result)
    if view.tensor is not None and _lies_in(view, view.tensor, layout):
        offset = view.tensor.offset + view.offset
        b.alias(result, dataclasses.replace(view.tensor, layout=layout, offset=offset))
        return
    target = b.output(result, layout)
    move(b, view, target, layout.strides, 0)


def _lies_in(view: View, tensor: Tensor, layout: Layout) -> bool:
    """Whether the view's elements lie in the tensor as the layout has them, aligned.

    A small part is not worth keeping all of the tensor for.
    """
    is_aligned = view.offset * np.dtype(view.dtype).itemsize % ALIGNMENT_BYTES == 0
    return (
        is_aligned
        and 0 <= view.offset <= tensor.layout.elements - layout.elements
        and tensor.layout.elements <= MOST_KEPT * layout.elements
        and all(
            extent == 1 or have == want
            for extent, have, want in zip(view.shape, view.strides, layout.strides, strict=True)
        )
    )
