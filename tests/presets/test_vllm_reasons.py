"""Why vLLM ended, found in the last lines of its log. The logs are vLLM's own, shortened."""

from __future__ import annotations

import pytest

from kaito_presets.engines.vllm.run import reason

POINTER = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"

DEAD = (
    "(APIServer pid=1) ERROR 11-22 04:14:46 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: "
    "EngineCore encountered an issue. See stack trace (above) for the root cause."
)


@pytest.mark.parametrize(
    ("lines", "exit_code", "code", "sentence"),
    [
        (
            [
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
                "  Value error, Total number of attention heads (4) must be divisible by tensor parallel size (3). "
                "[type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]",
                "    For further information visit the documentation",
            ],
            1,
            2,
            "vLLM refuses its settings: Total number of attention heads (4) must be divisible by tensor parallel size "
            "(3).",
        ),
        (
            [
                "(EngineCore pid=7) ERROR 11-22 03:36:02 [core.py:905] ValueError: No available memory for the cache "
                "blocks. Try increasing `gpu_memory_utilization`.",
                "(APIServer pid=1) Traceback (most recent call last):",
                f"(APIServer pid=1) {POINTER}",
            ],
            1,
            1,
            "The context does not fit the GPUs' memory beside the weights: No available memory for the cache blocks. "
            "Try increasing `gpu_memory_utilization`.",
        ),
        (
            ["(Worker_TP1 pid=9) ERROR 11-22 03:36:02 [w.py:1] RuntimeError: layer 3 is missing", POINTER, DEAD],
            1,
            1,
            "vLLM could not go on (RuntimeError): layer 3 is missing",
        ),
        (
            ["vllm serve: error: argument --seed: invalid int value: 'a'"],
            2,
            2,
            "vLLM refuses a setting: vllm serve: error: argument --seed: invalid int value: 'a'",
        ),
        (
            ["torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device"],
            1,
            4,
            "This image of vLLM has no code for these GPUs: use the transformers runtime "
            "(annotation kaito.sh/runtime).",
        ),
        (
            [
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig",
                "gpu_memory_utilization",
                "  Input should be less than or equal to 1 [type=less_than_equal, input_value=3.0, input_type=float]",
                "    For further information visit the documentation",
            ],
            1,
            2,
            "vLLM refuses its settings: gpu_memory_utilization: Input should be less than or equal to 1",
        ),
        (
            [
                "usage: vllm serve [model_tag] [options]",
                "main.py serve: error: argument --compilation-config/-cc: 1 validation error for CompilationConfig",
                "  Input should be an object [type=dataclass_type, input_value=[1, 2], input_type=list]",
            ],
            2,
            2,
            "vLLM refuses a setting: main.py serve: error: argument --compilation-config/-cc: Input should be an "
            "object",
        ),
        (
            [
                "ValueError: Couldn't instantiate the backend tokenizer from one of: ",
                "(1) a `tokenizers` library serialization file, ",
            ],
            1,
            5,
            "The weights directory has no tokenizer that vLLM can use: tokenizer.json or tokenizer.model is missing.",
        ),
        (
            [
                "(EngineCore pid=7) ERROR 11-22 03:36:02 [core.py:905] safetensors_rust.SafetensorError: Error while "
                "deserializing header: header too large",
                f"(APIServer pid=1) {POINTER}",
            ],
            1,
            5,
            "The weights can't be read: Error while deserializing header: header too large",
        ),
        (["INFO loading"], -9, 1, "vLLM was ended by SIGKILL: the node or the pod ran out of memory, most likely."),
        (["INFO loading"], -11, 1, "vLLM was ended by SIGSEGV."),
        ([], 3, 1, "vLLM ended with exit code 3; its log says why."),
    ],
)  # fmt: skip
def test_the_reason_is_the_root_cause_as_a_sentence(
    lines: list[str], exit_code: int, code: int, sentence: str
) -> None:
    assert reason(lines, exit_code) == (code, sentence)
