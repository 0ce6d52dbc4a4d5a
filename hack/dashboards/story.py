"""What happens in the world: everything that a dashboard shows, once."""

from __future__ import annotations

from contextlib import suppress

from hack.dashboards.prometheus import Prometheus
from hack.dashboards.world import MISSING, PIRATE, QUESTIONS, World, mistaken, unchecked, workspace
from kaito.runtime.errors import Invalid

READY, ADAPTED, REFUSED, MISTAKEN, GOING = "capitals", "pirate", "silent", "mistaken", "going"


async def tell(world: World, prometheus: Prometheus) -> None:
    """Workspaces get ready, one after its node took its time; one has an adapter that is not there, one a machine size
    that does not exist, as does one that is refused, and so is a page of somebody's own models; one goes away, another
    loses its node; users ask.

    Everything is scraped before it happens, because a rate needs two points.
    """
    await prometheus.scrape(world.programs)
    with world.kubelets_paused():
        await world.create(workspace(READY))
        await world.until(READY, "NodeClaimNotReady")
        await world.clock.sleep(3)
    await world.claim_from_azure("ws0000001")
    await world.create(workspace(ADAPTED, adapter=PIRATE))
    await world.create(workspace(REFUSED, adapter=MISSING))
    await world.create(unchecked(mistaken(MISTAKEN)))
    await world.add_to_catalogue("our-models", "presets: [{name: nothing else}]")
    with suppress(Invalid):  # said at once to whoever applies it
        await world.create(mistaken("refused"))
    await world.create(workspace(GOING))
    for name in (READY, ADAPTED, GOING):
        await world.until(name, "Ready")
    await prometheus.scrape([*world.programs, *await world.servers()])
    await ask(world, rounds=3)
    await world.delete(GOING)
    await world.lose_node(ADAPTED)
    await world.clock.sleep(3)
    await ask(world, rounds=3)


async def ask(world: World, *, rounds: int) -> None:
    """Users ask a model, and one of them for a model that does not exist."""
    for _ in range(rounds):
        for question in QUESTIONS:
            await world.ask(READY, question)
        await world.ask_for_no_such_model(READY)
        await world.clock.sleep(1)


async def tell_for(world: World, prometheus: Prometheus, seconds: float) -> None:
    """The same, and then goes on: users come and go, and every half minute so does a Workspace."""
    until = world.clock.now() + seconds
    await tell(world, prometheus)
    number = 0
    while world.clock.now() < until:
        name = f"guest-{number % 2}"
        with world.kubelets_paused():
            await world.create(workspace(name))
            await world.clock.sleep(1 + number % 4)
        await world.until(name, "Ready")
        await prometheus.scrape([*world.programs, *await world.servers()])
        await ask(world, rounds=4 + 6 * (number % 3))
        await world.delete(name)
        await world.until_gone(name)
        number += 1
