"""What keeps a Workspace from spending money on its first node, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.workspace.builders import (
    Object,
    adapter_status,
    alive,
    as_read,
    condition,
    decided,
    inline,
    kinds,
    refused,
    settled,
    step,
    with_adapter,
    workspace,
)
from kaito.controllers.workspace import Observed, WorkspaceConfig

TINY = WorkspaceConfig(stand_in_weights="tiny-phi-3")
REFERRED = {"adapterRef": {"name": "shared"}, "strength": "1.0"}
PLACEHOLDER = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
OTHERS_ADAPTER = alive({"metadata": {"name": "phi-pirate", "namespace": "default", "uid": "x"}, "spec": {}})
UNFIT = alive(
    {
        "metadata": {"name": "shared", "namespace": "default"},
        "spec": {"source": {"image": "r/a:1"}},
        "status": adapter_status(),
    }
)


@pytest.mark.parametrize(
    ("given", "adapters", "reason", "says", "told"),
    [
        (inline(PLACEHOLDER), {}, "AdapterPending", "before this is known: adapter pirate is being", False),
        (inline(), {"phi-pirate": OTHERS_ADAPTER}, "AdapterNameTaken", "before this is mended", True),
        (workspace(inference={"adapters": [REFERRED]}), {}, "AdapterNotFound", "no Adapter shared", True),
        (
            workspace(inference={"adapters": [REFERRED]}),
            {"shared": UNFIT},
            "AdapterDoesNotFit",
            "trained on tiny-phi-3",
            True,
        ),
        (workspace(inference={"config": "mine"}), {}, "ConfigMapNotFound", "no ConfigMap mine", True),
    ],
)
def test_no_first_node_is_bought_while_a_mistake_is_known(
    given: Object, adapters: dict[str, Object], reason: str, says: str, told: bool
) -> None:
    observed, decision = step(Observed(given, adapters=adapters))
    assert "Machine" not in kinds(decision)
    assert decision.requeue_after is None
    for type in ("NodeClaimReady", "NodesReady", "ResourceReady"):
        found = condition(decision.status, type)
        assert (found["status"], found["reason"]) == ("False", reason)
        assert says in found["message"]
    assert [event.reason for event in decision.events] == ([reason] if told else [])
    again = decided(observed)
    assert again.status is not None
    assert again.status["conditions"] == observed.workspace["status"]["conditions"]
    assert (again.writes, again.events) == ((), ())


def test_what_the_operator_was_told_about_an_illegal_reference_settles_it() -> None:
    """The demo maps the seed's placeholder: whether it is a mistake only the adapter controller knows."""
    observed, _ = step(Observed(inline(PLACEHOLDER)), TINY)
    broken = decided(with_adapter(observed, refused("InvalidImageReference", "write your registry")), TINY)
    assert kinds(broken) == []
    assert condition(broken.status, "ResourceReady")["message"].endswith("write your registry")
    mapped = decided(with_adapter(observed, adapter_status()), TINY)
    assert kinds(mapped) == ["Machine"]
    assert condition(mapped.status, "NodeClaimReady")["reason"] == "NodeClaimNotReady"


def test_no_node_is_bought_for_an_adapter_that_cannot_be_read() -> None:
    """No pod would be made on it."""
    observed, decision = step(Observed(inline()), TINY)
    assert kinds(decision) == ["Adapter", "Service"], "how many nodes there will be follows from its rank"
    assert condition(decision.status, "NodeClaimReady")["reason"] == "AdapterPending"
    unreadable = decided(with_adapter(observed, refused("Unreadable", "no answer")), TINY)
    assert kinds(unreadable) == []
    assert condition(unreadable.status, "NodeClaimReady")["message"].startswith(
        "no node is asked for before this is mended: adapter pirate: no answer"
    )
    read = decided(with_adapter(observed, adapter_status()), TINY)
    assert kinds(read) == ["Machine"]


def test_a_node_of_a_served_model_is_replaced_whatever_is_wrong_with_an_edit() -> None:
    observed = settled(workspace())
    edited = {**inline(PLACEHOLDER), "status": observed.workspace["status"]}
    decision = decided(replace(observed, workspace=edited, claims=()))
    assert kinds(decision) == ["Adapter", "Machine"]


def test_attempts_are_remembered_while_no_node_is_asked_for() -> None:
    observed, _ = step(Observed(workspace()))
    entries = [
        {"slot": 0, "attempt": 3, "claimName": "ws0", "state": "Failed", "failedAt": "2026-11-21T12:59:59Z"}
    ]
    edited = {**inline(PLACEHOLDER), "status": {"nodes": entries}}
    decision = decided(replace(observed, workspace=edited, claims=()))
    assert decision.status is not None
    assert decision.status["nodes"] == entries


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"source": {"name": "base", "image": "r/a:1"}}, "inference.adapters[0].source.name"),
        ({"adapterRef": {"name": "base"}}, "inference.adapters[0].adapterRef.name"),
    ],
)
def test_an_adapter_named_like_the_bare_model_is_refused_before_it_costs_anything(
    entry: Object, path: str
) -> None:
    decision = decided(as_read(workspace(inference={"adapters": [entry]})))
    assert decision.writes == ()
    assert condition(decision.status, "InvalidSpec")["message"].startswith(f"{path}: ")
