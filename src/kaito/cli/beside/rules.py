"""Who else runs here, told from what is listed. Pure.

Two operators conflict over Workspaces, two provisioners over claims. The gpu-provisioner beside an operator of ours
that makes no nodes itself is a pair that works, and so is a provisioner of ours beside Go KAITO's operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from kaito.cli.operator.names import LEASE_NAME, PROVISIONER_LEASE_NAME
from kaito.runtime.clock import parse_time
from kaito.runtime.lease import duration_of, holder_of, spec_of

Object = Mapping[str, Any]

GUIDE: Final = "docs/from-go-kaito.md"
GO_LEASE: Final = "ef60f9b0.io"
"""Lease of Go KAITO's workspace operator."""
GPU_PROVISIONER_LEASES: Final = ("gpu-provisioner-leader-election", "karpenter-leader-election")
"""Leases of the gpu-provisioner; Karpenter itself holds one of the second name, too."""
GO_WEBHOOK: Final = "validation.workspace.kaito.sh"
"""Go KAITO's webhook configuration for Workspaces: it stays when the operator is scaled down, and nothing answers."""
ADD_ON_NAMESPACE: Final = "kube-system"
ADD_ON_OFF: Final = "az aks update --resource-group GROUP --name CLUSTER --disable-ai-toolchain-operator"


class Kind(StrEnum):
    """What a Deployment runs, in words."""

    GO_OPERATOR = "Go KAITO's workspace operator"
    GPU_PROVISIONER = "the gpu-provisioner"
    OPERATOR = "another installation of this operator"
    PROVISIONER = "another installation of this provisioner"


@dataclass(frozen=True, slots=True)
class Installation:
    """What is about to start, and where."""

    namespace: str
    workspaces: bool
    """Whether it reconciles Workspaces."""
    claims: bool
    """Whether it makes Machines and NodeClaims real."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that must not run beside it."""

    what: str
    """What was found, and where."""
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def conflicts(
    mine: Installation,
    deployments: Iterable[Object],
    leases: Iterable[Object],
    webhooks: Iterable[Object],
    now: datetime,
) -> list[Conflict]:
    """Everything that was found, Deployments first; a Lease whose Deployment is named already is not told again."""
    found, places = [], set()
    for deployment in deployments:
        conflict = deployment_conflict(mine, deployment)
        if conflict is not None:
            found.append(conflict)
            places.add(_namespace(deployment))
    held = [lease for lease in leases if _namespace(lease) not in places]
    found += [each for each in (_lease_conflict(mine, lease, now) for lease in held) if each is not None]
    if mine.workspaces:
        found += [each for each in map(_webhook_conflict, webhooks) if each is not None]
    return found


def refusal(found: Sequence[Conflict]) -> str:
    """What the user is told."""
    return (
        f"cannot start beside what is in this cluster. {'; '.join(str(each) for each in found)}. See {GUIDE}."
    )


def deployment_conflict(mine: Installation, deployment: Object) -> Conflict | None:
    """Why this Deployment must not run beside `mine`; None where it may, or is scaled to 0."""
    replicas = (deployment.get("spec") or {}).get("replicas")
    if replicas == 0:
        return None
    kind = kind_of(deployment)
    if kind is None or not _clash(mine, kind, deployment):
        return None
    name, namespace = str(deployment["metadata"]["name"]), _namespace(deployment)
    what = f"{kind.value} runs as Deployment {namespace}/{name}"
    if namespace == ADD_ON_NAMESPACE and kind in (Kind.GO_OPERATOR, Kind.GPU_PROVISIONER):
        return Conflict(f"{what} (the AKS add-on)", f"turn the add-on off with `{ADD_ON_OFF}`")
    return Conflict(what, f"scale it down with `kubectl scale deployment {name} -n {namespace} --replicas=0`")


def kind_of(deployment: Object) -> Kind | None:
    """What the Deployment runs, by its labels, name, images and variables; None for anything else."""
    metadata = deployment["metadata"]
    labels = metadata.get("labels") or {}
    containers = _containers(deployment)
    if labels.get("app.kubernetes.io/name") == "kaito":
        ours = {"operator": Kind.OPERATOR, "provisioner": Kind.PROVISIONER}
        kind = ours.get(str(labels.get("app.kubernetes.io/component")))
        if kind is not None:
            return kind  # others call themselves kaito, too: then place and image tell
    place = (metadata.get("namespace"), metadata["name"])
    if place in _PLACES:
        return _PLACES[place]
    if labels.get("app.kubernetes.io/name") == "gpu-provisioner":
        return Kind.GPU_PROVISIONER
    for container in containers:
        path = _repository(str(container.get("image") or ""))
        if path[-1:] == ["gpu-provisioner"]:
            return Kind.GPU_PROVISIONER
        if path[-2:] == ["kaito", "workspace"]:
            return Kind.GO_OPERATOR
        if path[-2:] == ["kaito", "operator"]:
            return Kind.PROVISIONER if "provisioner" in _words(container) else Kind.OPERATOR
        names = {each.get("name") for each in container.get("env") or ()}
        if labels.get("app.kubernetes.io/name") == "workspace" and names >= _GO_VARIABLES:
            return Kind.GO_OPERATOR
    return None


