"""The user's network under onnxruntime, its weights as inputs and its activations as outputs.

One session serves every state of the weights: what is pruned so far is fed, not loaded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import helper

from edgesparse.harness.ort import PartialSession
from edgesparse.pruning.network import Array, Network

Sample = Mapping[str, Array]

# Of the dense network's activations, which are asked for again and again.
KEPT_BYTES = 1 << 29


class Activations:
    """A session of a network whose constants can be fed and whose values can be fetched.

    Attributes:
        outputs: Names of the graph's own outputs.
    """

    def __init__(self, network: Network, values: Iterable[str], constants: Iterable[str]) -> None:
        """Open the session.

        Args:
            network: The model as given.
            values: Activations that `run` will be asked for.
            constants: Those that `run` will be given.

        Raises:
            DeviceError: onnxruntime is not installed.
            InvalidModelError: onnxruntime cannot load the model.
        """
        opened = _opened_up(network, set(values), set(constants))
        self._session = PartialSession(opened.SerializeToString())
        self._kept: dict[tuple[object, str], Array] = {}
        self._room_bytes = KEPT_BYTES
        self.outputs = [output.name for output in network.proto.graph.output]

    def run(
        self, sample: Sample, constants: Sample, fetch: Sequence[str], key: object = None
    ) -> list[Array]:
        """Return values for one sample, computing only what they need.

        Args:
            sample: The inputs.
            constants: Constants that differ from the model's.
            fetch: Names of the values.
            key: Stands for the sample and the constants; what was computed under it is kept, as
                long as there is room, and not computed again.

        Raises:
            UsageError: onnxruntime cannot run the model on these inputs.
        """
        known = {name: sample[name] for name in fetch if name in sample}
        for name in fetch if key is not None else ():
            if (key, name) in self._kept:
                known[name] = self._kept[key, name]
        wanted = [name for name in dict.fromkeys(fetch) if name not in known]
        found = self._session.run({**sample, **constants}, wanted) if wanted else []
        values = dict(zip(wanted, found, strict=True))
        if key is not None:
            self._keep(key, values)
        return [known[name] if name in known else values[name] for name in fetch]

    def _keep(self, key: object, values: Mapping[str, Array]) -> None:
        for name, value in values.items():
            if value.nbytes <= self._room_bytes:
                self._kept[key, name] = value
                self._room_bytes -= value.nbytes


def _opened_up(network: Network, values: set[str], constants: set[str]) -> onnx.ModelProto:
    """Return a copy of the model whose constants are inputs and whose values are outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(network.proto)
    # Older files must list every initializer as an input; from version 4 on that is optional.
    proto.ir_version = max(4, proto.ir_version)
    graph = proto.graph
    _lift_constants(graph, constants)
    listed = {value.name for value in graph.input}
    for name in sorted(constants - listed):
        tensor = network.constants[name]
        graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    known = {value.name for value in (*graph.output, *graph.input)}
    for name in sorted(values - known):
        graph.output.append(onnx.ValueInfoProto(name=name))
    return proto


def _lift_constants(graph: onnx.GraphProto, names: set[str]) -> None:
    for node in [n for n in graph.node if n.op_type == "Constant" and n.output[0] in names]:
        tensor = next(a.t for a in node.attribute if a.name == "value")
        graph.initializer.append(tensor)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)
