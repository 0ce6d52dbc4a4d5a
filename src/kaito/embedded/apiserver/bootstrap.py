"""What a cluster holds from its first second: namespaces, their default service accounts, the kubernetes Service."""

from __future__ import annotations

import ipaddress
from typing import Final

from kaito.embedded.apiserver.api import Api
from kaito.embedded.apiserver.core import NAMESPACES, Core
from kaito.embedded.apiserver.parameters import WriteOptions
from kaito.embedded.apiserver.store import ADDED, DELETED, Collection, Event, Key, Object

SYSTEM_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
_MANAGER: Final = "kaito-apiserver"
_SERVICE_ACCOUNTS: Final = "serviceaccounts"
_NOBODY: Final = WriteOptions()


class DefaultServiceAccounts:
    """Gives every namespace its `default` ServiceAccount, again if somebody deletes it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        api.core.store.on_commit(self._committed)

    def _committed(self, collection: Collection, event: Event) -> None:
        if collection.name == NAMESPACES and event.type == ADDED:
            self._ensure(event.record.key.name)
        elif (
            collection.name == _SERVICE_ACCOUNTS
            and event.type == DELETED
            and event.record.key.name == "default"
        ):
            self._ensure(event.record.key.namespace)

    def _ensure(self, namespace: str) -> None:
        store = self._api.core.store
        home = store.collection(NAMESPACES).get(Key("", namespace))
        if home is None or home.metadata.get("deletionTimestamp"):
            return
        if store.collection(_SERVICE_ACCOUNTS).get(Key(namespace, "default")) is None:
            served = self._api.core.registry.builtin(_SERVICE_ACCOUNTS)
            account: Object = {"metadata": {"name": "default"}}
            self._api.writer.create(served, namespace, account, _NOBODY, _MANAGER)


def create_namespaces(api: Api) -> None:
    served = api.core.registry.builtin(NAMESPACES)
    for name in SYSTEM_NAMESPACES:
        api.writer.create(served, None, {"metadata": {"name": name}}, _NOBODY, _MANAGER)


def publish_server(api: Api, service_cidr: str, host: str, port: int) -> None:
    """The `kubernetes` Service in `default` and where it leads: this server."""
    address = str(ipaddress.ip_network(service_cidr)[1])
    labels = {"component": "apiserver", "provider": "kubernetes"}
    service: Object = {
        "metadata": {"name": "kubernetes", "labels": labels},
        "spec": {
            "clusterIP": address,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }
    endpoints: Object = {
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [
            {"addresses": [{"ip": host}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}
        ],
    }
    slice_: Object = {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    core: Core = api.core
    for name, obj in (
        ("services", service),
        ("endpoints", endpoints),
        ("endpointslices.discovery.k8s.io", slice_),
    ):
        api.writer.create(core.registry.builtin(name), "default", obj, _NOBODY, _MANAGER)
