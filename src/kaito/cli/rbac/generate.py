"""Writes `manifests/rbac` from the declared rights: `python -m kaito.cli.rbac.generate [--check] [DIRECTORY]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

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
    wanted = rendered()
    there = {
        path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8")
        for path in directory.rglob("*.yaml")
    }
    return sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))


def write(directory: Path) -> list[str]:
    """Makes the directory equal to the declared rights; returns what changed."""
    changed = drift(directory)
    wanted = rendered()
    for name in changed:
        path = directory / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m kaito.cli.rbac.generate", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("manifests/rbac"))
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail where files and declarations differ"
    )
    options = parser.parse_args(arguments)
    changed = drift(options.directory) if options.check else write(options.directory)
    for name in changed:
        print(f"{'differs' if options.check else 'wrote'}: {options.directory / name}")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
