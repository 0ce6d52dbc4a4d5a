"""Deployments: observe and act; the decisions are in `deployment`."""

from __future__ import annotations

from typing import Any

from kaito.embedded.workloads.deployment import REVISION, Plan, decide, same_template
from kaito.embedded.workloads.pods import Tree, differs, owned_by, owned_informer, view, wait_seen
from kaito.runtime.controller import Controller, ControllerOptions, Watch
from kaito.runtime.errors import AlreadyExists
from kaito.runtime.events import EventRecorder
from kaito.runtime.handlers import by_owner
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import EventType, only
from kaito.runtime.resources import DEPLOYMENTS, PODS, REPLICASETS, ObjectKey
from kaito.runtime.result import Result

WORKERS = 16


class DeploymentReconciler:
    def __init__(self, manager: Manager, recorder: EventRecorder) -> None:
        self.client = manager.client
        self.clock = manager.clock
        self.recorder = recorder
        self.deployments = manager.cache.informer(DEPLOYMENTS)
        self.replicasets = owned_informer(manager.cache, REPLICASETS)
        self.pods = owned_informer(manager.cache, PODS)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self.deployments.lister.get(key.name, key.namespace)
        if found is None or found.meta.deletion_timestamp is not None:
            return None
        deployment = found.decode()
        replicasets = [each.decode() for each in owned_by(self.replicasets, found.meta.uid)]
        running = self._old_pods_running(deployment, replicasets)
        plan = decide(deployment, replicasets, running, self.clock.wall())
        await self._act(deployment, replicasets, plan)
        return Result(requeue_after=plan.requeue_after)

    def _old_pods_running(self, deployment: Tree, replicasets: list[Tree]) -> bool:
        """Only Recreate asks; a pod that is being deleted still runs."""
        if (deployment["spec"].get("strategy") or {}).get("type") != "Recreate":
            return False
        return any(
            not view(pod).is_finished
            for each in replicasets
            if not same_template(deployment, each)
            for pod in owned_by(self.pods, each["metadata"]["uid"])
        )

    def of_pod(self, pod: CachedObject) -> list[ObjectKey]:
        """The Deployment of a pod, by way of its ReplicaSet."""
        owner = pod.meta.controller
        replicaset = self.replicasets.lister.get(owner.name, pod.meta.namespace) if owner else None
        return [] if replicaset is None else list(_of_replicaset(replicaset))

    async def _act(self, deployment: Tree, replicasets: list[Tree], plan: Plan) -> None:
        meta = deployment["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        written: list[Tree | None] = []
        if plan.create is not None:
            written.append(await self._create(deployment, plan.create))
        by_name = {each["metadata"]["name"]: each for each in replicasets}
        for each in dict.fromkeys((*plan.scale, *plan.annotate)):
            patch: dict[str, Any] = {}
            if each in plan.annotate:
                patch["metadata"] = {"annotations": plan.annotate[each]}
            if each in plan.scale:
                patch["spec"] = {"replicas": plan.scale[each]}
            written.append(await self.client.patch(REPLICASETS, each, namespace, patch=patch))
            if each in plan.scale:
                self._tell_scaled(
                    deployment, each, by_name[each]["spec"].get("replicas", 1), plan.scale[each]
                )
        for each in plan.delete:
            await self.client.delete(REPLICASETS, each, namespace, uid=by_name[each]["metadata"]["uid"])
        own: list[Tree | None] = []
        status = dict(plan.status)
        if plan.revision is not None:
            patch = {"metadata": {"annotations": {REVISION: plan.revision}}}
            own.append(changed := await self.client.patch(DEPLOYMENTS, name, namespace, patch=patch))
            # Annotations of a Deployment count as a new generation; this one is ours, so it is observed.
            if changed["metadata"]["generation"] == meta["generation"] + 1:
                status["observedGeneration"] = changed["metadata"]["generation"]
        if differs(status, deployment):
            own.append(await self.client.patch_status(DEPLOYMENTS, name, namespace, status))
        await wait_seen(self.replicasets, written)
        await wait_seen(self.deployments, own)

    async def _create(self, deployment: Tree, replicaset: Tree) -> Tree | None:
        """Makes the new ReplicaSet. A name taken by another template changes the hash for the next try."""
        meta, name = deployment["metadata"], replicaset["metadata"]["name"]
        try:
            made = await self.client.create(REPLICASETS, replicaset)
        except AlreadyExists:
            there = await self.client.get(REPLICASETS, name, meta["namespace"])
            owners = there["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == meta["uid"] for owner in owners) and same_template(deployment, there):
                return there
            collisions = ((deployment.get("status") or {}).get("collisionCount") or 0) + 1
            await self.client.patch_status(
                DEPLOYMENTS, meta["name"], meta["namespace"], {"collisionCount": collisions}
            )
            raise
        self._tell_scaled(deployment, name, 0, replicaset["spec"]["replicas"])
        return made

    def _tell_scaled(self, deployment: Tree, name: str, before: int, after: int) -> None:
        if before != after:
            direction = "up" if after > before else "down"
            message = f"Scaled {direction} replica set {name} from {before} to {after}"
            self.recorder.event(deployment, "Normal", "ScalingReplicaSet", message)


_of_replicaset = by_owner(DEPLOYMENTS)


def setup(manager: Manager, recorder: EventRecorder) -> None:
    reconciler = DeploymentReconciler(manager, recorder)
    manager.add(
        Controller(
            "deployment",
            reconciler.reconcile,
            primary=DEPLOYMENTS,
            owns=[REPLICASETS],
            watches=[
                Watch(PODS, reconciler.of_pod, predicates=[only(EventType.DELETE)])
            ],  # Recreate waits for it
            options=ControllerOptions(workers=WORKERS),
        )
    )
