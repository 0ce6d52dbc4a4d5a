"""Writes `manifests/rbac` from the declared rights: `python -m kaito.cli.rbac.generate [--check] [DIRECTORY]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kaito.api import generated
from kaito.cli.rbac import roles
from kaito.cli.rbac.render import HEADER, documents, granted, role, user_role
from kaito.cli.uninstall.rights import RIGHTS as UNINSTALL
from kaito.controllers.workspace import NodeProvisioner
from kaito.runtime.rights import rules

_ACCOUNT = "kaito-operator"
_PROVISIONER = "kaito-provisioner"


def rendered() -> dict[str, str]:
    """Path below `manifests/rbac` to contents."""
    files = {
        "kustomization.yaml": _kustomization("Kustomization", "operator.yaml", "users.yaml"),
        "operator.yaml": documents(*granted(_ACCOUNT, _ACCOUNT, roles.OPERATOR, "operator")),
        "users.yaml": documents(*map(user_role, roles.USERS)),
        "provisioner/kustomization.yaml": _kustomization("Kustomization", "provisioner.yaml"),
        "provisioner/provisioner.yaml": documents(
            *granted(_PROVISIONER, _PROVISIONER, roles.PROVISIONER, "provisioner")
        ),
    }
    uninstall = role("ClusterRole", "kaito-uninstall", rules(UNINSTALL), "")
    files["uninstall/kustomization.yaml"] = _kustomization("Kustomization", "uninstall.yaml")
    files["uninstall/uninstall.yaml"] = documents(uninstall)
    for cloud, rights in roles.CLOUDS.items():
        for name, account, component, needed in (
            (f"{_PROVISIONER}-{cloud}", _PROVISIONER, "provisioner", rights),
            (f"{_ACCOUNT}-cloud-{cloud}", _ACCOUNT, "operator", (*roles.OPERATOR_CLOUD, *rights)),
        ):
            folder = f"components/{component}-cloud-{cloud}"
            files[f"{folder}/kustomization.yaml"] = _kustomization("Component", "cloud.yaml")
            files[f"{folder}/cloud.yaml"] = documents(*granted(name, account, needed, component))
    for provisioner in NodeProvisioner:
        rights = roles.claim_rights(provisioner)
        if not rights:
            continue
        folder = f"components/claims-{provisioner}"
        files[f"{folder}/kustomization.yaml"] = _kustomization("Component", "claims.yaml")
        files[f"{folder}/claims.yaml"] = documents(
            *granted(f"{_ACCOUNT}-{provisioner}", _ACCOUNT, rights, "operator")
        )
    return files


def _kustomization(kind: str, *resources: str) -> str:
    version = "v1alpha1" if kind == "Component" else "v1beta1"
    listed = "".join(f"  - {each}\n" for each in resources)
    return f"{HEADER}apiVersion: kustomize.config.k8s.io/{version}\nkind: {kind}\nresources:\n{listed}"


def drift(directory: Path) -> list[str]:
    """Files that differ from the declared rights, are missing, or have none."""
    return generated.drift(directory, rendered(), directory.rglob("*.yaml"))


def write(directory: Path) -> list[str]:
    """Makes the directory equal to the declared rights; returns what changed."""
    return generated.write(directory, rendered(), drift(directory))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when `--check` finds a difference."""
    here = Path("manifests/rbac")
    return generated.command("kaito.cli.rbac.generate", __doc__, here, drift, write, arguments)


if __name__ == "__main__":
    sys.exit(main())
