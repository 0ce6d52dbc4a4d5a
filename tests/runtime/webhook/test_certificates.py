"""Certificates that make and renew themselves."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fakeapi import FakeApi
from kaito.runtime.cache import InformerCache
from kaito.runtime.resources import SECRETS, ObjectKey
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.webhook import pki
from kaito.runtime.webhook.certificates import (
    MUTATING,
    VALIDATING,
    CertificateKeeper,
    CertificateOptions,
)
from kaito.runtime.webhook.issuing import settle_apart, settle_here
from kaito.runtime.webhook.pki import make_certificates
from kaito.runtime.webhook.terms import Answer, Question

SECRET = ObjectKey("demo", "certificate")


def options(directory: Path, **more: Any) -> CertificateOptions:
    return CertificateOptions(
        secret=SECRET,
        service=ObjectKey("demo", "webhook"),
        directory=directory,
        validating=("check.example.com",),
        mutating=("change.example.com", "absent.example.com"),
        **more,
    )


def configuration(name: str) -> dict[str, Any]:
    webhooks = [{"name": f"{index}.{name}", "clientConfig": {"service": {}}} for index in range(2)]
    return {"metadata": {"name": name}, "webhooks": webhooks}


def world(clock: VirtualClock) -> FakeApi:
    api = FakeApi(clock)
    api.put(VALIDATING, configuration("check.example.com"))
    api.put(MUTATING, configuration("change.example.com"))
    return api


def bundles(api: FakeApi) -> list[bytes]:
    found = [api.get(VALIDATING, "check.example.com", None), api.get(MUTATING, "change.example.com", None)]
    return [b64decode(each["clientConfig"]["caBundle"]) for obj in found if obj for each in obj["webhooks"]]


def data(api: FakeApi) -> dict[str, bytes]:
    secret = api.get(SECRETS, SECRET.name, SECRET.namespace)
    assert secret is not None
    return {name: b64decode(value) for name, value in secret["data"].items()}


async def test_the_first_replica_makes_it_and_the_others_use_it(
    virtual_clock: VirtualClock, tmp_path: Path
) -> None:
    api = world(virtual_clock)
    for replica in ("a", "b"):
        keeper = CertificateKeeper(api.client(), clock=virtual_clock, options=options(tmp_path / replica))
        await keeper.ensure()
    made = data(api)
    for replica in ("a", "b"):
        assert (tmp_path / replica / "tls.crt").read_bytes() == made["tls.crt"]
        assert (tmp_path / replica / "tls.key").read_bytes() == made["tls.key"]
        assert (tmp_path / replica / "tls.key").stat().st_mode & 0o777 == 0o600
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            tmp_path / replica / "tls.crt", tmp_path / replica / "tls.key"
        )
    assert bundles(api) == [made["ca.crt"]] * 4
    assert len(api.writes()) == 3, "one Secret, two configurations; the second replica wrote nothing"
    leaf = x509.load_pem_x509_certificate(made["tls.crt"])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "webhook.demo.svc" in names.get_values_for_type(x509.DNSName)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(made["ca.crt"]))


async def test_it_is_renewed_when_a_third_is_left(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    api = world(virtual_clock)
    keeper = CertificateKeeper(
        api.client(), clock=virtual_clock, options=options(tmp_path, lifetime=timedelta(days=90))
    )
    await keeper.ensure()
    before = data(api)
    await virtual_clock.sleep(59 * 86400)
    await keeper.ensure()
    assert data(api) == before
    await virtual_clock.sleep(2 * 86400)
    await keeper.ensure()
    after = data(api)
    assert after["tls.crt"] != before["tls.crt"]
    assert after["ca.crt"] == before["ca.crt"]
    assert (tmp_path / "tls.crt").read_bytes() == after["tls.crt"]


async def test_a_new_authority_is_announced_beside_the_old_one(
    virtual_clock: VirtualClock, tmp_path: Path
) -> None:
    api = world(virtual_clock)
    short = options(tmp_path, lifetime=timedelta(days=9), ca_lifetime=timedelta(days=9))
    keeper = CertificateKeeper(api.client(), clock=virtual_clock, options=short)
    await keeper.ensure()
    before = data(api)
    await virtual_clock.sleep(7 * 86400)
    await keeper.ensure()
    after = data(api)
    authorities = x509.load_pem_x509_certificates(after["ca.crt"])
    assert len(authorities) == 2
    assert authorities[1] == x509.load_pem_x509_certificate(before["ca.crt"])
    x509.load_pem_x509_certificate(after["tls.crt"]).verify_directly_issued_by(authorities[0])
    assert bundles(api) == [after["ca.crt"]] * 4


async def test_a_wiped_bundle_and_a_spoilt_secret_are_mended(
    virtual_clock: VirtualClock, tmp_path: Path
) -> None:
    api = world(virtual_clock)
    keeper = CertificateKeeper(api.client(), clock=virtual_clock, options=options(tmp_path, interval=600))
    running = asyncio.create_task(keeper.run())
    await virtual_clock.sleep(1)
    api.put(VALIDATING, configuration("check.example.com"))
    await virtual_clock.sleep(600)
    assert bundles(api) == [data(api)["ca.crt"]] * 4
    secret = api.get(SECRETS, SECRET.name, SECRET.namespace)
    assert secret is not None
    api.put(SECRETS, {**secret, "data": {"tls.crt": "bm90aGluZw=="}})
    await virtual_clock.sleep(600)
    assert bundles(api) == [data(api)["ca.crt"]] * 4
    assert (tmp_path / "tls.crt").read_bytes() == data(api)["tls.crt"]
    running.cancel()


@pytest.mark.parametrize(
    ("foreign", "why"),
    [
        (("tls.key",), "tls.key is the key of another certificate"),
        (("ca.key",), "ca.key is the key of another certificate"),
        (("ca.crt", "ca.key"), "tls.crt is not from the authority in ca.crt"),
        (("tls.crt", "tls.key"), "tls.crt is not from the authority in ca.crt"),
    ],
)
def test_parts_of_two_sets_are_no_set(foreign: tuple[str, ...], why: str) -> None:
    """As after a restore of half a Secret: each part is good, and no client could connect."""
    question = Question(("webhook.demo.svc",), datetime(2026, 1, 1, tzinfo=UTC), 7776000.0, 315360000.0)
    one, other = (
        {"ca.crt": made.bundle, "ca.key": made.ca_key, "tls.crt": made.chain, "tls.key": made.key}
        for made in (pki.settle(question).certificates for _ in range(2))
    )
    assert pki.settle(replace(question, stored=one)).source == "stored"
    answer = pki.settle(replace(question, stored={**one, **{part: other[part] for part in foreign}}))
    assert (answer.source, answer.complaint) == ("made", f"ValueError: {why}")


def test_a_key_behind_a_password_is_of_no_use() -> None:
    question = Question(("webhook.demo.svc",), datetime(2026, 1, 1, tzinfo=UTC), 7776000.0, 315360000.0)
    made = pki.settle(question).certificates
    locked = serialization.load_pem_private_key(made.key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    stored = {"ca.crt": made.bundle, "ca.key": made.ca_key, "tls.crt": made.chain, "tls.key": locked}
    assert pki.settle(replace(question, stored=stored)).source == "made"


async def test_a_keeper_that_watches_mends_at_once_and_asks_nothing_while_nothing_changes(
    virtual_clock: VirtualClock, tmp_path: Path
) -> None:
    api = world(virtual_clock)
    tasks = []
    for replica in ("a", "b"):
        short = options(tmp_path / replica, lifetime=timedelta(hours=3))
        keeper = CertificateKeeper(api.client(), clock=virtual_clock, options=short)
        cache = InformerCache(api.client())
        keeper.watch(cache)
        tasks += [asyncio.create_task(cache.run()), asyncio.create_task(keeper.run())]
    await virtual_clock.sleep(10)
    made = data(api)
    asked = len(api.requests)
    await virtual_clock.sleep(3600)
    assert len(api.requests) == asked

    api.put(VALIDATING, configuration("check.example.com"))
    await virtual_clock.sleep(5)
    assert bundles(api) == [made["ca.crt"]] * 4
    api.remove(SECRETS, SECRET.name, SECRET.namespace)
    await virtual_clock.sleep(5)
    assert data(api) == made, "what clients trust and replicas serve is stored again"
    secret = api.get(SECRETS, SECRET.name, SECRET.namespace)
    assert secret is not None
    api.put(SECRETS, {**secret, "data": {"tls.crt": "bm90aGluZw=="}})
    await virtual_clock.sleep(5)
    assert data(api) == made
    assert bundles(api) == [made["ca.crt"]] * 4

    await virtual_clock.sleep(3700)
    renewed = data(api)
    assert renewed["tls.crt"] != made["tls.crt"], "renewed when a third of its three hours was left"
    for replica in ("a", "b"):
        assert (tmp_path / replica / "tls.crt").read_bytes() == renewed["tls.crt"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_bundle_that_somebody_keeps_undoing_is_no_race(
    virtual_clock: VirtualClock, tmp_path: Path
) -> None:
    api = world(virtual_clock)
    keeper = CertificateKeeper(api.client(), clock=virtual_clock, options=options(tmp_path, calm=2.0))
    cache = InformerCache(api.client())
    keeper.watch(cache)
    tasks = [asyncio.create_task(cache.run()), asyncio.create_task(keeper.run())]
    await virtual_clock.sleep(10)
    before = len(api.writes())
    for _ in range(600):
        api.put(VALIDATING, configuration("check.example.com"))
        await virtual_clock.sleep(0.1)
    assert len(api.writes()) - before <= 32, "one write for each two seconds of a minute"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_certificate_may_be_for_an_address() -> None:
    made = make_certificates(
        ("localhost", "127.0.0.1"),
        datetime(2026, 11, 21, tzinfo=UTC),
        lifetime=timedelta(days=1),
        ca_lifetime=timedelta(days=2),
    )
    names = x509.load_pem_x509_certificate(made.chain).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]


def question(**more: Any) -> Question:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    return Question(("webhook.demo.svc",), now, 90 * 86400.0, 3650 * 86400.0, **more)


async def test_another_process_answers_as_this_one_does() -> None:
    made = await settle_apart(question())
    assert made.source == "made"
    assert made.due == datetime(2026, 11, 21, tzinfo=UTC) + timedelta(days=60) - timedelta(minutes=5) / 3
    parts = made.certificates
    stored = {"ca.crt": parts.bundle, "ca.key": parts.ca_key, "tls.crt": parts.chain, "tls.key": parts.key}
    for settle in (settle_apart, settle_here):
        assert await settle(question(stored=stored)) == Answer(parts, made.due, "stored")
        spoilt = await settle(question(stored={**stored, "tls.key": b"nothing"}, served=parts))
        assert (spoilt.source, spoilt.certificates) == ("served", parts)
        assert spoilt.complaint
        assert b"PRIVATE" not in spoilt.complaint.encode()


async def test_a_process_that_cannot_answer_is_an_error_that_is_tried_again() -> None:
    with pytest.raises(OSError, match="the process that makes certificates failed: ValueError"):
        await settle_apart(Question(("x" * 300 + "\u00e4",), datetime(2026, 11, 21, tzinfo=UTC), 60.0, 60.0))
