"""Jobs: observe and act; the decisions are in `job`."""

from __future__ import annotations

from kaito.embedded.workloads.job import Plan, decide, finished, unsupported
from kaito.embedded.workloads.pods import (
    PodView,
    Tree,
    delete_pod,
    differs,
    in_batches,
    owned_by,
    owned_informer,
    pod_from_template,
    view,
    wait_seen,
)
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.errors import ApiError
from kaito.runtime.events import EventRecorder
from kaito.runtime.manager import Manager
from kaito.runtime.resources import JOBS, PODS, ObjectKey
from kaito.runtime.result import Result

WORKERS = 8


class JobReconciler:
    def __init__(self, manager: Manager, recorder: EventRecorder) -> None:
        self.client = manager.client
        self.clock = manager.clock
        self.recorder = recorder
        self.jobs = manager.cache.informer(JOBS)
        self.pods = owned_informer(manager.cache, PODS)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self.jobs.lister.get(key.name, key.namespace)
        if found is None or found.meta.deletion_timestamp is not None:
            return None
        job = found.decode()
        if problem := unsupported(job):
            self.recorder.event(job, "Warning", "NotImplemented", problem)
            return None
        plan = self._decide(job)
        if plan.remove:
            await self.client.delete(JOBS, key.name, key.namespace, uid=found.meta.uid)
            return None
        if plan.create or plan.delete:
            await self._act(job, plan)
            plan = self._decide(job)
        if plan.status is not None and differs(plan.status, job):
            written = await self.client.patch_status(JOBS, key.name, key.namespace, plan.status)
            self._tell_end(job, plan.status)
            await wait_seen(self.jobs, [written])
        return Result(requeue_after=plan.requeue_after)

    def _decide(self, job: Tree) -> Plan:
        return decide(
            job, [view(pod) for pod in owned_by(self.pods, job["metadata"]["uid"])], self.clock.wall()
        )

    async def _act(self, job: Tree, plan: Plan) -> None:
        made: list[Tree] = []

        async def create(pod: Tree) -> None:
            made.append(await self.client.create(PODS, pod))
            name = made[-1]["metadata"]["name"]
            self.recorder.event(job, "Normal", "SuccessfulCreate", f"Created pod: {name}")

        async def delete(pod: PodView) -> None:
            await delete_pod(self.client, job["metadata"]["namespace"], pod)
            self.recorder.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.name}")

        try:
            pods = [pod_from_template(job, JOBS, job["spec"]["template"]) for _ in range(plan.create)]
            await in_batches(pods, create)
            await in_batches(plan.delete, delete)
        except ApiError as error:
            self.recorder.event(job, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        finally:
            await wait_seen(self.pods, made)

    def _tell_end(self, job: Tree, status: Tree) -> None:
        end = finished({"status": status})
        if end.get("type") == "Complete":
            self.recorder.event(job, "Normal", "Completed", "Job completed")
        elif end:
            self.recorder.event(job, "Warning", end["reason"], end["message"])


def setup(manager: Manager, recorder: EventRecorder) -> None:
    reconciler = JobReconciler(manager, recorder)
    manager.add(
        Controller(
            "job", reconciler.reconcile, primary=JOBS, owns=[PODS], options=ControllerOptions(workers=WORKERS)
        )
    )
