"""Azure's errors as users meet them: which type, which reason, when to try again, and what the sentence says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import pytest
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.rest import HttpRequest

from kaito.api.reasons import CLOUD_REASONS
from kaito.provisioner import errors
from kaito.provisioner.aks.classify import SignInFailed, classify, classify_answer, classify_detail
from kaito.provisioner.aks.rules import BY_STATUS, RULES
from kaito.provisioner.aks.sentences import About
from kaito.provisioner.errors import CloudError
from kaito.provisioner.testing import Reply
from kaito.provisioner.testing.azure import MemoryResponse

CLUSTER = (
    "/subscriptions/0c0de/resourceGroups/my-group/providers/Microsoft.ContainerService/managedClusters/mine"
)
POOL = f"{CLUSTER}/agentPools/ws1"
ABOUT = About(
    location="eastus",
    cluster="mine",
    resource_group="my-group",
    subscription_id="0c0de",
    identity="11111111-2222-3333-4444-555555555555",
    pool="ws1",
    host="management.azure.com",
)
FAMILY_QUOTA = (
    "Operation could not be completed as it results in exceeding approved standardNCADSA100v4Family Cores quota. "
    "Additional details - Deployment Model: Resource Manager, Location: eastus, Current Limit: 48, Current Usage: 24, "
    "Additional Required: 48, (Minimum) New Limit Required: 72. Setup Alerts when Quota reaches threshold. Learn more "
    "at https://aka.ms/quotamonitoringalerting . Submit a request for Quota increase at https://aka.ms/ProdportalCRP/"
    "#blade/Microsoft_Azure_Capacity/UsageAndQuota.ReactView/Parameters/%7B%22subscriptionId%22:%220c0de%22,%22command"
    "%22:%22openQuotaApprovalBlade%22,%22quotas%22:[%7B%22location%22:%22eastus%22,%22providerId%22:%22Microsoft.Compute"
    "%22%7D]%7D by specifying parameters listed in the 'Details' section for deployment to succeed."
)
REGIONAL_QUOTA = FAMILY_QUOTA.replace("standardNCADSA100v4Family", "Total Regional")
NO_QUOTA = FAMILY_QUOTA.replace("Limit: 48", "Limit: 0").replace("Usage: 24", "Usage: 0")
OTHER_OPERATION = (
    "Operation is not allowed because there's an in progress create node pool operation on the managed cluster started "
    "at 2026-11-21T20:00:00Z. Please wait for it to finish before starting a new operation."
)
STOPPED = (
    "Operation 'PutAgentPoolHandler.PUT' is not allowed when the managed cluster is in power state (Stopped)."
)
DENIED = (
    "The client 'abc' with object id 'abc' does not have authorization to perform action "
    f"'Microsoft.ContainerService/managedClusters/agentPools/write' over scope '{CLUSTER}' or the scope is invalid."
)


class Case(NamedTuple):
    status: int
    code: str
    message: str
    kind: type[CloudError]
    reason: str
    retry_after: float
    says: tuple[str, ...] = ()


CASES = {
    "quota of a family": Case(
        409, "OperationNotAllowed", FAMILY_QUOTA, errors.QuotaReached, "SubscriptionQuotaReached", 600,
        ("standardNCADSA100v4Family", "eastus", "48 vCPUs needed", "24 of 48 in use", "https://aka.ms/ProdportalCRP/"),
    ),
    "quota that was never granted": Case(
        409, "OperationNotAllowed", NO_QUOTA, errors.QuotaReached, "SubscriptionQuotaReached", 3600, ("0 of 0 in use",),
    ),
    "AKS's own check of a family": Case(
        400, "ErrCode_InsufficientVCPUQuota",
        "Insufficient vcpu quota requested 24, remaining 8 for family standardNCADSA100v4Family for region eastus.",
        errors.QuotaReached, "SubscriptionQuotaReached", 600,
        ("standardNCADSA100v4Family", "24 vCPUs needed", "8 left", "portal.azure.com"),
    ),
    "AKS's own check of the region": Case(
        400, "ErrCode_InsufficientVCPUQuota",
        "Insufficient regional vcpu quota left for location eastus. left regional vcpu quota 4, requested quota 24.",
        errors.QuotaReached, "RegionalQuotaReached", 600, ("all sizes together", "24 vCPUs needed", "4 left"),
    ),
    "quota of the region": Case(
        409, "OperationNotAllowed", REGIONAL_QUOTA, errors.QuotaReached, "RegionalQuotaReached", 600,
        ("all sizes together", "24 of 48"),
    ),
    "quota of spot cores": Case(
        409, "OperationNotAllowed", FAMILY_QUOTA.replace("standardNCADSA100v4Family Cores", "LowPriorityCores"),
        errors.QuotaReached, "SubscriptionQuotaReached", 600, ("spot vCPUs",),
    ),
    "classic quota": Case(
        400, "QuotaExceeded",
        "Operation results in exceeding quota limits of Core. Maximum allowed: 10, Current in use: 10, Additional "
        "requested: 2. Please read more about quota increase at https://aka.ms/ProdportalCRP/?#create/x",
        errors.QuotaReached, "RegionalQuotaReached", 600, ("2 vCPUs needed", "10 of 10 in use"),
    ),
    "too many pools": Case(
        400, "BadRequest", "The maximum number of node pools per cluster, 100, has been reached.",
        errors.QuotaReached, "SubscriptionQuotaReached", 600, ("each machine is a pool",),
    ),
    "size not in the region": Case(
        409, "SkuNotAvailable",
        "The requested size for resource 'Standard_NC24ads_A100_v4' is currently not available in location 'eastus'.",
        errors.InstanceTypeUnavailable, "SKUNotAvailable", 30, ("name another size", "eastus"),
    ),
    "zone not in the region": Case(
        400, "AvailabilityZoneNotSupported",
        "The zone(s) '9' for resource 'agentpool' is not supported. The supported zones for 'eastus' are '1,2'",
        errors.InstanceTypeUnavailable, "SKUNotAvailable", 30, ("'1,2'", "name zones that the region has"),
    ),
    "size not supported": Case(
        400, "VMSizeNotSupported", "Virtual machine size Standard_NC24 is retired.",
        errors.InstanceTypeUnavailable, "SKUNotAvailable", 30,
    ),
    "size not for this subscription": Case(
        400, "BadRequest", "The VM size of Standard_NC24 is not allowed in your subscription in location 'eastus'.",
        errors.InstanceTypeUnavailable, "SKUNotAvailable", 30,
    ),
    "size not supported for subscription": Case(
        400, "BadRequest", "Standard_NC24ads_A100_v4 is not supported for subscription 0c0de in location 'eastus'.",
        errors.InstanceTypeUnavailable, "SKUNotAvailable", 30,
    ),
    "no machine in the zone": Case(
        200, "ZonalAllocationFailed", "Allocation failed. We do not have sufficient capacity for the requested VM size "
        "in this zone.", errors.InsufficientCapacity, "ZonalAllocationFailure", 120, ("other sizes or zones",),
    ),
    "no machine": Case(
        200, "AllocationFailed", "Allocation failed.", errors.InsufficientCapacity, "AllocationFailure", 120,
    ),
    "nothing fits all demands": Case(
        200, "OverconstrainedAllocationRequest", "Create or update VM failed: too many constraints.",
        errors.InsufficientCapacity, "OverconstrainedAllocationFailure", 120,
    ),
    "nothing fits all demands in the zone": Case(
        200, "OverconstrainedZonalAllocationRequest", "Create or update VM failed: too many constraints.",
        errors.InsufficientCapacity, "OverconstrainedZonalAllocationFailure", 120,
    ),
    "region is full": Case(
        400, "AksCapacityHeavyUsage", "AKS is experiencing heavy usage in region eastus.",
        errors.InsufficientCapacity, "AllocationFailure", 120,
    ),
    "another operation by its code": Case(
        409, "AnotherOperationInProgress", "Another operation is in progress on pool 'x'.",
        errors.OperationInProgress, "OperationInProgress", 15,
    ),
    "another operation by its sentence": Case(
        409, "OperationNotAllowed", OTHER_OPERATION, errors.OperationInProgress, "OperationInProgress", 15,
        ("create node pool operation",),
    ),
    "preempted": Case(
        409, "AKSOperationPreempted", "AKS operation is preempted by another one.",
        errors.OperationInProgress, "OperationInProgress", 15,
    ),
    "preempted by a delete": Case(
        200, "AKSOperationPreemptedByDelete", "The operation was preempted by a delete.",
        errors.OperationInProgress, "OperationInProgress", 15,
    ),
    "conflict without more": Case(409, "Conflict", "Conflict.", errors.OperationInProgress, "OperationInProgress", 15),
    "conflict that nobody knows": Case(409, "Brandnew", "What?", CloudError, "LaunchFailed", 30, ("What?",)),
    "etag by its code": Case(
        409, "OriginalEtagNotExpect", "Etag mismatch.", errors.PreconditionFailed, "OperationInProgress", 1,
    ),
    "etag by its status": Case(412, "", "", errors.PreconditionFailed, "OperationInProgress", 1),
    "cluster stopped": Case(
        409, "OperationNotAllowed", STOPPED, errors.ClusterNotRunning, "ClusterNotRunning", 60, ("mine", "start it"),
    ),
    "operation canceled": Case(
        200, "OperationCanceled", "by a user", errors.OperationCanceled, "OperationCanceled", 30,
    ),
    "throttled": Case(
        429, "SubscriptionRequestsThrottled", "Number of requests exceeded.", errors.Throttled, "Throttled", 30,
    ),
    "throttled by AKS, seconds in the sentence": Case(
        429, "Throttled", "The PutAgentPoolHandler.PUT limit has been exceeded, please retry again in 21 seconds.",
        errors.Throttled, "Throttled", 21,
    ),
    "throttled behind the pool": Case(
        200, "TooManyRequests", "too many", errors.Throttled, "Throttled", 30,
    ),
    "forbidden": Case(
        403, "AuthorizationFailed", DENIED, errors.Unauthorized, "Unauthorized", 300,
        ("11111111-2222-3333-4444-555555555555", "Microsoft.ContainerService/managedClusters/agentPools/write", CLUSTER,
         "az role assignment create", "Azure Kubernetes Service Contributor Role"),
    ),
    "forbidden on the subnet": Case(
        403, "LinkedAuthorizationFailed",
        "The client 'a' has permission to perform action 'Microsoft.ContainerService/managedClusters/agentPools/write' "
        f"on scope '{POOL}'; however, it does not have permission to perform action(s) "
        "'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked scope(s) '/subscriptions/0c0de/subnet'.",
        errors.Unauthorized, "Unauthorized", 300,
        ("Microsoft.Network/virtualNetworks/subnets/join/action", "Network Contributor", "/subscriptions/0c0de/subnet"),
    ),
    "forbidden without words": Case(403, "", "", errors.Unauthorized, "Unauthorized", 300, ("check its role",)),
    "token expired": Case(
        401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time.",
        errors.Unauthorized, "Unauthorized", 300,
    ),
    "Entra's refusal": Case(
        401, "InvalidAuthenticationToken", "AADSTS700016: Application with identifier 'x' was not found.",
        errors.Unauthorized, "Unauthorized", 300, ("AZURE_CLIENT_ID",),
    ),
    "group not found": Case(
        404, "ResourceGroupNotFound", "Resource group 'my-group' could not be found.",
        errors.ClusterNotFound, "ClusterNotFound", 300, ("ARM_RESOURCE_GROUP", "mine"),
    ),
    "subscription not found": Case(
        404, "SubscriptionNotFound", "The subscription '0c0de' could not be found.",
        errors.ClusterNotFound, "ClusterNotFound", 300,
    ),
    "cluster not found": Case(
        404, "ResourceNotFound",
        "The Resource 'Microsoft.ContainerService/managedClusters/mine' under resource group 'my-group' was not found.",
        errors.ClusterNotFound, "ClusterNotFound", 300,
    ),
    "cluster not found, as the parent": Case(
        404, "ParentResourceNotFound",
        "Failed to perform 'read' on resource(s) of type 'managedClusters/agentPools', because the parent resource "
        f"'{CLUSTER}' could not be found.", errors.ClusterNotFound, "ClusterNotFound", 300,
    ),
    "pool not found": Case(
        404, "NotFound", "Agent Pool not found", errors.InstanceNotFound, "InstanceNotFound", 30, ("ws1",),
    ),
    "pool not found by its id": Case(
        404, "ResourceNotFound", f"The Resource '{POOL}' was not found.",
        errors.InstanceNotFound, "InstanceNotFound", 30,
    ),
    "policy": Case(
        403, "RequestDisallowedByPolicy", "Resource 'ws1' was disallowed by policy 'tags-needed'.",
        errors.EnvironmentRefused, "InvalidConfiguration", 600, ("tags-needed", "policy"),
    ),
    "subnet full": Case(
        400, "SubnetIsFull", "Subnet aks-subnet does not have enough capacity for 1 IP addresses.",
        errors.EnvironmentRefused, "InvalidConfiguration", 600, ("aks-subnet", "free addresses"),
    ),
    "subnet too small": Case(
        400, "InsufficientSubnetSize", "Pre-allocated IPs 93 exceeds IPs available 2 in Subnet Cidr 10.0.0.0/24",
        errors.EnvironmentRefused, "InvalidConfiguration", 600,
    ),
    "locked": Case(
        409, "ScopeLocked", "The scope cannot perform write operation because following scope(s) are locked: x.",
        errors.EnvironmentRefused, "InvalidConfiguration", 600, ("lock",),
    ),
    "wrong field": Case(
        400, "InvalidParameter", "The value of parameter agentPoolProfile.osDiskSizeGB is invalid.",
        errors.InvalidConfiguration, "InvalidConfiguration", 30, ("osDiskSizeGB",),
    ),
    "wrong, without a code": Case(400, "", "no", errors.InvalidConfiguration, "InvalidConfiguration", 30),
    "service not registered": Case(
        409, "MissingSubscriptionRegistration",
        "The subscription is not registered to use namespace 'Microsoft.ContainerService'.",
        errors.ProviderNotRegistered, "ProviderNotRegistered", 30,
        ("az provider register --namespace Microsoft.ContainerService", "0c0de"),
    ),
    "internal error": Case(
        500, "InternalServerError", "An internal error has occurred.", errors.CloudUnavailable, "CloudUnavailable", 30,
    ),
    "internal error of an operation": Case(
        200, "InternalOperationError", "oops", errors.CloudUnavailable, "CloudUnavailable", 30,
    ),
    "bad gateway without a body": Case(502, "", "", errors.CloudUnavailable, "CloudUnavailable", 30),
    "timed out at the server": Case(408, "", "", errors.CloudUnavailable, "CloudUnavailable", 30),
}  # fmt: skip


def nested(code: str, message: str) -> Any:
    return {"error": {"code": code, "message": message, "details": None}}


def flat(code: str, message: str) -> Any:
    return {"code": code, "details": None, "message": message, "subcode": "", "target": "agentPool"}


def in_details(code: str, message: str) -> Any:
    """As deployments word it, and pools whose machines could not be made."""
    inner = {"code": "VMSSError", "message": "see below", "details": [{"code": code, "message": message}]}
    return {"error": {"code": "ReconcileVMSSAgentPoolFailed", "message": "it failed", "details": [inner]}}


def quoted(code: str, message: str) -> Any:
    """As AKS quotes Compute."""
    words = f'VMSSAgentPoolReconciler retry failed: Category: ClientError; Code="{code}" Message="{message}"'
    return {"error": {"code": "CreateVMSSAgentPoolFailed", "message": words}}


def as_json_text(code: str, message: str) -> Any:
    inner = orjson.dumps({"error": {"code": code, "message": message}}).decode()
    return {
        "code": "VMSSAgentPoolReconciler",
        "message": f"Provisioning failed. Message: {inner}",
        "details": [],
    }


def error(status: int, body: Any, headers: dict[str, str] | None = None) -> HttpResponseError:
    """As the SDK raises it."""
    content = b"" if body is None else orjson.dumps(body)
    request = HttpRequest("GET", "https://management.azure.com/x")
    return HttpResponseError(response=MemoryResponse(request, Reply(status, headers or {}, content)))


@pytest.mark.parametrize("shape", [nested, flat])
@pytest.mark.parametrize("name", CASES)
def test_every_error_has_its_type_reason_delay_and_sentence_in_both_shapes(name: str, shape: Any) -> None:
    case = CASES[name]
    found = classify(error(case.status, shape(case.code, case.message)), ABOUT)
    assert (type(found), found.why, found.retry_after) == (case.kind, case.reason, case.retry_after)
    for words in case.says:
        assert words in found.message
    assert found.why in CLOUD_REASONS
    assert len(found.message) <= 800, "a condition shows no more"
    assert "\n" not in found.message


@pytest.mark.parametrize(
    ("said", "scope"),
    [
        (DENIED.replace(CLUSTER, POOL), CLUSTER),
        (DENIED, CLUSTER),
        (
            DENIED.replace(
                "Microsoft.ContainerService/managedClusters/agentPools/write", "Microsoft.Compute/skus/read"
            ),
            "/subscriptions/0c0de",
        ),
    ],
    ids=["of a pool the cluster", "the cluster", "of sizes the subscription"],
)
def test_a_role_that_lacks_is_to_be_given_where_it_lasts(said: str, scope: str) -> None:
    found = classify(error(403, nested("AuthorizationFailed", said)), ABOUT)
    assert found.message.endswith(f" --scope {scope}")


BY_CODE = [
    name
    for name, case in CASES.items()
    if case.code not in ("", "Brandnew", "Conflict") and case.status != 404
]


@pytest.mark.parametrize("shape", [in_details, quoted, as_json_text])
@pytest.mark.parametrize("name", BY_CODE)
def test_what_is_meant_may_be_said_deep_within_a_failed_operation_whose_http_status_is_200(
    name: str, shape: Any
) -> None:
    case = CASES[name]
    found = classify(error(200, shape(case.code, case.message)), ABOUT)
    assert (type(found), found.why) == (case.kind, case.reason)


@pytest.mark.parametrize("name", BY_CODE)
def test_a_failed_pool_says_the_same_as_an_answer(name: str) -> None:
    case = CASES[name]
    found = classify_detail(case.code, case.message, [])
    assert (type(found), found.why) == (case.kind, case.reason)


@pytest.mark.parametrize(
    "kind", sorted({rule.kind for rule in RULES} | {rule.kind for rule in BY_STATUS.values()}, key=str)
)
def test_every_type_that_a_rule_gives_is_shown_by_a_case(kind: type[CloudError]) -> None:
    assert kind in {case.kind for case in CASES.values()}


def test_a_404_that_does_not_say_what_is_missing_is_never_the_pool() -> None:
    for body in (None, nested("NotFound", "Not found."), nested("", "")):
        found = classify(error(404, body), ABOUT)
        assert not isinstance(found, errors.InstanceNotFound)


def test_a_404_without_a_pool_in_question_is_the_cluster() -> None:
    about = About(cluster="mine", resource_group="my-group")
    assert isinstance(classify(error(404, nested("NotFound", "Not found.")), about), errors.ClusterNotFound)


def test_retry_after_goes_before_the_error_s_own_delay() -> None:
    for case in (CASES["throttled"], CASES["another operation by its code"], CASES["internal error"]):
        found = classify(error(case.status, nested(case.code, case.message), {"Retry-After": "7"}), ABOUT)
        assert found.retry_after == 7


def test_retry_after_as_a_date_counts_from_the_answer_s_own_date_whatever_our_clock_says() -> None:
    headers = {"Date": "Sat, 21 Nov 2026 20:00:00 GMT", "Retry-After": "Sat, 21 Nov 2026 20:00:40 GMT"}
    wrong = datetime(2031, 1, 1, tzinfo=UTC)
    assert classify(error(429, None, headers), now=wrong).retry_after == 40
    del headers["Date"]
    now = datetime(2026, 11, 21, 20, 0, 30, tzinfo=UTC)
    assert classify(error(429, None, headers), now=now).retry_after == 10
    assert classify(error(429, None, headers), now=wrong).retry_after == 1, "at once, not in the past"
    assert classify(error(429, None, headers)).retry_after == 30, "nothing to measure it against"


@pytest.mark.parametrize("value", ["soon", "", "-3", "inf", "nan", "Sat, 99 Nov"])
def test_a_retry_after_that_makes_no_sense_is_passed_over(value: str) -> None:
    assert classify(error(429, None, {"Retry-After": value})).retry_after == 30


def test_a_retry_after_of_days_is_not_believed() -> None:
    assert classify(error(503, None, {"Retry-After": "900000"})).retry_after == 3600


@pytest.mark.parametrize(
    "failure",
    [
        ServiceRequestError(
            "Cannot connect to host management.azure.com:443 ssl:default [Connection refused]"
        ),
        ServiceRequestError("Connection reset by peer"),
        ServiceRequestTimeoutError("Connection timeout"),
        ServiceResponseError("Server disconnected"),
        ServiceResponseTimeoutError("no answer within 30 seconds"),
        IncompleteReadError("Response payload is not completed"),
    ],
    ids=lambda failure: str(failure)[:20],
)
def test_no_answer_is_not_reachable(failure: AzureError) -> None:
    found = classify(failure, ABOUT)
    assert (type(found), found.retry_after) == (errors.CloudUnreachable, 10)
    assert "management.azure.com" in found.message
    assert "firewall" in found.message


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("AADSTS70021: No matching federated identity record found", "system:serviceaccount:NAMESPACE:NAME"),
        ("AADSTS700213: No matching federated identity record found", "federated credential"),
        ("AADSTS700016: Application with identifier 'x' was not found in the directory", "AZURE_CLIENT_ID"),
        ("AADSTS90002: Tenant 'x' not found", "AZURE_TENANT_ID"),
        ("AADSTS7000222: The provided client secret keys for app 'x' are expired", "expired"),
        ("AADSTS7000215: Invalid client secret provided", "AZURE_CLIENT_SECRET"),
        ("AADSTS700024: Client assertion is not within its valid time range", "clock"),
        ("the token file /var/run/secrets/azure/token does not exist", "AZURE_FEDERATED_TOKEN_FILE"),
        (
            "ManagedIdentityCredential authentication unavailable, no response from the IMDS endpoint.",
            "169.254.169.254",
        ),
        ("Please run 'az login' to set up an account", "run `az login`"),
        ("something else", "check its credential"),
    ],
)
def test_without_a_token_the_sentence_says_which_setting_to_look_at(said: str, advice: str) -> None:
    found = classify(SignInFailed(said), ABOUT)
    assert isinstance(found, errors.Unauthorized)
    assert advice in found.message
    assert "11111111-2222-3333-4444-555555555555" in found.message


SECRETS = [
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ",
    "Bearer canary-token-0123456789",
    "client_secret=canary~Q8Q~0123",
    "sig=canary%2B0123456789abcdef%3D",
    '"access_token": "canary0123456789"',
    "AccountKey=canary0123456789==",
    "password: canary-0123",
    "SharedAccessSignature=canary0123",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", CASES)
def test_no_secret_that_azure_repeats_reaches_a_sentence(name: str, secret: str) -> None:
    case = CASES[name]
    shown = [
        classify(error(case.status, nested(case.code, f"{secret} {case.message} {secret}")), ABOUT),
        classify(
            error(case.status, nested(case.code, f"See https://x.blob.core.windows.net/log?{secret}")), ABOUT
        ),
        classify(SignInFailed(f"{case.message} {secret}"), ABOUT),
        classify(ServiceRequestError(f"{secret} refused"), ABOUT),
        classify(AzureError(secret), ABOUT),
    ]
    for found in shown:
        assert "canary" not in found.message
        assert "eyJ" not in found.message


def test_an_answer_that_nobody_knows_is_shown_as_it_is() -> None:
    found = classify_answer(418, nested("Teapot", "I am a teapot"), ABOUT)
    assert (type(found), found.why) == (CloudError, "LaunchFailed")
    assert "I am a teapot" in found.message
    assert "Teapot" in found.message
