"""The controllers that turn Deployments into pods on nodes: what kube-controller-manager and kube-scheduler do.

Plain API clients on `kaito.runtime`: they only know a kubeconfig and would work against any API server. Each keeps its
rules in pure functions (`deployment`, `statefulset`, `job`, `endpoints`, `scheduling`, and `decide` in `replicaset`)
beside a small reconciler that observes and acts.
"""

from __future__ import annotations

from kaito.embedded.workloads import (
    deployment_controller,
    endpoints_controller,
    job_controller,
    replicaset,
    scheduler,
    statefulset_controller,
)
from kaito.runtime.events import EventRecorder
from kaito.runtime.manager import Manager


def setup(manager: Manager) -> None:
    """Adds all workload controllers and the scheduler to a manager."""
    for component, wire in (
        ("deployment-controller", deployment_controller.setup),
        ("replicaset-controller", replicaset.setup),
        ("statefulset-controller", statefulset_controller.setup),
        ("job-controller", job_controller.setup),
        ("default-scheduler", scheduler.setup),
    ):
        recorder = EventRecorder(manager.client, component, manager.clock)
        manager.add(recorder)
        wire(manager, recorder)
    endpoints_controller.setup(manager)
