"""How certificates are asked for: in this process, or in another that ends afterwards.

Certificates are made every two months and judged when the Secret changes, but the package `cryptography` stays in the
memory of the process that imported it, 10 MB of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from kaito.runtime.webhook.terms import Answer, Question

CHILD: Final = "kaito.runtime.webhook.pki"

Settle = Callable[[Question], Awaitable[Answer]]
"""Answers a question. Raises OSError where that cannot be done now."""


async def settle_here(question: Question) -> Answer:
    """In this process, which holds the package from then on."""
    from kaito.runtime.webhook import pki  # noqa: PLC0415 - its package is loaded by those alone who ask for this way

    return pki.settle(question)


async def settle_apart(question: Question) -> Answer:
    """In another process. Keys go through pipes and touch no disk."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        CHILD,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaint = await child.communicate(msgspec.json.encode(question))
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    if child.returncode:
        words = complaint.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(f"the process that makes certificates failed: {''.join(words) or child.returncode}")
    return msgspec.json.decode(said, type=Answer)
