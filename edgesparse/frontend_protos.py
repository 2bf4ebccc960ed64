"""Walks over all of a ModelProto: graphs within nodes and functions, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the model's graph, and all that nodes and functions hold."""
    yield from _within(proto.graph)
    for function in proto.functions:
        yield from _held(function.node)


def _within(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    yield from _held(graph.node)


def _held(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                if graph.node or graph.initializer:
                    yield from _within(graph)


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of all graphs and functions."""
    for holder in (*graphs(proto), *proto.functions):
        yield from holder.node


def attributes(proto: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    """Yield the attributes of all nodes."""
    for node in nodes(proto):
        yield from node.attribute


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the initializers, and the tensors that nodes hold."""
    for graph in graphs(proto):
        yield from graph.initializer
    for attribute in attributes(proto):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def sparse_tensors(proto: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    """Yield the same of sparse ones."""
    for graph in graphs(proto):
        yield from graph.sparse_initializer
    for attribute in attributes(proto):
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor
