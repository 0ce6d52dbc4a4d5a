"""Our chat templates: what they make of a conversation, with tools and without."""

# ruff: noqa: RUF001 - models have such characters in their marks

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kaito_presets.engines.vllm.prepare import TEMPLATES

CATALOG = Path(__file__).parents[2] / "presets" / "catalog"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
PLAIN = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
WITH_TOOLS = [
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "dry"},
]


def rendered(name: str, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> str:
    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.ChainableUndefined
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    environment.globals["raise_exception"] = refuse
    template = environment.from_string((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"))
    return template.render(messages=messages, tools=tools, add_generation_prompt=True, bos_token="<s>")


#: Named by the catalogue, but not written by us: these models' own template declares tools, and is used.
OWN = {"tool-chat-gemma4"}


def test_every_template_that_the_catalogue_names_for_vllm_is_there() -> None:
    named = set()
    for path in CATALOG.glob("*.yaml"):
        for preset in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("presets") or ():
            named.add((preset.get("vllm") or {}).get("chat_template"))
    assert named - {None} - OWN == {path.stem for path in TEMPLATES.glob("*.jinja")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "tool-chat-hermes",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "tool-chat-llama3.1-json",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "tool-chat-deepseekv3",
            "<s>Be brief.\n\n<｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜>",
        ),
        (
            "tool-chat-deepseekr1",
            "<s>Be brief.\n\n<｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜>"
            "<｜User｜>Bye<｜Assistant｜><think>\n",
        ),
        (
            "tool-chat-phi4-mini",
            "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>Hello<|end|><|user|>Bye<|end|><|assistant|>",
        ),
    ],
)  # fmt: skip
def test_a_conversation(name: str, text: str) -> None:
    assert rendered(name, PLAIN) == text


CALLED = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
    '{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        (
            "tool-chat-hermes",
            '<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
            "<|im_end|>\n<|im_start|>user\n<tool_response>\ndry\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "tool-chat-llama3.1-json",
            '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "weather", "parameters": {"city": "Paris"}}'
            "<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\ndry<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "tool-chat-deepseekv3",
            f"<｜User｜>Rain?<｜Assistant｜>{CALLED}<｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>dry"
            "<｜tool▁output▁end｜><｜tool▁outputs▁end｜>",
        ),
        (
            "tool-chat-deepseekr1",
            f"<｜User｜>Rain?<｜Assistant｜>{CALLED}<｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>dry"
            "<｜tool▁output▁end｜><｜tool▁outputs▁end｜>",
        ),
        (
            "tool-chat-phi4-mini",
            '<|assistant|>functools[{"name": "weather", "arguments": {"city": "Paris"}}]<|end|>'
            "<|tool_response|>dry<|end|><|assistant|>",
        ),
    ],
)  # fmt: skip
def test_tools_are_told_and_calls_and_their_results_too(name: str, end: str) -> None:
    text = rendered(name, WITH_TOOLS, [TOOL])
    assert text.endswith(end)
    assert '"name": "weather", "parameters"' in " ".join(text.replace("\n", " ").split())
    as_text = {"function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    again = [WITH_TOOLS[0], {**WITH_TOOLS[1], "tool_calls": [as_text]}, WITH_TOOLS[2]]
    assert rendered(name, again, [TOOL]) == text
    assert rendered(name, WITH_TOOLS[:1]) != rendered(name, WITH_TOOLS[:1], [TOOL])


def test_thoughts_of_earlier_answers_are_left_out() -> None:
    thought = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>hm</think>Hello"},
        {"role": "user", "content": "Bye"},
    ]
    assert "hm" not in rendered("tool-chat-deepseekr1", thought)
    assert "hm" in rendered("tool-chat-deepseekv3", thought)


def test_two_calls_at_once() -> None:
    twice = [WITH_TOOLS[0], {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}]
    assert (
        rendered("tool-chat-deepseekv3", twice, [TOOL]).count("<｜tool▁call▁begin｜>") == 3
    )  # one tells how
    assert rendered("tool-chat-hermes", twice, [TOOL]).count('"arguments": {"city": "Paris"}') == 2
    assert rendered("tool-chat-phi4-mini", twice, [TOOL]).count('{"city": "Paris"}}, {') == 1
    with pytest.raises(ValueError, match="one call at a time"):
        rendered("tool-chat-llama3.1-json", twice, [TOOL])
