"""What holds for every pod that serves a preset, whatever the model and the machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.workspace.builders import CATALOG, Object
from controllers.workspace.test_golden import CASES
from kaito.catalog import Preset
from kaito.controllers.workspace.decide import podparts

ROOT = Path(__file__).parents[3]
OURS = sorted(set(CASES) - {"template", "template-copies", "seed-tuning"})
IMAGES = sorted(file for file in ROOT.glob("images/*/Dockerfile") if "\nFROM ${BASE}" in file.read_text())
PRESETS = st.sampled_from(CATALOG.presets)


def pod_of(name: str) -> Object:
    """The pod that serves; the first of those that only look."""
    bodies = CASES[name]()
    served = [body["spec"]["template"] for body in bodies if body["kind"] in ("Deployment", "StatefulSet")]
    (pod,) = served or [body for body in bodies if body["kind"] == "Pod"][:1]
    return pod  # type: ignore[no-any-return] # a manifest


def containers(pod: Object) -> Iterator[Object]:
    yield from pod["spec"].get("initContainers") or ()
    yield from pod["spec"]["containers"]


@pytest.mark.parametrize("name", OURS)
def test_pods_meet_the_restricted_pod_security_standard(name: str) -> None:
    spec = pod_of(name)["spec"]
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for container in containers(pod_of(name)):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


@pytest.mark.parametrize("name", OURS)
def test_every_container_can_write_somewhere_and_mounts_only_what_is_there(name: str) -> None:
    pod = pod_of(name)
    volumes = [each["name"] for each in pod["spec"]["volumes"]]
    assert len(volumes) == len(set(volumes))
    for container in containers(pod):
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert len(mounts) == len(container["volumeMounts"])
        assert mounts["/tmp"] == {"name": "tmp", "mountPath": "/tmp"}
        assert {each["name"] for each in mounts.values()} <= set(volumes)


@pytest.mark.parametrize("name", OURS)
def test_no_variable_of_another_service_reaches_the_server(name: str) -> None:
    assert pod_of(name)["spec"]["enableServiceLinks"] is False
    assert pod_of(name)["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", OURS)
def test_what_computes_on_gpus_has_shared_memory(name: str) -> None:
    (container,) = pod_of(name)["spec"]["containers"]
    gpus = container["resources"].get("limits")
    shared = [each for each in pod_of(name)["spec"]["volumes"] if each["name"] == "dshm"]
    assert bool(gpus) == bool(shared)
    assert gpus is None or gpus == {
        key: value for key, value in container["resources"]["requests"].items() if "/" in key
    }


def test_only_pods_that_are_not_alone_linger_before_they_stop() -> None:
    lingering = {name for name in OURS if "lifecycle" in pod_of(name)["spec"]["containers"][0]}
    assert lingering == {"copies"}
    spec = pod_of("copies")["spec"]
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    assert (
        spec["terminationGracePeriodSeconds"] == pod_of("v100")["spec"]["terminationGracePeriodSeconds"] + 5
    )


def test_the_server_ends_by_itself_before_it_is_killed() -> None:
    tree = ast.parse((ROOT / "presets/src/kaito_presets/server/run.py").read_text())
    (seconds,) = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "DRAIN_SECONDS"
        and isinstance(node.value, ast.Constant)
    ]
    assert isinstance(seconds, int)
    assert 0 < seconds < podparts.DRAIN


def test_copies_are_spread_and_parts_of_one_model_are_kept_together() -> None:
    copies, parts, one = (pod_of(name)["spec"] for name in ("copies", "distributed", "v100"))
    assert {each["topologyKey"] for each in copies["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert {each["whenUnsatisfiable"] for each in copies["topologySpreadConstraints"]} == {"ScheduleAnyway"}
    assert "topologySpreadConstraints" not in parts
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in parts["affinity"]["podAffinity"]
    assert "podAffinity" not in one["affinity"]
    assert "nodeAffinity" in parts["affinity"]
    assert "topologySpreadConstraints" not in one


def test_each_part_of_one_model_knows_which_it_is() -> None:
    (container,) = pod_of("distributed")["spec"]["containers"]
    source = container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"]
    assert (container["env"][0]["name"], source) == (
        "POD_INDEX",
        "metadata.labels['apps.kubernetes.io/pod-index']",
    )


def test_a_users_own_pods_keep_what_they_say_and_get_only_our_labels_and_tolerations() -> None:
    pod = pod_of("template-copies")
    spec = pod["spec"]
    assert pod["metadata"] == {
        "labels": {"app": "mine", "kaito.sh/workspace": "phi"},
        "annotations": {"team": "a"},
    }
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"][0] == {"key": "mine", "operator": "Exists"}
    assert [each["name"] for each in spec["containers"]] == ["mine", "beside"]
    assert spec.keys() == {"nodeSelector", "tolerations", "containers", "affinity"}


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.parent.name)
def test_images_run_as_the_user_of_the_pods_and_write_where_they_may(file: Path) -> None:
    assert len(IMAGES) >= 4
    text = file.read_text()
    assert re.search(rf"^USER {podparts.USER}:{podparts.USER}$", text, re.MULTILINE)
    assert re.search(rf"\bHOME={podparts.SCRATCH}\b", text)


@given(PRESETS, PRESETS)
def test_larger_models_never_get_less_time(one: Preset, other: Preset) -> None:
    small, large = sorted((one, other), key=lambda preset: preset.weights_gib or 0)
    assert 1800 <= podparts.startup_seconds(small) <= podparts.startup_seconds(large) <= 10800
    assert podparts.rollout_seconds(large) > podparts.startup_seconds(large)


@pytest.mark.parametrize(
    ("gib", "seconds"), [(None, 1800), (7.1, 1800), (100.0, 2700), (131.4, 3266), (700.0, 10800)]
)
def test_how_long_a_model_may_take_to_start(gib: float | None, seconds: int) -> None:
    """15 minutes and 18 seconds for each GiB, between half an hour and three hours."""
    preset = CATALOG.presets[0].model_copy(update={"weights_gib": gib})
    assert podparts.startup_seconds(preset) == seconds


def test_a_model_without_gpu_asks_for_the_memory_of_its_weights() -> None:
    phi = CATALOG.preset("phi-3-mini-4k-instruct")
    assert phi is not None
    assert phi.weights_gib is not None
    assert podparts.memory_mib(phi) == 1024
    on_cpu = podparts.memory_mib(phi.model_copy(update={"gpus": 0}))
    assert on_cpu > 1024 + phi.weights_gib * 1024
