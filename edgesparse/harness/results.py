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
import math
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.errors import UsageError
from edgesparse.files import parse_json
from edgesparse.harness.bench import Timing
from edgesparse.harness.devices import Device
from edgesparse.harness.profile import LayerTime, by_type, overhead
from edgesparse.harness.statistics import (
    Comparison,
    compare_side_by_side,
    compare_with_baseline,
    median_interval,
    paired_ratio,
    paired_ratio_interval,
    summarize,
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


_HINT = "write one with `edgesparse bench BUNDLE --json > results.json`"


def read_document(path: str | pathlib.Path) -> dict[str, Any]:
    """Return the document that `bench --json` printed.

    Raises:
        UsageError: The file cannot be read, is not such a document, or holds several.
    """
    documents = read_documents(path)
    if len(documents) > 1:
        names = ", ".join(str(document["device"]["name"]) for document in documents)
        raise UsageError(
            f"{path} holds results of several devices: {names}",
            hint="bench one device at a time, or keep results with `--save`",
        )
    return documents[0]


def read_documents(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return the documents that `bench --json` printed, one a device.

    Raises:
        UsageError: The file cannot be read, or is not such a document.
    """
    return documents_in(read_json(path), path)


def read_json(path: str | pathlib.Path, hint: str = _HINT) -> Any:
    """Return what a JSON file holds; it is read once, so it may be a pipe.

    Args:
        path: The file.
        hint: Where such a file comes from.

    Raises:
        UsageError: The file cannot be read, or is no JSON.
    """
    try:
        return parse_json(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", hint=hint) from error


def documents_in(document: Any, path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return the documents in what the file at `path` held.

    Raises:
        UsageError: It is not what `bench --json` printed.
    """
    several = document.get("documents") if isinstance(document, dict) else None
    documents = several if isinstance(several, list) and several else [document]
    for found in documents:
        _check_document(path, found)
    return documents


def _check_document(path: str | pathlib.Path, document: Any) -> None:
    if not isinstance(document, dict) or not isinstance(document.get("results"), list):
        raise UsageError(f"{path} is not a result of `edgesparse bench --json`", hint=_HINT)
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"{path}: expected result schema {SCHEMA}, found {document.get('schema')}", hint=_HINT
        )
    for entry in document["results"]:
        samples = entry.get("samples_ms") if isinstance(entry, dict) else None
        if not isinstance(samples, list) or not samples or not all(map(_is_time, samples)):
            raise UsageError(f"{path}: a result holds no samples", hint=_HINT)


def _is_time(ms: Any) -> bool:
    return isinstance(ms, int | float) and 0 < ms < math.inf


# What documents held from the first, by where it stands; whatever came later may be missing.
_HELD: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "document": {"edgesparse": str, "device": dict, "results": list},
    "device": {"name": str, "cpu": str},
    "result": {
        **dict.fromkeys(("bundle", "name", "target", "model_sha256"), str),
        **dict.fromkeys(("median_ms", "min_ms", "p90_ms"), (int, float)),
        **dict.fromkeys(("runs", "warmup_runs", "shipped_bytes", "arena_bytes"), int),
    },
}


