"""One CEL expression by itself, for everything that is no rule of a schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import cel

from kaito.embedded.apiserver.schema.rules import compile_expression


class Expression:
    """A compiled expression over some variables. Raises RuleError for one that cannot be used."""

    __slots__ = ("_functions", "_program", "text")

    def __init__(self, text: str, variables: Collection[str]) -> None:
        self.text = text
        self._program, self._functions = compile_expression(text, variables)

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The value of the expression. Raises ValueError with the reason where it has none."""
        context = cel.Context(dict(values))
        for name, function in self._functions.items():
            context.add_function(name, function)
        try:
            return self._program.execute(context)
        except KeyError as error:
            raise ValueError(f"no such key: {error.args[0]}") from None
        except Exception as error:
            raise ValueError(str(error)) from error
