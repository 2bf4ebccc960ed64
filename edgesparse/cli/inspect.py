"""`edgesparse inspect`: what would be compiled, layer by layer, and why."""

from __future__ import annotations

import pathlib

import click

from edgesparse.cli.options import (
    json_option,
    model_argument,
    no_reorder_option,
    no_select_option,
    no_tuned_option,
    shape_option,
    target_option,
)


@click.command("inspect")
@model_argument
@target_option
@shape_option
@no_reorder_option
@no_select_option
@no_tuned_option
@json_option
def command(
    model: pathlib.Path,
    target: str,
    shapes: dict[str, tuple[int, ...]],
    no_reorder: bool,
    no_select: bool,
    no_tuned: bool,
    as_json: bool,
) -> None:
    """Show which layers gain from sparsity, and why.

    Nothing is compiled or written. The predicted speed-up is against our own dense build of the
    same layer, on the target's core as the cost model sees it.
    """
    import dataclasses

    from edgesparse.cli.layers import LayerRow, layer_table, summary, summary_line
    from edgesparse.cli.output import emit_json, print_table
    from edgesparse.compiler import inspect

    inspection = inspect(
        model,
        target=target,
        shapes=shapes,
        tuned=not no_tuned,
        reorder=not no_reorder,
        select=not no_select,
    )
    layers = [dataclasses.asdict(layer) for layer in inspection.layers]
    rows = [LayerRow.of(layer) for layer in layers]
    totals = summary(rows)
    if as_json:
        emit_json(
            {
                "schema": 1,
                "model": str(model),
                "target": inspection.target,
                "summary": totals,
                "layers": layers,
            }
        )
        return
    print_table(layer_table(rows))
    click.echo(summary_line(totals))
