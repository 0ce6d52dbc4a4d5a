"""Server-side apply: what is set, what is removed, who owns what, and when it is a conflict."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kaito.embedded.apiserver.patching.apply import LAST_APPLIED
from kaito.embedded.apiserver.patching.typed import check_applied
from kaito.embedded.apiserver.strategy import MergeSchema
from kaito.runtime.errors import BadRequest, Conflict, InternalError
from support.applying import ANY, T0, T1, T2, apply, deployment, fields, update, with_containers


def test_applied_fields_are_listed_without_the_system_fields() -> None:
    obj = apply(
        None,
        with_containers({"name": "c", "image": "i", "ports": [{"containerPort": 80}], "args": ["x"]})
        | {"metadata": {"name": "d", "namespace": "n", "labels": {"l": "1"}}},
    )
    assert fields(obj, "a") == {
        "f:metadata": {"f:labels": {"f:l": {}}},
        "f:spec": {
            "f:template": {
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"c"}': {
                            ".": {},
                            "f:args": {},
                            "f:image": {},
                            "f:name": {},
                            "f:ports": {
                                'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
                            },
                        }
                    }
                }
            }
        },
    }
    assert obj["metadata"]["managedFields"][0] | {"fieldsV1": None} == {
        "manager": "a",
        "operation": "Apply",
        "apiVersion": "apps/v1",
        "time": T1,
        "fieldsType": "FieldsV1",
        "fieldsV1": None,
    }


def test_an_update_lists_new_containers_of_fields_too() -> None:
    obj = update(
        None,
        with_containers({"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}]})
        | {"metadata": {"name": "d", "labels": {"l": "1"}}},
        "kubectl-create",
    )
    assert fields(obj, "kubectl-create", "Update") == {
        "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
        "f:spec": {
            "f:template": {
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"c"}': {
                            ".": {},
                            "f:name": {},
                            "f:ports": {
                                ".": {},
                                'k:{"containerPort":80,"protocol":"TCP"}': {
                                    ".": {},
                                    "f:containerPort": {},
                                    "f:protocol": {},
                                },
                            },
                        }
                    }
                }
            }
        },
    }


def test_applying_the_same_again_changes_nothing() -> None:
    first = apply(None, deployment(replicas=1))
    assert apply(first, deployment(replicas=1), now=T2) == first


def test_a_field_no_longer_applied_is_removed() -> None:
    first = apply(None, deployment(replicas=1, paused=True))
    second = apply(first, deployment(replicas=1), now=T2)
    assert second["spec"] == {"replicas": 1}
    assert second["metadata"]["managedFields"][0]["time"] == T2


def test_an_emptied_map_goes_with_its_last_field() -> None:
    base = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"x": "1"}}}
    second = apply(apply(None, base), {**base, "metadata": {"name": "d"}})
    assert "labels" not in second["metadata"]


def test_a_field_somebody_else_set_too_stays() -> None:
    first = apply(None, deployment(replicas=1), "a")
    shared = apply(first, deployment(replicas=1), "b")
    assert fields(shared, "a") == fields(shared, "b") == {"f:spec": {"f:replicas": {}}}
    left = apply(shared, deployment(), "a")
    assert left["spec"] == {"replicas": 1}
    assert fields(left, "a") is None or "f:replicas" not in fields(left, "a").get("f:spec", {})


def test_a_conflict_names_manager_and_field() -> None:
    first = apply(None, deployment(replicas=1), "a")
    with pytest.raises(Conflict) as caught:
        apply(first, deployment(replicas=2), "b")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "a": .spec.replicas'
    assert caught.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "a"', "field": ".spec.replicas"}
    ]


def test_several_conflicts_are_grouped_by_manager() -> None:
    first = apply(None, with_containers({"name": "c", "image": "1", "tty": True}), "a")
    second = update(first, {**first, "spec": {**first["spec"], "replicas": 3}}, "u", now=T2)
    wanted = with_containers({"name": "c", "image": "2", "tty": False})
    wanted["spec"]["replicas"] = 4
    with pytest.raises(Conflict) as caught:
        apply(second, wanted, "b")
    assert caught.value.message == (
        'Apply failed with 3 conflicts: conflicts with "a":\n'
        '- .spec.template.spec.containers[name="c"].image\n'
        '- .spec.template.spec.containers[name="c"].tty\n'
        f'conflicts with "u" using apps/v1 at {T2}:\n'
        "- .spec.replicas"
    )


def test_force_takes_the_field_over() -> None:
    first = apply(None, deployment(replicas=1, paused=True), "a")
    second = apply(first, deployment(replicas=2), "b", force=True)
    assert second["spec"]["replicas"] == 2
    assert fields(second, "a") == {"f:spec": {"f:paused": {}}}
    assert fields(second, "b") == {"f:spec": {"f:replicas": {}}}


def test_an_update_takes_fields_without_asking() -> None:
    first = apply(None, deployment(replicas=1, paused=True), "a")
    second = update(first, {**first, "spec": {"replicas": 5, "paused": True}}, "scaler")
    assert fields(second, "a") == {"f:spec": {"f:paused": {}}}
    assert fields(second, "scaler", "Update") == {"f:spec": {"f:replicas": {}}}


def test_an_update_that_removes_a_field_removes_its_owners() -> None:
    first = apply(None, deployment(replicas=1, paused=True), "a")
    second = update(first, {**first, "spec": {"paused": True}}, "u")
    assert fields(second, "a") == {"f:spec": {"f:paused": {}}}
    assert fields(second, "u", "Update") is None


def test_list_elements_are_matched_by_key_whatever_their_place() -> None:
    first = apply(None, with_containers({"name": "one", "image": "1"}, {"name": "two", "image": "2"}), "a")
    second = apply(first, with_containers({"name": "three", "image": "3"}), "b")
    containers = second["spec"]["template"]["spec"]["containers"]
    assert sorted(item["name"] for item in containers) == ["one", "three", "two"]
    third = apply(second, with_containers({"name": "two", "image": "2"}), "a")
    assert [item["name"] for item in third["spec"]["template"]["spec"]["containers"]] == ["two", "three"]


def test_the_applied_order_wins() -> None:
    one, two = {"name": "one", "image": "1"}, {"name": "two", "image": "2"}
    second = apply(apply(None, with_containers(one, two)), with_containers(two, one))
    assert second["spec"]["template"]["spec"]["containers"] == [two, one]


def test_a_defaulted_key_is_filled_in() -> None:
    """protocol is TCP when left out: an element of live that has it is the same element."""
    live = apply(
        None, with_containers({"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}]}), "a"
    )
    second = apply(
        live, with_containers({"name": "c", "ports": [{"containerPort": 80, "name": "http"}]}), "a"
    )
    ports = second["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert ports == [{"containerPort": 80, "protocol": "TCP", "name": "http"}] or ports == [
        {"containerPort": 80, "name": "http"}
    ]


def test_removing_an_element_takes_its_defaults_along() -> None:
    live = apply(None, with_containers({"name": "one", "image": "1"}, {"name": "two", "image": "2"}))
    for container in live["spec"]["template"]["spec"]["containers"]:
        container["imagePullPolicy"] = "Always"
    second = apply(live, with_containers({"name": "one", "image": "1"}))
    assert second["spec"]["template"]["spec"]["containers"] == [
        {"name": "one", "image": "1", "imagePullPolicy": "Always"}
    ]


def test_an_element_with_a_part_that_is_anothers_stays() -> None:
    live = apply(None, with_containers({"name": "one", "image": "1"}, {"name": "two", "image": "2"}), "a")
    shared = apply(live, with_containers({"name": "two", "tty": True}), "b")
    second = apply(shared, with_containers({"name": "one", "image": "1"}), "a")
    assert second["spec"]["template"]["spec"]["containers"] == [
        {"name": "one", "image": "1"},
        {"name": "two", "tty": True},
    ]


@pytest.mark.parametrize("label", ["selector", "strategy"])
def test_atomic_objects_are_replaced_as_a_whole(label: str) -> None:
    one = {"selector": {"matchLabels": {"a": "1"}}, "strategy": {"type": "Recreate"}}
    two = {"selector": {"matchLabels": {"b": "2"}}, "strategy": {"type": "Recreate"}}
    live = apply(None, deployment(**one))
    result = apply(live, deployment(**two))
    assert result["spec"][label] == two[label]
    assert fields(result, "a")["f:spec"]["f:selector"] == {}


def test_sets_merge_by_value() -> None:
    base = {"apiVersion": "apps/v1", "kind": "Deployment"}
    one = apply(None, {**base, "metadata": {"name": "d", "finalizers": ["x/1", "x/2"]}}, "a")
    two = apply(one, {**base, "metadata": {"name": "d", "finalizers": ["x/3"]}}, "b")
    assert sorted(two["metadata"]["finalizers"]) == ["x/1", "x/2", "x/3"]
    assert fields(two, "b") == {"f:metadata": {"f:finalizers": {'v:"x/3"': {}}}}
    three = apply(two, {**base, "metadata": {"name": "d", "finalizers": ["x/2"]}}, "a")
    assert sorted(three["metadata"]["finalizers"]) == ["x/2", "x/3"]


def test_status_and_spec_of_one_manager_are_apart() -> None:
    live = apply(None, deployment(replicas=1), "a", reset_fields=(("status",),))
    status = {**deployment(), "status": {"replicas": 1}}
    second = apply(live, status, "a", subresource="status", reset_fields=(("spec",),))
    assert [entry.get("subresource", "") for entry in second["metadata"]["managedFields"]] == ["", "status"]
    third = update(second, {**second, "status": {"replicas": 2}}, "k", subresource="status")
    assert fields(third, "k", "Update") == {"f:status": {"f:replicas": {}}}
    assert third["spec"] == {"replicas": 1}


def test_what_a_verb_ignores_is_not_owned() -> None:
    obj = apply(None, {**deployment(replicas=1), "status": {"replicas": 9}}, reset_fields=(("status",),))
    assert fields(obj, "a") == {"f:spec": {"f:replicas": {}}}


def test_an_object_nobody_tracked_belongs_to_before_first_apply() -> None:
    live = {**deployment(replicas=1), "metadata": {"name": "d"}}
    with pytest.raises(Conflict, match="before-first-apply"):
        apply(live, deployment(replicas=2))
    forced = apply(live, deployment(replicas=2), force=True)
    assert fields(forced, "a") == {"f:spec": {"f:replicas": {}}}


def test_kubectl_may_move_from_client_side_apply() -> None:
    """kubectl rewrites managedFields by a JSON patch; what it sends is taken as it is."""
    live = update(None, deployment(replicas=1), "kubectl-client-side-apply")
    rewritten = copy.deepcopy(live)
    rewritten["metadata"]["managedFields"] = [
        {
            "manager": "kubectl",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": T0,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
    ]
    stored = update(live, rewritten, "kubectl-patch", now=T2)
    assert stored["metadata"]["managedFields"] == rewritten["metadata"]["managedFields"]


def test_conflicts_that_kubectl_made_itself_are_none() -> None:
    annotated = deployment(replicas=1)
    annotated["metadata"]["annotations"] = {LAST_APPLIED: '{"spec":{"replicas":1}}'}
    live = update(None, annotated, "kubectl-client-side-apply")
    second = apply(live, deployment(replicas=2), "kubectl")
    assert second["spec"]["replicas"] == 2
    assert '"replicas":2' in second["metadata"]["annotations"][LAST_APPLIED]
    with pytest.raises(Conflict):
        apply(live, deployment(replicas=2), "somebody-else")


@pytest.mark.parametrize("sent", [[], [{}]])
def test_emptying_managed_fields_ends_the_tracking(sent: list[Any]) -> None:
    live = update(None, deployment(replicas=1))
    reset = copy.deepcopy(live)
    reset["metadata"]["managedFields"] = sent
    stored = update(live, reset)
    assert "managedFields" not in stored["metadata"]
    assert "managedFields" not in update(stored, deployment(replicas=2))["metadata"]


def test_an_update_keeps_its_time_when_it_comes_to_own_nothing_more() -> None:
    live = update(None, deployment(replicas=1), now=T0)
    again = update(live, {**live, "spec": {"replicas": 2}}, now=T2)
    assert again["metadata"]["managedFields"][0]["time"] == T0
    more = update(again, {**again, "spec": {"replicas": 2, "paused": True}}, now=T2)
    assert more["metadata"]["managedFields"][0]["time"] == T2


def test_old_updaters_are_joined() -> None:
    live = update(
        None, deployment(**{f"f{number}": number for number in range(15)}), "u0", schema=ANY, now=T0
    )
    for number in range(1, 15):
        spec = {**live["spec"], f"f{number}": -1}
        live = update(
            live, {**live, "spec": spec}, f"u{number:02}", schema=ANY, now=f"2026-01-01T00:01:{number:02}Z"
        )
    managers = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert len(managers) == 10
    assert "ancient-changes" in managers
    assert managers[-1] == "u14"


def test_an_element_without_its_key_is_refused() -> None:
    # Keys of builtin lists have a default, so a container without a name is one named "".
    items = MergeSchema("object", fields={"k": MergeSchema("scalar"), "v": MergeSchema("scalar")})
    schema = MergeSchema(
        "object", fields={"l": MergeSchema("list", items=items, list_type="map", keys=("k",))}
    )
    with pytest.raises(
        InternalError, match="element 0: associative list with keys has an element that omits key"
    ):
        check_applied({"l": [{"v": "x"}]}, schema)


def test_an_element_twice_is_refused() -> None:
    with pytest.raises(InternalError, match="duplicate entries for key"):
        apply(None, with_containers({"name": "x"}, {"name": "x"}))


def test_another_version_is_refused() -> None:
    live = apply(None, deployment())
    with pytest.raises(BadRequest, match="Incorrect version"):
        apply(live, {**deployment(), "apiVersion": "apps/v1beta1"})


def test_an_empty_applied_map_is_owned_and_no_conflict() -> None:
    live = update(None, {**deployment(), "metadata": {"name": "d", "labels": {"x": "1"}}})
    result = apply(live, {**deployment(), "metadata": {"name": "d", "labels": {}}})
    assert result["metadata"]["labels"] == {"x": "1"}
