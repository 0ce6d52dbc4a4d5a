"""Our chat templates: what they make of a conversation, with tools and without."""

# ruff: noqa: RUF001 - models have such characters in their marks

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kaito_presets.engines import BadPrompt, BadWeights, Message
from kaito_presets.engines.fallback import TEMPLATES, template_name
from kaito_presets.engines.template import ChatTemplate

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


def presets() -> Iterator[dict[str, Any]]:
    for path in CATALOG.glob("*.yaml"):
        yield from (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("presets") or ()


def test_every_template_that_the_catalogue_names_is_there() -> None:
    named = set()
    for preset in presets():
        named |= {(preset.get(runtime) or {}).get("chat_template") for runtime in ("vllm", "transformers")}
    assert named - {None} - OWN == {path.stem for path in TEMPLATES.glob("*.jinja")}


def test_the_catalogue_tells_which_template_stands_in_for_one_that_is_missing() -> None:
    for preset in presets():
        said = (preset.get("transformers") or {}).get("chat_template")
        assert template_name(preset["name"]) == said, preset["name"]
        if preset.get("repo"):
            assert template_name(preset["repo"]) == said, preset["repo"]


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
        (
            "llama-3-instruct",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "llama-2-chat",
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]",
        ),
        ("mistral-instruct", "<s>[INST] Hi[/INST] Hello</s>[INST] Be brief.\n\nBye[/INST]"),
        (
            "phi-3",
            "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n"
            "<|user|>\nBye<|end|>\n<|assistant|>\n",
        ),
        ("phi-2", "Be brief.\nInstruct: Hi\nOutput: Hello\nInstruct: Bye\nOutput:"),
        ("falcon-instruct", "Be brief.\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"),
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
        (
            "mistral-instruct",
            '[INST] Rain?[/INST][TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}}]</s>'
            '[TOOL_RESULTS] {"content": "dry"}[/TOOL_RESULTS]',
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


USER, ANSWER, SYSTEM, RESULT = (
    {"role": role, "content": role} for role in ("user", "assistant", "system", "tool")
)


@pytest.mark.parametrize("name", ["llama-2-chat", "mistral-instruct"])
@pytest.mark.parametrize(
    "turns",
    [[], [SYSTEM], [ANSWER], [SYSTEM, ANSWER], [USER, USER], [USER, ANSWER, ANSWER], [USER, SYSTEM, USER],
     [USER, RESULT]],
)  # fmt: skip
def test_models_that_were_trained_on_turns_refuse_anything_else(name: str, turns: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"take turns|no user message"):
        rendered(name, turns)


@pytest.mark.parametrize("name", ["phi-2", "phi-3", "falcon-instruct"])
def test_a_role_that_a_model_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="roles system, user and assistant"):
        rendered(name, [USER, RESULT])


def test_several_calls_and_results_have_their_ids() -> None:
    calls = [{**CALL, "id": "123456789"}, {**CALL, "id": "987654321"}]
    results = [{**RESULT, "tool_call_id": call["id"], "content": {"rain": False}} for call in calls]
    text = rendered(
        "mistral-instruct", [USER, {**ANSWER, "tool_calls": calls}, *results, ANSWER, USER], [TOOL]
    )
    assert '"id": "123456789"}, {"name"' in text
    assert '[TOOL_RESULTS] {"content": "{\\"rain\\": false}", "call_id": "987654321"}[/TOOL_RESULTS]' in text
    assert text.endswith('{"type": "object"}}}][/AVAILABLE_TOOLS][INST] user[/INST]')


# --- which is taken


def tokenizer(weights: Path, **settings: Any) -> Path:
    (weights / "tokenizer_config.json").write_text(json.dumps(settings))
    return weights


def test_the_weights_own_template_is_taken_before_ours(tmp_path: Path) -> None:
    own = ChatTemplate.of(tokenizer(tmp_path, chat_template="own"), "phi-2")
    assert own is not None
    assert own.render([Message("user", "Hi")]) == "own"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "apart"}))
    apart = ChatTemplate.of(tokenizer(tmp_path, bos_token="<s>"), "phi-2")
    assert apart is not None
    assert apart.render([Message("user", "Hi")]) == "apart"


@pytest.mark.parametrize(
    ("preset", "text"),
    [
        ("phi-2", "Instruct: Hi\nOutput:"),
        ("tiiuae/falcon-7b-instruct", "User: Hi\nAssistant:"),
        ("meta-llama/Llama-2-7b-chat-hf", "<s>[INST] Hi [/INST]"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "<s>[INST] Hi[/INST]"),
    ],
)
def test_a_model_without_a_template_gets_ours(tmp_path: Path, preset: str, text: str) -> None:
    template = ChatTemplate.of(tokenizer(tmp_path, bos_token="<s>"), preset)
    assert template is not None
    assert template.render([Message("user", "Hi")]) == text


@pytest.mark.parametrize(
    "preset", ["falcon-7b", "falcon-40b", "llama-2-7b", "Qwen/Qwen3-0.6B-Base", "my/own"]
)
def test_a_model_that_was_made_for_no_conversations_continues_one_prompt(tmp_path: Path, preset: str) -> None:
    weights = tokenizer(tmp_path, bos_token="<s>")
    assert ChatTemplate.of(weights, preset) is None
    template = ChatTemplate.of_one_prompt(weights)
    assert template.render([Message("user", "Hi")]) == "Hi"
    with pytest.raises(BadPrompt, match="was not made for conversations"):
        template.render([Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye")])
    with pytest.raises(BadPrompt, match="was not made for conversations"):
        template.render([Message("system", "Be brief.")])


def test_what_the_tokenizer_puts_before_a_prompt_is_kept(tmp_path: Path) -> None:
    asked = ChatTemplate.of_one_prompt(tokenizer(tmp_path, bos_token="<s>", add_bos_token=True))
    assert asked.render([Message("user", "Hi")]) == "<s>Hi"
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    made = {"post_processor": {"type": "TemplateProcessing", "single": single}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    told = ChatTemplate.of_one_prompt(tokenizer(tmp_path, bos_token="<s>"))
    assert told.render([Message("user", "Hi")]) == "<s>Hi"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("chat_template.jinja", "{% if %}", "chat template in the weights directory is damaged, in line 1"),
        ("tokenizer_config.json", "{", "tokenizer_config.json in the weights directory is not JSON"),
        (
            "tokenizer_config.json",
            "[" * 100_000,
            "tokenizer_config.json in the weights directory is not JSON",
        ),
        ("chat_template.json", "[]", "chat_template.json in the weights directory is not a JSON object"),
        ("chat_template.jinja", "{{" + "(" * 9000 + "1" + ")" * 9000 + "}}", "is damaged: maximum recursion"),
    ],
)
def test_a_damaged_template_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadWeights, match=says):
        ChatTemplate.of(tmp_path)


def test_of_several_named_templates_the_default_is_taken(tmp_path: Path) -> None:
    named = [
        {"name": ["x"]},
        "x",
        {"name": "tool_use", "template": "no"},
        {"name": "default", "template": "yes"},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    told = ChatTemplate.of(tmp_path)
    assert told is not None
    assert told.render([Message("user", "Hi")]) == "yes"


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content }}",
        "{{ range(10 ** 9) }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{% include 'x' %}",
    ],
)
def test_a_conversation_that_ends_the_template_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(text)
    told = ChatTemplate.of(tmp_path)
    assert told is not None
    with pytest.raises(BadPrompt, match="chat template can't word this conversation: "):
        told.render([Message("user", "Hi")])
