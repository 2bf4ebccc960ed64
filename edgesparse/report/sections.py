"""Sections of the report: a bundle on a device, from manifests and saved documents.

What a bundle's manifest tells and what a profiled result tells is made alike here, so that a
result alone makes a page as well as a bundle does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.harness.results import shipped_bytes
from edgesparse.report.wording import is_sparse, reordering

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """A measured bundle with its device and peer.

    Attributes:
        document: The whole document.
        result: The bundle's entry in `results`.
    """

    document: Document
    result: Document

    @property
    def device(self) -> Document:
        """The document's `device`."""
        device: Document = self.document["device"]
        return device

    @property
    def peer(self) -> Document | None:
        """The document's `against`, or None."""
        peer: Document | None = self.document.get("against")
        return peer

    @property
    def threads(self) -> int:
        """Threads it ran on."""
        return int(self.document.get("threads", 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A bundle on a device, or one that was not measured.

    Attributes:
        name: Of the network.
        target: What it was compiled for.
        model_sha256: Of the model.
        shipped_bytes: Code and weights an application ships.
        arena_bytes: Memory it computes in.
        roofline: What the cost model assumes of the core, or None.
        timed: Its measurement, or None.
        checks: Its check documents.
        layers: As in a manifest, each with `time_us`, `share` and `useful_gflops`, which are None
            where it was not profiled.
    """

    name: str
    target: str
    model_sha256: str
    shipped_bytes: int
    arena_bytes: int
    roofline: Document | None
    timed: Timed | None
    checks: list[Document]
    layers: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """Target, device and threads."""
        if self.timed is None:
            return self.target
        threads = f", {self.timed.threads} threads" if self.timed.threads > 1 else ""
        device = self.timed.device["name"]
        place = "" if device == self.target else f" on {device}"
        return f"{self.target}{place}{threads}"

    @property
    def warnings(self) -> list[str]:
        """What makes its times doubtful."""
        return list(self.timed.document.get("warnings") or ()) if self.timed else []

    @property
    def is_profiled(self) -> bool:
        """Whether layers have times."""
        return any(layer["time_us"] is not None for layer in self.layers)

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


def sections_of(
    bundles: Sequence[Bundle], benchmarks: Iterable[Document], checks: Sequence[Document]
) -> list[Section]:
    """Return a section for each bundle and device, then those of results without a bundle.

    Args:
        bundles: In order.
        benchmarks: Documents of `bench --json`; of results that agree in model, target, device and
            threads the last counts.
        checks: Documents of `check --json`.
    """
    measured = {
        (
            (result["model_sha256"], result["target"]),
            (document["device"]["name"], document.get("threads", 1)),
        ): Timed(document, result)
        for document in benchmarks
        for result in document["results"]
    }
    keys = [(b.manifest["model_sha256"], b.manifest["target"]["name"]) for b in bundles]
    found: list[Section] = []
    for bundle, key in zip(bundles, keys, strict=True):
        own = [timed for (model, _), timed in measured.items() if model == key]
        found += [_section_of_bundle(bundle, timed, checks) for timed in own or (None,)]
    alone = [timed for (model, _), timed in measured.items() if model not in keys]
    return found + [_section_of_result(timed, checks) for timed in alone]


def _section_of_bundle(bundle: Bundle, timed: Timed | None, checks: Sequence[Document]) -> Section:
    manifest = bundle.manifest
    name, target = manifest["name"], manifest["target"]["name"]
    return Section(
        name=name,
        target=target,
        model_sha256=manifest["model_sha256"],
        shipped_bytes=shipped_bytes(bundle),
        arena_bytes=manifest["arena_bytes"],
        roofline=manifest["target"].get("roofline"),
        timed=timed,
        checks=_checks_of(name, target, checks),
        layers=_with_times(manifest["layers"], timed),
    )


def _section_of_result(timed: Timed, checks: Sequence[Document]) -> Section:
    result = timed.result
    layers = [
        {**layer, "output_shape": layer["shape"], "macs": layer.get("macs", layer["nonzero_macs"])}
        for layer in result.get("layers") or ()
        if "decision" in layer
    ]
    return Section(
        name=result["name"],
        target=result["target"],
        model_sha256=result["model_sha256"],
        shipped_bytes=result["shipped_bytes"],
        arena_bytes=result["arena_bytes"],
        roofline=result.get("roofline"),
        timed=timed,
        checks=_checks_of(result["name"], result["target"], checks),
        layers=_with_times(layers, timed),
    )


def _checks_of(name: str, target: str, checks: Sequence[Document]) -> list[Document]:
    return [check for check in checks if check["target"] == target and check["name"] == name]


_UNTIMED = {"median_us": None, "share": None, "useful_gflops": None}


def _with_times(layers: Sequence[Document], timed: Timed | None) -> list[dict[str, Any]]:
    profile = (timed.result.get("layers") if timed else None) or []
    if len(profile) != len(layers):
        profile = [_UNTIMED] * len(layers)
    return [
        {
            **layer,
            "time_us": time["median_us"],
            "share": time["share"],
            "useful_gflops": time.get("useful_gflops"),
            "bytes": layer.get("bytes"),
        }
        for layer, time in zip(layers, profile, strict=True)
    ]
