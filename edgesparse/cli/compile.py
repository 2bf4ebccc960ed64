"""`edgesparse compile`: an ONNX model becomes a bundle."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle


@click.command("compile")
@model_argument
@target_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="Folder of the bundle; an older bundle there is replaced.",
)
@shape_option
@click.option("--name", help="Prefix of every C symbol; the file's stem by default.")
@no_reorder_option
@no_select_option
@no_tuned_option
@click.option(
    "--embed", is_flag=True, help="WebAssembly: put the weights into the modules, not beside them."
)
@click.option("--explain", is_flag=True, help="Print the per-layer table as `inspect` does.")
@json_option
def command(
    model: pathlib.Path,
    target: str,
    output: pathlib.Path,
    shapes: dict[str, tuple[int, ...]],
    name: str | None,
    no_reorder: bool,
    no_select: bool,
    no_tuned: bool,
    embed: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Compile a model into a bundle.

    A bundle is a folder: code, packed weights, a C header or an ES module, and a manifest with
    every layer's decision. The same model and the same cache of `tune` give the same bytes.
    """
    from edgesparse.cli.output import emit_json, progress
    from edgesparse.compiler import compile

    with progress(f"{model.name} for {target}") as report_progress:
        bundle = compile(
            model,
            target=target,
            output=output,
            shapes=shapes,
            name=name,
            tuned=not no_tuned,
            reorder=not no_reorder,
            select=not no_select,
            embed=embed,
            progress=report_progress,
        )
    if as_json:
        emit_json(_document(bundle, explain))
    else:
        _print_summary(bundle, explain)


def _document(bundle: Bundle, explain: bool) -> dict[str, Any]:
    from edgesparse.harness.results import shipped_bytes

    manifest = bundle.manifest
    document = {key: value for key, value in manifest.items() if key != "layers" or explain}
    return {**document, "bundle": str(bundle.path), "shipped_bytes": shipped_bytes(bundle)}


def _print_summary(bundle: Bundle, explain: bool) -> None:
    from edgesparse.cli.layers import LayerRow, layer_table, summary, summary_line
    from edgesparse.cli.output import print_table
    from edgesparse.harness.results import shipped_bytes
    from edgesparse.report import format_bytes

    manifest = bundle.manifest
    # The same rows as `inspect` has: operators, not the copies of inputs and outputs.
    rows = [LayerRow.of(layer) for layer in manifest["layers"] if layer["op"] != "Copy"]
    if explain:
        print_table(layer_table(rows))
    click.echo(
        f"{bundle.path}: {manifest['name']} for {manifest['target']['name']},"
        f" {format_bytes(shipped_bytes(bundle))} of code and weights,"
        f" {format_bytes(manifest['arena_bytes'])} arena"
        f" (no plan needs less than {format_bytes(manifest['arena_bound_bytes'])})"
    )
    click.echo(summary_line(summary(rows)))
    if tuned := sum("tuned" in row.decision for row in rows):
        click.echo(f"{tuned} layers as `edgesparse tune` measured them")
