"""Writes presets/src/kaito_presets/engines/vllm/flags.json: what the argument parser of the pinned vLLM takes.

    hack/vllm.sh && .venv-vllm/bin/python hack/vllm/flags.py

Run it again after a change of the version; tests/presets compare command lines with it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vllm import __version__
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser

TARGET = Path(__file__).parents[2] / "presets/src/kaito_presets/engines/vllm/flags.json"
#: Functions of vLLM that turn text into a value, and what that text is.
_READERS = {
    "loads": "json",
    "union_dict_and_str": "json-or-text",
    "parse_dataclass": "json",
    "_parse_type": "json",
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size",
    "float": "number",
    "int": "integer",
}
#: Read by the type of the value of an optional field; the field's own type tells more.
_OPTIONAL = {"int": "integer", "float": "number", "str": "text", "loads": "json"}
#: What vLLM's own wheel, for GPUs, takes and the rebuild for CPUs does not: all else is the same in their parsers.
_ON_GPUS = {"mm-processor-device": ["cuda"]}


def kind_of(action: argparse.Action) -> str:
    """What the flag takes: switch, boolean (a flag and its --no- form), or a kind of value."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return "boolean"
    if action.nargs == 0:
        return "switch"
    reader = action.type
    name = getattr(reader, "__name__", "")
    if name.startswith("_optional_type"):
        inner = [cell.cell_contents for cell in getattr(reader, "__closure__", None) or ()]
        name = next((each.__name__ for each in inner if callable(each)), "")
    return _READERS.get(name) or _OPTIONAL.get(name, "text")


def describe(name: str, action: argparse.Action) -> dict[str, Any]:
    """One entry of the file."""
    entry: dict[str, Any] = {"kind": kind_of(action)}
    if action.nargs in ("+", "*"):
        entry["many"] = "list"
    elif isinstance(action, argparse._AppendAction):
        entry["many"] = "repeat"
    if action.choices:
        entry["choices"] = [*map(str, action.choices), *_ON_GPUS.get(name, ())]
    return entry


def main() -> None:
    flags: dict[str, Any] = {}
    for action in make_arg_parser(FlexibleArgumentParser())._actions:
        names = [name for name in action.option_strings if name.startswith("--")]
        names = [name for name in names if not (name.startswith("--no-") and f"--{name[5:]}" in names)]
        for name in names:
            if name != "--help":
                flag = name.removeprefix("--")
                flags[flag] = describe(flag, action)
    # Some JSON-valued flags are known by their short form first.
    document = {
        "vllm": __version__.partition("+")[0],
        "flags": dict(sorted(flags.items())),
        "reasoning_parsers": sorted(ReasoningParserManager.list_registered()),
        "tool_parsers": sorted(ToolParserManager.list_registered()),
    }
    TARGET.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
