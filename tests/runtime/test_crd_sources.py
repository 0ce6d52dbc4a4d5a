"""Where CustomResourceDefinitions may come from, and what is said when there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.runtime.crd import manifests

CRD = "kind: CustomResourceDefinition\nmetadata: {name: NAME}\n"


class Written:
    """What a CustomResource looks like from here."""

    def manifest(self) -> dict[str, object]:
        return {"kind": "CustomResourceDefinition", "metadata": {"name": "written"}}


def test_objects_manifests_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "a.yaml").write_text(CRD.replace("NAME", "a") + "---\nkind: Namespace\n---\n")
    (tmp_path / "deep" / "er" / "b.json").write_text(
        '{"kind": "CustomResourceDefinition", "metadata": {"name": "b"}}'
    )
    (tmp_path / "deep" / "readme.md").write_text("{")
    found = {
        source: [each["metadata"]["name"] for each in manifests(source, tmp_path)]
        for source in ("deep", "deep/a.yaml", tmp_path / "deep" / "er")
    }
    assert found == {"deep": ["a", "b"], "deep/a.yaml": ["a"], tmp_path / "deep" / "er": ["b"]}
    assert manifests(Written(), tmp_path) == [Written().manifest()]
    assert manifests(Written().manifest(), tmp_path) == [Written().manifest()]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("absent.yaml", r"absent\.yaml: No such file or directory"),
        ("folder", r"folder/: no CustomResourceDefinition in it, but nothing"),
        ("pod.yaml", r"pod\.yaml: no CustomResourceDefinition in it, but Pod"),
        ("broken.yaml", r"broken\.yaml is no YAML"),
        ("empty.yaml", "but nothing"),
        ({"kind": "Pod"}, "the manifest given: .* but Pod"),
        ({"kind": "CustomResourceDefinition", "metadata": {}}, r"without metadata\.name"),
        (7, "7 is no source of"),
    ],
)
def test_what_is_none_is_said(tmp_path: Path, source: object, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "pod.yaml").write_text("kind: Pod\n")
    (tmp_path / "broken.yaml").write_text("{")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ValueError, match=words):
        manifests(source, tmp_path)  # type: ignore[arg-type]
