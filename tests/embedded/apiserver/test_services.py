"""Addresses of Services: given out once, given back, kept."""

from __future__ import annotations

from typing import Any

from support.apiserver import Api

SERVICES = "/api/v1/namespaces/default/services"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def test_every_service_gets_an_address_of_its_own(api: Api) -> None:
    made = [await api.create(SERVICES, service(f"s{index}")) for index in range(5)]
    addresses = [each["spec"]["clusterIP"] for each in made]
    assert len(set(addresses)) == 5
    assert all(address.startswith("10.96.") for address in addresses)
    assert all(each["spec"]["clusterIPs"] == [each["spec"]["clusterIP"]] for each in made)


async def test_a_failed_create_does_not_free_the_address_of_its_namesake(api: Api) -> None:
    first = await api.create(SERVICES, service("s"))
    address = first["spec"]["clusterIP"]
    assert (await api.send("POST", SERVICES, service("s"))).status == 409
    assert (await api.send("POST", f"{SERVICES}?dryRun=All", service("t"))).status == 201
    taken = await api.send("POST", SERVICES, service("u", clusterIP=address))
    assert (taken.status, taken.reason) == (422, "Invalid")
    await api.ok("DELETE", f"{SERVICES}/s")
    assert (await api.create(SERVICES, service("u", clusterIP=address)))["spec"]["clusterIP"] == address


async def test_an_update_keeps_the_address(api: Api) -> None:
    first = await api.create(SERVICES, service("s"))
    changed = await api.ok("PUT", f"{SERVICES}/s", service("s", selector={"a": "b"}))
    assert changed["spec"]["clusterIP"] == first["spec"]["clusterIP"]
    headless = await api.create(SERVICES, service("h", clusterIP="None"))
    assert headless["spec"]["clusterIPs"] == ["None"]
