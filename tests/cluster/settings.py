"""The configuration files of the node's programs, as text."""

from __future__ import annotations

from typing import Any, Final

import orjson

from cluster.init import NODE_ADDRESS
from cluster.places import POD_NETWORK, REGISTRY, Places
from cluster.prerequisites import CNI_PLUGINS

PAUSE_IMAGE: Final = f"{REGISTRY}/pause:1"
MIRRORED: Final = ("docker.io", "localhost:5000")
"""Registries whose images come from the one in here."""


def containerd(places: Places) -> str:
    """config.toml of containerd 1.6 and later 1.x: everything of it below our folder, images from our registry."""
    mirrors = "\n".join(
        f'[plugins."io.containerd.grpc.v1.cri".registry.mirrors."{name}"]\n  endpoint = ["http://{REGISTRY}"]'
        for name in MIRRORED
    )
    return f"""version = 2
root = "{places.folder}/containerd"
state = "{places.folder}/containerd-state"
[grpc]
  address = "{places.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{places.folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{places.cni}"
{mirrors}
"""


def cni(places: Places) -> bytes:
    """The pod network: a bridge of the namespace, addresses counted up by hand, host ports."""
    return _json(
        {
            "cniVersion": "0.4.0",
            "name": "kaito",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(places.folder / "addresses"),
                        "ranges": [[{"subnet": POD_NETWORK}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
    )


def kubelet(places: Places) -> bytes:
    """KubeletConfiguration. Whoever reaches its port may use it: nobody outside the namespace does."""
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{places.group}",
            "containerRuntimeEndpoint": f"unix://{places.containerd_socket}",
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "oomScoreAdj": 0,
            "registerNode": True,
            "resolvConf": str(places.folder / "resolv.conf"),
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": False,
            "shutdownGracePeriod": "0s",
            "syncFrequency": "10s",
            "podLogsDir": str(places.logs / "pods"),
            "volumePluginDir": str(places.folder / "volume-plugins"),
        }
    )


def kube_proxy(places: Places) -> bytes:
    """KubeProxyConfiguration."""
    return _json(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": NODE_ADDRESS,
            "clientConnection": {"kubeconfig": str(places.kubeconfig)},
            "clusterCIDR": POD_NETWORK,
            "mode": "iptables",
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }
    )


def registry(places: Places) -> str:
    """config.yml of docker-registry."""
    return f"""version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {places.folder}/registry
  delete:
    enabled: true
http:
  addr: {REGISTRY}
"""


def _json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"
