"""From a file to a checked ModelProto: nothing here is trusted, so every step says what it found.

bytes -> ModelProto -> operator set and operators known -> sizes -> sparse tensors densified
-> external data read -> onnx.checker -> float16 and bfloat16 widened to float32
"""

from __future__ import annotations

import contextlib
import math
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.numpy_helper
import onnx_ir as ir

from edgesparse.errors import (
    EdgeSparseError,
    InvalidModelError,
    UnsupportedModelError,
    UsageError,
)
from edgesparse.frontend_protos import attributes, graphs, nodes, sparse_tensors, tensors
from edgesparse.frontend_widening import HALVES, widen

OLDEST_OPSET = 13
NEWEST_OPSET: int = onnx.defs.onnx_opset_version()
MAX_WEIGHT_BYTES = 2_000_000_000
TRAINING_MODE = "it is in training mode"

_EXPORT_HINT = "export it again, e.g. `torch.onnx.export(model, args, 'model.onnx', dynamo=True)`"
_FOREIGN_FORMATS = (
    (0, b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint", _EXPORT_HINT),
    (
        4,
        b"TFL3",
        "a TensorFlow Lite model",
        "convert it, e.g. `python -m tf2onnx.convert --tflite`",
    ),
    (0, b"\x89HDF", "an HDF5 file, perhaps a Keras model", "convert it to ONNX with tf2onnx"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: `git lfs pull`"),
)
_QUANTISED = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)


@contextlib.contextmanager
def foreign_errors(doing: str, hint: str = _EXPORT_HINT) -> Iterator[None]:
    """Turn whatever the ONNX libraries raise on a malformed model into `InvalidModelError`.

    Their readers raise nearly anything (DecodeError, ValueError, TypeError, KeyError...) when the
    bytes are wrong, and never promise a common base class.
    """
    try:
        yield
    except EdgeSparseError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InvalidModelError(
            f"{doing}: {lines[0] if lines else type(error).__name__}", hint=hint
        ) from error


def read_model(path: pathlib.Path) -> onnx.ModelProto:
    """Return the checked model at `path`, all its tensors dense and in memory, none of them half.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        InvalidModelError: The file is not a valid ONNX model.
        UnsupportedModelError: The operator set, an operator or the size is not supported.
    """
    proto = _parse(path, _read_bytes(path))
    _check_header(path, proto)
    with foreign_errors(f"{path} is corrupt"):
        _normalise_domains(proto)
        _check_operators(proto)
        _check_size(path, proto)
        _densify(proto)
        _read_external_data(path, proto)
    with foreign_errors(f"{path} is not a valid model"):
        _check_structure(proto)
    widen(proto)
    return proto


def _read_bytes(path: pathlib.Path) -> bytes:
    hint = "give the path of an .onnx file"
    try:
        if path.is_dir():
            raise UsageError(f"cannot read the model {path}: it is a directory", hint=hint)
        size = path.stat().st_size
        if size > MAX_WEIGHT_BYTES:
            raise _too_large(path, size)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the model {path}: {reason}", hint=hint) from error
    if not data:
        raise InvalidModelError(f"{path} is empty", hint=_EXPORT_HINT)
    return data


def _too_large(path: pathlib.Path, size: int) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{path}: weights take {size / 1e9:.1f} GB, expected at most {MAX_WEIGHT_BYTES / 1e9:g} GB",
        hint="compile a smaller model, or split it",
    )


def _parse(path: pathlib.Path, data: bytes) -> onnx.ModelProto:
    for offset, magic, what, hint in _FOREIGN_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            raise InvalidModelError(f"{path} is not an ONNX model: it is {what}", hint=hint)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's three backends raise different classes
        raise InvalidModelError(
            f"{path} is not an ONNX model, or is truncated or corrupt", hint=_EXPORT_HINT
        ) from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise InvalidModelError(
            f"{path} is not an ONNX model: it has no graph or no operator set", hint=_EXPORT_HINT
        )
    return proto