_PLACES: Final[Mapping[tuple[Any, Any], Kind]] = {
    (ADD_ON_NAMESPACE, "kaito-workspace"): Kind.GO_OPERATOR,
    (ADD_ON_NAMESPACE, "kaito-gpu-provisioner"): Kind.GPU_PROVISIONER,
    ("kaito-system", "kaito-controller-manager"): Kind.GO_OPERATOR,
}
"""(namespace, name) of the AKS add-on's Deployments, and of the one in Go KAITO's kustomize tree."""
_GO_VARIABLES: Final = {"CLOUD_PROVIDER", "WEBHOOK_SERVICE"}
"""Variables of Go KAITO's operator, for images that were renamed in a registry of one's own."""


def _clash(mine: Installation, kind: Kind, deployment: Object) -> bool:
    elsewhere = _namespace(deployment) != mine.namespace
    match kind:
        case Kind.GO_OPERATOR:
            return mine.workspaces
        case Kind.GPU_PROVISIONER:
            return mine.claims
        case Kind.OPERATOR if mine.workspaces:
            return elsewhere
        case Kind.OPERATOR:
            return mine.claims and any(_makes_nodes(each) for each in _containers(deployment))
        case Kind.PROVISIONER:
            return mine.claims and (elsewhere or mine.workspaces)


def _makes_nodes(container: Object) -> bool:
    """Whether an operator of ours has the machine controller in it."""
    words = _words(container)
    for index, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--cloud-provider":
            value = value or next(iter(words[index + 1 : index + 2]), "")
            return value not in ("", "none")
    return False


def _lease_conflict(mine: Installation, lease: Object, now: datetime) -> Conflict | None:
    """Why whoever holds the Lease must not run beside `mine`. A Lease that ran out is nobody's."""
    holder = holder_of(dict(lease))
    name, namespace = str(lease["metadata"]["name"]), _namespace(lease)
    kind = _kind_of_lease(mine, name, namespace, holder)
    if not holder or kind is None:
        return None
    renewed = spec_of(dict(lease)).get("renewTime")
    age = (now - parse_time(str(renewed))).total_seconds() if renewed else 0.0
    if not renewed or age > duration_of(dict(lease)):
        return None
    return Conflict(
        f"{kind.value} holds Lease {namespace}/{name}: {holder}, renewed {max(0.0, age):.0f} s ago",
        f"stop it; {duration_of(dict(lease)):g} s later the Lease no longer counts",
    )


def _kind_of_lease(mine: Installation, name: str, namespace: str, holder: str) -> Kind | None:
    elsewhere = namespace != mine.namespace
    if name == GO_LEASE and mine.workspaces:
        return Kind.GO_OPERATOR
    if name == LEASE_NAME and mine.workspaces and elsewhere:
        return Kind.OPERATOR
    if name == PROVISIONER_LEASE_NAME and mine.claims and (elsewhere or mine.workspaces):
        return Kind.PROVISIONER
    if name in GPU_PROVISIONER_LEASES and mine.claims:
        marked = "gpu-provisioner" in holder or "gpu-provisioner" in namespace
        return Kind.GPU_PROVISIONER if marked or name == GPU_PROVISIONER_LEASES[0] else None
    return None


def _webhook_conflict(configuration: Object) -> Conflict | None:
    """Go KAITO's webhook refuses every write of a Workspace: for want of an answer, or for fields unknown to it."""
    name = str(configuration["metadata"]["name"])
    failing = [each for each in configuration.get("webhooks") or () if each.get("failurePolicy") != "Ignore"]
    if name != GO_WEBHOOK or not failing:
        return None
    return Conflict(
        f"ValidatingWebhookConfiguration {name} is left from Go KAITO, and refuses every write of a Workspace, its "
        "status included",
        f"remove it with `kubectl delete validatingwebhookconfiguration {name}`",
    )


def lease_names(mine: Installation) -> tuple[str, ...]:
    """Names of the Leases that tell of somebody in the way of `mine`."""
    workspaces = (GO_LEASE, LEASE_NAME) if mine.workspaces else ()
    claims = (PROVISIONER_LEASE_NAME, *GPU_PROVISIONER_LEASES) if mine.claims else ()
    return (*workspaces, *claims)


def _namespace(obj: Object) -> str:
    return str(obj["metadata"].get("namespace") or "")


def _containers(deployment: Object) -> list[Object]:
    template = (deployment.get("spec") or {}).get("template") or {}
    return list((template.get("spec") or {}).get("containers") or ())


def _words(container: Object) -> list[str]:
    return [str(word) for key in ("command", "args") for word in container.get(key) or ()]


def _repository(image: str) -> list[str]:
    """The parts of an image's repository: `r.example/kaito/workspace:1` is r.example, kaito, workspace."""
    parts = image.partition("@")[0].split("/")
    return [*parts[:-1], parts[-1].partition(":")[0]]
