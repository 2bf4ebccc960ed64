"""Random networks that join, cut, gate, shuffle and reshape channels in all ways that occur."""

from __future__ import annotations

import graphs
import onnx
from hypothesis import strategies as st

EXTENT = 6


class _Builder:
    """Grows a network from a pool of values (name, channels)."""

    def __init__(self, draw, zeros: float) -> None:
        self.draw = draw
        self.g = graphs.Graph(seed=draw(st.integers(0, 999)))
        self.zeros = zeros
        first = self.g.input("x", (1, 4, EXTENT, EXTENT))
        self.pool: list[tuple[str, int]] = []
        for _ in range(2):
            self.keep(self.g.conv(first, 4, 8, zeros=zeros), 8)

    def pick(self, *, even: bool = False) -> tuple[str, int]:
        values = [value for value in self.pool if not even or value[1] % 2 == 0]
        return self.draw(st.sampled_from(values))

    def keep(self, name: str, channels: int) -> None:
        self.pool.append((name, channels))

    def conv(self) -> None:
        x, channels = self.pick()
        wanted = self.draw(st.sampled_from([4, 6, 8, 12]))
        kernel = self.draw(st.sampled_from([1, 3]))
        self.keep(self.g.conv(x, channels, wanted, kernel, zeros=self.zeros), wanted)

    def grouped(self) -> None:
        x, channels = self.pick(even=True)
        self.keep(self.g.conv(x, channels, 8, group=2, zeros=self.zeros), 8)

    def depthwise(self) -> None:
        x, channels = self.pick()
        times = self.draw(st.sampled_from([1, 1, 2]))
        y = self.g.conv(x, channels, times * channels, 3, group=channels, zeros=self.zeros)
        self.keep(y, times * channels)

    def activation(self) -> None:
        x, channels = self.pick()
        self.keep(self.g.op(self.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh"])), x), channels)

    def add(self) -> None:
        x, channels = self.pick()
        alike = [name for name, count in self.pool if count == channels]
        other = self.draw(st.sampled_from(alike))
        self.keep(self.g.op(self.draw(st.sampled_from(["Add", "Mul", "Max"])), x, other), channels)

    def scale(self) -> None:
        x, channels = self.pick()
        shape = self.draw(st.sampled_from([(channels, 1, 1), (1, channels, 1, 1), (1,)]))
        self.keep(self.g.op("Mul", x, self.g.constant(self.g.rng.uniform(0.5, 1, shape))), channels)

    def gate(self) -> None:
        x, channels = self.pick()
        pooled = self.g.op("GlobalAveragePool", x)
        gate = self.g.op("Sigmoid", self.g.conv(self.g.conv(pooled, channels, 4), 4, channels))
        self.keep(self.g.op("Mul", x, gate), channels)

    def concat(self) -> None:
        parts = [self.pick() for _ in range(self.draw(st.integers(2, 3)))]
        y = self.g.op("Concat", *(name for name, _ in parts), axis=1)
        self.keep(y, sum(count for _, count in parts))

    def split(self) -> None:
        x, channels = self.pick(even=True)
        cut = self.draw(st.integers(1, channels - 1))
        sizes = self.g.ints(cut, channels - cut)
        for part, count in zip(
            self.g.ops("Split", x, sizes, outputs=2, axis=1), (cut, channels - cut), strict=True
        ):
            self.keep(part, count)

    def strided_slice(self) -> None:
        x, channels = self.pick(even=True)
        start = self.draw(st.integers(0, 1))
        bounds = [self.g.ints(v) for v in (start, channels, 1, 2)]
        self.keep(self.g.op("Slice", x, *bounds), channels // 2)

    def gather(self) -> None:
        x, channels = self.pick(even=True)
        order = self.draw(st.permutations(range(channels)))
        self.keep(self.g.op("Gather", x, self.g.ints(*order[: channels - 1]), axis=1), channels - 1)

    def shuffle(self) -> None:
        x, channels = self.pick(even=True)
        y = self.g.op("Reshape", x, self.g.ints(1, 2, channels // 2, EXTENT, EXTENT))
        y = self.g.op("Transpose", y, perm=[0, 2, 1, 3, 4])
        self.keep(self.g.op("Reshape", y, self.g.ints(1, channels, EXTENT, EXTENT)), channels)

    def norm(self) -> None:
        x, channels = self.pick()
        self.keep(self.g.batch_norm(x, channels), channels)

    def pool_window(self) -> None:
        x, channels = self.pick()
        y = self.g.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        self.keep(y, channels)

    def softmax(self) -> None:
        x, channels = self.pick()
        self.keep(self.g.op("Softmax", x, axis=1), channels)

    def finish(self) -> onnx.ModelProto:
        name, channels = self.pool[-1]
        flat = self.g.op("Flatten", self.g.op("Relu", name))
        weight = self.g.weight(3, channels * EXTENT * EXTENT)
        head = self.g.op("Gemm", flat, weight, self.g.vector(3), transB=1)
        other, count = self.pick()
        return self.g.build(head, self.g.conv(other, count, 2, zeros=self.zeros))


STEPS = [
    name
    for name, value in vars(_Builder).items()
    if callable(value) and name not in ("__init__", "pick", "keep", "finish")
]


@st.composite
def networks(draw, zeros: float = 0.4) -> onnx.ModelProto:
    """A network of three to twelve random steps and two outputs."""
    builder = _Builder(draw, zeros)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=3, max_size=12)):
        getattr(builder, step)()
    return builder.finish()
