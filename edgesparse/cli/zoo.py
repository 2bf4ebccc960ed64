"""`edgesparse zoo`: networks to try things on."""

from __future__ import annotations

import pathlib

import click

from edgesparse.cli.options import NumberRange, json_option


@click.group("zoo")
def command() -> None:
    """List and build networks to try things on.

    Small trained ones are included; full-size ones get random pruned weights.
    """


@command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the networks."""
    import dataclasses

    from edgesparse.cli.output import emit_json, print_table, table
    from edgesparse.models import zoo

    entries = zoo.list_models()
    if as_json:
        models = [
            {**dataclasses.asdict(e), "path": str(zoo.path(e.name)) if e.is_trained else None}
            for e in entries
        ]
        emit_json({"schema": 1, "models": models})
        return
    made = table("Network", "Weights", "Description", "File")
    for entry in entries:
        weights = "trained" if entry.is_trained else "random, `zoo build`"
        file = str(zoo.path(entry.name)) if entry.is_trained else ""
        made.add_row(entry.name, weights, entry.description, file)
    print_table(made)


@command.command("build")
@click.argument("name")
@click.option(
    "--sparsity",
    type=NumberRange(0, 1, max_open=True),
    help="Fraction of zeros in the pruned layers; 0.8 unless the pattern prescribes it.",
)
@click.option(
    "--pattern",
    default="unstructured",
    show_default=True,
    help="Which zeros go together: unstructured, block4, quad4, block2xquad4, 2:4, ...",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the weights."
)
@click.option("--keep-batchnorm", is_flag=True, help="Leave BatchNormalization nodes in the graph.")
@click.option("--resolution", type=click.IntRange(1), help="Height and width of the image.")
@click.option(
    "--width", type=NumberRange(0, min_open=True), help="Multiplier of the channel counts."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="ONNX file to write.",
)
@json_option
def build_command(
    name: str,
    sparsity: float | None,
    pattern: str,
    seed: int,
    keep_batchnorm: bool,
    resolution: int | None,
    width: float | None,
    output: pathlib.Path,
    as_json: bool,
) -> None:
    """Write a full-size network with random pruned weights as ONNX; needs torch."""
    from edgesparse.cli.output import emit_json, say
    from edgesparse.models import zoo
    from edgesparse.report import format_bytes

    say(f"building {name} ...")
    if sparsity is None and ":" not in pattern:
        sparsity = 0.8
    card = zoo.build(
        name,
        sparsity=sparsity,
        pattern=pattern,
        seed=seed,
        output=output,
        keep_batchnorm=keep_batchnorm,
        resolution=resolution,
        width=width,
    )
    if as_json:
        emit_json(card)
        return
    shape, zeros = "x".join(map(str, card["input_shape"])), 100 * card["sparsity"]
    click.echo(
        f"{output}: {name}, input {shape}, {zeros:g} % zeros ({pattern}),"
        f" seed {seed}, {format_bytes(card['size_bytes'])}"
    )
    if dense := card["left_dense"]:
        say(f"{len(dense)} layers stay dense, {pattern} does not fit them: {', '.join(dense)}")


@command.command("card")
@click.argument("name")
def card_command(name: str) -> None:
    """Print the card of a trained network: accuracy, zeros, data, the command that made it."""
    from edgesparse.models import zoo

    click.echo(zoo.card(name).rstrip())
