"""`edgesparse demo`: the trained digits model on every target this machine can run."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.options import json_option

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle
    from edgesparse.check import CheckResult
    from edgesparse.harness.devices import Device

_MODEL = "digits_mobilenet_v1"
_TARGETS = ("host", "wasm", "wasm-relaxed", "arm64")
_SECONDS = 2.0
_RESULTS, _REPORT = "results.json", "report.html"
_OUTPUT_HINT = "choose another folder with `--output`"


@dataclasses.dataclass(slots=True)
class Outcome:
    """What became of one target.

    Attributes:
        target: Its name.
        bundle: The compiled bundle.
        device: Where it ran, or "" when no device could.
        check: Against onnxruntime, or None.
        bench: Result document, or None.
        skipped: Step -> why it was skipped.
    """

    target: str
    bundle: Bundle
    device: str = ""
    check: CheckResult | None = None
    bench: dict[str, Any] | None = None
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)


@click.command("demo")
@click.option(
    "--output",
    type=click.Path(path_type=pathlib.Path),
    default=pathlib.Path("demo-out"),
    show_default=True,
    help="Folder of the bundles, results.json and report.html.",
)
@click.option(
    "--serve",
    is_flag=True,
    help="Instead, write the demo page to OUTPUT/web and serve it here until Ctrl-C.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port of --serve; 0 for any that is free.",
)
@json_option
def command(output: pathlib.Path, serve: bool, port: int, as_json: bool) -> None:
    """Try the trained digits model on every target.

    It is compiled, checked on real images it was not trained on, and timed beside onnxruntime.

    A target whose device is missing here (node, qemu-aarch64) is compiled all the same, and what
    was skipped is said with the reason. Times on qemu are not taken: they would be the emulator's.

    --serve shows it in a browser: draw a digit, and see the sparse model beside the dense one. The
    folder is static, for any server; this one adds COOP and COEP, so that threads can be tried.
    """
    from edgesparse.cli.output import emit_json, print_table, say
    from edgesparse.files import check_writable

    if serve:
        _serve(output / "web", port)
        return
    for path in (output / _RESULTS, output / _REPORT):
        check_writable(path, _OUTPUT_HINT)
    outcomes = [_demonstrate(target, output) for target in _TARGETS]
    _write_results(outcomes, output)
    for outcome in outcomes:
        for step, reason in outcome.skipped.items():
            say(f"skipped: {step} of {outcome.target}: {reason}")
    if as_json:
        emit_json(_document(outcomes))
    else:
        print_table(_table(outcomes))
        click.echo(f"report: {output / _REPORT}")
    for outcome in outcomes:
        if outcome.check:
            outcome.check.raise_problems()


def _serve(site: pathlib.Path, port: int) -> None:
    """Write the page and serve it until the user has seen enough."""
    import contextlib
    import threading

    from edgesparse.cli.output import progress
    from edgesparse.cli.site import write_site
    from edgesparse.files import hinting
    from edgesparse.harness.page_server import POLICY, serving

    policy = f"{POLICY}; img-src 'self' data: blob:"
    with serving({"/": site}, policy=policy, port=port) as url:
        with progress(f"the demo page in {site}") as report_progress, hinting(_OUTPUT_HINT):
            write_site(site, report_progress)
        with contextlib.suppress(KeyboardInterrupt):
            click.echo(f"{url}/index.html serves {site}; Ctrl-C ends it")
            threading.Event().wait()


def _demonstrate(target: str, output: pathlib.Path) -> Outcome:
    from edgesparse.cli.output import progress, say
    from edgesparse.compiler import compile
    from edgesparse.files import hinting
    from edgesparse.models import zoo

    model = zoo.path(_MODEL)
    with progress(f"{_MODEL} for {target}") as report_progress, hinting(_OUTPUT_HINT):
        bundle = compile(model, target=target, output=output / target, progress=report_progress)
    outcome = Outcome(target, bundle)
    say(f"{target}: compiled to {bundle.path}")
    if device := _device(outcome):
        _check(outcome, device, model)
        _bench(outcome, device, model)
    return outcome


def _device(outcome: Outcome) -> Device | None:
    """Return the device of the target, or note why there is none here."""
    from edgesparse.errors import DeviceError, UsageError
    from edgesparse.harness.devices import resolve_device

    try:
        device = resolve_device(None, outcome.bundle)
        device.check(outcome.bundle)
    except (DeviceError, UsageError) as error:
        outcome.skipped["check and bench"] = f"{error.message} ({error.hint})"
        return None
    outcome.device = device.name
    return device


def _check(outcome: Outcome, device: Device, model: pathlib.Path) -> None:
    from edgesparse.check import check
    from edgesparse.cli.output import say
    from edgesparse.harness.ort import ort_available
    from edgesparse.models import zoo

    if reason := ort_available():
        outcome.skipped["check"] = f"{reason} (pip install onnxruntime)"
        return
    say(f"{outcome.target}: checking on {device.name} against onnxruntime ...")
    outcome.check = check(model, outcome.bundle, device, data=zoo.heldout_path())


def _bench(outcome: Outcome, device: Device, model: pathlib.Path) -> None:
    from edgesparse.cli.output import say
    from edgesparse.harness.bench import Limits
    from edgesparse.harness.measure import measure
    from edgesparse.harness.ort import ort_available
    from edgesparse.harness.profile import PROFILE_RUNS

    if device.emulated:
        outcome.skipped["bench"] = "not timed (emulated)"
        return
    say(f"{outcome.target}: measuring on {device.name} ...")
    outcome.bench = measure(
        [(outcome.target, outcome.bundle)],
        device,
        limits=Limits(runs=200, seconds=_SECONDS),
        against=None if ort_available() else model,
        profile_runs=PROFILE_RUNS,
    )


def _document(outcomes: list[Outcome]) -> dict[str, Any]:
    from edgesparse.harness.results import shipped_bytes

    return {
        "schema": 1,
        "model": _MODEL,
        "targets": [
            {
                "target": outcome.target,
                "device": outcome.device or None,
                "shipped_bytes": shipped_bytes(outcome.bundle),
                "check": outcome.check.to_json() if outcome.check else None,
                "bench": outcome.bench,
                "skipped": outcome.skipped,
            }
            for outcome in outcomes
        ],
    }


def _write_results(outcomes: list[Outcome], output: pathlib.Path) -> None:
    from edgesparse.cli.output import write_json
    from edgesparse.files import write_whole_text
    from edgesparse.models import zoo
    from edgesparse.report import report

    write_json(output / _RESULTS, _document(outcomes), _OUTPUT_HINT)
    page = report(
        [outcome.bundle for outcome in outcomes],
        benchmarks=[outcome.bench for outcome in outcomes if outcome.bench],
        checks=[outcome.check.to_json() for outcome in outcomes if outcome.check],
        models=[zoo.path(_MODEL)],
    )
    write_whole_text(output / _REPORT, page, _OUTPUT_HINT)


def _table(outcomes: list[Outcome]) -> Any:
    from edgesparse.cli.output import table

    accuracy = (">Accuracy", ">In onnxruntime")
    latency = (">Latency", ">Native onnxruntime", ">onnxruntime / bundle")
    made = table("Target", "Device", *accuracy, ">Size", *latency)
    for outcome in outcomes:
        made.add_row(*_row(outcome))
    return made


def _row(outcome: Outcome) -> list[str]:
    from edgesparse.harness.results import shipped_bytes
    from edgesparse.report import format_bytes, format_ms, format_ratio

    accuracy = outcome.check.accuracy if outcome.check else None
    row = [
        outcome.target,
        outcome.device or "skipped",
        f"{accuracy.bundle_percent:.2f} %" if accuracy else "skipped",
        f"{accuracy.onnxruntime_percent:.2f} %" if accuracy else "skipped",
        format_bytes(shipped_bytes(outcome.bundle)),
    ]
    if outcome.bench is None:
        return [*row, outcome.skipped.get("bench", "skipped"), "", ""]
    result, peer = outcome.bench["results"][0], outcome.bench["against"]
    peer_time = format_ms(peer["median_ms"]) if peer else "skipped"
    return [*row, format_ms(result["median_ms"]), peer_time, format_ratio(result["ratio"])]
