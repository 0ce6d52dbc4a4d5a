"""A directory with a .gguf file (tokenizer and template inside) is served like a Hugging Face directory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from kaito_presets.engines import Finish, Message, Piece, PromptTooLong, Sampling, make_engine
from kaito_presets.engines.mistralrs import _spaced
from presets.support import write_gguf


async def test_a_gguf_file_is_served(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    engine = make_engine("mistralrs", tmp_path, max_model_len=None, dtype="auto")
    engine.load({})
    try:
        assert engine.context_length == 1024
        question = [Message("user", "What is the capital of France?")]
        items = [item async for item in engine.generate(question, Sampling(max_tokens=40), None)]
        assert (
            "".join(item.text for item in items if isinstance(item, Piece))
            == "The capital of France is Paris."
        )
        assert isinstance(items[-1], Finish)
        assert items[-1].reason == "stop"
        with pytest.raises(PromptTooLong, match="fewer than 1024 tokens"):
            async for _ in engine.generate([Message("user", "hello " * 3000)], Sampling(), None):
                pass
    finally:
        await engine.close()


@pytest.mark.parametrize(
    ("text", "token", "told"),
    [("of", " of", " of"), (" of", " of", " of"), ("of", "of", "of"), ("", "\n", "\n"), ("", None, "")],
)
def test_the_white_space_that_an_answer_begins_with_is_kept_once(
    text: str, token: str | None, told: str
) -> None:
    assert _spaced(text, None if token is None else SimpleNamespace(token=token)) == told
