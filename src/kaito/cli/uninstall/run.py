"""Lists, asks, removes and waits: the only part of `kaito uninstall` that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from kaito.api.labels import WORKSPACE_FINALIZER
from kaito.api.resources import ADAPTERS
from kaito.cli.errors import CliError
from kaito.cli.uninstall import found
from kaito.cli.uninstall.found import Costs, Installation, Item, describe_claim
from kaito.cli.uninstall.rules import (
    Step,
    counted,
    needs_operator,
    next_for_costs,
    next_for_installation,
    progress,
    propagation,
)
from kaito.runtime.client import Client, PatchType
from kaito.runtime.errors import (
    Conflict,
    CredentialsError,
    Forbidden,
    InternalError,
    Invalid,
    NotFound,
    ServerTimeout,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
)

NOT_CONFIRMED: Final = 2
NO_OPERATOR: Final = 3
NOT_IN_TIME: Final = 4
"""Exit codes beside 0, all is gone, and 1, the cluster cannot be reached or refuses something."""

TRANSIENT: Final = (InternalError, ServerTimeout, ServiceUnavailable, TooManyRequests)
"""Answers of an API server that is starting, stopping or overloaded."""

Say = Callable[[str], None]
Ask = Callable[[str], Awaitable[str | None]]
"""A line from the user, None where there is nobody to ask."""
REMINDER: Final = 60.0
"""Seconds of silence after which what is waited for is said again."""
FIRST_PAUSE: Final = 0.2
"""Seconds from a deletion to the next look; each further pause is twice as long, up to the interval."""
LISTED: Final = 200
"""Objects that are listed one by one before the question."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the flags say. timeout: seconds that each of the two parts may take."""

    yes: bool = False
    dry_run: bool = False
    without_operator: bool = False
    definitions: bool = False
    timeout: float = 1800.0
    interval: float = 2.0


