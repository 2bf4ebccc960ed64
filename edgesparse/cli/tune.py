"""`edgesparse tune`: measure the best candidates of every layer, for `compile` to use."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.options import (
    DeviceChoice,
    NumberRange,
    json_option,
    model_argument,
    shape_option,
    target_option,
)

if TYPE_CHECKING:
    from edgesparse.tuning import TunedOperator, TuneResult


@click.command("tune")
@model_argument
@target_option
@click.option(
    "--device",
    type=DeviceChoice(),
    help="Where to measure; by default what fits the target. qemu is refused: it emulates.",
)
@shape_option
@click.option(
    "--top",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Candidates of each layer, the cost model's best.",
)
@click.option(
    "--seconds",
    type=NumberRange(0, min_open=True),
    default=0.3,
    show_default=True,
    help="Measuring time of each candidate.",
)
@json_option
def command(
    model: pathlib.Path,
    target: str,
    device: str | None,
    shapes: dict[str, tuple[int, ...]],
    top: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure the cost model's best candidates of every layer on a device.

    The fastest go into a cache, and `compile` for this target uses them from then on, on this
    machine; `compile --no-tuned` does not. What an earlier run measured as well is not measured
    again, so a run that was interrupted goes on where it stood. `edgesparse cache` shows and
    clears the cache.
    """
    from edgesparse.cli.output import emit_json, progress
    from edgesparse.tuning import tune

    with progress(f"tuning {model.name} for {target}") as report_progress:
        result = tune(
            model,
            target=target,
            device=device,
            shapes=shapes,
            top=top,
            seconds=seconds,
            progress=report_progress,
        )
    if as_json:
        emit_json({"schema": 1, "model": str(model), **_document(result)})
    else:
        _print(result)


def _document(result: TuneResult) -> dict[str, Any]:
    import dataclasses

    return {
        "target": result.target,
        "device": result.device,
        "cache": str(result.cache),
        "choice_us": result.choice_us,
        "best_us": result.best_us,
        "operators": [
            {**dataclasses.asdict(operator), "best": operator.best and operator.best.format}
            for operator in result.operators
        ],
    }


def _print(result: TuneResult) -> None:
    from edgesparse.cli.output import print_table, table

    made = table(
        "Layer", "Op", "Weight", "Cost model's choice", ">Time", "Fastest", ">Time", ">Gain"
    )
    for operator in result.operators:
        made.add_row(*_row(operator))
    print_table(made)
    measured = [operator for operator in result.operators if operator.measured]
    known = sum(operator.is_known for operator in measured)
    click.echo(
        f"{len(measured)} of {len(result.operators)} distinct operators have a choice; measured on"
        f" {result.device['name']}" + (f", {known} of them by an earlier run" if known else "")
    )
    if result.best_us:
        click.echo(
            f"their layers take {result.best_us / 1e3:.3g} ms; the cost model's choices"
            f" {result.choice_us / 1e3:.3g} ms: {result.choice_us / result.best_us:.2f}x"
        )
    click.echo(f"`edgesparse compile --target {result.target}` uses what is in {result.cache}")


def _row(operator: TunedOperator) -> list[str]:
    extents = "x".join(map(str, operator.weight_shape))
    more = f" and {len(operator.layers) - 1} more" if len(operator.layers) > 1 else ""
    facts = [operator.layers[0] + more, operator.op, extents]
    best, choice = operator.best, operator.choice
    if best is None or choice is None:
        return [*facts, "the only candidate", "", "", "", ""]
    return [
        *facts,
        choice.format,
        f"{choice.measured_us:.1f} us",
        "the same" if best is choice else best.format,
        f"{best.measured_us:.1f} us",
        f"{choice.measured_us / best.measured_us:.2f}x",
    ]
