"""`status` of a Workspace: written by its controller only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kaito.api.parts import Conditions, Int32
from kaito.runtime.crd import Atomic, Format, ListMap, Object, Schemaless


class NodeFailure(Object):
    """What a former attempt at a node left to say."""

    instance_type: str | None = None
    """Machine size of that attempt."""
    reason: str | None = None
    """Why it was given up, in one word."""
    message: str | None = None
    """The cloud's sentence, or the claim's."""


class NodeStatus(Object):
    """One node of the Workspace: which claim stands for it, and how that goes."""

    slot: Int32
    """Number of the node, from 0."""
    attempt: Int32 | None = None
    """Rises when a claim is gone or has failed for good and another takes its place."""
    claim_name: str | None = None
    """Machine or NodeClaim of the current attempt."""
    claim_uid: Annotated[str | None, Field(alias="claimUID")] = None
    """Its uid."""
    node_name: str | None = None
    """The node, once it has joined."""
    instance_type: str | None = None
    """Machine size of the current attempt."""
    state: str | None = None
    """Pending, Ready or Failed."""
    reason: str | None = None
    """Why, in one word."""
    message: str | None = None
    """What it waits for or why it failed."""
    failed_at: Annotated[str, Format("date-time")] | None = None
    """When the last attempt failed."""
    failures: Annotated[list[NodeFailure], Atomic()] | None = None
    """Of each machine size that was tried in vain, what it last said. Gone once the node is ready."""


class AdapterUse(Object):
    """One adapter of the Workspace: is it there, and does it fit the model?"""

    name: str
    """Its name in the pod."""
    adapter: str | None = None
    """The Adapter object."""
    state: str | None = None
    """Pending, Ready or Failed."""
    reason: str | None = None
    """Why, in one word."""
    message: str | None = None
    """Why, and what to do."""


class Metric(Object):
    """One measured figure."""

    description: str | None = None
    """What was measured."""
    value: str | None = None
    """The figure."""
    unit: str | None = None
    """Its unit."""
    config: dict[str, str] | None = None
    """Settings it was measured with."""


class Performance(Object):
    """Results of the benchmark at start."""

    metrics: dict[str, Metric] | None = None
    """By name."""


class WorkspaceStatus(Object):
    """What KAITO has done and waits for."""

    conditions: Conditions | None = None
    """ResourceReady, InferenceReady, WorkspaceReady and finer ones."""
    state: str | None = None
    """Pending, Ready, NotReady (inference); Running, Succeeded, Failed (tuning)."""
    reason: str | None = None
    """In one word, why the Workspace is not ready yet; the column REASON."""
    worker_nodes: Annotated[list[str], Atomic()] | None = None
    """Names of the nodes, sorted."""
    nodes: Annotated[list[NodeStatus], ListMap("slot")] | None = None
    """Each node with its claim."""
    adapters: Annotated[list[AdapterUse], ListMap("name")] | None = None
    """Each adapter with the answer to whether it fits."""
    target_node_count: Int32 | None = None
    """How many nodes the model needs."""
    instance_type: str | None = None
    """The machine size in use."""
    endpoint: str | None = None
    """URL at which the model answers."""
    performance: Performance | None = None
    """Results of the benchmark."""
    resolved: Schemaless | None = None
    """What was looked up or chosen once and is kept: it changes only with the fields above."""
