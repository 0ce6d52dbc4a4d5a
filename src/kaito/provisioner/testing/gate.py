"""Who may ask for what, and whether it is this cluster that they ask about: Resource Manager's own checks."""

from __future__ import annotations

from collections.abc import Mapping

from kaito.provisioner.testing.messages import ErrorDetail, Refused
from kaito.provisioner.testing.rules import Script
from kaito.provisioner.testing.settings import Settings
from kaito.provisioner.testing.world import World


class Gate:
    """What comes before any resource provider. Every check raises `Refused`."""

    def __init__(self, world: World, settings: Settings, script: Script) -> None:
        self._world = world
        self._settings = settings
        self._script = script

    def check_token(self, header: str) -> None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise refused(
                401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
            )
        if self._settings.accepted_tokens is not None and token not in self._settings.accepted_tokens:
            raise refused(
                401,
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time is earlier than current UTC time.",
            )

    def check_place(self, names: Mapping[str, str]) -> None:
        place = self._world.place
        subscription = names.get("subscription", place.subscription)
        if subscription.lower() != place.subscription.lower():
            raise refused(
                404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found."
            )
        group = names.get("group", place.resource_group)
        if group.lower() != place.resource_group.lower():
            raise refused(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        cluster = names.get("cluster", place.cluster)
        if cluster.lower() != place.cluster.lower() or (
            "cluster" in names and not self._world.cluster.exists
        ):
            raise refused(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.ContainerService/managedClusters/{cluster}' under resource group '{group}' "
                "was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            )

    def check_action(self, action: str) -> None:
        if action and action.lower() in self._script.denied:
            place = self._world.place
            scope = f"/subscriptions/{place.subscription}" if _is_wide(action) else place.cluster_id
            raise refused(
                403,
                "AuthorizationFailed",
                "The client '11111111-1111-1111-1111-111111111111' with object id "
                "'11111111-1111-1111-1111-111111111111' does not have authorization to perform action "
                f"'{action}' over scope '{scope}' or the scope is invalid. If access was "
                "recently granted, please refresh your credentials.",
            )


def _is_wide(action: str) -> bool:
    """Whether it is asked of the whole subscription."""
    return action.lower().startswith(("microsoft.compute/", "microsoft.containerservice/locations/"))


def refused(status: int, code: str, message: str) -> Refused:
    """In Resource Manager's own shape."""
    return Refused(status, ErrorDetail(code, message), nested=True)
