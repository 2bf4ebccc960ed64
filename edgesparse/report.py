"""The report: one HTML file that needs no network, from manifests and saved result documents.

    report(bundles, benchmarks=[bench --json], checks=[check --json]) -> str

It measures nothing. Every number is one that a document holds; what no document holds is a dash.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.errors import OutputError
from edgesparse.harness.results import shipped_bytes

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

_NONE = "-"
_TEMPLATES = pathlib.Path(__file__).parent / "templates"

Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """One layer's bar.

    Attributes:
        label: Layer name.
        value: Its length's number, for people, e.g. `12.3 us`.
        fraction: Of the longest bar, 0 to 1.
        dense_fraction: Prediction of our own dense build on the same scale; 0 for none.
        is_sparse: The layer skips zeros.
    """

    label: str
    value: str
    fraction: float
    dense_fraction: float
    is_sparse: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """A measured bundle with its device and peer.

    Attributes:
        device: The document's `device`.
        result: The bundle's entry in `results`.
        peer: The document's `against`, or None.
    """

    device: Document
    result: Document
    peer: Document | None


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One bundle in the report.

    Attributes:
        manifest: The bundle's manifest.
        shipped_bytes: Code and weights an application ships.
        timed: Its measurement, or None.
        checks: Its check documents.
        layers: Manifest layers, each with `time_us` and `share` where it was profiled.
        bars: One a layer.
        bars_title: What the bars show.
    """

    manifest: Document
    shipped_bytes: int
    timed: Timed | None
    checks: list[Document]
    layers: list[dict[str, Any]]
    bars: list[Bar]
    bars_title: str

    @property
    def target(self) -> str:
        """Name of the target."""
        return str(self.manifest["target"]["name"])

    @property
    def sparse_layers(self) -> int:
        """Layers that skip zeros."""
        return sum(1 for layer in self.layers if is_sparse(layer))

    @property
    def macs(self) -> int:
        """Dense multiply-adds of one inference."""
        return sum(layer["macs"] for layer in self.layers)

    @property
    def nonzero_macs(self) -> int:
        """Multiply-adds with a non-zero weight."""
        return sum(layer["nonzero_macs"] for layer in self.layers)

    @property
    def reordering(self) -> Document | None:
        """What reordering channels did, in all."""
        return reordering(self.layers)

    @property
    def accuracy(self) -> Document | None:
        """Accuracy of the last check that has one."""
        return next((c["accuracy"] for c in reversed(self.checks) if c["accuracy"]), None)

    @property
    def devices(self) -> str:
        """Devices it was timed or checked on."""
        names = [self.timed.device["name"]] if self.timed else []
        return ", ".join(dict.fromkeys([*names, *(c["device"] for c in self.checks)]))


def is_sparse(layer: Document) -> bool:
    """Whether a layer of a manifest skips enough zeros to be faster than our own dense build."""
    speedup = layer["decision"].get("speedup") or 1.0
    return bool(layer["nonzero_macs"] < layer["macs"] and speedup > 1.0)


def reordering(layers: Iterable[Document]) -> Document | None:
    """Return what reordering channels did, over all layers whose channels moved; None for nothing.

    Args:
        layers: Of a manifest.
    """
    orders = [layer["decision"].get("order", {}) for layer in layers]
    moved = [order for order in orders if order.get("reordered")]
    totals = {
        f"{key}_{when}": sum(order[f"{key}_{when}"] for order in moved)
        for key in ("union_columns", "predicted_us")
        for when in ("before", "after")
    }
    return {"layers": len(moved), **totals} if moved else None


def reason_of(decision: Document) -> str:
    """Return why a layer was compiled as it was, what moved, and which fusions were declined."""
    order = decision.get("order", {})
    moved = [order["reason"]] if order.get("reordered") else []
    removed = decision.get("removed", 0)
    gone = [f"{removed} output channels that nothing reads removed"] if removed else []
    declined = [f"{name}: {reason}" for name, reason in decision.get("declined", {}).items()]
    return "; ".join([decision["reason"], *gone, *moved, *declined])


