"""What somebody writes into a Workspace's annotations stays there."""

from __future__ import annotations

import orjson

from admission.cases import CATALOG
from controllers.workspace.builders import NOW, stored
from controllers.workspace.builders import workspace as named
from kaito.controllers.workspace import Observed, WorkspaceConfig, decide


def test_children_do_not_inherit_annotations() -> None:
    """An API server takes 256 KiB of them; a child with as many beside its own would be refused."""
    notes = {f"example.com/note-{index}": "x" * 25_000 for index in range(10)}
    given = stored(named(annotations=notes))
    given["inference"]["adapters"] = [{"source": {"name": "a", "image": "registry.example/a:1"}}]
    decision = decide(Observed(given), CATALOG, WorkspaceConfig(), NOW)
    assert [write.resource.kind for write in decision.writes]
    for write in decision.writes:
        assert len(orjson.dumps(write.body)) < 20_000
    assert decision.status is not None
    assert len(orjson.dumps(decision.status)) < 20_000
