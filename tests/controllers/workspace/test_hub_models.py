"""Models that only the hub knows: asked about once, kept in the status, and never asked about again."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import CATALOG, CONFIG, as_read, condition, decided, workspace
from controllers.workspace.cluster import cluster
from kaito.api.resources import MACHINES, WORKSPACES
from kaito.catalog import Catalog, Dimensions, Preset
from kaito.catalog.hub import ACCESS_DENIED, HubError
from kaito.catalog.hub.tensors import Held
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.admission import judge
from kaito.controllers.workspace.decide.hub_model import FACTS, known_preset
from kaito.controllers.workspace.hub_lookup import ModelLookup, token_in
from kaito.controllers.workspace.model import Answer, Need
from kaito.controllers.workspace.needs import NO_LOOKUP
from kaito.runtime.resources import DEPLOYMENTS, SECRETS
from kaito.runtime.testing import VirtualClock
from kaito.testing.faults import Answer as Refusal
from kaito.testing.faults import Match
from kaito.testing.memory_api import MemoryApi

ID = "acme/Writer-8B"
COMMIT = "5a1b" * 10
NEED = Need("model", ID)
IMAGE: dict[str, Any] = {"presetOptions": {"image": "registry.example.com/writer:1"}}
ENTRY = Preset(
    name="writer-8b",
    repo=ID,
    revision=COMMIT,
    architecture="LlamaForCausalLM",
    weights_gib=14.96,
    dimensions=Dimensions(hidden_size=4096, layers=32, attention_heads=32, key_value_heads=8),
    context_tokens=131072,
    runtimes=("vllm", "transformers"),
    dtype="bfloat16",
    image="kaito-base",
    tag="0.5.0",
    download=True,
    multi_node=True,
)
FACTS_OF_IT = {"id": ID, "revision": COMMIT, FACTS: ENTRY.model_dump(mode="json", exclude_defaults=True)}


def writer(name: str = ID, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = workspace(name, inference={"preset": {"name": name, **IMAGE, **more}})
    return found


def test_a_model_that_the_catalogue_does_not_have_is_asked_about_before_anything_is_bought() -> None:
    found = decided(as_read(writer()))
    assert found.needs == (NEED,)
    assert found.writes == ()
    assert found.status is not None
    assert found.status["reason"] == "ModelLookup"
    assert ID in condition(found.status, "ModelLookup")["message"]
    assert found.events == ()


def test_the_answer_is_stored_before_anything_follows_from_it() -> None:
    found = decided(replace(as_read(writer()), answers={NEED: Answer(FACTS_OF_IT)}))
    assert (found.writes, found.needs, found.requeue_after) == ((), (), 0.0)
    assert found.status is not None
    kept = found.status["resolved"]["model"]
    assert (kept["id"], kept["revision"]) == (ID, COMMIT)

    after = {**writer(), "status": found.status}
    assert known_preset(after, CATALOG) == ENTRY
    then = decided(as_read(after))
    assert then.needs == ()
    assert then.writes
    assert then.status is not None
    assert then.status["resolved"]["model"] == kept
    assert [each for each in then.status["conditions"] if each["type"] == "ModelLookup"] == []


def test_what_is_kept_is_for_the_model_that_the_spec_names() -> None:
    first = decided(replace(as_read(writer()), answers={NEED: Answer(FACTS_OF_IT)}))
    other = {**writer("acme/Other"), "status": first.status}
    assert known_preset(other, CATALOG) is None
    assert decided(as_read(other)).needs == (Need("model", "acme/Other"),)


def test_a_catalogue_that_has_learnt_the_model_does_not_move_one_that_runs() -> None:
    first = decided(replace(as_read(writer()), answers={NEED: Answer(FACTS_OF_IT)}))
    listed = ENTRY.model_copy(update={"revision": None, "weights_gib": 99.0})
    wider = Catalog(presets=(*CATALOG.presets, listed), skus=CATALOG.skus)
    assert known_preset({**writer(), "status": first.status}, wider) == ENTRY
    assert known_preset(writer(), wider) == listed


def test_facts_that_cannot_be_read_are_asked_for_again() -> None:
    first = decided(replace(as_read(writer()), answers={NEED: Answer(FACTS_OF_IT)}))
    assert first.status is not None
    first.status["resolved"]["model"][FACTS] = {"name": 7}
    assert decided(as_read({**writer(), "status": first.status})).needs == (NEED,)


@pytest.mark.parametrize(
    "reason", ["ModelNotFound", "ModelAccessDenied", "UnsupportedModel", "HubUnreachable", NO_LOOKUP]
)
def test_why_there_is_no_answer_is_a_condition_an_event_and_asked_again(reason: str) -> None:
    answer = Answer(reason=reason, message="the hub says no")
    found = decided(replace(as_read(writer()), answers={NEED: answer}))
    assert (found.needs, found.writes) == ((NEED,), ())
    assert found.status is not None
    assert condition(found.status, reason)["message"] == "inference.preset.name: the hub says no"
    assert condition(found.status, "ResourceReady")["reason"] == reason
    assert [each.reason for each in found.events] == [reason]
    again = decided(replace(as_read({**writer(), "status": found.status}), answers={NEED: answer}))
    assert again.status == found.status
    assert again.events == ()


def test_the_secret_and_the_commit_that_the_workspace_names_are_asked_with() -> None:
    options: dict[str, Any] = {"presetOptions": {**IMAGE["presetOptions"], "modelAccessSecret": "hub-token"}}
    assert decided(as_read(writer(**options))).needs == (Need("model", ID, secret="hub-token"),)
    pinned: dict[str, Any] = {"weights": {"huggingFace": ID.lower(), "revision": COMMIT}}
    assert decided(as_read(writer(**pinned))).needs == (Need("model", ID, COMMIT),)
    elsewhere: dict[str, Any] = {"weights": {"huggingFace": "me/mine", "revision": COMMIT}}
    assert decided(as_read(writer(**elsewhere))).needs == (NEED,)


@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "a/../b"])
def test_what_is_no_id_of_the_hub_is_not_asked_about(name: str) -> None:
    found = decided(as_read(writer(name)))
    assert found.needs == ()
    assert found.status is not None
    assert found.status["reason"] == "UnknownPreset"


def test_admission_lets_ids_of_the_hub_pass_and_says_that_it_asks() -> None:
    found = judge(writer(), CATALOG, CONFIG, {})
    assert found.refusals == ()
    assert "the hub is asked what it is" in " ".join(each.sentence for each in found.warnings)


UNPINNED = "Qwen/Qwen3-8B-AWQ"


def unpinned() -> dict[str, Any]:
    found: dict[str, Any] = workspace(UNPINNED)
    return found


def test_the_commit_of_weights_that_are_downloaded_is_asked_for_once() -> None:
    preset = CATALOG.preset(UNPINNED)
    assert preset is not None
    assert preset.revision is None
    need = Need("model", UNPINNED)
    assert decided(as_read(unpinned())).needs == (need,)
    facts = {"id": UNPINNED, "revision": COMMIT, FACTS: {"ignored": True}}
    found = decided(replace(as_read(unpinned()), answers={need: Answer(facts)}))
    assert found.status is not None
    assert FACTS not in found.status["resolved"]["model"]
    after = {**unpinned(), "status": found.status}
    assert known_preset(after, CATALOG) == preset.model_copy(update={"revision": COMMIT})
    assert decided(as_read(after)).needs == ()


def test_a_recorded_commit_is_kept_where_weights_are_downloaded_and_a_new_catalogue_does_not_move_it() -> (
    None
):
    name = "ministral-3-8b-instruct"
    given = workspace(name)
    listed = CATALOG.preset(name)
    assert listed is not None
    assert listed.revision is not None
    found = decided(as_read(given))
    assert found.needs == ()
    assert found.status is not None
    assert found.status["resolved"]["model"]["revision"] == listed.revision
    repinned = listed.model_copy(update={"revision": COMMIT})
    others = tuple(each for each in CATALOG.presets if each.name != listed.name)
    newer = Catalog(presets=(*others, repinned), skus=CATALOG.skus)
    assert known_preset({**given, "status": found.status}, newer) == listed
    assert known_preset(given, newer) == repinned


def test_a_commit_is_not_kept_where_the_image_has_the_weights() -> None:
    found = decided(as_read(workspace("phi-3-mini-4k-instruct")))
    assert found.status is not None
    assert "model" not in found.status["resolved"]


def test_without_a_hub_a_model_of_the_catalogue_is_served_all_the_same() -> None:
    need = Need("model", UNPINNED)
    answer = Answer(reason="HubUnreachable", message="no way out")
    found = decided(replace(as_read(unpinned()), answers={need: answer}))
    assert found.needs == (need,)
    assert found.status is not None
    assert found.status["reason"] != "HubUnreachable"


def test_what_runs_is_not_moved_to_another_commit() -> None:
    running = replace(as_read(unpinned()), deployment={"metadata": {"name": "phi"}})
    assert decided(running).needs == ()


GATED = HubError(ACCESS_DENIED, f"{ID} is gated")


class Models:
    """Stands for the hub's client."""

    def __init__(self, error: HubError | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, str | None, str | None]] = []

    async def preset(self, id: str, revision: str | None = None, token: str | None = None) -> Preset:
        self.asked.append((id, revision, token))
        if self.error is not None:
            raise self.error
        return ENTRY

    async def held(self, id: str, revision: str | None = None, token: str | None = None) -> Held:
        raise AssertionError("only weights are looked into")


