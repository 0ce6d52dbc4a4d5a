"""Whatever happens around a NodePool: one pool, never more nodes than wanted, and none taken from under a model.

A random walk over claims that come, become ready, fail and go, nodes of one's own that come and go, a status that is
lost, an operator killed before its status is written, and a user who wants more or fewer nodes.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controllers.workspace.builders import CATALOG, Object, later
from controllers.workspace.pools import KARPENTER, claim, go, having, leaving, own_node, start, unknown
from kaito.controllers.workspace import Observed, decide


class Pools(RuleBasedStateMachine):
    """`observed` is the world; a Karpenter makes claims in it when the walk says so."""

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        self.count = self.most = count
        self.seconds = 0.0
        self.names = itertools.count()
        self.claims: dict[str, Object] = {}
        self.own: dict[str, Object] = {}
        self.observed: Observed = start(count)
        self.fewer = False

    @property
    def replicas(self) -> int | None:
        pool = self.observed.pool
        return None if pool is None else int(pool["spec"]["replicas"])

    def world(self) -> Observed:
        return having(self.observed, *self.claims.values(), nodes=list(self.own.values()))

    @rule(status_is_written=st.booleans())
    def reconcile(self, status_is_written: bool) -> None:
        before, old = self.replicas, self.observed.workspace
        self.observed, _ = go(self.world(), now=later(self.seconds))
        after = self.replicas
        if not status_is_written:
            self.observed = replace(self.observed, workspace=old)
        assert after is None or after <= self.most, "no more nodes than were ever wanted"
        if before is not None and after is not None and after < before:
            assert self.fewer, "replicas fall only when the user asks for fewer"
        if status_is_written:
            self.fewer = False

    @rule()
    def karpenter_makes_what_is_missing(self) -> None:
        live = [each for each in self.claims.values() if "deletionTimestamp" not in each["metadata"]]
        for _ in range((self.replicas or 0) - len(live)):
            name = f"claim-{next(self.names):03}"
            self.claims[name] = claim(name)

    @rule(data=st.data())
    def a_claim_becomes_ready(self, data: st.DataObject) -> None:
        if self.claims:
            name = data.draw(st.sampled_from(sorted(self.claims)))
            made = claim(name, [{"type": "Ready", "status": "True"}], node=f"node-{name}")
            self.claims[name] = made

    @rule(data=st.data())
    def a_claim_cannot_be_launched(self, data: st.DataObject) -> None:
        if self.claims:
            name = data.draw(st.sampled_from(sorted(self.claims)))
            self.claims[name] = claim(name, unknown("Launched", "AllocationFailure", "none left"))

    @rule(data=st.data(), at_once=st.booleans())
    def a_claim_goes(self, data: st.DataObject, at_once: bool) -> None:
        if self.claims:
            name = data.draw(st.sampled_from(sorted(self.claims)))
            if at_once:
                del self.claims[name]
            else:
                self.claims[name] = leaving(self.claims[name])

    @rule(name=st.sampled_from(["mine-1", "mine-2"]), ready=st.sampled_from(["True", "False", ""]))
    def a_node_of_one_s_own_changes(self, name: str, ready: str) -> None:
        self.own.pop(name, None)
        if ready:
            self.own[name] = own_node(name, ready=ready)

    @rule(count=st.integers(1, 3))
    def the_user_wants_another_number(self, count: int) -> None:
        given = self.observed.workspace
        self.fewer = self.fewer or count < self.count
        self.count, self.most = count, max(self.most, count)
        resource = {**given["resource"], "count": count}
        self.observed = replace(self.observed, workspace={**given, "resource": resource})

    @rule()
    def the_status_is_lost(self) -> None:
        bare = {key: value for key, value in self.observed.workspace.items() if key != "status"}
        self.observed = replace(self.observed, workspace=bare)

    @rule(seconds=st.sampled_from([1, 400]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds

    @invariant()
    def a_pass_that_sees_everything_asks_for_enough(self) -> None:
        if not hasattr(self, "count"):
            return
        decision = decide(self.world(), CATALOG, KARPENTER, later(self.seconds))
        assert decision.deletions == (), "a claim of the pool is Karpenter's"
        usable = sum(each["status"]["conditions"][0]["status"] == "True" for each in self.own.values())
        written = [
            each.body["spec"]["replicas"] for each in decision.writes if each.resource.kind == "NodePool"
        ]
        assert len(written) <= 1
        has = written[-1] if written else self.replicas or 0
        assert has + usable >= self.count
        assert decision.status is not None
        slots = [each["slot"] for each in decision.status.get("nodes") or ()]
        assert slots == list(range(len(slots)))
        assert len(slots) <= self.count
        names = [each["claimName"] for each in decision.status.get("nodes") or () if "claimName" in each]
        assert len(set(names)) == len(names), "no claim fills two slots"

    def teardown(self) -> None:
        """Left in peace, the Workspace gets its nodes, and then nothing is written any more."""
        if not hasattr(self, "count"):
            return
        for _ in range(4):
            self.reconcile(True)
            self.claims = {
                name: each
                for name, each in self.claims.items()
                if "deletionTimestamp" not in each["metadata"]
            }
            self.karpenter_makes_what_is_missing()
            for name in self.claims:
                made = claim(name, [{"type": "Ready", "status": "True"}], node=f"node-{name}")
                self.claims[name] = made
        self.reconcile(True)
        status = self.observed.workspace["status"]
        assert len(status["workerNodes"]) >= self.count
        again = decide(self.world(), CATALOG, KARPENTER, later(self.seconds))
        assert [each for each in again.writes if each.resource.kind == "NodePool"] == []
        assert again.status == status


TestPools = Pools.TestCase
TestPools.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # making a failing walk shorter takes minutes
)
