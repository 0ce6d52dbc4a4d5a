"""What the parts of the machine controller that look after whole clusters work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaito.controllers.machine.metrics import MachineMetrics
from kaito.controllers.machine.running import RunningCluster
from kaito.controllers.machine.shapes import ClaimShape
from kaito.provisioner.cloud import CloudProvider
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.events import EventRecorder
from kaito.runtime.informer import Informer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """claims: the informer of each kind that is served; like `nodes` indexed by provider id."""

    client: Client
    cloud: CloudProvider
    recorder: EventRecorder
    clock: Clock
    claims: Mapping[ClaimShape, Informer]
    nodes: Informer
    running: RunningCluster
    metrics: MachineMetrics
