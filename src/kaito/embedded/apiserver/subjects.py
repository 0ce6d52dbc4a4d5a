"""Who asks: a user and its groups, as bindings and reviews know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

AUTHENTICATED: Final = "system:authenticated"
_ACCOUNT_PREFIX: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks."""

    user: str
    groups: tuple[str, ...]

    @classmethod
    def impersonated(cls, user: str, groups: Sequence[str]) -> Subject:
        """The user of an Impersonate-User header, with the groups that come with every such user."""
        own = list(groups)
        if user.startswith(_ACCOUNT_PREFIX) and not own:
            namespace = user.removeprefix(_ACCOUNT_PREFIX).partition(":")[0]
            own = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
        return cls(user, (*own, *(() if AUTHENTICATED in own else (AUTHENTICATED,))))

    def named_by(self, subject: Mapping[str, Any]) -> bool:
        """Whether an entry of a binding's `subjects` means this one."""
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            return self.user == f"{_ACCOUNT_PREFIX}{subject.get('namespace', '')}:{name}"
        return name == self.user if subject.get("kind") == "User" else name in self.groups
