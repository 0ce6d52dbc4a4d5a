"""A process that builds what `kaito operator` or `kaito provisioner` runs, and prints which packages of Azure it took.

python loaded_modules.py operator|provisioner CLOUD
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import fields

import typer

from kaito.cli.main import app
from kaito.cli.operator.config import OperatorConfig, ProvisionerConfig
from kaito.cli.operator.provisioner import provisioner_manager
from kaito.cli.operator.run import operator_manager
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.transport import BufferedResponse, Request


async def nobody(request: Request) -> BufferedResponse:
    return BufferedResponse(404)


async def main(command: str, provider: str) -> None:
    known = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    context = known.make_context(command, [f"--cloud-provider={provider}"])
    given = {**context.params, "images": ()}
    clock = LoopClock()
    client = Client(MemoryTransport(nobody, clock), clock=clock)
    if command == "operator":
        operator_manager(client, clock, OperatorConfig(**_only(OperatorConfig, given)), "kaito-system")
    else:
        provisioner_manager(
            client, clock, ProvisionerConfig(**_only(ProvisionerConfig, given)), "kaito-system"
        )
    print(*(name for name in ("azure", "msal") if name in sys.modules))


def _only(config: type, given: dict[str, object]) -> dict[str, object]:
    return {each.name: given[each.name] for each in fields(config)}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
