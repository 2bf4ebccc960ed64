"""A model, its data and its curves: what is made once, whatever is then asked of it."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from edgesparse import compiler
from edgesparse.errors import UsageError
from edgesparse.frontend_reading import read_model
from edgesparse.harness.tensors import Array as AnyArray
from edgesparse.metrics import check_outputs
from edgesparse.pruning import moments
from edgesparse.pruning.activations import Activations
from edgesparse.pruning.curves import Offer, make_offer, problems_of
from edgesparse.pruning.data import Data, Judgement, judge, outputs_of, read_data
from edgesparse.pruning.moments import Moments
from edgesparse.pruning.network import Array, Layer, Limits, Network
from edgesparse.pruning.patterns import AUTO, AUTO_PATTERNS, Order, Pattern, parse_pattern
from edgesparse.pruning.pricing import Pricing, Times
from edgesparse.pruning.rows import group_rows, row_energies
from edgesparse.pruning.solve import Solved, solve
from edgesparse.pruning.tradeoff import Choice, Menu
from edgesparse.target import resolve_target

Progress = Callable[[str, float], None]

DEFAULT_SAMPLES = 256
# Second moments of so many layers are held at a time.
_MOMENTS_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How to prune.

    Attributes:
        pattern: `auto`, or a pattern for all layers.
        target: What times are predicted for.
        shapes: Static shapes for inputs with symbolic dimensions.
        limits: What is left dense.
        samples: To calibrate on at most.
        seed: Of the split of the data and of the choice of pixels.
    """

    pattern: str = AUTO
    target: str = "host"
    shapes: compiler.Shapes | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    samples: int = DEFAULT_SAMPLES
    seed: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    """A network, pruned.

    Attributes:
        constants: By name, those that changed among them.
        layers: What became of each layer.
        times: Predicted.
    """

    constants: Mapping[str, Array]
    layers: Sequence[Solved]
    times: Times


class Pruner:
    """Calibrates a model and draws its curves when made; then prunes it as often as asked."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        data: str | os.PathLike[str],
        options: Options | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Read the model and the data, calibrate, and draw the curves.

        Args:
            model: ONNX file.
            data: npz as `check --data` reads it.
            options: How to prune.
            progress: Told the stage and the finished fraction.

        Raises:
            UsageError: An option is wrong, the files cannot be read, or nothing can be pruned.
            ModelError: The model cannot be read, compiled or run.
            DeviceError: onnxruntime is not installed.
        """
        self.options = options or Options()
        self._say = progress or (lambda stage, fraction: None)
        patterns = _patterns(self.options.pattern)
        self._say("reading the model", 0.0)
        self.network = Network(read_model(pathlib.Path(model)), self.options.limits)
        target = resolve_target(self.options.target)
        self.pricing = Pricing(self.network, target, self.options.shapes)
        self.network.keep_dense(self.pricing.knows, "the compiler has no such layer")
        if not self.network.prunable:
            raise _nothing_to_prune(model, self.network)
        self.data: Data = read_data(
            data, self.pricing.inputs, self.options.samples, self.options.seed
        )
        if self.data.labels is not None:
            check_outputs("top1", self.data.labels, self.pricing.output_shape, os.fspath(data))
        layers = self.network.layers
        names = [layer.weight for layer in layers]
        names += [layer.bias.name for layer in layers if layer.bias]
        self.dense: dict[str, Array] = {name: self.network.array(name) for name in names}
        self.session = Activations(self.network, [layer.input for layer in layers], names)
        self.times = self.pricing.compiled({})
        self._kept: list[Moments] = []
        self.offers = self._draw_curves(patterns)
        sizes = [0 if layer.dense_because else layer.size for layer in layers]
        self.menu = Menu([offer.curves for offer in self.offers], sizes)
        self._kept = []

    def _draw_curves(self, patterns: Sequence[Pattern]) -> list[Offer]:
        """Return what can be done with each layer; two rounds, for layers may share row groups."""
        orders = self._group_rows(patterns)
        offers: list[Offer] = []
        for layer, seen in self._measured():
            self._say(f"curve of {layer.name}", 0.1 + 0.35 * len(offers) / len(self.network.layers))
            weight, own = self.dense[layer.weight], orders.get(layer.index, {})
            offers.append(make_offer(layer, weight, seen, patterns, own, self.pricing))
        return offers

    def _measured(self) -> Iterator[tuple[Layer, Moments]]:
        """Yield every layer with the moments of what it reads in the network as given."""
        parts = list(moments.by_memory(self.network.layers, _MOMENTS_BYTES))
        for part in parts:
            measured = self._kept
            if len(parts) > 1 or not measured:
                self._say("calibrating", 0.05)
                measured = moments.measure(
                    self.session, part, self.data.calibration, self.dense, seed=self.options.seed
                )
            if len(parts) == 1:
                self._kept = measured
            yield from zip(part, measured, strict=True)

    def _group_rows(self, patterns: Sequence[Pattern]) -> dict[int, dict[Pattern, Order]]:
        """Return the row groups of the layers whose rows may be permuted."""
        grouped = [pattern for pattern in patterns if pattern.rows > 1]
        classes = self.pricing.row_classes if grouped else []
        wanted = {index for members in classes for index in members}
        energies = {
            layer.index: row_energies(problems_of(layer, self.dense[layer.weight], seen)[0])
            for layer, seen in (self._measured() if wanted else ())
            if layer.index in wanted and layer.groups == 1
        }
        orders: dict[int, dict[Pattern, Order]] = {}
        for members in classes:
            known = {index: slots for index, slots in members.items() if index in energies}
            for pattern in grouped if known else ():
                order = group_rows([energies[i][slots] for i, slots in known.items()], pattern.rows)
                for index, slots in known.items():
                    orders.setdefault(index, {})[pattern] = slots[order]
        return orders

    def prune(self, choices: Sequence[Choice]) -> Pruned:
        """Return the network with every layer pruned as chosen."""
        constants, solved = solve(
            self.session,
            self.offers,
            choices,
            self.dense,
            self.data.calibration,
            seed=self.options.seed,
            progress=lambda fraction: self._say("pruning", 0.45 + 0.5 * fraction),
        )
        return Pruned(constants, solved, self.pricing.compiled(constants))

    def judge(self, constants: Mapping[str, Array]) -> Judgement:
        """Return how the network does on the samples that were not calibrated on."""
        return judge(self.session, self.data, self._outputs, constants)

    @functools.cached_property
    def _outputs(self) -> list[AnyArray]:
        """What the network as given answers to the judging samples."""
        return outputs_of(self.session, self.data.judging, self.dense)


def _patterns(text: str) -> tuple[Pattern, ...]:
    names = AUTO_PATTERNS if text == AUTO else (text,)
    return tuple(map(parse_pattern, names))


def _nothing_to_prune(model: str | os.PathLike[str], network: Network) -> UsageError:
    reasons = sorted(
        {each.reason for each in network.declined}
        | {layer.dense_because for layer in network.layers}
    )
    found = "; ".join(reasons) if reasons else "it has no Conv, Gemm or MatMul with a constant"
    return UsageError(
        f"{model} has nothing to prune: {found}",
        hint="small layers are pruned, too, with `--min-weights 0`",
    )