def _check_header(path: pathlib.Path, proto: onnx.ModelProto) -> None:
    opset = next(
        (entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), None
    )
    if opset is None:
        raise InvalidModelError(
            f"{path} does not import ONNX's own operator set", hint=_EXPORT_HINT
        )
    expected = f"expected opset {OLDEST_OPSET} to {NEWEST_OPSET}, found {opset}"
    if opset < OLDEST_OPSET:
        raise UnsupportedModelError(
            f"{path} is too old: {expected}",
            hint="export it again with `opset_version=20`, or convert it:"
            " `onnx.version_converter.convert_version(onnx.load('model.onnx'), 17)`",
        )
    if opset > NEWEST_OPSET:
        raise UnsupportedModelError(
            f"{path} is too new for the installed onnx {onnx.__version__}: {expected}",
            hint=f"`pip install --upgrade onnx`, or export it with `opset_version={NEWEST_OPSET}`",
        )


def _normalise_domains(proto: onnx.ModelProto) -> None:
    """Spell ONNX's own domain "" everywhere; "ai.onnx" means the same, but the checker differs."""
    imports = [*proto.opset_import, *(e for each in proto.functions for e in each.opset_import)]
    for each in (*imports, *nodes(proto)):
        if each.domain == "ai.onnx":
            each.domain = ""


def _check_operators(proto: onnx.ModelProto) -> None:
    """Refuse operators that ONNX does not define: no shape could be inferred behind them."""
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    functions = {(function.domain, function.name) for function in proto.functions}
    unknown: dict[str, list[str]] = {}
    for node in nodes(proto):
        version = opsets.get(node.domain, 0)
        is_function = (node.domain, node.op_type) in functions
        if not is_function and not onnx.defs.has(node.op_type, version, node.domain):
            unknown.setdefault(operator_name(node.domain, node.op_type), []).append(node.name)
    if unknown:
        raise unsupported_operators(unknown, opset=opsets[""])


def operator_name(domain: str, op_type: str) -> str:
    """Return an operator's name in errors and lists: `Conv`, `com.microsoft::Attention`."""
    return f"{domain}::{op_type}" if domain else op_type


def unsupported_operators(
    found: dict[str, list[str]], *, opset: int, reasons: dict[str, set[str]] | None = None
) -> UnsupportedModelError:
    """Return the error that lists every unsupported operator at once.

    Args:
        found: operator -> names of its nodes.
        opset: The model's ONNX operator set.
        reasons: operator -> why passes could not bring it into a supported form.
    """
    total = sum(map(len, found.values()))
    lines = []
    for operator, names in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        line = f"{len(names)} x {operator} (first: {names[0] or 'unnamed'})"
        if why := sorted((reasons or {}).get(operator, ())):
            line += f": {'; '.join(why)}"
        lines.append(line)
    return UnsupportedModelError(
        f"{count(total, 'node')} of {count(len(found), 'operator')} (opset {opset}) cannot be"
        f" compiled:\n  " + "\n  ".join(lines),
        hint="; ".join(_hints(found, reasons or {})),
    )


