"""The configuration file of a Workspace: what is read from it, what is ignored, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito_presets.server.config_file import BadConfig, FileSettings, read_config

#: Nine lines that stand for 9**8 values.
MANY_ALIASES = "a0: &a0 [1]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(8)
)


def read(tmp_path: Path, text: str) -> FileSettings:
    path = tmp_path / "inference_config.yaml"
    path.write_text(text)
    return read_config(path, "mistralrs")


def test_shared_settings_are_read_from_any_engines_section(tmp_path: Path) -> None:
    text = """
    vllm: {max-model-len: 8192, dtype: half, gpu-memory-utilization: 0.9}
    mistralrs: {max_model_len: "4096", served-model-name: mine}
    max_probe_steps: 6
    """
    expected = FileSettings(4096, "float16", "mine", ["vllm.gpu-memory-utilization", "max_probe_steps"])
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize("text", ["", "vllm:", "vllm: {max-model-len: auto}"])
def test_nothing_set(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == FileSettings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not YAML .line 1"),
        ("- a", "must be a mapping"),
        ("vllm: [a]", "vllm must be a mapping"),
        ("vllm: {max-model-len: many}", "vllm.max-model-len must be a whole number"),
        ("vllm: {max-model-len: true}", "vllm.max-model-len must be a whole number"),
        ("vllm: {dtype: int4}", "vllm.dtype must be one of auto, bfloat16"),
        ("vllm: {served-model-name: [a]}", "vllm.served-model-name must be a name"),
        ("[" * 20_000, "is nested too deeply"),
        (MANY_ALIASES, "stands for more than 10000 values"),
        ("a: &a [*a]", "stands for more than 10000 values"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_path(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        read(tmp_path, text)
