"""manifests/rbac: what the packages declare and nothing else, with a reason for every rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.cli.rbac import roles
from kaito.cli.rbac.generate import drift, main, rendered, write
from kaito.controllers.workspace import NodeProvisioner
from kaito.runtime.resources import LEASES, PODS
from kaito.runtime.rights import Right, leader_rights, rules

MANIFESTS = Path(__file__).parents[2] / "manifests" / "rbac"
ROLES = {"Role", "ClusterRole"}


def objects() -> list[dict[str, Any]]:
    return [each for text in rendered().values() for each in yaml.safe_load_all(text)]


def granted() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(role, rule) of every role for a program."""
    return [
        (role, rule)
        for role in objects()
        if role["kind"] in ROLES and "app.kubernetes.io/component" in role["metadata"]["labels"]
        for rule in role["rules"]
    ]


def test_the_files_are_what_the_packages_declare() -> None:
    assert drift(MANIFESTS) == [], "run `make manifests`"


def test_the_generator_repairs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert drift(tmp_path) == []
    assert main([str(tmp_path), "--check"]) == 0
    (tmp_path / "operator.yaml").write_text("kind: Other\n")
    (tmp_path / "old.yaml").write_text("kind: Old\n")
    assert main([str(tmp_path), "--check"]) == 1
    assert "differs" in capsys.readouterr().out
    assert write(tmp_path) == ["old.yaml", "operator.yaml"]
    assert drift(tmp_path) == []


def test_nothing_is_granted_that_reaches_too_far() -> None:
    for role, rule in granted():
        where = f"{role['kind']} {role['metadata']['name']}: {rule}"
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], where
        assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"]), where
        if "secrets" in rule["resources"] and rule["verbs"] != ["create"]:
            assert rule.get("resourceNames"), where
        if role["kind"] == "ClusterRole":
            assert not {"secrets", "roles", "clusterroles"} & set(rule["resources"]), where
            if "leases" in rule["resources"]:
                assert rule["verbs"] == ["list"], where
                assert rule["resourceNames"], where


def test_every_rule_stands_under_its_reason() -> None:
    for name, text in rendered().items():
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("  - apiGroups:"):
                assert lines[number - 1].startswith("  # "), f"{name}:{number + 1}"


def test_every_role_is_bound_to_the_account_it_is_for() -> None:
    made = objects()
    for role in made:
        if role["kind"] not in ROLES or "app.kubernetes.io/component" not in role["metadata"]["labels"]:
            continue
        (binding,) = (
            each
            for each in made
            if each["kind"] == f"{role['kind']}Binding"
            and each["roleRef"]["name"] == role["metadata"]["name"]
        )
        (subject,) = binding["subjects"]
        account = f"kaito-{role['metadata']['labels']['app.kubernetes.io/component']}"
        assert (subject["name"], subject["namespace"]) == (account, roles.NAMESPACE)
        assert binding["metadata"].get("namespace") == role["metadata"].get("namespace")


def test_who_brings_the_nodes_himself_grants_nothing_but_a_look_at_claims() -> None:
    assert roles.claim_rights(NodeProvisioner.BYO) == ()
    (claims,) = {right.verbs for right in rules(roles.OPERATOR) if right.group == "karpenter.sh"}
    assert claims == ("list",)


def test_rights_on_the_same_objects_are_one_rule_with_all_reasons() -> None:
    (rule,) = rules(
        [
            Right.of(PODS, "watch", "list", why="To see."),
            Right.of(PODS, "delete", "list", why="To end."),
            Right.of(PODS, "list", why="To see."),
        ]
    )
    assert (rule.verbs, rule.why) == (("delete", "list", "watch"), "To see.\nTo end.")
    assert len(rules([*leader_rights("a"), *leader_rights("b")])) == 3


def test_a_right_says_what_it_is_for() -> None:
    with pytest.raises(ValueError, match="the reason"):
        Right.of(PODS, "get", why=" ")
    with pytest.raises(ValueError, match="needs verbs"):
        Right.of(PODS, why="To see.")
    with pytest.raises(ValueError, match="cannot be limited to names"):
        Right.of(LEASES, "get", "create", why="To lead.", names=("x",))
    right = Right.of(LEASES, "get", why="To lead.", names=("x",))
    assert right.covers("get", LEASES.group, "leases", "x")
    assert not right.covers("get", LEASES.group, "leases", "y")
    assert not right.covers("get", LEASES.group, "leases")
    assert right.qualified == "leases.coordination.k8s.io"
