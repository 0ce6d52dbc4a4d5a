"""Whatever happens to claims and statuses: never two machines for one wanted node, and in the end as many as wanted.

A random walk over the things that can go wrong: claims that fail, go or stay away, an operator killed after any of its
writes, caches that are behind, a status that is lost, a user who wants more or fewer nodes. The walk carries decisions
out as `act` does, in the same order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import Phase, settings
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
from kaito.controllers.workspace import Decision, Observed
from kaito.controllers.workspace.names import claim_name

SIZES = ("Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5")
FAILED = {"type": "MachineLaunched", "status": "False", "reason": "NoCapacity", "message": "none"}


class Nodes(RuleBasedStateMachine):
    """`world` is what the API server holds, `cached` are the claims that the controller sees."""

    @initialize(count=st.integers(1, 3), several=st.booleans())
    def start(self, count: int, several: bool) -> None:
        resource: Object = {"count": count}
        if several:
            resource["instanceTypes"] = list(SIZES)
        self.count = count
        self.seconds = 0.0
        self.claims: dict[str, Object] = {}
        self.cached: dict[str, Object] = {}
        self.snapshots: list[dict[str, Object]] = [{}]
        self.made = 0
        self.used: set[str] = set()
        given = workspace(instance_type=None if several else SIZES[0], resource=resource)
        self.sizes = len(SIZES) if several else 1
        self.observed = Observed(given)

    @rule(survives=st.integers(0, 8), cache_follows=st.booleans())
    def reconcile(self, survives: int, cache_follows: bool) -> None:
        """One pass; the operator is killed after `survives` writes, and another one starts with fresh caches."""
        decision = self.decide(self.cached)
        if decision.replaces is not None and self.others(decision.replaces):
            return
        written = self.carry_out(decision, survives)
        if written < survives:
            self.observed = with_status(self.observed, decision)
            entries = self.observed.workspace["status"].get("nodes") or []
            self.used |= {entry["claimName"] for entry in entries if entry.get("claimUID")}
        if written >= survives or cache_follows:
            self.catch_up()

    def carry_out(self, decision: Decision, limit: int) -> int:
        """Creations, then deletions, at most so many; how many there were."""
        written = 0
        for write in decision.writes:
            if write.resource.kind == "Machine":
                if written == limit:
                    return written
                written += 1
                self.create(write.body)
        for deletion in decision.deletions:
            if written == limit:
                return written
            written += 1
            if self.claims.get(deletion.name, {}).get("metadata", {}).get("uid") == deletion.uid:
                self._delete(deletion.name)
        self.one_machine_for_each_wanted_node()
        return written

    def decide(self, claims: dict[str, Object]) -> Decision:
        nodes = {f"node-{name}": gpu_node(f"node-{name}") for name in claims}
        observed = replace(self.observed, claims=tuple(claims.values()), nodes=nodes)
        return decided(observed, now=later(self.seconds))

    def others(self, known: frozenset[str]) -> bool:
        return any(each["metadata"]["uid"] not in known for each in self.claims.values() if not leaving(each))

    def create(self, body: Object) -> None:
        metadata = body["metadata"]
        labels = metadata["labels"]
        slot, attempt = int(labels["kaito.sh/node-slot"]), int(labels["kaito.sh/node-attempt"])
        assert metadata["name"] == claim_name(UID, slot, attempt)
        assert slot < self.count
        wanted = body["spec"]["requirements"][0]["values"]
        assert wanted == [SIZES[attempt % self.sizes]], "each attempt takes the next size"
        if metadata["name"] not in self.claims:
            assert metadata["name"] not in self.used, "an attempt that was seen is never made again"
            self.claims[metadata["name"]] = alive(body, uid=f"{metadata['name']}-{self.made}")
            self.made += 1

    def one_machine_for_each_wanted_node(self) -> None:
        """After a whole pass: a claim that has failed has no machine, one on its way out gives it back."""
        slots = Counter(
            each["metadata"]["labels"]["kaito.sh/node-slot"]
            for each in self.claims.values()
            if not leaving(each) and not has_failed(each)
        )
        assert all(number <= 1 for number in slots.values()), slots

    @rule()
    def catch_up(self) -> None:
        self.cached = dict(self.claims)
        self.snapshots.append(self.cached)

    @rule()
    def a_quiet_while(self) -> None:
        for _ in range(2):
            self.catch_up()
            self.reconcile(99, True)

    @rule(data=st.data(), survives=st.integers(0, 8))
    def cache_is_an_older_one(self, data: st.DataObject, survives: int) -> None:
        """A server that answers from an old copy, or a replica that has only just begun to watch."""
        self.cached = data.draw(st.sampled_from(self.snapshots))
        self.reconcile(survives, False)

    @rule(count=st.integers(1, 3))
    def the_user_wants_another_number(self, count: int) -> None:
        given = self.observed.workspace
        self.count = count
        self.used.clear()  # a slot that goes is forgotten
        self.observed = replace(
            self.observed, workspace={**given, "resource": {**given["resource"], "count": count}}
        )

    @rule(data=st.data())
    def becomes_ready(self, data: st.DataObject) -> None:
        """One that has failed for good never does."""
        going = sorted(name for name, each in self.claims.items() if not has_failed(each))
        if going:
            name = data.draw(st.sampled_from(going))
            self.claims[name] = machine_ready(self.claims[name], f"node-{name}")

    @rule(data=st.data())
    def fails(self, data: st.DataObject) -> None:
        if self.claims:
            name = data.draw(st.sampled_from(sorted(self.claims)))
            self.claims[name] = {**self.claims[name], "status": {"conditions": [FAILED]}}

    @rule(data=st.data())
    def somebody_deletes(self, data: st.DataObject) -> None:
        if self.claims:
            self._delete(data.draw(st.sampled_from(sorted(self.claims))))

    @rule(data=st.data())
    def is_gone(self, data: st.DataObject) -> None:
        going = sorted(name for name, claim in self.claims.items() if leaving(claim))
        if going:
            del self.claims[data.draw(st.sampled_from(going))]

    @rule()
    def the_status_is_lost(self) -> None:
        bare = {key: value for key, value in self.observed.workspace.items() if key != "status"}
        self.observed = replace(self.observed, workspace=bare)
        self.used.clear()
        self.snapshots.clear()  # together with an old cache nothing at all would be known
        self.catch_up()

    @rule(seconds=st.sampled_from([1, 30, 700]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds

    def _delete(self, name: str) -> None:
        claim = self.claims[name]
        metadata = {**claim["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}
        self.claims[name] = {**claim, "metadata": metadata}

    @invariant()
    def a_pass_that_sees_everything_puts_it_right(self) -> None:
        """With a cache that has caught up, one pass leaves one claim for each wanted node, or none while it pauses."""
        if not hasattr(self, "count"):
            return
        decision = self.decide(self.claims)
        doomed = {deletion.uid for deletion in decision.deletions}
        kept = Counter(
            (each["metadata"]["labels"]["kaito.sh/node-slot"])
            for each in self.claims.values()
            if not leaving(each) and each["metadata"]["uid"] not in doomed
        )
        asked = Counter(
            write.body["metadata"]["labels"]["kaito.sh/node-slot"]
            for write in decision.writes
            if write.resource.kind == "Machine"
        )
        total = kept + asked
        assert set(total) <= {str(slot) for slot in range(self.count)}, (
            "no claim for a node that nobody wants"
        )
        assert all(number == 1 for number in total.values()), total
        names = {
            write.body["metadata"]["name"] for write in decision.writes if write.resource.kind == "Machine"
        }
        assert not names & self.claims.keys(), "what is there is not asked for again"
        assert not asked or sum(map(leaving, self.claims.values())) <= self.count, "too many are still going"
        assert not self.hopeless() & set(asked), "no pause after a failure"
        assert decision.status is not None
        entries = decision.status.get("nodes") or []
        assert [entry["slot"] for entry in entries] == list(range(self.count))
        for slot in {str(slot) for slot in range(self.count)} - set(total):
            going = sum(map(leaving, self.claims.values()))
            assert going > self.count or decision.requeue_after, f"slot {slot} is forgotten"
        unharmed = {name for name, each in self.claims.items() if not leaving(each) and not has_failed(each)}
        present = {(name, each["metadata"]["uid"]) for name, each in self.claims.items()}
        meant = {each.name for each in decision.deletions if (each.name, each.uid) in present}
        lost = meant & unharmed  # a predecessor of the same name is not this one
        assert not lost or len(unharmed) > self.count or self.outnumbered(unharmed), (
            f"{lost} did nothing wrong"
        )

    def hopeless(self) -> set[str]:
        """Slots whose claim has failed just now, when every machine size has been tried."""
        return {
            str(entry["slot"])
            for entry in (self.observed.workspace.get("status") or {}).get("nodes") or ()
            if entry["attempt"] + 1 >= self.sizes
            and (claim := self.claims.get(entry["claimName"])) is not None
            and not leaving(claim)
            and has_failed(claim)
        }

    def outnumbered(self, names: set[str]) -> bool:
        """Whether some of these are for nodes that nobody wants any more, or two are for the same."""
        slots = [int(self.claims[name]["metadata"]["labels"]["kaito.sh/node-slot"]) for name in names]
        return len(set(slots)) < len(slots) or max(slots) >= self.count

    def teardown(self) -> None:
        """Left in peace, the Workspace gets its nodes, keeps them, and nothing is left over."""
        if not hasattr(self, "count"):
            return
        for _ in range(4 * self.count + 4):
            self.seconds += 700
            for name in [name for name, claim in self.claims.items() if leaving(claim)]:
                del self.claims[name]
            for name, claim in self.claims.items():
                if not (claim.get("status") or {}).get("conditions"):
                    self.claims[name] = machine_ready(claim, f"node-{name}")
            self.catch_up()
            self.reconcile(99, True)
        status = self.observed.workspace["status"]
        assert len(self.claims) == len(status["workerNodes"]) == self.count
        assert {entry["state"] for entry in status["nodes"]} == {"Ready"}
        assert {entry["claimName"] for entry in status["nodes"]} == set(self.claims)
        made = self.made
        self.reconcile(99, True)
        assert self.made == made


def leaving(claim: Object) -> bool:
    return "deletionTimestamp" in claim["metadata"]


def has_failed(claim: Object) -> bool:
    return FAILED in ((claim.get("status") or {}).get("conditions") or ())


TestNodes = Nodes.TestCase
TestNodes.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # making a failing walk shorter takes minutes
)
