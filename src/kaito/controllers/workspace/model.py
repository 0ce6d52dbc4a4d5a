"""What passes between the three steps: an Observed goes into `decide`, a Decision comes out and goes into `act`.

What only the network can tell is a Need in the Decision, and comes back as an Answer in a later Observed. Objects are
plain dicts as Kubernetes writes them. Nothing in here reads or writes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kaito.api.views import InvalidSpec
from kaito.controllers.workspace.node_facts import ExistingNodes
from kaito.runtime.resources import Resource

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Need:
    """A question about something outside the cluster.

    model: what the hub says of the model `id` (`org/name`) at `revision`, None for the newest there is. weights: its
    config.json and the shapes of its tensors.
    """

    kind: Literal["model", "weights"]
    id: str
    revision: str | None = None
    secret: str | None = None
    """Secret in the Workspace's namespace whose key HF_TOKEN is the token to ask with."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a Need: `facts` to keep in `status.resolved`, or a reason (CamelCase) and a sentence why there are
    none. What could not be had is asked for again while it is needed."""

    facts: Object | None = None
    reason: str = ""
    message: str = ""
    retry_after: float | None = None
    """Seconds for which the other side does not want to be asked again."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The world as the caches show it for one Workspace."""

    workspace: Object
    invalid: InvalidSpec | None = None
    """What of the stored Workspace does not fit the API's model."""
    adapters: Mapping[str, Object] = field(default_factory=dict)
    """Adapters in the Workspace's namespace that it names or owns, by object name."""
    claims: tuple[Object, ...] = ()
    """Machines or NodeClaims labelled with the Workspace's name and namespace, whatever their uid label."""
    pool: Object | None = None
    """The NodePool that has the name of the Workspace's, whoever made it."""
    nodes: Mapping[str, Object] = field(default_factory=dict)
    """Nodes by name: those of the claims; without claims those that its pods were given to."""
    existing: ExistingNodes = field(default_factory=ExistingNodes)
    """All nodes with the Workspace's labels, where it may run on nodes that nobody made for it."""
    deployment: Object | None = None
    stateful_set: Object | None = None
    service: Object | None = None
    headless: Object | None = None
    budget: Object | None = None
    """The PodDisruptionBudget that has the Workspace's name, whoever made it."""
    other_budgets: tuple[Object, ...] = ()
    """PodDisruptionBudgets in its namespace that are no Workspace's: of their specs, the selectors."""
    pods: tuple[Object, ...] = ()
    looks: tuple[Object, ...] = ()
    """The pods that look at its weights (`decide.look`); they are none of `pods`."""
    settings: Mapping[str, Mapping[str, Any]] | None = None
    """By engine, the keys of that ConfigMap that sizing looks at; None where it cannot be known."""
    config_hash: str | None = None
    """Hash of the contents of the ConfigMap that `inference.config` names; None while there is no such ConfigMap."""
    config_fault: str = ""
    """Why no server can read that ConfigMap, as what follows the file's name; "" where one can."""
    config_faults: Mapping[str, str] = field(default_factory=dict)
    """By engine, what its server would end with in that ConfigMap, as a sentence that begins with the key."""
    answers: Mapping[Need, Answer] = field(default_factory=dict)
    """What is known of the Needs of the last Decision."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event about the Workspace."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Write:
    """One child to write.

    `create` is for claims: an existing one with our uid label counts as success, any other is left alone.
    `adopt` replaces the pod template of a workload that another operator wrote; later writes are `apply`.
    """

    resource: Resource
    body: Object
    verb: Literal["apply", "create", "adopt"] = "apply"
    event: Event | None = None
    """Emitted once the write has succeeded."""
    before: Event | None = None
    """Emitted before the write is sent: what will be interrupted by it."""
    optional: bool = False
    """Whether the Workspace goes on without it where the server refuses it. Of a pod that looks at weights; that there
    was none is then written into the status."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """One child to delete, identified by uid so that a namesake is spared."""

    resource: Resource
    namespace: str | None
    name: str
    uid: str
    propagation: Literal["Background", "Foreground"] = "Background"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, in this order: finalizer added, writes, deletions, status, events, finalizer removed."""

    replaces: frozenset[str] | None = None
    """Set where a claim is given up because the caches no longer show it, or a node is asked for after the first pass:
    the uids of the claims that the caches do show. Caches may be older than the world (another replica led a moment
    ago, the server answered from an old copy) and a node costs money, so nothing is done while the server itself has
    others."""
    confirm: bool = False
    """Whether the server is asked first if the Workspace is still there. A child that was there is missing, and no
    finalizer held the Workspace: the end of both may have reached us in the wrong order, and what is made for a
    Workspace that is gone is swept away and made again without end."""
    writes: tuple[Write, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    status: Object | None = None
    """The whole status as it should be; None leaves it alone."""
    finalizer: Literal["add", "remove"] | None = None
    events: tuple[Event, ...] = ()
    """Emitted once the status has been written."""
    needs: tuple[Need, ...] = ()
    """What must be known before more can be done. The Workspace is looked at again when there is an Answer."""
    requeue_after: float | None = None
    """Seconds until the world should be looked at again though nothing changed."""


def metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object's metadata; an empty map if it has none."""
    value: Mapping[str, Any] = obj.get("metadata") or {}
    return value


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's labels."""
    value: Mapping[str, str] = metadata(obj).get("labels") or {}
    return value


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's annotations."""
    value: Mapping[str, str] = metadata(obj).get("annotations") or {}
    return value


def deleting(obj: Mapping[str, Any]) -> bool:
    """Whether somebody has asked for the object to go."""
    return bool(metadata(obj).get("deletionTimestamp"))


def conditions(obj: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions in an object's status."""
    return list((obj.get("status") or {}).get("conditions") or ())


def controller_uid(obj: Mapping[str, Any]) -> str | None:
    """The uid of the object's controlling owner, or None."""
    for reference in metadata(obj).get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("uid"))
    return None
