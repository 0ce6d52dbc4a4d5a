"""`python -m kaito.provisioner.testing`: the fake as a process, for trials by hand and end-to-end tests.

Prints, as lines for a shell, the environment that a provisioner needs to find it; then each request as it comes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from kaito.provisioner.testing.arm import FakeArm
from kaito.provisioner.testing.kubelets import FakeKubelets
from kaito.provisioner.testing.messages import Recorded
from kaito.provisioner.testing.nodes import Boot
from kaito.provisioner.testing.server import ArmServer
from kaito.provisioner.testing.state import Place
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import ConfigurationError

TENANT = "00000000-0000-0000-0000-00000000f00d"


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE`. Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def limit(text: str) -> tuple[str, int]:
    """`FAMILY=CORES`. Raises ArgumentTypeError."""
    name, value = pair(text)
    if not value.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is no number of cores")
    return name, int(value)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kaito.provisioner.testing",
        description="A fake of Azure Resource Manager with one AKS cluster, on loopback. Its agent pools join a "
        "real or local cluster as Nodes, on which nothing runs. Ends with Ctrl-C.",
    )
    place = Place()
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--kubeconfig", help="cluster that the machines join (default: $KUBECONFIG)")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--no-nodes", action="store_true", help="machines join no cluster")
    parser.add_argument(
        "--node-label", type=pair, action="append", default=[], metavar="KEY=VALUE", help="on each Node"
    )
    parser.add_argument(
        "--node-annotation", type=pair, action="append", default=[], metavar="KEY=VALUE", help="on each Node"
    )
    parser.add_argument("--create-seconds", type=float, default=30.0, help="to make a pool (default: 30)")
    parser.add_argument("--delete-seconds", type=float, default=10.0, help="to delete one (default: 10)")
    parser.add_argument("--exclusive", action="store_true", help="one operation at a time, others get 409")
    parser.add_argument(
        "--quota", type=limit, action="append", default=[], metavar="FAMILY=CORES", help="limit of a family"
    )
    parser.add_argument(
        "--fail",
        type=pair,
        action="append",
        default=[],
        metavar="SIZE=CODE",
        help="making pools of this size fails with this code",
    )
    for name in ("location", "resource_group", "cluster", "subscription"):
        default = getattr(place, name)
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=f"default: {default}")
    return parser


def environment(arm: FakeArm, url: str) -> dict[str, str]:
    """What a provisioner needs to find the fake."""
    return {
        "AZURE_RESOURCE_MANAGER_ENDPOINT": url,
        "ARM_SUBSCRIPTION_ID": arm.place.subscription,
        "ARM_RESOURCE_GROUP": arm.place.resource_group,
        "AZURE_CLUSTER_NAME": arm.place.cluster,
        "AZURE_TENANT_ID": TENANT,
        "LOCATION": arm.place.location,
    }


def scripted(chosen: argparse.Namespace, clock: LoopClock) -> FakeArm:
    """The fake as the command line wants it."""
    place = Place(chosen.subscription, chosen.resource_group, chosen.cluster, chosen.location)
    arm = FakeArm(clock, place, exclusive=chosen.exclusive)
    arm.durations.create, arm.durations.delete = chosen.create_seconds, chosen.delete_seconds
    arm.durations.failure = min(arm.durations.failure, chosen.create_seconds)
    for family, cores in chosen.quota:
        arm.quota.limit(family, cores)
    for size, code in chosen.fail:
        arm.provisioning_error(size, code, f"Scripted: {code}.")
    return arm


async def serve(chosen: argparse.Namespace) -> None:
    """Until SIGINT or SIGTERM. Raises ConfigurationError for a kubeconfig that does not work, OSError for a port."""
    clock = LoopClock()
    arm = scripted(chosen, clock)
    started = clock.now()
    arm.on_request = lambda recorded: _print(recorded, started)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ArmServer(arm, clock, port=chosen.port))
        if not chosen.no_nodes:
            connection = Connection.from_kubeconfig(chosen.kubeconfig, chosen.context, clock=clock)
            stack.push_async_callback(connection.close)
            client = Client(connection.transport, clock=clock, user_agent="kaito-fake-arm")
            kubelets = FakeKubelets(
                arm,
                client,
                clock,
                labels=dict(chosen.node_label),
                annotations=dict(chosen.node_annotation),
            )
            kubelets.default = Boot(joins=-min(20.0, chosen.create_seconds / 4))
            await stack.enter_async_context(kubelets)
        for name, value in environment(arm, server.url).items():
            print(f"export {name}={value}")
        sys.stdout.flush()
        await ended.wait()


def _print(recorded: Recorded, started: float) -> None:
    shown = replace(recorded, request=replace(recorded.request, at=round(recorded.at - started, 1)))
    print(shown, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    chosen = arguments().parse_args(argv)
    try:
        asyncio.run(serve(chosen))
    except (ConfigurationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
