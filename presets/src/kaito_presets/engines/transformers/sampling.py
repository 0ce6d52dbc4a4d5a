"""Chooses the next token of every running answer from the model's scores."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kaito_presets.engines import Sampling

#: Temperatures below this are 0: scores divided by less could be no numbers any more.
COLDEST = 1e-5


@dataclass(slots=True, eq=False)
class Row:
    """What the choice for one answer depends on. `tokens` are those of its prompt, then those of the answer."""

    sampling: Sampling
    tokens: Sequence[int]
    prompt_length: int
    luck: Callable[[], float] = field(init=False)
    """Numbers from 0 to 1: with a seed, of this answer alone, so that it means the same whatever runs beside it."""
    penalised: bool = field(init=False)
    draws: bool = field(init=False)
    greedy: bool = field(init=False)
    """Whether the highest score wins, and nothing else matters."""

    def __post_init__(self) -> None:
        sampling = self.sampling
        self.luck = random.random if sampling.seed is None else random.Random(sampling.seed).random
        self.penalised = bool(
            sampling.presence_penalty
            or sampling.frequency_penalty
            or sampling.repetition_penalty not in (None, 1.0)
        )
        self.draws = sampling.temperature >= COLDEST
        self.greedy = not (self.penalised or self.draws)


def choose(scores: Any, rows: Sequence[Row]) -> list[int]:
    """One token for each row of `scores` (rows, vocabulary). Greedy rows take the highest score, the first of equals.

    repetition_penalty is Hugging Face's (tokens of prompt and answer), presence_penalty and frequency_penalty are
    OpenAI's (tokens of the answer).
    """
    if all(row.greedy for row in rows):
        found: list[int] = scores.argmax(-1).tolist()
        return found
    scores = scores.float()
    if any(row.penalised for row in rows):
        scores = scores.clone()
        for index, row in enumerate(rows):
            if row.penalised:
                _penalise(scores[index], row)
    tokens = scores.argmax(-1)
    drawing = [index for index, row in enumerate(rows) if row.draws]
    if drawing:
        where = torch.tensor(drawing, device=scores.device)
        tokens[where] = _draw(scores[where], [rows[index] for index in drawing])
    return [int(token) for token in tokens.tolist()]


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


def _draw(scores: Any, rows: Sequence[Row]) -> Any:
    def column(values: list[float]) -> Any:
        return torch.tensor(values, device=scores.device).unsqueeze(-1)

    settings = [row.sampling for row in rows]
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
    upto = shares.masked_fill(late, 0.0).cumsum(-1)
    # Each row's own number decides: the first token at which the shares so far exceed that part of their sum.
    drawn = torch.searchsorted(upto, column([row.luck() for row in rows]) * upto[:, -1:], right=True)
    last = ((shares > 0).masked_fill(late, False).sum(-1, keepdim=True) - 1).clamp(min=0)
    return tokens.gather(-1, torch.minimum(drawn, last)).squeeze(-1)
