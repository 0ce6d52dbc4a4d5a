"""How kwok plays the kubelets of the real backend's simulated nodes: as `kaito.embedded.kubelet.simulated` does.

kwok's own stages know no GPUs, so the one that brings up a node is written here; its stages for pods are right as
they are.
"""

from __future__ import annotations

from typing import Any, Final

SELECTOR: Final = "kaito.sh/simulated-pods=true"
LEASE_SECONDS: Final = 40
"""Seconds that a node's Lease is good for; kwok renews it in time. The node stage has no other heartbeat."""

_AMOUNTS: Final = """
  cpu: "64"
  memory: 256Gi
  ephemeral-storage: 1Ti
  pods: "1000"
  {{ $gpus := index .metadata.labels "nvidia.com/gpu.count" }}
  {{ if $gpus }}
  nvidia.com/gpu: {{ $gpus | Quote }}
  {{ end }}
"""

_STATUS: Final = f"""
{{{{ $now := Now }}}}
conditions:
{{{{ range NodeConditions }}}}
- type: {{{{ .type | Quote }}}}
  status: {{{{ .status | Quote }}}}
  reason: {{{{ .reason | Quote }}}}
  message: {{{{ .message | Quote }}}}
  lastHeartbeatTime: {{{{ $now | Quote }}}}
  lastTransitionTime: {{{{ $now | Quote }}}}
{{{{ end }}}}
addresses:
- type: InternalIP
  address: 127.0.0.1
- type: Hostname
  address: {{{{ .metadata.name | Quote }}}}
capacity: {_AMOUNTS}
allocatable: {_AMOUNTS}
nodeInfo:
  architecture: amd64
  bootID: ""
  containerRuntimeVersion: kwok
  kernelVersion: kwok
  kubeProxyVersion: ""
  kubeletVersion: kwok
  machineID: ""
  operatingSystem: linux
  osImage: ""
  systemUUID: ""
"""


def node_stage() -> dict[str, Any]:
    """The Stage that makes a node Ready once, with the GPUs that its label counts."""
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": "node-up"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Node"},
            "selector": {"matchExpressions": [{"key": ready, "operator": "NotIn", "values": ["True"]}]},
            "next": {"statusTemplate": _STATUS},
        },
    }
