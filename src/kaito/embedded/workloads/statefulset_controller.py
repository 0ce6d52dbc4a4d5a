"""StatefulSets: observe and act; the decisions are in `statefulset`."""

from __future__ import annotations

from kaito.embedded.workloads.pods import (
    PodView,
    Tree,
    delete_pod,
    differs,
    in_batches,
    owned_by,
    owned_informer,
    view,
    wait_seen,
)
from kaito.embedded.workloads.statefulset import (
    REVISION_LABEL,
    Plan,
    decide,
    make_pod,
    revision_name,
    revision_object,
    template_of,
)
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.errors import AlreadyExists, ApiError
from kaito.runtime.events import EventRecorder
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONTROLLERREVISIONS, PODS, STATEFULSETS, ObjectKey
from kaito.runtime.result import Result

WORKERS = 8
NAME_TAKEN_RETRY = 10.0
"""Seconds until a pod's name is tried again that somebody else's pod has."""
HISTORY = 10
"""ControllerRevisions kept where the spec names no limit."""


class StatefulSetReconciler:
    def __init__(self, manager: Manager, recorder: EventRecorder) -> None:
        self.client = manager.client
        self.clock = manager.clock
        self.recorder = recorder
        self.statefulsets = manager.cache.informer(STATEFULSETS)
        self.pods = owned_informer(manager.cache, PODS)
        self.revisions = owned_informer(manager.cache, CONTROLLERREVISIONS)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self.statefulsets.lister.get(key.name, key.namespace)
        if found is None or found.meta.deletion_timestamp is not None:
            return None
        statefulset = found.decode()
        if statefulset["spec"].get("volumeClaimTemplates"):
            message = (
                "spec.volumeClaimTemplates is not implemented here: there is no storage to claim; "
                "use an emptyDir or hostPath volume in spec.template.spec.volumes"
            )
            self.recorder.event(statefulset, "Warning", "FailedCreate", message)
        else:
            await self._keep_revision(statefulset)
        plan, taken = self._decide(statefulset), False
        if plan.create or plan.delete:
            taken = await self._act(statefulset, plan)
            plan = self._decide(statefulset)
        if plan.status is not None and differs(plan.status, statefulset):
            written = await self.client.patch_status(STATEFULSETS, key.name, key.namespace, plan.status)
            await wait_seen(self.statefulsets, [written])
        return Result(requeue_after=NAME_TAKEN_RETRY if taken else plan.requeue_after)

    def _decide(self, statefulset: Tree) -> Plan:
        pods = [view(pod) for pod in owned_by(self.pods, statefulset["metadata"]["uid"])]
        return decide(statefulset, pods, self.clock.wall())

    async def _act(self, statefulset: Tree, plan: Plan) -> bool:
        """Creates and deletes. True: somebody else's pod has a name that is needed here, and its end brings no news."""
        meta = statefulset["metadata"]
        made: list[Tree] = []
        taken: list[str] = []

        async def create(pod: Tree) -> None:
            name = pod["metadata"]["name"]
            try:
                made.append(await self.client.create(PODS, pod))
            except AlreadyExists:
                taken.append(name)
                return
            message = f"create Pod {name} in StatefulSet {meta['name']} successful"
            self.recorder.event(statefulset, "Normal", "SuccessfulCreate", message)

        async def delete(pod: PodView) -> None:
            await delete_pod(self.client, meta["namespace"], pod)
            message = f"delete Pod {pod.name} in StatefulSet {meta['name']} successful"
            self.recorder.event(statefulset, "Normal", "SuccessfulDelete", message)

        try:
            pods = [
                make_pod(statefulset, ordinal, revision, self._template(statefulset, revision))
                for ordinal, revision in plan.create
            ]
            await in_batches(pods, create)
            await in_batches(plan.delete, delete)
        except ApiError as error:
            self.recorder.event(statefulset, "Warning", "FailedCreate", f"create Pod failed: {error.message}")
            raise
        finally:
            await wait_seen(self.pods, made)
        return bool(taken)

    def _template(self, statefulset: Tree, revision: str) -> Tree:
        """A revision's template; where the revision is lost, the current one is the best there is."""
        found = self.revisions.lister.get(revision, statefulset["metadata"]["namespace"])
        if revision == revision_name(statefulset) or found is None:
            template: Tree = statefulset["spec"]["template"]
            return template
        return template_of(found.decode())

    async def _keep_revision(self, statefulset: Tree) -> None:
        """Writes the current template down under its name, as the latest revision, and forgets the oldest."""
        name, namespace = revision_name(statefulset), statefulset["metadata"]["namespace"]
        known = sorted(owned_by(self.revisions, statefulset["metadata"]["uid"]), key=_number)
        latest = _number(known[-1]) if known else 0
        mine = next((each for each in known if each.meta.name == name), None)
        written: Tree | None = None
        if mine is None:
            try:
                written = await self.client.create(
                    CONTROLLERREVISIONS, revision_object(statefulset, latest + 1)
                )
            except AlreadyExists:
                return
        elif _number(mine) < latest:  # the template went back to an earlier one
            patch = {"revision": latest + 1}
            written = await self.client.patch(CONTROLLERREVISIONS, name, namespace, patch=patch)
        await wait_seen(self.revisions, [written])
        await self._forget_old(statefulset, known, name)

    async def _forget_old(self, statefulset: Tree, known: list[CachedObject], update: str) -> None:
        meta, limit = statefulset["metadata"], statefulset["spec"].get("revisionHistoryLimit")
        status = statefulset.get("status") or {}
        live = {view(pod).labels.get(REVISION_LABEL) for pod in owned_by(self.pods, meta["uid"])}
        live |= {update, status.get("currentRevision")}
        spare = [each for each in known if each.meta.name not in live]
        for each in spare[: max(0, len(spare) - (HISTORY if limit is None else limit))]:
            await self.client.delete(
                CONTROLLERREVISIONS, each.meta.name, meta["namespace"], uid=each.meta.uid
            )


def _number(revision: CachedObject) -> int:
    return int(revision.decode().get("revision") or 0)


def setup(manager: Manager, recorder: EventRecorder) -> None:
    reconciler = StatefulSetReconciler(manager, recorder)
    manager.add(
        Controller(
            "statefulset",
            reconciler.reconcile,
            primary=STATEFULSETS,
            owns=[PODS],
            options=ControllerOptions(workers=WORKERS),
        )
    )
