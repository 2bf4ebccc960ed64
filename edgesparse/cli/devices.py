"""`edgesparse devices`: where a bundle can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.options import json_option

if TYPE_CHECKING:
    from edgesparse.harness.devices import Device


@click.command("devices")
@json_option
def command(as_json: bool) -> None:
    """List the devices, whether each is available, and why not."""
    from edgesparse.cli.output import emit_json, print_table, table
    from edgesparse.harness.devices import DEVICES

    devices = DEVICES.values()
    if as_json:
        emit_json({"schema": 1, "devices": [_entry(device) for device in devices]})
        return
    made = table("Device", "Available", "Description", "Why not")
    for device in devices:
        reason = device.available()
        why = f"{reason}: {device.hint}" if reason else ""
        made.add_row(device.name, "no" if reason else "yes", device.description, why)
    print_table(made)


def _entry(device: Device) -> dict[str, Any]:
    reason = device.available()
    return {
        "name": device.name,
        "description": device.description,
        "available": reason is None,
        "reason": reason,
        "hint": device.hint if reason else None,
        "measures_latency": not device.emulated,
    }
