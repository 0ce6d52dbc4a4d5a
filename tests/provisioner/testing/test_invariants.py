"""Whatever is asked of the fake in whatever order, its pools, operations and cores agree; and it needs no SDK."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.provisioner.testing import FakeArm
from kaito.runtime.testing import VirtualClock, run_virtual
from provisioner.testing.sdk import A100, body

BUSY = {"Creating", "Updating", "Deleting"}
NAMES = st.sampled_from(["a", "b", "c"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("PUT"), NAMES, st.booleans()),
        st.tuples(st.just("DELETE"), NAMES),
        st.tuples(st.just("POST"), NAMES),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 1.0, 59.0, 60.0, 120.0, 300.0, 1000.0])),
        st.tuples(st.just("vanish"), NAMES),
        st.tuples(st.just("break"), NAMES),
        st.tuples(st.just("ending"), st.sampled_from(["create", "update", "delete"])),
        st.tuples(st.just("power"), st.booleans()),
    ),
    max_size=25,
)


class Driver:
    """Does what a test case says, refused or not."""

    def __init__(self, clock: VirtualClock, *, exclusive: bool) -> None:
        self.clock = clock
        self.arm = FakeArm(clock, exclusive=exclusive)
        self.arm.quota.limit("cores", 48)

    async def act(self, action: tuple[Any, ...]) -> None:
        match action:
            case ("PUT", name, tagged):
                self._ask("PUT", f"/{name}", body(A100, tags={"a": "b"} if tagged else {}))
            case ("DELETE", name):
                self._ask("DELETE", f"/{name}")
            case ("POST", name):
                self._ask("POST", f"/{name}/abort")
            case ("sleep", seconds):
                await self.clock.sleep(seconds)
            case ("vanish", name) if name in self.arm.pools:
                self.arm.portal.delete_pool(name)
            case ("break", name) if name in self.arm.pools:
                self.arm.portal.fail_pool(name, "Broken", "Broken.")
            case ("ending", kind):
                self.arm.end_next(kind, "Failed", code="Broken")
            case ("power", True) if not self.arm.world.running:
                self.arm.start_cluster()
            case ("power", False) if not self.arm.world.running:
                self.arm.stop_cluster()

    def _ask(self, method: str, path: str, content: Any = None) -> None:
        reply = self.arm.handle(
            method,
            f"{self.arm.place.cluster_id}/agentPools{path}",
            {"api-version": "1"},
            {"Authorization": "Bearer x"},
            orjson.dumps(content) if content else b"",
        )
        assert reply.status < 500

    def check(self) -> None:
        arm, now = self.arm, self.clock.now()
        running = arm.world.running
        assert all(operation.ends > now for operation in running)
        busy = {name for name, pool in arm.pools.items() if pool.state in BUSY}
        assert sorted(operation.pool for operation in running if operation.pool) == sorted(busy)
        if arm.exclusive:
            assert len(running) <= 1
        machines = {machine.pool for machine in arm.world.machines()}
        used = arm.quota.used("cores", now)
        assert used <= 48
        assert used >= 24 * len(machines)
        failed = {name for name, pool in arm.pools.items() if pool.state == "Failed"}
        assert used <= 24 * len(set(arm.pools) - (failed - machines))


@settings(max_examples=80, deadline=None)
@given(ACTIONS, st.booleans())
def test_pools_operations_and_cores_agree(actions: list[tuple[Any, ...]], exclusive: bool) -> None:
    async def play() -> None:
        driver = Driver(VirtualClock(), exclusive=exclusive)
        for action in actions:
            await driver.act(action)
            driver.check()

    run_virtual(play)


def test_only_the_transport_loads_packages_of_azure() -> None:
    code = (
        "import sys, kaito.provisioner.testing, kaito.provisioner.testing.__main__\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('azure', 'msal')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "[]", found.stderr
