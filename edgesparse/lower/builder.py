"""PlanBuilder: what a lowering says to, and how a graph becomes a plan.

A lowering is a function of (builder, node). It asks for the tensors of its inputs in a layout it
can read, makes its output, and appends kernel calls. The builder interns kernels and constants,
inserts re-layouts, and knows lifetimes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from edgesparse.errors import UnsupportedModelError
from edgesparse.geometry import static_shape
from edgesparse.kernels import movement
from edgesparse.kernels.bands import CopyRows
from edgesparse.layout import Layout
from edgesparse.lower.bands import Rows, add_chains
from edgesparse.lower.check_bands import verify_chains
from edgesparse.lower.placement import Place
from edgesparse.plan import (
    ALIGNMENT_BYTES,
    Arg,
    Buffer,
    Chain,
    Kernel,
    Layer,
    Plan,
    Step,
    TensorSpec,
    align_up,
    allocate,
    parts_of,
)
from edgesparse.target import Target

# A kernel may write one whole vector past the last row of an image.
SLACK_BYTES = ALIGNMENT_BYTES

# Kernels count elements, and tables hold offsets, in int32.
MOST_ELEMENTS = (1 << 31) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """An activation in memory.

    Attributes:
        layout: Memory order.
        dtype: numpy's name.
        buffer: Arena buffer, or None for a model input.
        index: Position of the model input; -1 otherwise.
        offset: Its first element there.
        is_part: Whether other tensors lie in the buffer, too.
    """

    layout: Layout
    dtype: str
    buffer: Buffer | None
    index: int = -1
    offset: int = 0
    is_part: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical extents."""
        return self.layout.shape

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements, padding included."""
        return self.layout.elements * np.dtype(self.dtype).itemsize

    def arg(self, access: Literal["r", "w", "rw"]) -> Arg:
        """Return the kernel argument that points to the first element."""
        first = self.offset * np.dtype(self.dtype).itemsize
        if self.buffer is None:
            return Arg("input", first, self.size_bytes, access, index=self.index)
        is_exact = access == "r" or self.is_part
        size = self.size_bytes if is_exact else self.buffer.size_bytes
        return Arg("arena", first, size, access, self.buffer)

    def read(self) -> Arg:
        """Return the argument for a kernel that reads."""
        return self.arg("r")

    def write(self) -> Arg:
        """Return the argument for a kernel that writes."""
        return self.arg("w")


class PlanBuilder:
    """Collects kernel calls, constants and buffers of one model.

    Attributes:
        target: What is compiled for.
        lanes: float32 lanes of the target.
    """

    def __init__(
        self, name: str, target: Target, places: Mapping[ir.Value, Place] | None = None
    ) -> None:
        self.name = name
        self.target = target
        self.lanes = target.lanes
        self._kernels: dict[Kernel, str] = {}
        self._steps: list[Step] = []
        self._layers: list[Layer] = []
        self._buffers: list[Buffer] = []
        self._weights = bytearray()
        self._constants: dict[tuple[str, bytes], int] = {}
        self._tensors: dict[ir.Value, Tensor] = {}
        self._rows: dict[int, Rows] = {}
        self._versions: dict[tuple[ir.Value, Layout], Tensor] = {}
        self._places = places or {}
        self._wholes: dict[ir.Value, Tensor] = {}

    # -- tensors

    def tensor(self, value: ir.Value | None, layout: Layout | None = None) -> Tensor:
        """Return an activation or constant, re-laid out if `layout` asks for another order."""
        if value is None:
            raise ValueError("a required input is missing")
        tensor = self._tensors.get(value)
        if tensor is None:
            tensor = self._materialise(value)
        if layout is None or tensor.layout.same_memory(layout):
            return dataclasses.replace(tensor, layout=layout or tensor.layout)
        version = self._versions.get((value, layout))
        if version is None:
            version = self.new(layout, tensor.dtype, f"{value.name}:relayout")
            self.copy(tensor, version)
            self._versions[value, layout] = version
        return version

    def wanted(self, value: ir.Value) -> Layout:
        """Return the layout that the layout pass chose for a value."""
        return wanted_layout(value, self.lanes)

    def flat(self, value: ir.Value | None) -> Tensor:
        """Return an activation or constant in ONNX order."""
        return self.tensor(value, Layout.flat(shape_of(value)))

    def output(self, value: ir.Value, layout: Layout) -> Tensor:
        """Make the arena buffer of a node's output, or its part of what it is joined to."""
        place = self._places.get(value)
        if place is not None and layout == self.wanted(value):
            whole = self._whole(place.whole)
            tensor = dataclasses.replace(whole, layout=layout, offset=place.offset, is_part=True)
        elif value in self._wholes:  # some of its parts are made already
            tensor = self._wholes[value]
        else:
            tensor = self.new(layout, dtype_of(value), value.name or "?")
        self._tensors[value] = tensor
        return tensor

    def _whole(self, value: ir.Value) -> Tensor:
        """Return the memory of a Concat's result, which is wanted before the Concat is."""
        if value not in self._wholes:
            layout = self.wanted(value)
            self._wholes[value] = self.new(layout, dtype_of(value), value.name or "?")
        return self._wholes[value]

    def alias(self, value: ir.Value, tensor: Tensor) -> None:
        """Say that `value` is `tensor`: no data moves."""
        self._tensors[value] = tensor

    def new(self, layout: Layout, dtype: str, name: str) -> Tensor:
        """Make an arena buffer that belongs to no value: scratch, or a re-laid out copy.

        Raises:
            UnsupportedModelError: It has more elements than kernels can count.
        """
        item = np.dtype(dtype).itemsize
        buffer = Buffer(name, align_up(layout.elements * item) + SLACK_BYTES)
        if buffer.size_bytes // item > MOST_ELEMENTS:
            raise UnsupportedModelError(
                f"{self._layers[-1].name}: its {name} takes {layout.elements} elements of memory,"
                f" expected at most {MOST_ELEMENTS}",
                hint="fix smaller inputs with `--shape`, or lessen this node's pads and dilations",
            )
        self._buffers.append(buffer)
        return Tensor(layout, dtype, buffer)

    def scratch(self, elements: int, name: str = "scratch") -> Tensor:
        """Make a float32 scratch buffer; it lives as long as the steps that name it."""
        return self.new(Layout.flat((elements,)), "float32", name)

    def pieces(self, elements: int, count: int, name: str) -> Arg:
        """Make float32 scratch for `count` threads, each of which writes `elements` of its own."""
        piece = align_up(4 * elements)
        written = self.scratch(piece // 4 * count, name).write()
        return dataclasses.replace(written, size_bytes=piece, pieces=count)

    def constant(self, array: np.ndarray[Any, Any]) -> Arg:
        """Store a constant, 64-byte aligned and once, and return the argument for it."""
        data = np.ascontiguousarray(array).tobytes()
        key = (str(array.dtype), data)
        offset = self._constants.get(key)
        if offset is None:
            self._weights.extend(bytes(align_up(len(self._weights)) - len(self._weights)))
            offset = len(self._weights)
            self._weights.extend(data)
            self._constants[key] = offset
        return Arg("weights", offset, len(data), "r")

    # -- calls

    def call(self, kernel: Kernel, *args: Arg, rows: Rows | None = None) -> None:
        """Append one kernel call.

        Args:
            kernel: What to call.
            *args: Its pointers; the planes it reads come first, those it writes last.
            rows: Returns the same call with its parts in the order of rows, if there is one.
        """
        symbol = self._symbol(kernel)
        index = len(self._steps)
        if rows is not None:
            self._rows[index] = rows
        for arg in args:
            if arg.buffer is not None:
                arg.buffer.first = index if arg.buffer.first < 0 else arg.buffer.first
                arg.buffer.last = index
        self._steps.append(Step(symbol, args, len(self._layers) - 1, parts_of(kernel)))

    def _symbol(self, kernel: Kernel) -> str:
        if kernel not in self._kernels:
            self._kernels[kernel] = f"{self.name}_k{len(self._kernels)}_{kernel.name}"
        return self._kernels[kernel]

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy between two layouts of one shape."""
        kernel = movement.Copy.between(
            source.shape, source.layout.strides, target.layout.strides, dtype=source.dtype
        )
        args = (source.read(), target.write())
        self.call(kernel, *args, rows=_image_rows(source, target, args))

    def begin_layer(self, layer: Layer) -> None:
        """Every call from here on belongs to `layer`."""
        self._layers.append(layer)

    # -- the ends

    def add_inputs(self, inputs: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
        """Copy the model inputs into the arena, in the layout their consumers want.

        Kernels read aligned planes; only these copies touch the caller's memory.
        """
        specs = []
        for index, value in enumerate(inputs):
            spec = TensorSpec(value.name or f"input{index}", shape_of(value), dtype_of(value))
            specs.append(spec)
            source = Tensor(Layout.flat(spec.shape), spec.dtype, None, index)
            self.copy(source, self.output(value, self.wanted(value)))
        return tuple(specs)

    def write_outputs(self, outputs: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
        """Copy the model outputs to the caller's memory."""
        specs = []
        for index, value in enumerate(outputs):
            tensor = self.tensor(value)
            specs.append(TensorSpec(value.name or f"output{index}", tensor.shape, tensor.dtype))
            flat = Layout.flat(tensor.shape)
            kernel = movement.Copy.between(
                tensor.shape, tensor.layout.strides, flat.strides, dtype=tensor.dtype
            )
            destination = Arg("output", 0, specs[-1].size_bytes, "w", index=index)
            self.call(kernel, tensor.read(), destination)
        return tuple(specs)

    def finish(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Plan:
        """Place the buffers and return the plan."""
        chains, rings = add_chains(
            self._steps, self._rows, self._symbol, self.target.core.band_bytes
        )
        chains = tuple(
            dataclasses.replace(c, table=self.constant(c.rows), bounds=self.constant(c.row_bounds))
            for c in chains
        )
        self._buffers += rings
        self._say_bands(chains)
        used = [buffer for buffer in self._buffers if buffer.first >= 0]
        arena_bytes, bound = allocate(used)
        self._weights.extend(bytes(align_up(len(self._weights)) - len(self._weights)))
        plan = Plan(
            name=self.name,
            inputs=inputs,
            outputs=outputs,
            kernels={symbol: kernel for kernel, symbol in self._kernels.items()},
            steps=tuple(self._steps),
            layers=tuple(self._layers),
            weights=bytes(self._weights),
            arena_bytes=max(arena_bytes, ALIGNMENT_BYTES),
            arena_bound_bytes=bound,
            chains=chains,
        )
        verify_chains(plan)
        return plan

    def _say_bands(self, chains: Sequence[Chain]) -> None:
        """Tell every layer that it is computed band by band, and with which others."""
        for chain in chains:
            layers = sorted({step.layer for step in self._steps[chain.first : chain.last]})
            names = [self._layers[i].name for i in (layers[0], layers[-1])]
            threads = f"1 to {chain.most_threads}"
            bands = f"row by row together with {names[0]} to {names[1]}, on {threads} threads"
            for i in layers:
                decision = {**self._layers[i].decision, "bands": bands}
                self._layers[i] = dataclasses.replace(self._layers[i], decision=decision)

    def _materialise(self, value: ir.Value) -> Tensor:
        """Copy a constant that a kernel wants as an activation into the arena."""
        if value.const_value is None:
            raise KeyError(f"value {value.name} was never lowered")
        array = value.const_value.numpy()
        tensor = self.new(Layout.flat(tuple(array.shape)), str(array.dtype), value.name or "const")
        kernel = movement.Copy.between(
            array.shape, tensor.layout.strides, tensor.layout.strides, dtype=str(array.dtype)
        )
        self.call(kernel, self.constant(array), tensor.write())
        self._tensors[value] = tensor
        return tensor


def _image_rows(source: Tensor, target: Tensor, args: tuple[Arg, ...]) -> Rows | None:
    """Return the copy of one float32 image, row by row, where it is that."""
    shape, layout = source.shape, target.layout
    is_image = len(shape) == 4 and shape[0] == 1 and layout.channel_axis == 1
    if not is_image or source.dtype != "float32" or not source.layout.is_flat:
        return None

    def by_rows(read: int | None, write: int | None) -> tuple[CopyRows, tuple[Arg, ...]]:
        read = shape[2] * shape[3] if read is None else read
        write = layout.plane_stride if write is None else write
        return CopyRows(shape[1], shape[2], shape[3], read, write, layout.lanes), args

    return by_rows


def wanted_layout(value: ir.Value, lanes: int) -> Layout:
    """Return the layout that the layout pass chose for a value."""
    choice = value.metadata_props.get("edgesparse.layout", "flat")
    kind, _, axis = choice.partition(":")
    shape = shape_of(value)
    return Layout.planes(shape, int(axis), lanes) if kind == "planes" else Layout.flat(shape)


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """Return the static shape of a value."""
    return static_shape(value)


def dtype_of(value: ir.Value) -> str:
    """Return numpy's name of a value's element type."""
    if value.dtype is None:
        raise ValueError(f"value {value.name} has no type")
    return str(value.dtype.numpy())
