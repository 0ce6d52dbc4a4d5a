"""What happens in the world: everything that a dashboard shows, once."""

from __future__ import annotations

from hack.dashboards.prometheus import Prometheus
from hack.dashboards.world import MISSING, PIRATE, QUESTIONS, World, refused_machine, workspace

READY, ADAPTED, REFUSED, MISTAKEN, GOING = "capitals", "pirate", "silent", "mistaken", "going"


async def tell(world: World, prometheus: Prometheus) -> None:
    """Workspaces get ready, one after its node took its time; one names a machine size that does not exist, one an
    adapter that does not; one goes away, another loses its node; users ask; a claim asks for too much.

    Everything is scraped before it happens, because a rate needs two points.
    """
    await prometheus.scrape(world.operators)
    with world.kubelets_paused():
        await world.create(workspace(READY))
        await world.until(READY, "NodeClaimNotReady")
        await world.clock.sleep(3)
    await world.create(workspace(ADAPTED, adapter=PIRATE))
    await world.create(workspace(REFUSED, adapter=MISSING))
    await world.create(workspace(MISTAKEN, instance_type="Standard_NC999"))
    await world.create(workspace(GOING))
    await world.claim(refused_machine("wsrefused"))
    for name in (READY, ADAPTED, GOING):
        await world.until(name, "Ready")
    await prometheus.scrape([*world.operators, *await world.servers()])
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
