"""The per-layer table of `inspect` and `compile --explain`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.cli.output import table
from edgesparse.report import format_bytes, is_sparse, reason_of, reordering

if TYPE_CHECKING:
    from rich.table import Table

    from edgesparse.download import Download, Size

Decision = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer, from an inspection or a manifest."""

    name: str
    op: str
    output_shape: tuple[int, ...]
    macs: int
    nonzero_macs: int
    decision: Decision

    @classmethod
    def of(cls, layer: Mapping[str, Any]) -> LayerRow:
        """Return the row of a layer in a manifest, or of `dataclasses.asdict(plan.Layer)`."""
        fields = {field.name: layer[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "output_shape": tuple(layer["output_shape"])})


def layer_table(layers: Sequence[LayerRow]) -> Table:
    """Return the table: what each layer is, what was chosen for it, and why."""
    made = table("Layer", "Op", "Weight", ">Zeros", "Format", ">Predicted", "Reason")
    for layer in layers:
        decision = layer.decision
        made.add_row(
            layer.name,
            layer.op,
            _extents(decision.get("weight_shape")),
            _zeros(decision),
            decision.get("format") or "",
            _ratio(decision.get("speedup")),
            reason_of(decision),
        )
    return made


def download_table(downloads: Sequence[Download]) -> Table:
    """Return the table of what a page downloads: as it is, and gzipped in brackets."""
    made = table("A page downloads", ">Scripts", ">Code", ">Manifest", ">Weights", ">Sum")
    for row in downloads:
        sizes = (row.scripts, row.code, row.manifest, row.weights, row.total)
        made.add_row(row.title, *map(_size, sizes))
    return made


def _size(size: Size | None) -> str:
    if size is None or not size.raw_bytes:
        return ""
    return f"{format_bytes(size.raw_bytes)} ({format_bytes(size.gzip_bytes)})"


def summary(layers: Sequence[LayerRow]) -> dict[str, Any]:
    """Return the totals: layers, those that skip zeros, predicted time against our own dense."""
    predicted = [layer for layer in layers if layer.decision.get("predicted_us") is not None]
    total = sum(layer.decision["predicted_us"] for layer in predicted)
    dense = sum(
        layer.decision.get("predicted_dense_us") or layer.decision["predicted_us"]
        for layer in predicted
    )
    return {
        "layers": len(layers),
        "sparse_layers": sum(is_sparse(dataclasses.asdict(layer)) for layer in layers),
        "macs": sum(layer.macs for layer in layers),
        "nonzero_macs": sum(layer.nonzero_macs for layer in layers),
        "predicted_us": total if predicted else None,
        "predicted_dense_us": dense if predicted else None,
        "predicted_speedup": dense / total if total else None,
        "reordering": reordering(map(dataclasses.asdict, layers)),
    }


def summary_line(totals: Mapping[str, Any]) -> str:
    """Return the totals in a sentence."""
    line = (
        f"{totals['sparse_layers']} of {totals['layers']} layers skip zeros:"
        f" {totals['nonzero_macs'] / 1e6:.3g} of {totals['macs'] / 1e6:.3g} M multiply-adds left"
    )
    if totals["predicted_speedup"]:
        line += (
            f"; layers with weights predicted {totals['predicted_us'] / 1e3:.3g} ms, our own dense"
            f" {totals['predicted_dense_us'] / 1e3:.3g} ms: {totals['predicted_speedup']:.2f}x"
        )
    if moved := totals["reordering"]:
        layers = "1 layer" if moved["layers"] == 1 else f"{moved['layers']} layers"
        line += (
            f"\nchannels of {layers} reordered: {moved['union_columns_before']} ->"
            f" {moved['union_columns_after']} column loads, predicted"
            f" {moved['predicted_us_before'] / 1e3:.3g} ->"
            f" {moved['predicted_us_after'] / 1e3:.3g} ms"
        )
    return line


def _extents(value: object) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return str(value or "")


def _zeros(decision: Decision) -> str:
    """Return the share of zeros, and the structure that training gave them if it has a name."""
    if decision.get("own_zeros"):
        return ""
    structure = decision.get("structure")
    named = structure not in (None, "dense", "unstructured")
    return _percent(decision.get("zeros")) + (f" {structure}" if named else "")


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}%"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"
