"""Measure bundles beside each other and a peer: opens sessions, runs the loop, writes the document.

measure([("out", bundle)], device, against="model.onnx") -> result document
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.errors import UsageError
from edgesparse.files import printable
from edgesparse.harness.bench import (
    MAX_COOLDOWN_SECONDS,
    Limits,
    Timing,
    bench_sessions,
    check_number,
    pinned,
)
from edgesparse.harness.devices import Device, check_threads, open_session, refuse_emulated
from edgesparse.harness.ort import OrtSession
from edgesparse.harness.profile import LayerTime, profile_layers
from edgesparse.harness.results import BundleResult, PeerResult, result_document
from edgesparse.harness.session import Session
from edgesparse.harness.steadiness import ConditionLog, Reading

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle


def measure(
    bundles: Sequence[tuple[str, Bundle]],
    device: Device,
    *,
    limits: Limits | None = None,
    against: str | os.PathLike[str] | None = None,
    profile_runs: int = 0,
    threads: int = 1,
    cores: str | None = None,
    launches: int = 1,
    cooldown_seconds: float = 0.0,
    conditions: Callable[[], Reading] | None = None,
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> dict[str, Any]:
    """Return the result document of bundles measured in turns, all on the same CPUs.

    Args:
        bundles: Labels and bundles.
        device: Where they run; onnxruntime always runs on this machine.
        limits: When to stop.
        against: ONNX file to run under onnxruntime beside them.
        profile_runs: Instrumented inferences of each bundle after the others; 0 for no profile.
        threads: Threads of every bundle and of the peer, each bound to a CPU of its own.
        cores: Which ones: `big`, `little`, `all` or a mask like `0xF0`; None for the fastest.
        launches: How often everything is opened afresh; the limits are shared out.
        cooldown_seconds: Pause between opening the bundles and their first inference.
        conditions: Reads clock, temperature and load; the device's own by default.
        progress: Told the stage and the part of the measuring that is done, 0 to 1.

    Raises:
        UsageError: There are no bundles, the peer's model has other inputs than one, the device
            has not so many threads, or a number is out of bounds.
        DeviceError: The device is emulated, missing, or failed.
    """
    check_threads(threads)
    check_number("cooldown_seconds", cooldown_seconds, 0, MAX_COOLDOWN_SECONDS, whole=False)
    check_number("profile_runs", profile_runs, 0)
    refuse_emulated(device)
    if against is not None:
        _refuse_remote(device)
    cpus = device.choose_cpus(threads, cores)
    shares = (limits or Limits()).split(launches)
    if not bundles:
        raise UsageError("there is nothing to measure", hint="give a bundle or more")
    rounds: list[_Round] = []
    log = ConditionLog(conditions or device.conditions)
    for index, share in enumerate(shares):
        stage = _Stage(index, len(shares), progress)
        with contextlib.ExitStack() as stack:
            stage.tell("opening")
            sessions = _open(stack, bundles, device, against, threads)
            if index == 0:
                stage.tell("cooling down")
                time.sleep(cooldown_seconds)
                log.sample()
            with pinned(sessions, cpus):
                rounds.append(_round(stage, sessions, bundles, share, log, profile_runs))
    return result_document(
        device,
        _results(bundles, rounds),
        peer=_peer(against, rounds),
        pinned_cpus=cpus,
        threads=threads,
        log=log,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Round:
    """What one launch gave: an entry for each session."""

    timings: list[Timing]
    ready: list[dict[str, Any]]
    profiles: list[list[LayerTime] | None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Stage:
    """Where the measurement is: launch `index` of `count`."""

    index: int
    count: int
    progress: Callable[[str, float], None]

    @property
    def is_last(self) -> bool:
        return self.index == self.count - 1

    def tell(self, what: str, done: float = 0.0) -> None:
        self.progress(what, (self.index + min(done, 1.0)) / self.count)

    def watcher(self, log: ConditionLog) -> Callable[[float], None]:
        def watch(done: float) -> None:
            log.sample()
            self.tell("measuring", done)

        return watch


def _refuse_remote(device: Device) -> None:
    """Refuse to measure onnxruntime beside a bundle on another machine."""
    if device.is_remote:
        raise UsageError(
            f"onnxruntime runs on this machine, the bundle on {device.name}: no ratio would mean"
            " anything",
            hint="leave `--against-ort` out, or measure both here with `--device host`",
        )


def _open(
    stack: contextlib.ExitStack,
    bundles: Sequence[tuple[str, Bundle]],
    device: Device,
    against: str | os.PathLike[str] | None,
    threads: int,
) -> list[Session]:
    sessions: list[Session] = [
        stack.enter_context(open_session(device, bundle, threads, fresh=True))
        for _, bundle in bundles
    ]
    if against is not None:
        sessions.append(_open_peer(against, [bundle for _, bundle in bundles], threads))
    return sessions


def _round(
    stage: _Stage,
    sessions: Sequence[Session],
    bundles: Sequence[tuple[str, Bundle]],
    limits: Limits,
    log: ConditionLog,
    profile_runs: int,
) -> _Round:
    stage.tell("warming up")
    timings = bench_sessions(sessions, limits, stage.watcher(log))
    # The last launch is profiled; what profiling does to the device is no condition.
    if stage.is_last:
        log.close()
    profiles = _profiles(sessions, bundles, profile_runs if stage.is_last else 0)
    return _Round(timings, [session.ready for session in sessions], profiles)


def _profiles(
    sessions: Sequence[Session], bundles: Sequence[tuple[str, Bundle]], runs: int
) -> list[list[LayerTime] | None]:
    return [
        profile_layers(session, bundle.manifest["layers"], runs) if runs else None
        for session, (_, bundle) in zip(sessions, bundles, strict=False)
    ]


def _results(bundles: Sequence[tuple[str, Bundle]], rounds: Sequence[_Round]) -> list[BundleResult]:
    def result(index: int, label: str, bundle: Bundle) -> BundleResult:
        ready = [r.ready[index] for r in rounds]
        opened = [facts["open_ms"] for facts in ready if facts.get("open_ms") is not None]
        return BundleResult(
            label=label,
            bundle=bundle,
            timing=Timing.joined([r.timings[index] for r in rounds]),
            ready={**ready[0], "open_ms": statistics.median(opened) if opened else None},
            layers=rounds[-1].profiles[index],
        )

    return [result(index, *labelled) for index, labelled in enumerate(bundles)]


def _peer(against: str | os.PathLike[str] | None, rounds: Sequence[_Round]) -> PeerResult | None:
    if against is None:
        return None
    timing = Timing.joined([r.timings[-1] for r in rounds])
    return PeerResult("onnxruntime", OrtSession.version(), printable(against), timing)


def _open_peer(
    model: str | os.PathLike[str], bundles: Sequence[Bundle], threads: int
) -> OrtSession:
    inputs = bundles[0].manifest["inputs"]
    for bundle in bundles[1:]:
        if bundle.manifest["inputs"] != inputs:
            raise UsageError(
                f"{bundle.path} and {bundles[0].path} have different inputs, so one model cannot"
                " be timed against both",
                hint="bench them one at a time",
            )
    return OrtSession(model, inputs, threads)