def check_whole(documents: list[dict[str, Any]], path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return documents, none of which lacks what keeping and showing it takes; a baseline may.

    Raises:
        UsageError: One does.
    """
    for document in documents:
        _check_held("document", document, path)
        _check_held("device", document["device"], path)
        for result in document["results"]:
            _check_held("result", result, path)
    return documents


def _check_held(what: str, found: Mapping[str, Any], path: str | pathlib.Path) -> None:
    lacks = [key for key, kind in _HELD[what].items() if not isinstance(found.get(key), kind)]
    if lacks:
        raise UsageError(
            f"{path}: a {what} lacks {', '.join(lacks)}, or has it of another type", hint=_HINT
        )


def compare_document(
    document: dict[str, Any], baseline: Mapping[str, Any], max_regression: float
) -> list[str]:
    """Add `baseline` to every result and return a sentence for each that is slower than allowed.

    Args:
        document: From `result_document`; changed in place.
        baseline: From `read_document`.
        max_regression: 0.05 allows five percent.

    Raises:
        UsageError: The baseline does not hold a result.
    """
    sentences = []
    for result in document["results"]:
        entry = find_baseline(baseline, result)
        found = compare_entries(result, entry, max_regression)
        _add_comparison(result, entry, found)
        if found.exceeds_limit:
            sentences.append(_regression_sentence(result, "baseline", max_regression))
    return sentences


def compare_with_first(document: dict[str, Any], max_regression: float) -> list[str]:
    """Do as `compare_document` with the document's own first result as the baseline.

    Samples were taken in turns, so this holds on a machine whose speed nobody knows.
    """
    sentences = []
    first, *others = document["results"]
    for result in others:
        pair = result["samples_ms"], first["samples_ms"]
        found = compare_side_by_side(*pair, max_regression, launches_of(first))
        _add_comparison(result, first, found)
        if found.exceeds_limit:
            sentences.append(_regression_sentence(result, first["bundle"], max_regression))
    return sentences


def _add_comparison(result: dict[str, Any], baseline: Mapping[str, Any], found: Comparison) -> None:
    result["baseline"] = {
        "median_ms": summarize(baseline["samples_ms"]).median_ms,
        **dataclasses.asdict(found),
        "is_regression": found.is_regression,
    }


def compare_entries(
    result: Mapping[str, Any], baseline: Mapping[str, Any], max_regression: float
) -> Comparison:
    """Return how an entry of a document's `results` compares with another one."""
    launches = launches_of(result), launches_of(baseline)
    pair = result["samples_ms"], baseline["samples_ms"]
    return compare_with_baseline(*pair, max_regression, launches)


def launches_of(entry: Mapping[str, Any]) -> Sequence[int]:
    """Return an entry's launches; none where the document is older, or its samples were edited."""
    launches: Sequence[int] = entry.get("launches", ())
    return launches if sum(launches) == len(entry["samples_ms"]) and all(launches) else ()


def _regression_sentence(result: Mapping[str, Any], than: str, max_regression: float) -> str:
    baseline = result["baseline"]
    noise = "beyond" if baseline["exceeds_noise"] else "but within"
    return (
        f"{result['bundle']}: median {result['median_ms']:.4g} ms, {than}"
        f" {baseline['median_ms']:.4g} ms: {100 * baseline['change']:.1f} % slower, allowed are"
        f" {100 * max_regression:g} %, {noise} the noise of the samples"
    )


def baseline_of_device(
    baselines: Sequence[dict[str, Any]], document: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document of the same device, or the only one there is.

    Raises:
        UsageError: There are several, of other devices.
    """
    name = document["device"]["name"]
    same = [b for b in baselines if b.get("device", {}).get("name") == name]
    if len(same) == 1 or len(baselines) == 1:
        return (same or baselines)[0]
    known = ", ".join(str(b.get("device", {}).get("name")) for b in baselines)
    raise UsageError(f"the baseline holds no result of {name}", hint=f"it holds {known}")


def find_baseline(baseline: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the baseline's entry for a result: the same path, else the same name and target.

    Raises:
        UsageError: There is none, or several could be meant.
    """
    entries: list[dict[str, Any]] = baseline["results"]
    for keys in (("bundle", "target"), ("name", "target")):
        same = [e for e in entries if all(e.get(key) == result[key] for key in keys)]
        if len(same) == 1:
            return same[0]
    known = ", ".join(f"{e.get('bundle')} ({e.get('target')})" for e in entries) or "nothing"
    raise UsageError(
        f"the baseline holds no single result for {result['bundle']} ({result['target']})",
        hint=f"it holds {known}",
    )
