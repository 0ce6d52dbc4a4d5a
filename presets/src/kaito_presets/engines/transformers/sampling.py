"""Chooses the next token of every running answer from the model's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kaito_presets.engines import Sampling


@dataclass(frozen=True, slots=True)
class Row:
    """What the choice for one answer depends on. `tokens` are those of its prompt, then those of the answer."""

    sampling: Sampling
    tokens: Sequence[int]
    prompt_length: int


def choose(scores: Any, rows: Sequence[Row]) -> list[int]:
    """One token for each row of `scores` (rows, vocabulary). Greedy rows take the highest score, the first of equals.

    repetition_penalty is Hugging Face's (tokens of prompt and answer), presence_penalty and frequency_penalty are
    OpenAI's (tokens of the answer).
    """
    scores = scores.float()
    if any(_penalised(row.sampling) for row in rows):
        scores = scores.clone()
        for index, row in enumerate(rows):
            if _penalised(row.sampling):
                _penalise(scores[index], row)
    tokens = scores.argmax(-1)
    drawing = [index for index, row in enumerate(rows) if row.sampling.temperature > 0]
    if drawing:
        where = torch.tensor(drawing, device=scores.device)
        tokens[where] = _draw(scores[where], [rows[index].sampling for index in drawing])
    return [int(token) for token in tokens.tolist()]


def _penalised(sampling: Sampling) -> bool:
    return bool(
        sampling.presence_penalty
        or sampling.frequency_penalty
        or sampling.repetition_penalty not in (None, 1.0)
    )


def _penalise(scores: Any, row: Row) -> None:
    sampling = row.sampling
    if sampling.repetition_penalty not in (None, 1.0):
        seen = torch.tensor(sorted(set(row.tokens)), device=scores.device)
        old = scores[seen]
        scores[seen] = torch.where(
            old > 0, old / sampling.repetition_penalty, old * sampling.repetition_penalty
        )
    answer = list(row.tokens[row.prompt_length :])
    if answer and (sampling.presence_penalty or sampling.frequency_penalty):
        tokens, counts = torch.tensor(answer, device=scores.device).unique(return_counts=True)
        scores[tokens] -= (sampling.presence_penalty or 0.0) + (sampling.frequency_penalty or 0.0) * counts


def _draw(scores: Any, settings: Sequence[Sampling]) -> Any:
    def column(values: list[float]) -> Any:
        return torch.tensor(values, device=scores.device).unsqueeze(-1)

    ordered, tokens = (scores / column([sampling.temperature for sampling in settings])).sort(
        -1, descending=True
    )
    size = ordered.shape[-1]
    place = torch.arange(size, device=scores.device)
    ordered = ordered.masked_fill(
        place >= column([sampling.top_k or size for sampling in settings]), -torch.inf
    )
    shares = ordered.softmax(-1)
    # The token that crosses top_p still counts; the first one always does.
    late = shares.cumsum(-1) - shares >= column([sampling.top_p or 1.0 for sampling in settings])
    late[:, 0] = False
    drawn = torch.multinomial(shares.masked_fill(late, 0.0), 1)
    return tokens.gather(-1, drawn).squeeze(-1)
