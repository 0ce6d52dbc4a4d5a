"""Types of the requests' fields. JSON says what type a value has: nothing is converted, "5" and true are no numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, Strict

#: Far above any vocabulary, and still a number to every engine's library.
MAX_TOP_K = 2**31 - 1


def _whole(text: str) -> str:
    """JSON can hold half of a character (one escaped surrogate), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("this is no text: half of a character is missing (a lone surrogate)") from error
    return text


Text = Annotated[str, AfterValidator(_whole)]
Count = Annotated[int, Strict(), Field(ge=1)]
TopK = Annotated[int, Strict(), Field(ge=0, le=MAX_TOP_K)]
Seed = Annotated[int, Strict()]
Temperature = Annotated[float, Strict(), Field(ge=0, le=2)]
Share = Annotated[float, Strict(), Field(gt=0, le=1)]
Penalty = Annotated[float, Strict(), Field(ge=-2, le=2)]
RepetitionPenalty = Annotated[float, Strict(), Field(ge=0.01, le=100)]
TokenId = Annotated[int, Strict()]
