"""What the docstrings show is so."""

from __future__ import annotations

import doctest
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime import webhook
from kaito.runtime.clock import LoopClock
from kaito.runtime.manager import Manager
from kaito.runtime.resources import ObjectKey
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.webhook import admission, certificates, conversion, server
from support.webhooks import WIDGETS


@pytest.mark.parametrize("module", [admission, server])
def test_short_examples(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0


def indented(text: str) -> str:
    """The code blocks of a docstring: what is indented by four columns more than the prose."""
    blocks = re.findall(r"(?:^    .*\n(?:\s*\n)*)+", inspect.cleandoc(text) + "\n", re.MULTILINE)
    return "\n".join(textwrap.dedent(block) for block in blocks)


async def test_long_examples(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    from fakeapi import FakeApi

    api = FakeApi(virtual_clock)
    client = api.client()
    names: dict[str, Any] = {
        **vars(webhook),
        **vars(certificates),
        "Any": Any,
        "Path": lambda _path: tmp_path,
        "WIDGETS": WIDGETS,
        "ObjectKey": ObjectKey,
        "clock": virtual_clock,
        "client": client,
        "manager": Manager(client, clock=virtual_clock),
    }
    exec(indented(webhook.WebhookServer.__doc__ or ""), names)
    made = names["server"]
    assert sorted(made._chains) == ["/mutate-example-com-v1-widget", "/validate-example-com-v1-widget"]
    exec(indented(webhook.AdmissionRequest.__doc__ or ""), names)
    source = inspect.getsource(conversion)
    (example,) = re.findall(r"^    @server\.convert\n(?:    .*\n)+", source, re.MULTILINE)
    names["server"] = webhook.WebhookServer(clock=LoopClock())
    exec(textwrap.dedent(example), names)
    widget = {"apiVersion": "example.com/v1", "spec": {"size": 2}}
    assert names["convert"](widget, "example.com/v2")["spec"] == {"width": 2}

    code = (
        indented(certificates.__doc__ or "").replace("await keeper.ensure()", "").replace("# the pair", "#")
    )
    exec(code, names)
    await names["keeper"].ensure()
    assert (tmp_path / "tls.crt").exists()
