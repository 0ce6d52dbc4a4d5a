"""A pod's place on this machine: its directory, address, ports and volumes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito.embedded.kubelet import volumes as vol
from kaito.embedded.kubelet.allocation import AddressPool, PortPool, container_ports, is_free
from kaito.embedded.kubelet.containers import Surroundings
from kaito.embedded.kubelet.environment import references
from kaito.embedded.kubelet.status import HOST_IP
from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import CONFIGMAPS, SECRETS, Resource

Object = dict[str, Any]


def all_containers(pod: Mapping[str, Any]) -> list[Object]:
    """Init containers first, as they start."""
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


@dataclass(slots=True)
class Sandbox:
    """Made once per pod; `prepare` fills the volumes, `remove` deletes everything."""

    directory: Path
    address: str
    ports: dict[int, int] = field(default_factory=dict)
    volumes: dict[str, Path] = field(default_factory=dict)
    sources: vol.VolumeSources | None = None
    stale: bool = False
    """Something the pod refers to was missing: look again before the next start."""

    async def prepare(self, pod: Mapping[str, Any], allocatable: Mapping[str, str], client: Client) -> None:
        """Fetch what the pod refers to and make its volumes. Raises MountFailed and the client's errors."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / "home").mkdir(exist_ok=True)
        self.stale = False
        spec = pod.get("spec") or {}
        maps, secrets = vol.needed(spec)
        env_maps, env_secrets = references(all_containers(pod))
        namespace = pod["metadata"]["namespace"]
        status = {**(pod.get("status") or {}), "podIP": self.address, "hostIP": HOST_IP}
        self.sources = vol.VolumeSources(
            {**pod, "status": status},
            await _fetch(client, CONFIGMAPS, namespace, maps | env_maps),
            await _fetch(client, SECRETS, namespace, secrets | env_secrets),
            allocatable,
        )
        self.volumes = {
            volume["name"]: vol.make_volume(volume, self.directory / "volumes" / volume["name"], self.sources)
            for volume in spec.get("volumes") or ()
        }

    def assign_ports(self, containers: list[Object], pool: PortPool) -> None:
        """A port of 127.0.0.1 for each declared one; those that something else took meanwhile are replaced."""
        for container in containers:
            for number in container_ports(container):
                port = self.ports.get(number)
                if port is None or not is_free(port):
                    self.ports[number] = pool.take()

    def surroundings(self, proxy_url: str, parent_env: Mapping[str, str], proxy_https: bool) -> Surroundings:
        """What containers are started with; only after `prepare`."""
        assert self.sources is not None
        return Surroundings(
            self.directory,
            self.directory / "home",
            self._temporary(),
            self.volumes,
            self.sources,
            self.ports,
            proxy_url,
            parent_env,
            proxy_https,
        )

    def _temporary(self) -> Path:
        """A short path, because programs put Unix sockets there and those allow for 104 characters."""
        link = self.directory / "tmp"
        if not link.is_dir():
            link.unlink(missing_ok=True)
            link.symlink_to(tempfile.mkdtemp(prefix="kaito-pod-"))
        return link.readlink()

    def remove(self, addresses: AddressPool, ports: PortPool) -> None:
        """Delete the pod's directory and give back what it held."""
        remove_directory(self.directory)
        addresses.give_back(self.address)
        ports.give_back(self.ports.values())


def remove_directory(directory: Path) -> None:
    """Delete a pod's directory, its temporary one included."""
    remove_temporary(directory)
    shutil.rmtree(directory, ignore_errors=True)


def remove_temporary(directory: Path) -> None:
    """Delete what a pod has outside its own directory; made anew when it is needed."""
    link = directory / "tmp"
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)


async def _fetch(
    client: Client, resource: Resource, namespace: str, names: set[str]
) -> dict[str, vol.Data | None]:
    """The objects' contents; None for one that does not exist (an error only if it is not optional)."""
    convert = vol.config_map_data if resource is CONFIGMAPS else vol.secret_data
    found: dict[str, vol.Data | None] = {}
    for name in sorted(names):
        try:
            found[name] = convert(await client.get(resource, name, namespace))
        except NotFound:
            found[name] = None
    return found
