"""Types of the requests' fields. JSON says what type a value has: nothing is converted, "5" and true are no numbers."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Strict, Tag

#: Far above any vocabulary, and still a number to every engine's library.
MAX_TOP_K = 2**31 - 1
#: Messages of a conversation, and parts of a message. Checking hundreds of thousands takes seconds.
MAX_ITEMS = 10_000
#: Begins the names of the branches that a field of two types has. They are no part of a field's path.
BRANCH = "~"


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


def _branch(value: object) -> str:
    return f"{BRANCH}many" if isinstance(value, list) else f"{BRANCH}one"


One = TypeVar("One")
Item = TypeVar("Item")
#: One, or a list of items: what is wrong with the value is told of the one that it is, not of both.
OneOr = Annotated[
    Annotated[One, Tag(f"{BRANCH}one")]
    | Annotated[list[Item], Tag(f"{BRANCH}many"), Field(max_length=MAX_ITEMS)],
    Discriminator(_branch),
]