class Uninstall:
    """One run against one cluster."""

    def __init__(self, client: Client, options: Options, say: Say, ask: Ask) -> None:
        self._client = client
        self._options = options
        self._say = say
        self._ask = ask

    async def run(self) -> None:
        """Raises CliError where something stays, with the exit code for it."""
        try:
            await self._run()
        except Forbidden as error:
            raise CliError(
                f"{error}. Removing KAITO takes the rights of the cluster's administrator, or those of the ClusterRole "
                "kaito-uninstall (kubectl apply -k manifests/rbac/uninstall, and a binding to it); run this again with "
                "them. What is removed so far stays removed."
            ) from None

    async def _run(self) -> None:
        costs, installed, definitions = await asyncio.gather(
            found.costs(self._client),
            found.installation(self._client),
            found.definitions(self._client),
        )
        await self._list(costs, installed, definitions)
        missing = ""
        if any(map(needs_operator, costs.workspaces)) and not self._options.without_operator:
            missing = await found.operator_runs(self._client)
        if self._options.dry_run:
            self._say(
                f"No operator is at work: {missing}." if missing else "Nothing was changed (--dry-run)."
            )
            return
        if missing:
            raise CliError(_no_operator(missing, costs), code=NO_OPERATOR)
        if not (costs or installed.items or (self._options.definitions and definitions)):
            self._say("Nothing is left to remove.")
            return
        await self._confirm()
        await self._until_gone(self._costs_step)
        if costs:
            self._say("What cost money is gone.")
            await self._warn_of_nodes()
        await self._until_gone(self._installation_step)
        if self._options.definitions:
            await self._remove_definitions(definitions)
        await self._close(definitions)

    # --- before ---------------------------------------------------------------------------------------------

    async def _list(self, costs: Costs, installed: Installation, definitions: tuple[Item, ...]) -> None:
        listed = [*map(str, costs.workspaces), *map(describe_claim, costs.claims)]
        if listed:
            self._say("What costs money, and goes first:")
            self._enumerate(listed)
        behind = {(claim.tree.get("status") or {}).get("nodeName") for claim in costs.claims}
        if alone := [name for name in await found.nodes_left(self._client) if name not in behind]:
            self._say(
                f"Nodes of Workspaces without a claim; see that their machines are gone: {', '.join(alone)}."
            )
        if costs.others:
            self._say(f"Left alone, because KAITO did not make it: {counted(costs.others)}.")
        if installed.items:
            self._say("What runs KAITO, and goes afterwards:")
            self._enumerate(list(map(str, installed.items)))
        if installed.kept:
            self._say(f"{installed.kept}.")
        if not definitions:
            return
        if self._options.definitions:
            count = await found.adapters(self._client)
            with_them = f" with {count} Adapters" if count else ""
            self._say(f"At last, if nothing uses them:{with_them}")
            self._enumerate(list(map(str, definitions)))
        else:
            self._say(f"{counted(definitions)} and Adapters stay (--crds removes them).")

    def _enumerate(self, lines: list[str]) -> None:
        for line in lines[:LISTED]:
            self._say(f"  {line}")
        if len(lines) > LISTED:
            self._say(f"  and {len(lines) - LISTED} more")

    async def _confirm(self) -> None:
        if self._options.yes:
            return
        answer = await self._ask("Remove all of this? Models stop being served. Type yes: ")
        if answer is None:
            raise CliError(
                "There is no terminal to ask on: give --yes. Nothing was changed.", code=NOT_CONFIRMED
            )
        if answer.strip().lower() != "yes":
            raise CliError("Nothing was changed.", code=NOT_CONFIRMED)

    # --- removing -------------------------------------------------------------------------------------------

    async def _costs_step(self) -> Step:
        operator = not self._options.without_operator
        return next_for_costs(await found.costs(self._client), operator=operator)

    async def _installation_step(self) -> Step:
        return next_for_installation((await found.installation(self._client)).items)

    async def _until_gone(self, look: Callable[[], Awaitable[Step]]) -> None:
        """Acts and looks again until nothing is left to wait for. An API server that is away is waited for, too."""
        clock = self._client.clock
        began = spoke = clock.now()
        said, pause = "", self._options.interval
        step: Step | None = None
        while True:
            try:
                step = await look()
                await self._act(step)
                text = progress(step)
            except CredentialsError:
                raise
            except (TransportError, *TRANSIENT) as error:
                text = f"the API server does not answer: {error}"
            else:
                if not step.waits:
                    return
            if text != said or clock.now() - spoke >= REMINDER:
                self._say(f"[{clock.now() - began:.0f} s] {text}")
                said, spoke = text, clock.now()
            if clock.now() - began >= self._options.timeout:
                raise CliError(_not_in_time(step, text, self._options.timeout), code=NOT_IN_TIME)
            # What has just been deleted is often gone at once.
            pause = FIRST_PAUSE if step is not None and step.deletions else 2 * pause
            pause = min(pause, self._options.interval)
            await clock.sleep(pause)

    async def _act(self, step: Step) -> None:
        for item in step.deletions:
            await self._delete(item)
        for item in step.releases:
            await self._release(item)

    async def _delete(self, item: Item) -> None:
        """Deletes this very object; one that was made anew meanwhile is met by the next look."""
        try:
            await self._client.delete(
                item.resource, item.name, item.namespace, uid=item.uid, propagation=propagation(item)
            )
        except Conflict:
            return

    async def _release(self, item: Item) -> None:
        finalizers = item.tree["metadata"]["finalizers"]
        path = f"/metadata/finalizers/{finalizers.index(WORKSPACE_FINALIZER)}"
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": item.uid},
            {"op": "test", "path": path, "value": WORKSPACE_FINALIZER},
            {"op": "remove", "path": path},
        ]
        try:
            await self._client.patch(
                item.resource, item.name, item.namespace, patch=patch, patch_type=PatchType.JSON
            )
        except (Conflict, Invalid, NotFound):
            return  # it has changed meanwhile: the next look sees how

    async def _remove_definitions(self, definitions: tuple[Item, ...]) -> None:
        free: list[Item] = []
        for definition in definitions:
            count = (
                0 if definition.name == ADAPTERS.name else await found.objects_of(self._client, definition)
            )
            if count:
                self._say(f"{definition} stays: {count} objects of its kind exist.")
            else:
                free.append(definition)
        uids = {item.uid for item in free}

        async def look() -> Step:
            there = [item for item in await found.definitions(self._client) if item.uid in uids]
            return Step(tuple(item for item in there if not item.deleting), (), tuple(there))

        await self._until_gone(look)

    # --- afterwards -----------------------------------------------------------------------------------------

    async def _warn_of_nodes(self) -> None:
        nodes = await found.nodes_left(self._client)
        if nodes:
            self._say(
                f"Look after these nodes: their claims are gone, but they carry a Workspace's label: {', '.join(nodes)}"
            )

    async def _close(self, definitions: tuple[Item, ...]) -> None:
        left = await found.installation(self._client)
        if left.kept:
            self._say(f"{left.kept}.")
        if definitions and not self._options.definitions:
            self._say(
                "KAITO is removed. Its CustomResourceDefinitions and Adapters are still there (--crds)."
            )
        else:
            self._say("KAITO is removed.")


def _no_operator(missing: str, costs: Costs) -> str:
    return (
        f"No operator is at work: {missing}. Nothing was changed, and {counted((*costs.workspaces, *costs.claims))} "
        "remain: deleted now, they would wait for ever for the operator to take their finalizers off. Either\n"
        "  - install the operator again as it was installed (kubectl apply --server-side -k …) and repeat this "
        "command; or\n"
        "  - repeat it with --without-operator: it deletes the claims itself, waits until they are gone, and then "
        f"takes the finalizer {WORKSPACE_FINALIZER} off the Workspaces.\n"
        "Claims end only while what makes the machines still runs (kaito-provisioner, gpu-provisioner, Karpenter)."
    )


def _not_in_time(step: Step | None, text: str, timeout: float) -> str:
    claims = [item for item in step.waits if item.resource in found.CLAIM_KINDS] if step is not None else []
    message = f"Not everything was gone after {timeout:.0f} s; {text}\n"
    if claims:
        message += (
            "Each claim stays until its controller has seen the machine go, so these may still cost money. See that "
            "the controller runs (kaito-provisioner, gpu-provisioner or Karpenter) and what it says: "
            f"kubectl describe {claims[0].resource.name} {claims[0].name}. "
        )
    return f"{message}Nothing is lost: the same command goes on where this one stopped."
