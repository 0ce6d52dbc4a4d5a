"""The admission webhook of Adapters: their contents are checked when they are made, not only when they change."""

from __future__ import annotations

from collections.abc import Mapping

from kaito.api.adapter import Adapter
from kaito.api.views import check
from kaito.controllers.admission import Admission, Finding, Findings, Object, image_warnings, mapping

BLOCKS = ("spec",)
"""What a user writes of an Adapter, metadata aside."""


def adapter_admission(images: Mapping[str, object]) -> Admission:
    """The handler. `images` are references that the operator was told the meaning of."""
    return Admission(BLOCKS, lambda adapter: judge(adapter, images))


def judge(adapter: Object, images: Mapping[str, object]) -> Findings:
    """Everything about one Adapter. Pure, and an answer for every object that JSON can say."""
    _, problems = check(Adapter, adapter)
    image = mapping(mapping(adapter.get("spec")).get("source")).get("image")
    return Findings(
        tuple(Finding(each.path, each.message) for each in problems),
        tuple(image_warnings("spec.source.image", image, images)),
    )
