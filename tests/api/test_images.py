"""Docker's reference grammar."""

from __future__ import annotations

import pytest

from kaito.api.images import ImageReference, InvalidImageReference, parse_image_reference, placeholders

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("curl", ImageReference("docker.io", "library/curl")),
        ("curlimages/curl", ImageReference("docker.io", "curlimages/curl")),
        ("localhost/kaito/kaito-phi:1", ImageReference("localhost", "kaito/kaito-phi", "1")),
        ("localhost:5000/a", ImageReference("localhost:5000", "a")),
        ("my.azurecr.io/a_b/c--d__e.f:v1.0", ImageReference("my.azurecr.io", "a_b/c--d__e.f", "v1.0")),
        ("UPPER/x", ImageReference("UPPER", "x")),
        ("[::1]:5000/x:TAG", ImageReference("[::1]:5000", "x", "TAG")),
        (f"x/y:1@sha256:{HEX}", ImageReference("docker.io", "x/y", "1", f"sha256:{HEX}")),
    ],
)
def test_valid_references(text: str, parsed: ImageReference) -> None:
    assert parse_image_reference(text) == parsed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("a//b", "is empty"),
        ("a/", "is empty"),
        ("Adapter", "repository names are lower case"),
        ("x.io/Repo:1", "repository names are lower case, 'Repo' is not"),
        ("x.io/a:", "the tag ''"),
        ("x.io/a:b:c", "the tag"),
        ("x.io/a:-x", "the tag '-x'"),
        (f"x.io/a:{'t' * 129}", "the tag"),
        ("x.io/a___b", "may only hold lower-case letters"),
        ("x.io/-a", "may only hold lower-case letters"),
        ("a b", "may only hold lower-case letters"),
        ("-x.io/a", "no host name"),
        ("x_y.io/a", "no host name"),
        ("x.io/a@sha256:abc", "the digest"),
        (f"x.io/{'a' * 300}", "longer than 255"),
        ("https://x.io/a:1", "no host name"),
    ],
)
def test_invalid_references_say_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidImageReference, match="is no image reference") as caught:
        parse_image_reference(text)
    assert problem in str(caught.value)
    assert "write REGISTRY/NAME:TAG" in str(caught.value)


def test_placeholders_of_the_examples_are_named() -> None:
    with pytest.raises(InvalidImageReference) as caught:
        parse_image_reference("ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1")
    assert str(caught.value) == (
        '"ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1" still holds the placeholder ACR_REPO_HERE; write your '
        "registry's name (and for ADAPTER_HERE the name of your image, in lower case)"
    )
    assert placeholders("ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE:1") == ["ACR_REPO_HERE", "IMAGE_NAME_HERE"]
    assert placeholders("where.io/there") == []


def test_a_reference_reads_back() -> None:
    text = f"my.azurecr.io/a/b:1@sha256:{HEX}"
    assert str(parse_image_reference(text)) == text
