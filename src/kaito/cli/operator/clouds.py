"""Which cloud makes the machines that claims ask for: `--cloud-provider`, and everything that hangs on it.

A cloud's own packages are imported when it is chosen and not before: `kaito operator` without one never loads them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kaito.cli.errors import CliError
from kaito.cli.operator.config import CloudFlags
from kaito.cli.operator.names import CloudName
from kaito.controllers import machine
from kaito.controllers.machine import SHAPES, ClaimShape, Limits
from kaito.provisioner.cloud import CloudProvider
from kaito.provisioner.existing import ExistingNodes
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.groups import Group
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES, Resource
from kaito.runtime.selectors import SelectorError, parse_label_selector

NONE: Final = "none"


FOR_OPERATOR: Final = (NONE, *CloudName)
"""The local mode's instant cloud is for one process that does everything."""
FOR_PROVISIONER: Final = (CloudName.EXISTING, CloudName.AKS)

AKS_EXTRA: Final = (
    "--cloud-provider=aks needs packages that are not installed ({}): `pip install 'kaito[azure]'`."
)

Make = Callable[[Manager], CloudProvider]


@dataclass(frozen=True)
class Cloud:
    """A cloud that was chosen: its settings are read and make sense, and nothing runs yet."""

    name: CloudName
    shapes: tuple[ClaimShape, ...]
    make: Make
    limits: Limits

    @property
    def claims(self) -> tuple[Resource, ...]:
        """The kinds of claims that it serves."""
        return tuple(shape.resource for shape in self.shapes)

    def add(self, manager: Manager) -> None:
        """Adds the machine controller with this cloud to the manager. Raises CliError."""
        machine.setup(manager, self.make(manager), shapes=self.shapes, limits=self.limits)


def choose(flags: CloudFlags, values: Sequence[str]) -> Cloud | None:
    """The cloud that the flags and the environment describe, None for none.

    values: what `--cloud-provider` may say. Raises CliError with everything that is missing or makes no sense.
    """
    if flags.cloud_provider not in values:
        known = ", ".join(values[:-1])
        raise CliError(f"--cloud-provider={flags.cloud_provider}: write {known} or {values[-1]}.")
    if flags.cloud_provider == NONE:
        return None
    name = CloudName(flags.cloud_provider)
    makers: dict[CloudName, Callable[[CloudFlags], Make]] = {
        CloudName.INSTANT: _instant,
        CloudName.EXISTING: _existing,
        CloudName.AKS: _aks,
    }
    limits = Limits(flags.launch_timeout, flags.registration_timeout, flags.initialization_timeout)
    return Cloud(name, _shapes(flags.claim_kinds), makers[name](flags), limits)


def _shapes(kinds: str) -> tuple[ClaimShape, ...]:
    known = {shape.resource.kind.lower(): shape for shape in SHAPES}
    wanted = [kind.strip().lower() for kind in kinds.split(",")]
    if any(kind not in known for kind in wanted):
        raise CliError(f"--claim-kinds={kinds}: write {' or '.join(known)}, or both with a comma.")
    return tuple(shape for kind, shape in known.items() if kind in wanted)


def _machine_client(manager: Manager) -> Client:
    return manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)


def _instant(flags: CloudFlags) -> Make:
    return lambda manager: InstantCloud(_machine_client(manager), manager.clock)


def _existing(flags: CloudFlags) -> Make:
    try:
        parse_label_selector(flags.existing_selector)
    except SelectorError as error:
        raise CliError(f"--existing-selector={flags.existing_selector}: {error}") from None

    def make(manager: Manager) -> CloudProvider:
        nodes = manager.cache.informer(NODES).lister
        return ExistingNodes(_machine_client(manager), nodes, selector=flags.existing_selector)

    return make


def _aks(flags: CloudFlags) -> Make:
    from kaito.provisioner import aks

    try:
        aks.check_installed()
    except ModuleNotFoundError as error:
        raise CliError(AKS_EXTRA.format(error.name)) from None
    try:
        config = aks.AksConfig.from_environment(os.environ)
    except ValueError as error:
        raise CliError(f"--cloud-provider=aks: {error}") from None
    defaults = _named(flags.aks_options or ())
    try:
        aks.check_defaults(defaults)
    except ValueError as error:
        raise CliError(f"--aks-option or AKS_OPTIONS: {error}") from None

    def make(manager: Manager) -> CloudProvider:
        provider = aks.build(config, manager.clock, manager.cache.informer(NODES).lister, defaults=defaults)
        for source in provider.metrics:
            manager.metrics.add(source)
        manager.add(_Connections(provider.close))
        return provider

    return make


def _named(options: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise CliError(
                f"--aks-option={option} (or AKS_OPTIONS): write NAME=VALUE, such as os-sku=AzureLinux."
            )
        named[name] = value
    return named


class _Connections:
    """Closes a cloud's connections when whoever uses them has stopped."""

    name = "cloud-connections"
    group = Group.CACHES

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._close()
