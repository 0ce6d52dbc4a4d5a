"""Credentials: which one is made, and that whatever goes wrong with it becomes a sentence for users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError
from azure.identity.aio import (
    AzureCliCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from kaito.provisioner import errors
from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.classify import SignInFailed
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.aks.identity import LOOPBACK_TOKEN, Guarded, credential, who
from kaito.provisioner.testing import FakeArm
from kaito.provisioner.testing.azure import MemoryTransport
from kaito.runtime.clock import Clock
from provisioner.aks.armworld import CLIENT_ID, config

CONFIG = AksConfig(
    location="eastus",
    resource_group="my-group",
    cluster="mine",
    subscription_id="00000000-0000-0000-0000-00000000c0de",
    tenant_id="72f988bf-86f1-41af-91ab-2d7cd011db47",
    client_id=CLIENT_ID,
    client_secret="canary",
)


def made(settings: AksConfig) -> Any:
    """The credential of azure-identity beneath, before it has been asked for a token."""
    guarded = credential(settings)
    assert isinstance(guarded, Guarded)
    return guarded._make()


@pytest.mark.parametrize(
    ("sign_in", "kind"),
    [
        (SignIn.MANAGED, ManagedIdentityCredential),
        (SignIn.SECRET, ClientSecretCredential),
        (SignIn.CLI, AzureCliCredential),
        (SignIn.WORKLOAD, WorkloadIdentityCredential),
    ],
)
async def test_the_configuration_says_which_credential_it_is(
    tmp_path: Path, sign_in: SignIn, kind: type[Any]
) -> None:
    file = tmp_path / "token"
    file.write_text("x")
    found = made(replace(CONFIG, sign_in=sign_in, federated_token_file=str(file)))
    assert type(found) is kind
    await found.close()


async def test_on_loopback_a_fixed_word_stands_for_a_token() -> None:
    found = credential(replace(CONFIG, sign_in=SignIn.NONE))
    token = await found.get_token_info("https://management.azure.com/.default")  # type: ignore[attr-defined]
    assert token.token == LOOPBACK_TOKEN
    await found.close()


@pytest.mark.parametrize("sign_in", [SignIn.WORKLOAD, SignIn.CERTIFICATE])
async def test_a_file_that_is_not_there_is_found_with_the_first_request_and_not_at_the_start(
    tmp_path: Path, sign_in: SignIn
) -> None:
    gone = str(tmp_path / "gone")
    found = credential(replace(CONFIG, sign_in=sign_in, federated_token_file=gone, certificate_path=gone))
    with pytest.raises(SignInFailed, match="gone"):
        await found.get_token_info("scope")  # type: ignore[attr-defined]
    await found.close()


def test_who_it_is_for_sentences() -> None:
    assert who(CONFIG) == CLIENT_ID
    assert who(replace(CONFIG, client_id="", sign_in=SignIn.MANAGED)) == "of the nodes"


class Broken:
    """A credential that cannot give a token."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure
        self.closed = False

    async def get_token_info(self, *_: str, options: object = None) -> AccessTokenInfo:
        raise self._failure

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (
            ClientAuthenticationError("AADSTS70021: No matching federated identity record"),
            "federated credential",
        ),
        (
            ClientAuthenticationError("AADSTS7000222: the secret canary has expired client_secret=canary"),
            "expired",
        ),
        (CredentialUnavailableError("no response from the IMDS endpoint"), "169.254.169.254"),
        (FileNotFoundError(2, "No such file or directory", "/token"), "AZURE_FEDERATED_TOKEN_FILE"),
        (ValueError("Could not deserialize key data"), "check its credential"),
    ],
)
async def test_no_token_is_unauthorized_with_what_to_do_and_nothing_is_sent(
    virtual_clock: Clock, failure: Exception, advice: str
) -> None:
    fake, broken = FakeArm(virtual_clock), Broken(failure)

    arm = Arm(
        config(fake),
        virtual_clock,
        credential=Guarded(lambda: broken),
        transport=MemoryTransport(fake, virtual_clock),
    )
    with pytest.raises(errors.Unauthorized) as caught:
        await arm.list_pools()
    assert advice in caught.value.message
    assert "=canary" not in caught.value.message
    assert not fake.requests
    assert virtual_clock.now() == 0
    await arm.close()
    assert broken.closed


class Renewing:
    """Gives another token each time."""

    def __init__(self) -> None:
        self.given = 0
        self.scopes: set[str] = set()

    async def get_token_info(self, *scopes: str, options: object = None) -> AccessTokenInfo:
        self.given += 1
        self.scopes |= set(scopes)
        return AccessTokenInfo(f"token-{self.given}", 1 << 33)

    async def close(self) -> None:
        return


async def test_a_token_that_azure_no_longer_takes_is_had_anew_with_the_next_request(
    virtual_clock: Clock,
) -> None:
    fake, renewing = FakeArm(virtual_clock), Renewing()
    fake.accepted_tokens = {"token-1"}
    arm = Arm(
        config(fake), virtual_clock, credential=renewing, transport=MemoryTransport(fake, virtual_clock)
    )
    await arm.list_pools()
    await arm.list_pools()
    assert renewing.given == 1, "a token that is good is kept"
    fake.accepted_tokens = {"token-2"}
    with pytest.raises(errors.Unauthorized):
        await arm.list_pools()
    await arm.list_pools()
    assert renewing.given == 2
    assert renewing.scopes == {"https://management.azure.com/.default"}
    await arm.close()
