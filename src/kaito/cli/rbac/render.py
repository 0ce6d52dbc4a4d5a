"""Rights as YAML that a person can review: every rule under the reason for it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from kaito.cli.rbac.roles import NAMESPACE, UserRole
from kaito.runtime.rights import Right, rules

API_GROUP = "rbac.authorization.k8s.io"
HEADER = "# Made from the rights.py of each package by `make manifests`; change those instead.\n"
_WIDTH = 110


def documents(*parts: str) -> str:
    """A YAML file of these documents."""
    return HEADER + "".join(f"---\n{part}" for part in parts)


def granted(name: str, account: str, rights: Iterable[Right], component: str) -> list[str]:
    """A ClusterRole with its binding, and where something is needed in one namespace only a Role with its own."""
    merged = rules(rights)
    everywhere = [each for each in merged if not each.own_namespace]
    here = [each for each in merged if each.own_namespace]
    made = []
    if everywhere:
        made += [
            role("ClusterRole", name, everywhere, component),
            _binding("ClusterRole", name, account, component),
        ]
    if here:
        made += [role("Role", name, here, component), _binding("Role", name, account, component)]
    return made


def role(kind: str, name: str, merged: Iterable[Right], component: str) -> str:
    """A Role or ClusterRole."""
    body = "".join(_rule(right) for right in merged)
    return _head(kind, name, component, namespaced=kind == "Role") + f"rules:\n{body}"


def user_role(wanted: UserRole) -> str:
    """A ClusterRole that Kubernetes adds to one of its own."""
    label = f'    {API_GROUP}/aggregate-to-{wanted.joins}: "true"\n'
    head = _head("ClusterRole", wanted.name, "", namespaced=False, labels=label)
    return head + "rules:\n" + "".join(_rule(right) for right in rules(wanted.rights))


def _binding(kind: str, name: str, account: str, component: str) -> str:
    head = _head(f"{kind}Binding", name, component, namespaced=kind == "Role")
    return (
        f"{head}roleRef: {{apiGroup: {API_GROUP}, kind: {kind}, name: {name}}}\n"
        f"subjects:\n  - {{kind: ServiceAccount, name: {account}, namespace: {NAMESPACE}}}\n"
    )


def _head(kind: str, name: str, component: str, *, namespaced: bool, labels: str = "") -> str:
    where = f"  namespace: {NAMESPACE}\n" if namespaced else ""
    part = f"    app.kubernetes.io/component: {component}\n" if component else ""
    return (
        f"apiVersion: {API_GROUP}/v1\nkind: {kind}\nmetadata:\n  name: {name}\n{where}  labels:\n"
        f"    app.kubernetes.io/name: kaito\n{part}    app.kubernetes.io/part-of: kaito\n{labels}"
    )


def _rule(right: Right) -> str:
    lines = [
        f"  # {line}"
        for reason in right.why.split("\n")
        for line in textwrap.wrap(reason, _WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
    lines += [f'  - apiGroups: ["{right.group}"]', f"    resources: [{right.resource}]"]
    if right.names:
        lines.append(f"    resourceNames: [{', '.join(right.names)}]")
    lines.append(f"    verbs: [{', '.join(right.verbs)}]")
    return "\n".join(lines) + "\n"
