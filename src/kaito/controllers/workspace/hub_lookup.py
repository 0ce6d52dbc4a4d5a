"""Answers the needs for models and for weights: reads the Secret with the token, if one is named, and asks the hub.

Nothing grants the operator Secrets: whoever names one lets it read that one. Without, and where the operator was given
a token of its own, it asks with that. A token is never in an answer.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final, Protocol

from kaito.catalog import Preset
from kaito.catalog.hub import ACCESS_DENIED, UNREACHABLE, HubError
from kaito.catalog.hub.tensors import Held
from kaito.controllers.workspace.decide.hub_model import FACTS
from kaito.controllers.workspace.decide.weights_source import TOKEN_KEY
from kaito.controllers.workspace.model import Answer, Need
from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, Forbidden, NotFound, TransportError
from kaito.runtime.resources import SECRETS

FIELD: Final = "inference.preset.presetOptions.modelAccessSecret"


class Models(Protocol):
    """What is asked of the hub's client."""

    async def preset(self, id: str, revision: str | None = None, token: str | None = None) -> Preset: ...

    async def held(self, id: str, revision: str | None = None, token: str | None = None) -> Held: ...


class ModelLookup:
    """A `Lookup` of models, and of weights. own_token: the operator's own, or None."""

    def __init__(self, client: Client, hub: Models, own_token: str | None = None) -> None:
        self._client = client
        self._hub = hub
        self._own_token = own_token

    async def __call__(self, need: Need, namespace: str) -> Answer:
        found = await self._token(need.secret, namespace) if need.secret is not None else None
        token = found if isinstance(found, str) else self._own_token
        answer = await answered(self._hub, need, token, _hint(need.secret))
        if isinstance(found, Answer) and answer.reason == ACCESS_DENIED:
            return found  # why the token that was named could not be used; what is public needs none
        return answer

    async def _token(self, name: str, namespace: str) -> str | Answer:
        try:
            secret = await self._client.get(SECRETS, name, namespace)
        except NotFound:
            return _denied(f"Secret {namespace}/{name} is not there; {_hint(None)}")
        except Forbidden:
            return _denied(
                f"the operator may not read Secret {namespace}/{name}; let it: kubectl create role kaito-{name} -n "
                f"{namespace} --verb=get --resource=secrets --resource-name={name} && kubectl create rolebinding "
                f"kaito-{name} -n {namespace} --role=kaito-{name} --serviceaccount=kaito-system:kaito-operator"
            )
        except (ApiError, TransportError) as error:
            return Answer(reason=UNREACHABLE, message=f"Secret {namespace}/{name} could not be read: {error}")
        return token_in(secret) or _denied(
            f"Secret {namespace}/{name} has no token under the key {TOKEN_KEY}"
        )


async def answered(hub: Models, need: Need, token: str | None, hint: str) -> Answer:
    """What the hub says, asked with that token; `hint`: how to get a token, for those who have none."""
    try:
        if need.kind == "weights":
            held = await hub.held(need.id, need.revision, token)
            return Answer(_facts(held))
        preset = await hub.preset(need.id, need.revision, token)
    except HubError as error:
        hint = f"; {hint}" if error.reason == ACCESS_DENIED and token is None else ""
        return Answer(reason=error.reason, message=f"{error}{hint}", retry_after=error.retry_after)
    facts = preset.model_dump(mode="json", exclude_defaults=True)
    return Answer({"id": preset.repo, "revision": preset.revision, FACTS: facts})


def _facts(held: Held) -> dict[str, Any]:
    found: dict[str, Any] = {
        "revision": held.revision,
        "config": held.config,
        "tensors": held.tensors,
        "bytes": held.size,
        "quantization": held.quantization,
    }
    return {name: each for name, each in found.items() if each is not None}


def token_in(secret: dict[str, Any]) -> str | None:
    """The token in a Secret as the API server has it; None where there is none."""
    value = (secret.get("data") or {}).get(TOKEN_KEY)
    if not isinstance(value, str):
        return None
    try:
        text = base64.b64decode(value, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text if text.isascii() and text.isprintable() and text else None


def _denied(message: str) -> Answer:
    return Answer(reason=ACCESS_DENIED, message=message)


def _hint(secret: str | None) -> str:
    if secret is not None:
        return f"the Secret that {FIELD} names has no such token"
    return f"{FIELD} names a Secret of this namespace whose key {TOKEN_KEY} is a token"
