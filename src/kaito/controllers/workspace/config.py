"""How the workspace controller is set up: what the operator's flags say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast, get_args

from kaito.api.labels import NODE_CLASS_GROUP, NODE_CLASS_KIND
from kaito.api.resources import MACHINES, NODECLAIMS, NODEPOOLS
from kaito.catalog.models import Cloud
from kaito.catalog.prices import NO_PRICES, Price, Prices
from kaito.runtime.resources import Resource


class NodeProvisioner(StrEnum):
    """Who makes nodes, and through which kind of claim."""

    MACHINE = "machine"
    """Machine `karpenter.sh/v1alpha5`."""
    NODECLAIM = "nodeclaim"
    """NodeClaim `karpenter.sh/v1`."""
    KARPENTER = "karpenter"
    """NodePool `karpenter.sh/v1`, one for each Workspace, from which a Karpenter makes NodeClaims."""
    BYO = "byo"
    """Nobody: existing nodes are found by label."""

    @classmethod
    def parse(cls, text: str) -> NodeProvisioner:
        """The provisioner of that flag value. Raises ValueError with a sentence for anything else."""
        name = text.strip().lower()
        if name == "azure-gpu-provisioner":
            return cls.NODECLAIM
        try:
            return cls(name)
        except ValueError:
            raise ValueError(
                f"--node-provisioner={text!r} is not known; use machine, nodeclaim (or azure-gpu-provisioner), "
                "karpenter or byo"
            ) from None

    @property
    def claims(self) -> Resource | None:
        """The resource that stands for a node before it is there, or None where nobody is asked for one."""
        match self:
            case NodeProvisioner.MACHINE:
                return MACHINES
            case NodeProvisioner.NODECLAIM | NodeProvisioner.KARPENTER:
                return NODECLAIMS
            case NodeProvisioner.BYO:
                return None

    @property
    def pools(self) -> Resource | None:
        """The resource from which a Karpenter makes the claims, or None where we make them, or nobody does."""
        return NODEPOOLS if self is NodeProvisioner.KARPENTER else None


def parse_cloud(text: str) -> Cloud:
    """The cloud of that flag value. Raises ValueError with a sentence for anything else."""
    name = text.strip().lower()
    for cloud in get_args(Cloud):
        if cloud == name:
            return cast(Cloud, cloud)
    raise ValueError(f"--cloud={text!r} is not known; use {', '.join(get_args(Cloud))}")


@dataclass(frozen=True, slots=True)
class NodeClass:
    """What `spec.nodeClassRef` of NodeClaims says; empty parts are those of the cloud's default.

    Raises ValueError where only one of group and kind is given: together they name somebody's API.
    """

    group: str = ""
    kind: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if bool(self.group) != bool(self.kind):
            given, missing = ("group", "kind") if self.group else ("kind", "group")
            raise ValueError(
                f"node class: {given} {getattr(self, given)!r} without a {missing}; give both, as in "
                "karpenter.azure.com and AKSNodeClass, or neither"
            )
        if "/" in self.group:
            raise ValueError(f"node class: group {self.group!r} has a version; write karpenter.azure.com")

    def on(self, cloud: Cloud) -> NodeClass:
        """The whole reference, on that cloud."""
        group, kind = (self.group, self.kind) if self.group else _NODE_CLASSES.get(cloud, _KAITO)
        return NodeClass(group, kind, self.name or "default")

    def for_karpenter(self, cloud: Cloud) -> NodeClass:
        """The whole reference in a NodePool, which only a Karpenter serves. Raises ValueError where nobody can know."""
        group, kind = (self.group, self.kind) if self.group else _KARPENTERS.get(cloud, ("", ""))
        if not group:
            raise ValueError(
                f"--node-provisioner=karpenter with --cloud={cloud}: say whose node class NodePools name, with "
                "--node-class-group and --node-class-kind"
            )
        return NodeClass(group, kind, self.name or "default")


_KAITO: Final = (NODE_CLASS_GROUP, NODE_CLASS_KIND)
_NODE_CLASSES: Final[dict[Cloud, tuple[str, str]]] = {"aws": ("karpenter.k8s.aws", "EC2NodeClass")}
"""As Go KAITO writes them; elsewhere KaitoNodeClass, of which no object exists."""
AZURE_KARPENTER: Final = "karpenter.azure.com"
_KARPENTERS: Final[dict[Cloud, tuple[str, str]]] = {
    "azure": (AZURE_KARPENTER, "AKSNodeClass"),
    "aws": ("karpenter.k8s.aws", "EC2NodeClass"),
}


@dataclass(frozen=True, slots=True)
class OneMachine:
    """The machine whose processes are all pods: `kaito local`. Models are served by mistralrs in its own memory."""

    memory_gib: float | None = None
    """All that it has; None: not known."""
    on_gpu: bool = False
    """Whether the engine computes on a GPU of the machine, in the same memory."""
    held: frozenset[str] = frozenset()
    """Presets whose weights are on it already, or are answered for by others: nothing is downloaded for them."""


@dataclass(frozen=True, slots=True)
class WorkspaceConfig:
    """Settings of the workspace controller."""

    node_provisioner: NodeProvisioner = NodeProvisioner.MACHINE
    registry: str = "localhost/kaito"
    """Where the images `kaito-<preset>` and `puller` lie (PRESET_REGISTRY_NAME), without a slash at the end."""
    puller_tag: str = "0.1.0"
    """Tag of the image `<registry>/puller`, which fetches adapter images."""
    runtime_tag: str = "0.1.0"
    """Tag of the images `<registry>/runtime-<line>`, which serve weights that are in no image."""
    hub_endpoint: str = ""
    """URL of the hub that pods download weights from (HF_ENDPOINT); empty: the Hugging Face hub."""
    stand_in_weights: str = ""
    """Preset whose small weights answer in place of those that images have; empty: the real weights answer."""
    machine: OneMachine | None = None
    """The only machine there is; None: a cluster, whose images have weights."""
    cloud: Cloud = "azure"
    """Whose instance types the Workspaces name."""
    prices: Prices = NO_PRICES
    """What sizes cost; none: unknown, and sizes are compared by their memory."""
    region: str | None = None
    """Where nodes are made, for their prices; None: the region that the prices are of."""
    node_class: NodeClass = NodeClass()
    """The node class of NodeClaims and NodePools: whose controller makes them real, and how."""
    node_class_names: tuple[str, ...] = ()
    """With `karpenter`: names beside the node class's own that a Workspace may choose by annotation."""
    node_image_family: str = "ubuntu"
    """Value of `kaito.sh/node-image-family` on NodeClaims unless the Workspace says otherwise."""
    workers: int = 16
    """Workspaces reconciled at the same time; a worker waits for requests only, never for a node or a model. Each holds
    a connection while it does, and a connection with TLS takes 256 KB."""
    status_interval: float = 5.0
    """Least seconds from one status write of a Workspace to one that changes no more than words about its progress;
    what is worth an event, and conditions that turn, are written at once."""

    def price(self, size: str) -> Price | None:
        """What a node of that size costs; None: unknown."""
        return self.prices.price(size, self.cloud, self.region)

    def is_absent(self, size: str) -> bool:
        """Whether the cloud is known not to sell that size there."""
        return self.prices.is_absent(size, self.cloud, self.region)

    def __post_init__(self) -> None:
        if self.registry.endswith("/") or not self.registry:
            raise ValueError(
                f"registry {self.registry!r}: expected a host and path without a slash at the end"
            )
        if self.node_provisioner.pools is not None:
            self.node_class.for_karpenter(self.cloud)
