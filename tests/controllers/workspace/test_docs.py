"""What users can look up is what the controller writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kaito.controllers.workspace import act
from kaito.controllers.workspace.decide import status

PAGE_FOLDER = Path(__file__).parents[3] / "docs"
PAGE = (PAGE_FOLDER / "workspace-status.md").read_text()
SOURCE = "\n".join(path.read_text() for path in Path(status.__file__).parent.glob("*.py"))


def test_every_condition_and_reason_is_explained() -> None:
    types = {value for name, value in vars(status).items() if name.isupper() and isinstance(value, str)}
    reasons = set(
        re.findall(r'(?:Problem|AdapterUse|_problem)\(\s*(?:wanted,\s*"\w+",\s*)?"([A-Z]\w+)"', SOURCE)
    )
    reasons |= set(re.findall(r'Problem\.at\(\s*[^,]+,\s*"([A-Z]\w+)"', SOURCE))
    assert len(reasons) > 15
    missing = sorted(name for name in types | reasons | set(status.PROBLEM_CONDITIONS) if name not in PAGE)
    assert missing == ["Fits", "JobStarted"], "JobStarted belongs to tuning; Fits is no complaint"


def test_figures_are_those_of_the_code() -> None:
    from kaito.controllers.workspace.config import WorkspaceConfig
    from kaito.controllers.workspace.decide import deletion, slots

    assert f"every {WorkspaceConfig().status_interval:g} seconds" in PAGE
    assert f"after {slots.FIRST_RETRY:g} s, doubling up to {slots.LAST_RETRY / 60:g} min" in PAGE
    assert f"within {deletion.PATIENCE / 60:g} minutes" in PAGE
    assert {403, 422} <= act.REFUSALS


def test_the_way_back_to_go_kaito_takes_away_every_field_that_it_does_not_know() -> None:
    from kaito.api.workspace_status import WorkspaceStatus

    known = {"conditions", "state", "workerNodes", "targetNodeCount", "performance"}
    ours = {field.alias or name for name, field in WorkspaceStatus.model_fields.items()} - known
    guide = (PAGE_FOLDER / "from-go-kaito.md").read_text()
    patch = re.search(r"-p '(\{\"status\".*\})'", guide)
    assert patch is not None
    assert json.loads(patch.group(1)) == {"status": dict.fromkeys(ours)}
