"""Nothing that a user writes can become structure, and no template may miss a value."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kaito.controllers.workspace.render as module
from controllers.workspace.builders import Object, decided, provisioned, step, workspace
from kaito.controllers.workspace import Observed
from kaito.controllers.workspace.render import render

TEMPLATES = Path(module.__file__).parent / "templates"
NASTY = [
    "plain",
    'a"b',
    "a: b\nc: d",
    "{{ 7 * 7 }}",
    "{% include 'pod.yaml.j2' %}",
    "- x # y",
    "& * ! | > ' % @ `",
    "tab\tnl\nnul\x00del\x7fnel\x85ls\u2028ps\u2029bom\ufeff",
    "emoji \U0001f600 und Umlaut ü",
    "null",
    "1e3",
    "</script>&amp;",
    "__1__",
    "",
]


def deployment(text: str) -> Object:
    """A Deployment with the text in every place where one can be."""
    workspace = {"name": text, "namespace": text, "owner_references": [{"uid": text}]}
    return render(
        "deployment",
        {"workspace": workspace, "workload": {"replicas": 1, "deadline": 600, "pod": {text: [text]}}},
    )


@given(st.one_of(st.sampled_from(NASTY), st.text(alphabet=st.characters(exclude_categories=("Cs",)))))
def test_any_text_stays_a_text(text: str) -> None:
    body = deployment(text)
    assert sorted(body) == ["apiVersion", "kind", "metadata", "spec"]
    assert body["metadata"] == {
        "name": text,
        "namespace": text,
        "labels": {"kaito.sh/workspace": text},
        "ownerReferences": [{"uid": text}],
    }
    assert body["spec"]["selector"] == {"matchLabels": {"kaito.sh/workspace": text}}
    assert body["spec"]["template"] == {text: [text]}


def test_half_a_character_is_refused() -> None:
    with pytest.raises(TypeError, match="surrogate"):
        deployment("\ud800")


def test_manifests_of_one_shape_share_nothing() -> None:
    first, second = deployment("one"), deployment("two")
    first["spec"]["strategy"]["type"] = "Recreate"
    assert second["spec"]["strategy"]["type"] == "RollingUpdate"
    assert deployment("one")["spec"]["strategy"]["type"] == "RollingUpdate"
    assert second["metadata"]["name"] == "two"


def test_a_text_that_looks_like_a_slot_is_a_text() -> None:
    assert deployment("__0__")["spec"]["template"] == {"__0__": ["__0__"]}


@pytest.mark.parametrize("text", [each for each in NASTY if each])
def test_a_users_texts_do_not_break_out_of_a_manifest(text: str) -> None:
    entry = {"source": {"name": "pirate", "image": text, "imagePullSecrets": [text]}, "strength": text}
    resource = {"labelSelector": {"matchLabels": {"key": text}}}
    bodies: dict[str, Object] = {}
    for inference in ({"adapters": [entry]}, {}):  # the first one's image is no legal reference: no Machine
        _, decision = step(Observed(workspace(inference=inference, resource=resource)))
        bodies |= {write.resource.kind: write.body for write in decision.writes}
    assert sorted(bodies) == ["Adapter", "Machine", "Service"]
    assert bodies["Adapter"]["spec"]["source"] == entry["source"]
    assert bodies["Machine"]["metadata"]["labels"]["key"] == text
    assert sorted(bodies["Machine"]["spec"]) == ["machineTemplateRef", "requirements", "resources", "taints"]


def test_a_users_template_arrives_unchanged() -> None:
    template: Object = {
        "metadata": {"labels": {"mine": "yes"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [{"name": "c", "image": "i", "env": [{"name": "X", "value": "{{ 1 }}\n- y"}]}],
            "tolerations": [{"key": "mine", "operator": "Exists"}],
            "affinity": {
                "podAntiAffinity": {"x": 1},
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
                        ]
                    }
                },
            },
        },
    }
    observed, _ = step(Observed(workspace(None, inference={"template": template})))
    decision = decided(provisioned(observed))
    pod = decision.writes[-1].body["spec"]["template"]
    assert pod["metadata"]["labels"] == {"mine": "yes", "kaito.sh/workspace": "phi"}
    assert pod["metadata"]["annotations"] == {"a": "b"}
    assert pod["spec"]["containers"] == template["spec"]["containers"]
    added = ["nvidia.com/gpu", "sku", "kubernetes.azure.com/scalesetpriority"]
    assert [each["key"] for each in pod["spec"]["tolerations"]] == ["mine", *added]
    assert pod["spec"]["affinity"]["podAntiAffinity"] == {"x": 1}
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert [each["key"] for each in terms[0]["matchExpressions"]] == [
        "zone",
        "apps",
        "kaito.sh/workspace",
        "kaito.sh/workspacenamespace",
    ]
    assert len(terms[1]["matchExpressions"]) == 3
    assert terms[1]["matchFields"]


@pytest.mark.parametrize(
    "template", sorted(path.name.removesuffix(".yaml.j2") for path in TEMPLATES.iterdir())
)
def test_a_missing_value_is_an_error(template: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render(template, {})