def _hints(found: Collection[str], reasons: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield what to do about each kind of operator."""
    training = {op for op in found if op == "Dropout" or TRAINING_MODE in reasons.get(op, ())}
    quantised = _QUANTISED.intersection(found)
    layers = {"Conv", "ConvTranspose", "Gemm", "MatMul"} if quantised else set()
    if training:
        yield "export the model for inference: `model.eval()` before `torch.onnx.export`"
    if quantised:
        yield "compile the float32 model, from before it was quantised"
    if set(found) - training - quantised - layers:
        yield "replace these operators in the model, or cut them off before export"


def count(number: int, noun: str) -> str:
    """Return `1 node`, `2 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _dense_bytes(dims: Iterable[int], data_type: int) -> int:
    """Return the bytes of a tensor's raw data: elements of fewer than eight bits share one."""
    shape = tuple(dims)
    if any(extent < 0 for extent in shape):
        raise InvalidModelError(f"a tensor has the negative shape {shape}", hint=_EXPORT_HINT)
    if data_type == onnx.TensorProto.STRING:
        return 0
    return -(-math.prod(shape) * ir.DataType(data_type).bitwidth // 8)


def _wide_bytes(dims: Iterable[int], data_type: int) -> int:
    """Return the bytes of a tensor's raw data once it is widened."""
    return _dense_bytes(dims, onnx.TensorProto.FLOAT if data_type in HALVES else data_type)


def _check_size(path: pathlib.Path, proto: onnx.ModelProto) -> None:
    """Add up what the tensors' headers promise, before a byte of external data is read."""
    size = sum(_wide_bytes(each.dims, each.data_type) for each in tensors(proto))
    size += sum(_wide_bytes(each.dims, each.values.data_type) for each in sparse_tensors(proto))
    if size > MAX_WEIGHT_BYTES:
        raise _too_large(path, size)


def _densify(proto: onnx.ModelProto) -> None:
    """Replace sparse initializers and sparse constants by dense tensors."""
    for graph in graphs(proto):
        graph.initializer.extend(_dense_tensor(sparse) for sparse in graph.sparse_initializer)
        del graph.sparse_initializer[:]
    for attribute in attributes(proto):
        if attribute.HasField("sparse_tensor"):
            dense = _dense_tensor(attribute.sparse_tensor)
            attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense_tensor(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """Return a SparseTensorProto as a dense tensor of the same name.

    Its indices are either (nnz,) positions in the flattened tensor or (nnz, rank) coordinates.
    """
    name, shape = sparse.values.name, tuple(sparse.dims)
    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices).astype(np.int64)
    if indices.ndim == 2:
        if indices.shape[1] != len(shape) or np.any(indices < 0):
            raise InvalidModelError(f"sparse tensor {name}: its indices do not fit shape {shape}")
        indices = np.ravel_multi_index(tuple(indices.T), shape)
    total = math.prod(shape)
    if indices.shape != values.shape or np.any(indices < 0) or np.any(indices >= total):
        raise InvalidModelError(f"sparse tensor {name}: its indices do not fit shape {shape}")
    dense = np.zeros(total, values.dtype)
    dense[indices] = values
    return onnx.numpy_helper.from_array(dense.reshape(shape), name)


def _check_structure(proto: onnx.ModelProto) -> None:
    """Run the checker, which wants a shape on every input; `--shape` may have to give it."""
    graph = proto.graph
    types = [
        value.type.tensor_type
        for value in (*graph.input, *graph.output)
        if value.type.HasField("tensor_type")
    ]
    shapeless = [each for each in types if not each.HasField("shape")]
    for each in shapeless:
        each.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    finally:
        for each in shapeless:
            each.ClearField("shape")


def external_locations(path: pathlib.Path, proto: onnx.ModelProto) -> list[str]:
    """Return what a model calls the files beside it that hold its tensors, each once, sorted.

    Raises:
        InvalidModelError: A file is missing, or is not beside the model.
    """
    base = path.parent.resolve()
    with foreign_errors(f"{path} is corrupt"):
        external = (t for t in tensors(proto) if t.data_location == onnx.TensorProto.EXTERNAL)
        return sorted({_external_file(base, tensor)[0] for tensor in external})


def _read_external_data(path: pathlib.Path, proto: onnx.ModelProto) -> None:
    base = path.parent.resolve()
    for tensor in tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        _check_external(base, tensor)
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(base))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _external_file(base: pathlib.Path, tensor: onnx.TensorProto) -> tuple[str, pathlib.Path]:
    """Return what a tensor calls its file, and the file, which is in the folder `base`."""
    location = _external_entries(tensor).get("location", "")
    what = f"tensor {tensor.name} is stored in {location!r}"
    file = (base / location).resolve()
    if not location or not file.is_relative_to(base):
        raise InvalidModelError(
            f"{what}, expected a file beside the model", hint="save the model again with onnx.save"
        )
    if not file.is_file():
        raise InvalidModelError(
            f"{what}, which is missing", hint=f"put {file.name} into {base}, beside the model"
        )
    return location, file


def _external_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_external(base: pathlib.Path, tensor: onnx.TensorProto) -> None:
    location, file = _external_file(base, tensor)
    entries = _external_entries(tensor)
    needed = _dense_bytes(tensor.dims, tensor.data_type)
    offset = int(entries.get("offset", 0))
    length = int(entries.get("length", needed))
    if length != needed or offset < 0 or offset + length > file.stat().st_size:
        raise InvalidModelError(
            f"tensor {tensor.name} is stored in {location!r}: expected {needed} bytes from offset"
            f" {offset}, found {max(0, min(length, file.stat().st_size - offset))}",
            hint=f"{file.name} is truncated or of another model: copy it again",
        )