def report(
    bundles: Sequence[Bundle],
    *,
    benchmarks: Iterable[Document] = (),
    checks: Iterable[Document] = (),
    title: str | None = None,
) -> str:
    """Return the page.

    Args:
        bundles: Shown side by side, in this order.
        benchmarks: Documents of `bench --json`; the last that fits a bundle counts.
        checks: Documents of `check --json`.
        title: Heading; the first bundle's name by default.
    """
    import jinja2

    timed, checks = _timed_by_bundle(benchmarks), list(checks)
    sections = [_section(bundle, timed, checks) for bundle in bundles]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": format_bytes,
        "ms": format_ms,
        "count": format_count,
        "percent": format_percent,
        "reason": reason_of,
        "times": format_ratio,
    }
    return environment.get_template("report.html").render(
        title=title or bundles[0].manifest["name"],
        version=importlib.metadata.version("edgesparse"),
        sections=sections,
        latencies=_latency_bars(sections),
    )


def write_report(path: str | pathlib.Path, page: str) -> None:
    """Write the page.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        pathlib.Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}", hint="choose another file with `--html`"
        ) from error


def _timed_by_bundle(benchmarks: Iterable[Document]) -> dict[tuple[str, str], Timed]:
    return {
        (result["model_sha256"], result["target"]): Timed(
            document["device"], result, document.get("against")
        )
        for document in benchmarks
        for result in document["results"]
    }


def _section(
    bundle: Bundle, timed_by_bundle: Mapping[tuple[str, str], Timed], checks: Sequence[Document]
) -> Section:
    manifest = bundle.manifest
    target = manifest["target"]["name"]
    timed = timed_by_bundle.get((manifest["model_sha256"], target))
    layers = _with_times(manifest["layers"], timed)
    bars, bars_title = _layer_bars(layers)
    return Section(
        manifest=manifest,
        shipped_bytes=shipped_bytes(bundle),
        timed=timed,
        checks=[c for c in checks if c["target"] == target and c["name"] == manifest["name"]],
        layers=layers,
        bars=bars,
        bars_title=bars_title,
    )


def _with_times(layers: Sequence[Document], timed: Timed | None) -> list[dict[str, Any]]:
    profile = (timed.result.get("layers") if timed else None) or []
    if len(profile) != len(layers):
        profile = [{"median_us": None, "share": None}] * len(layers)
    return [
        {**layer, "time_us": time["median_us"], "share": time["share"]}
        for layer, time in zip(layers, profile, strict=True)
    ]


def _layer_bars(layers: Sequence[Document]) -> tuple[list[Bar], str]:
    """Return measured bars where there is a profile, else predicted ones beside our own dense."""
    if any(layer["time_us"] is not None for layer in layers):
        return _bars(layers, [layer["time_us"] or 0.0 for layer in layers], []), "Measured time"
    predicted = [layer["decision"].get("predicted_us") or 0.0 for layer in layers]
    dense = [layer["decision"].get("predicted_dense_us") or 0.0 for layer in layers]
    return _bars(layers, predicted, dense), "Predicted time; outline: our own dense build"


def _bars(layers: Sequence[Document], times: list[float], dense: list[float]) -> list[Bar]:
    longest = max([*times, *dense, 0.0]) or 1.0
    return [
        Bar(layer["name"], f"{time:.1f} us", time / longest, ghost / longest, is_sparse(layer))
        for layer, time, ghost in zip(layers, times, dense or [0.0] * len(times), strict=True)
        if time or ghost
    ]


def _latency_bars(sections: Sequence[Section]) -> list[Bar]:
    """Return a bar for every timed bundle, and one for its peer."""
    timed = [(section.target, section.timed) for section in sections if section.timed]
    rows = [(target, float(t.result["median_ms"]), True) for target, t in timed]
    # The first bundle's peer: each was timed beside its own, on the same machine.
    peers = {t.peer["peer"]: t.peer for _, t in reversed(timed) if t.peer}
    rows += [(name, peer["median_ms"], False) for name, peer in peers.items()]
    longest = max((time for _, time, _ in rows), default=0.0) or 1.0
    return [Bar(name, format_ms(time), time / longest, 0.0, ours) for name, time, ours in rows]


def format_bytes(value: int) -> str:
    """Return a size in kB or MB, powers of ten."""
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"


def format_ms(value: float | None) -> str:
    """Return a time with three significant digits, in us below a millisecond."""
    if value is None:
        return _NONE
    return f"{value * 1e3:.3g} us" if value < 0.9995 else f"{value:.3g} ms"


def format_count(value: int) -> str:
    """Return a large count in thousands, millions or billions."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return str(value)


def format_percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction in percent."""
    return _NONE if fraction is None else f"{100 * fraction:.{digits}f} %"


def format_ratio(value: float | None) -> str:
    """Return a ratio, e.g. `1.85x`."""
    return _NONE if value is None else f"{value:.2f}x"
