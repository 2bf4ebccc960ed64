"""Sections of the report: a bundle on a device, from manifests and saved documents.

What a bundle's manifest tells and what a profiled result tells is made alike here, so that a
result alone makes a page as well as a bundle does.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.files import printable
from edgesparse.harness.results import shipped_bytes
from edgesparse.report.owners import identity_of, owner_of_result, owners_of_check, told_of
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
        label: What the user called the bundle, where another section has its place; else "".
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
    label: str
    model_sha256: str
    shipped_bytes: int
    arena_bytes: int
    roofline: Document | None
    timed: Timed | None
    checks: list[Document]
    layers: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """Target, device, threads, and the bundle where these are not enough."""
        return f"{self.place} ({self.label})" if self.label else self.place

    @property
    def place(self) -> str:
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
        benchmarks: Documents of `bench --json`; of results that agree in bundle, device and threads
            the last counts. Those that could be of several bundles have sections of their own.
        checks: Documents of `check --json`.
    """
    subjects = _gathered(bundles, benchmarks)
    told = [subject.told for subject in subjects]
    owners = [owners_of_check(check, told, checks) for check in checks]
    found: list[Section] = []
    for index, subject in enumerate(subjects):
        own = [check for check, indices in zip(checks, owners, strict=True) if index in indices]
        found += subject.sections(own)
    return _told_apart(found)


@dataclasses.dataclass(frozen=True, slots=True)
class _Subject:
    """A bundle, or what results tell of one that is not there.

    Attributes:
        told: Its name, hashes and target, as a result has them.
        bundle: The bundle, or None.
        timed: Device and threads -> the last measurement.
    """

    told: Document
    bundle: Bundle | None
    timed: dict[tuple[str, int], Timed] = dataclasses.field(default_factory=dict)

    def sections(self, checks: list[Document]) -> list[Section]:
        """Return a section for each measurement; one of a bundle without."""
        if self.bundle is None:
            return [_section_of_result(timed, checks) for timed in self.timed.values()]
        each: list[Timed | None] = [*self.timed.values()]
        return [_section_of_bundle(self.bundle, timed, checks) for timed in each or [None]]


def _gathered(bundles: Sequence[Bundle], benchmarks: Iterable[Document]) -> list[_Subject]:
    """Return the bundles with their results, then those of which there are only results."""
    entries = [(document, result) for document in benchmarks for result in document["results"]]
    results = [result for _, result in entries]
    subjects = [_Subject(told_of(bundle), bundle) for bundle in bundles]
    told = [subject.told for subject in subjects]
    alone: dict[tuple[str, ...], _Subject] = {}
    for document, result in entries:
        owner = owner_of_result(result, told, results)
        subject = (
            alone.setdefault(identity_of(result), _Subject(result, None))
            if owner is None
            else subjects[owner]
        )
        where = document["device"]["name"], document.get("threads", 1)
        subject.timed[where] = Timed(document, result)
    return [*subjects, *alone.values()]


def _told_apart(sections: Sequence[Section]) -> list[Section]:
    """Return sections with the bundle's name in those titles only that several would have."""
    titles = collections.Counter((section.name, section.place) for section in sections)
    return [
        section
        if titles[section.name, section.place] > 1
        else dataclasses.replace(section, label="")
        for section in sections
    ]


def _section_of_bundle(bundle: Bundle, timed: Timed | None, checks: list[Document]) -> Section:
    manifest = bundle.manifest
    name, target = manifest["name"], manifest["target"]["name"]
    return Section(
        name=name,
        target=target,
        label=printable(bundle.path),
        model_sha256=manifest["model_sha256"],
        shipped_bytes=shipped_bytes(bundle),
        arena_bytes=manifest["arena_bytes"],
        roofline=manifest["target"].get("roofline"),
        timed=timed,
        checks=checks,
        layers=_with_times(manifest["layers"], timed),
    )


def _section_of_result(timed: Timed, checks: list[Document]) -> Section:
    result = timed.result
    layers = [
        {**layer, "output_shape": layer["shape"], "macs": layer.get("macs", layer["nonzero_macs"])}
        for layer in result.get("layers") or ()
        if "decision" in layer
    ]
    return Section(
        name=result["name"],
        target=result["target"],
        label=result["bundle"],
        model_sha256=result["model_sha256"],
        shipped_bytes=result["shipped_bytes"],
        arena_bytes=result["arena_bytes"],
        roofline=result.get("roofline"),
        timed=timed,
        checks=checks,
        layers=_with_times(layers, timed),
    )


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