def secret(name: str = "hub-token", **data: str) -> dict[str, Any]:
    encoded = {key.upper(): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": encoded}


async def test_the_token_of_the_secret_is_what_the_hub_is_asked_with(memory_api: MemoryApi) -> None:
    await memory_api.client().create(SECRETS, secret(hf_token="hf_red\n"))
    models = Models()
    lookup = ModelLookup(memory_api.client(), models)
    answer = await lookup(Need("model", ID, COMMIT, "hub-token"), "default")
    assert models.asked == [(ID, COMMIT, "hf_red")]
    assert answer == Answer(FACTS_OF_IT)
    assert "hf_red" not in str(answer)


async def test_what_is_public_needs_no_secret_that_can_be_read(memory_api: MemoryApi) -> None:
    models = Models()
    answer = await ModelLookup(memory_api.client(), models)(Need("model", ID, None, "hub-token"), "default")
    assert answer == Answer(FACTS_OF_IT)
    assert models.asked == [(ID, None, None)]


async def test_a_secret_that_is_not_there_or_has_no_token_is_named(memory_api: MemoryApi) -> None:
    lookup = ModelLookup(memory_api.client(), Models(GATED))
    missing = await lookup(Need("model", ID, None, "hub-token"), "default")
    assert (missing.reason, missing.message.split(";")[0]) == (
        ACCESS_DENIED,
        "Secret default/hub-token is not there",
    )
    await memory_api.client().create(SECRETS, secret(token="hf_red"))
    empty = await lookup(Need("model", ID, None, "hub-token"), "default")
    assert empty.message == "Secret default/hub-token has no token under the key HF_TOKEN"


async def test_a_secret_that_the_operator_may_not_read_says_how_to_let_it(memory_api: MemoryApi) -> None:
    memory_api.faults.add(Match(verb="get", resource="secrets"), Refusal(403, message="no"))
    answer = await ModelLookup(memory_api.client(), Models(GATED))(
        Need("model", ID, None, "hub-token"), "default"
    )
    assert answer.reason == ACCESS_DENIED
    assert "kubectl create role kaito-hub-token -n default --verb=get --resource=secrets" in answer.message


async def test_the_operators_own_token_serves_those_who_name_none(memory_api: MemoryApi) -> None:
    models = Models()
    lookup = ModelLookup(memory_api.client(), models, own_token="hf_own")
    await lookup(NEED, "red")
    await lookup(Need("model", ID, None, "not-there"), "default")
    assert [token for _, _, token in models.asked] == ["hf_own", "hf_own"]


async def test_a_gated_model_without_a_secret_says_which_field_names_one(memory_api: MemoryApi) -> None:
    models = Models(HubError(ACCESS_DENIED, f"{ID} is gated", retry_after=9.0))
    answer = await ModelLookup(memory_api.client(), models)(NEED, "red")
    assert answer.message == (
        f"{ID} is gated; inference.preset.presetOptions.modelAccessSecret names a Secret of this namespace whose key "
        "HF_TOKEN is a token"
    )
    assert answer.retry_after == 9.0


@pytest.mark.parametrize(
    "value", ["%%%", base64.b64encode(b"\xff\xfe").decode(), "", base64.b64encode(b"a\nb").decode(), 7]
)
def test_what_is_no_token_is_not_sent(value: object) -> None:
    assert token_in({"data": {"HF_TOKEN": value}}) is None


async def test_a_life_from_the_hub_to_ready_asks_once(virtual_clock: VirtualClock) -> None:
    asked: list[Need] = []

    async def hub(need: Need, namespace: str) -> Answer:
        asked.append(need)
        await virtual_clock.sleep(3)
        return Answer(FACTS_OF_IT) if len(asked) > 1 else Answer(reason="HubUnreachable", message="later")

    async with cluster(virtual_clock, WorkspaceConfig()) as world:
        world.lookups = {"model": hub}
        wire = world.wire()
        async with world.operator(wire):
            made = writer()
            body = {**made, "metadata": {"name": "phi", "namespace": "default"}}
            await world.client.create(WORKSPACES, body)
            await world.until(lambda: world.holds("ModelLookup"), "it says that it asks")
            await world.until(lambda: world.holds("HubUnreachable"), "it says that there is no answer")
            assert await world.names(MACHINES) == []
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
            assert not world.holds("HubUnreachable")
            assert len(asked) == 2
            assert world.status()["resolved"]["model"]["revision"] == COMMIT
            await virtual_clock.sleep(60)
            before = sum(wire.requests.values())
            await virtual_clock.sleep(3600)
            assert sum(wire.requests.values()) == before, "a settled world asks for nothing"
            assert len(asked) == 2
        async with world.operator(world.wire()):  # another operator reads what the first one kept
            await virtual_clock.sleep(60)
            assert len(asked) == 2
            assert world.holds("WorkspaceReady")
            assert await world.names(DEPLOYMENTS) == ["phi"]
