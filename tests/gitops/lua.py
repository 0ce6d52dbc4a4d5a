"""Runs a health check as Argo CD does: Lua 5.1 with the basic and the table library, the object as the global `obj`."""

from __future__ import annotations

from typing import Any

from lupa import lua51

NOT_THERE = ("string", "math", "io", "os", "debug", "coroutine", "python")
"""Libraries that a plain Lua has and Argo CD's doesn't, and the bridge of the one used here."""


def health(script: str, obj: dict[str, Any]) -> tuple[str, str]:
    """Status and message that the check gives the object."""
    runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
    state = runtime.globals()
    state["obj"] = _table(runtime, obj)
    runtime.execute('getmetatable("").__index = nil')
    for name in NOT_THERE:
        state[name] = None
    found = runtime.execute(script)
    assert set(found.keys()) <= {"status", "message"}, dict(found.items())
    return found["status"], found["message"]


def _table(runtime: Any, value: Any) -> Any:
    """JSON as Lua tables; null is nil, as Argo CD decodes it."""
    if isinstance(value, dict):
        pairs = {key: _table(runtime, each) for key, each in value.items() if each is not None}
        return runtime.table_from(pairs)
    if isinstance(value, list):
        return runtime.table_from([_table(runtime, each) for each in value])
    return value
