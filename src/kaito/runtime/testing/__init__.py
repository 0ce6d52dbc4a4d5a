"""Helpers for testing operators: virtual time and a scripted in-memory API server.

Under pytest ask for the fixture `virtual_clock`, which `kaito.testing.plugin` brings; or call `run_virtual` from any
test framework.
"""

from kaito.runtime.testing.server import Call, Exchange, ScriptedServer, json_response, watch_line
from kaito.runtime.testing.virtual import (
    JumpingClock,
    VirtualClock,
    VirtualDeadlock,
    VirtualEventLoop,
    run_virtual,
)

__all__ = [
    "Call",
    "Exchange",
    "JumpingClock",
    "ScriptedServer",
    "VirtualClock",
    "VirtualDeadlock",
    "VirtualEventLoop",
    "json_response",
    "run_virtual",
    "watch_line",
]
