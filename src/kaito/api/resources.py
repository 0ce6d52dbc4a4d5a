"""The kinds KAITO owns or shares with Karpenter, as `Resource` constants for clients and caches."""

from __future__ import annotations

from typing import Final

from kaito.runtime.resources import Resource

WORKSPACES: Final = Resource("kaito.sh", "v1beta1", "workspaces", "Workspace")
"""The storage version; controllers speak only this one."""
WORKSPACES_V1ALPHA1: Final = Resource("kaito.sh", "v1alpha1", "workspaces", "Workspace")
ADAPTERS: Final = Resource("kaito.sh", "v1alpha1", "adapters", "Adapter")
MACHINES: Final = Resource("karpenter.sh", "v1alpha5", "machines", "Machine", namespaced=False)
NODECLAIMS: Final = Resource("karpenter.sh", "v1", "nodeclaims", "NodeClaim", namespaced=False)
NODEPOOLS: Final = Resource("karpenter.sh", "v1", "nodepools", "NodePool", namespaced=False)
"""A Karpenter's alone: no definition of it is ever applied by us."""
