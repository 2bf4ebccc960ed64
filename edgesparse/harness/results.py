"""The result document of a benchmark, schema 1: what `bench --json` prints and a baseline holds.

    {"schema": 1, "edgesparse": "0.1.0", "date": "2026-01-31T12:00:00+00:00", "threads": 1,
     "device": {"name", "emulated", "cpu", "machine", "pinned_cpu", "pinned_cpus", ...},
     "results": [{"bundle", "name", "target", "model_sha256", "manifest_sha256", "median_ms",
                  "median_interval_ms", "min_ms", "p90_ms", "p99_ms", "outlier_share", "first_ms",
                  "runs", "warmup_runs", "batch", "launches", "open_ms", "timer_resolution_ns",
                  "arena_bytes", "shipped_bytes", "roofline", "ratio", "ratio_interval",
                  "over_first", "over_first_interval", "samples_ms", "layers", "by_type",
                  "profile_overhead", "baseline"}],
     "against": null or {"peer", "version", "model", "median_ms", ..., "ratio", "samples_ms"},
     "conditions": {"before", "during", "after"}, "warnings": [sentence]}

`ratio` is the peer's time over the bundle's, the median over pairs of samples taken side by side;
above 1 the bundle is faster. `against.ratio` is that of the first bundle; a result's own is null
without a peer. `over_first` is the first bundle's time over this one's, pairwise likewise.
`samples_ms` stand in order; `launches` says how many of them each process that was started gave.
`first_ms` and `open_ms` are medians over launches.
Intervals hold with 99 % confidence. `layers`, `by_type` and `profile_overhead` are there with
`--profile` only, `baseline` with `--baseline` or `--relative --max-regression` only; see
`profile.LayerTime` and `steadiness`.
Measured on several devices, documents stand side by side: {"schema": 1, "documents": [...]}.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.harness.bench import Timing
from edgesparse.harness.devices import Device
from edgesparse.harness.profile import LayerTime, by_type, overhead
from edgesparse.harness.statistics import (
    median_interval,
    paired_ratio,
    paired_ratio_interval,
)
from edgesparse.harness.steadiness import ConditionLog, condition_warnings, sample_warnings

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

SCHEMA = 1

_SHIPPED = ("libmodel.so", "weights.bin", "model.wasm", "index.mjs")


@dataclasses.dataclass(frozen=True, slots=True)
class BundleResult:
    """One measured bundle.

    Attributes:
        label: The bundle as the user named it.
        bundle: The bundle.
        timing: What the loop measured.
        ready: What its runner told on opening.
        layers: The profile, or None.
    """

    label: str
    bundle: Bundle
    timing: Timing
    ready: dict[str, Any]
    layers: list[LayerTime] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PeerResult:
    """The measured peer."""

    peer: str
    version: str
    model: str
    timing: Timing


def shipped_bytes(bundle: Bundle) -> int:
    """Return the bytes of code and weights an application ships, the glue of wasm included."""
    files = bundle.manifest["files"]
    return sum(int(files[name]["bytes"]) for name in _SHIPPED if name in files)


def now() -> str:
    """Return the date as documents spell it: ISO 8601, UTC, whole seconds."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def result_document(
    device: Device,
    results: list[BundleResult],
    *,
    peer: PeerResult | None = None,
    pinned_cpus: Sequence[int] = (),
    threads: int = 1,
    log: ConditionLog,
) -> dict[str, Any]:
    """Return the document; see the module's text for its schema."""
    warnings = condition_warnings(log.readings, pinned_cpus)
    for result in results:
        warnings += sample_warnings(result.label, result.timing.samples_ms)
    return {
        "schema": SCHEMA,
        "edgesparse": importlib.metadata.version("edgesparse"),
        "date": now(),
        "threads": threads,
        "device": {
            "name": device.name,
            "emulated": device.emulated,
            "machine": platform.machine(),
            "system": platform.platform(),
            "pinned_cpu": next(iter(pinned_cpus), None),
            "pinned_cpus": list(pinned_cpus),
            **device.describe(),
        },
        "results": [_result_entry(result, results[0], peer) for result in results],
        "against": _peer_entry(peer, results[0]) if peer else None,
        "conditions": log.summary(),
        "warnings": warnings,
    }


def _timing_entry(timing: Timing) -> dict[str, Any]:
    return {
        **dataclasses.asdict(timing.summary),
        "median_interval_ms": list(median_interval(timing.samples_ms, timing.launches)),
        "first_ms": timing.first_ms,
        "warmup_runs": timing.warmup_runs,
        "batch": timing.batch,
        "launches": list(timing.launches),
        "samples_ms": timing.samples_ms,
    }


def _ratio(slow: PeerResult | BundleResult, fast: BundleResult, key: str) -> dict[str, Any]:
    pair = slow.timing.samples_ms, fast.timing.samples_ms
    interval = paired_ratio_interval(*pair, fast.timing.launches)
    return {key: paired_ratio(*pair), f"{key}_interval": list(interval)}


def _result_entry(
    result: BundleResult, first: BundleResult, peer: PeerResult | None
) -> dict[str, Any]:
    manifest = result.bundle.manifest
    entry = {
        "bundle": result.label,
        "name": manifest["name"],
        "target": manifest["target"]["name"],
        "model_sha256": manifest["model_sha256"],
        "manifest_sha256": result.bundle.manifest_sha256,
        **_timing_entry(result.timing),
        "open_ms": result.ready.get("open_ms"),
        "timer_resolution_ns": result.ready.get("timer_resolution_ns"),
        "arena_bytes": manifest["arena_bytes"],
        "shipped_bytes": shipped_bytes(result.bundle),
        "roofline": manifest["target"].get("roofline"),
        **(_ratio(peer, result, "ratio") if peer else {"ratio": None, "ratio_interval": None}),
        **_ratio(first, result, "over_first"),
    }
    if result.layers is not None:
        entry["layers"] = [dataclasses.asdict(layer) for layer in result.layers]
        entry["by_type"] = by_type(entry["layers"])
        entry["profile_overhead"] = overhead(entry)
    return entry


def _peer_entry(peer: PeerResult, first: BundleResult) -> dict[str, Any]:
    return {
        "peer": peer.peer,
        "version": peer.version,
        "model": peer.model,
        **_timing_entry(peer.timing),
        **_ratio(peer, first, "ratio"),
    }


def launches_of(entry: Mapping[str, Any]) -> Sequence[int]:
    """Return an entry's launches; none where the document is older, or its samples were edited."""
    launches: Sequence[int] = entry.get("launches", ())
    return launches if sum(launches) == len(entry["samples_ms"]) and all(launches) else ()
