"""Whatever happens to claims and statuses: never more nodes than wanted, and in the end as many.

A random walk over the things that can go wrong, with the cache sometimes behind and the status sometimes lost.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controllers.workspace.builders import (
    UID,
    Object,
    alive,
    decided,
    gpu_node,
    later,
    machine_ready,
    with_status,
    workspace,
)
from kaito.controllers.workspace import Observed


class Nodes(RuleBasedStateMachine):
    """`world` is what the API server holds, `cached` are the claims that the controller sees."""

    @initialize(count=st.integers(1, 3), several=st.booleans())
    def start(self, count: int, several: bool) -> None:
        resource: Object = {"count": count}
        if several:
            resource["instanceTypes"] = ["Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"]
        self.count = count
        self.seconds = 0.0
        self.claims: dict[str, Object] = {}
        self.cached: dict[str, Object] = {}
        self.made: list[str] = []
        given = workspace(instance_type=None if several else "Standard_NC24ads_A100_v4", resource=resource)
        self.observed = Observed(given)

    @rule(write_status=st.booleans(), cache_follows=st.booleans())
    def reconcile(self, write_status: bool, cache_follows: bool) -> None:
        nodes = {f"node-{name}": gpu_node(f"node-{name}") for name in self.cached}
        observed = replace(self.observed, claims=tuple(self.cached.values()), nodes=nodes)
        decision = decided(observed, now=later(self.seconds))
        for write in decision.writes:
            name = write.body["metadata"]["name"]
            if write.resource.kind == "Machine" and name not in self.claims:
                self.claims[name] = alive(write.body, uid=f"{name}-{len(self.made)}")
                self.made.append(name)
        for deletion in decision.deletions:
            if self.claims.get(deletion.name, {}).get("metadata", {}).get("uid") == deletion.uid:
                self._delete(deletion.name)
        if write_status:
            self.observed = with_status(self.observed, decision)
        if cache_follows:
            self.catch_up()

    @rule()
    def catch_up(self) -> None:
        self.cached = dict(self.claims)

    @rule(data=st.data())
    def becomes_ready(self, data: st.DataObject) -> None:
        if self.claims:
            name = data.draw(st.sampled_from(sorted(self.claims)))
            self.claims[name] = machine_ready(self.claims[name], f"node-{name}")

    @rule(data=st.data())
    def fails(self, data: st.DataObject) -> None:
        if self.claims:
            name = data.draw(st.sampled_from(sorted(self.claims)))
            launched = {
                "type": "MachineLaunched",
                "status": "False",
                "reason": "NoCapacity",
                "message": "none",
            }
            self.claims[name] = {**self.claims[name], "status": {"conditions": [launched]}}

    @rule(data=st.data())
    def somebody_deletes(self, data: st.DataObject) -> None:
        if self.claims:
            self._delete(data.draw(st.sampled_from(sorted(self.claims))))

    @rule(data=st.data())
    def is_gone(self, data: st.DataObject) -> None:
        leaving = sorted(
            name for name, claim in self.claims.items() if "deletionTimestamp" in claim["metadata"]
        )
        if leaving:
            del self.claims[data.draw(st.sampled_from(leaving))]

    @rule()
    def the_status_is_lost(self) -> None:
        bare = {key: value for key, value in self.observed.workspace.items() if key != "status"}
        self.observed = replace(self.observed, workspace=bare)

    @rule(seconds=st.sampled_from([1, 30, 700]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds

    def _delete(self, name: str) -> None:
        claim = self.claims[name]
        metadata = {**claim["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}
        self.claims[name] = {**claim, "metadata": metadata}

    @invariant()
    def never_more_than_wanted_for_long(self) -> None:
        """With a cache that has caught up, one pass leaves no more live claims than wanted."""
        if not hasattr(self, "count"):
            return
        observed = replace(self.observed, claims=tuple(self.claims.values()))
        decision = decided(observed, now=later(self.seconds))
        doomed = {deletion.uid for deletion in decision.deletions}
        live = {
            name
            for name, claim in self.claims.items()
            if "deletionTimestamp" not in claim["metadata"] and claim["metadata"]["uid"] not in doomed
        }
        asked = {
            write.body["metadata"]["name"] for write in decision.writes if write.resource.kind == "Machine"
        }
        assert len(live | asked) <= self.count
        assert len(self.claims.keys() | asked) <= 2 * self.count + len(doomed) + 1

    def teardown(self) -> None:
        """Left in peace, the Workspace gets its nodes."""
        if not hasattr(self, "count"):
            return
        for _ in range(4 * self.count + 4):
            self.seconds += 700
            for name in [
                name for name, claim in self.claims.items() if "deletionTimestamp" in claim["metadata"]
            ]:
                del self.claims[name]
            for name, claim in self.claims.items():
                if not (claim.get("status") or {}).get("conditions"):
                    self.claims[name] = machine_ready(claim, f"node-{name}")
            self.catch_up()
            self.reconcile(True, True)
        status = self.observed.workspace["status"]
        assert len(status["workerNodes"]) == self.count
        assert {entry["state"] for entry in status["nodes"]} == {"Ready"}
        assert all(
            claim["metadata"]["labels"]["kaito.sh/workspace-uid"] == UID for claim in self.claims.values()
        )


TestNodes = Nodes.TestCase
TestNodes.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
