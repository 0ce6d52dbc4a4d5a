"""What an alert is: a question that returns something when a person is needed, and the words for that person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

DOCS_ADDRESS = ""
"""Where docs/ is published, with a slash at the end. Empty: nowhere yet, and the path in the repository is given."""
RUNBOOK = "runbook.md"

Severity = Literal["critical", "warning", "info"]
"""critical: users are without an answer, or soon; act now. warning: look today. info: good to know."""


@dataclass(frozen=True)
class Alert:
    """One rule. `wait` is for how long the question has to have an answer, in Prometheus' words (`15m`).

    `summary` is one line; `description` says what follows from it and may use `$labels` and `$value`.
    """

    name: str
    expr: str
    wait: str
    severity: Severity
    summary: str
    description: str

    @property
    def anchor(self) -> str:
        """Of the runbook's section."""
        return self.name.lower()

    @property
    def annotations(self) -> dict[str, str]:
        address = DOCS_ADDRESS or "docs/"
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{address}{RUNBOOK}#{self.anchor}",
        }

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": self.annotations,
        }


@dataclass(frozen=True)
class Group:
    """Alerts that are worked out one after the other. At most 20: what an Azure rule group holds."""

    name: str
    about: str
    alerts: tuple[Alert, ...]

    def __iter__(self) -> Iterator[Alert]:
        return iter(self.alerts)
