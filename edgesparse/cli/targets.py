"""`edgesparse targets`: what code can be generated for."""

from __future__ import annotations

from typing import Any

import click

from edgesparse.cli.options import json_option


@click.command("targets")
@json_option
def command(as_json: bool) -> None:
    """List the targets code can be generated for."""
    from edgesparse.cli.output import emit_json, print_table, table

    entries = _entries()
    if as_json:
        emit_json({"schema": 1, "targets": entries})
        return
    made = table("Target", "Description", "Triple", "CPU and features", ">Lanes", "Cost model")
    for entry in entries:
        features = " ".join(filter(None, [entry["cpu"], *entry["features"]]))
        made.add_row(
            entry["name"],
            entry["description"],
            entry["triple"],
            features,
            str(entry["lanes"]),
            entry["core"],
        )
    print_table(made)


def _entries() -> list[dict[str, Any]]:
    from edgesparse.target import DESCRIPTIONS, resolve_target

    targets = [(resolve_target(name), text) for name, text in DESCRIPTIONS.items()]
    return [
        {
            "name": target.name,
            "description": text,
            "triple": target.triple,
            "cpu": target.cpu,
            "features": list(target.features),
            "lanes": target.lanes,
            "required": list(target.required),
            "core": target.core.name,
        }
        for target, text in targets
    ]
