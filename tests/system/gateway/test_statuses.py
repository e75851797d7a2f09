"""Which error a caller gets for what, each as the contract writes it."""

from __future__ import annotations

import hashlib

import pytest
import trio

from bulkhead_trio.testing.upstream import (
    Answer,
    End,
    Script,
    ScriptedUpstreamProcess,
    always,
)

from .._client import ask
from .._problems import assert_no_leak, assert_problem
from .._server import wait_until_answered
from ._gateway import SEEN_SECONDS, Gateway, Tenant

GOOD_ROUTE = {
    "method": "GET",
    "path": "/a",
    "pathType": "exact",
    "upstreams": [{"url": "http://127.0.0.1:9"}],
}


async def test_request_without_a_key_is_asked_for_one(gateway: Gateway) -> None:
    """401 with a challenge."""
    answer = await ask(gateway.addresses[0], "/anything")
    assert_problem(answer, 401, "api_key_missing")
    assert answer.header("www-authenticate")


async def test_wrong_keys_are_all_alike(gateway: Gateway) -> None:
    """Malformed, unknown, half right, revoked, or a digest: nothing tells which."""
    tenant = await gateway.tenant()
    key_id, secret = tenant.key.removeprefix("bh_").split("_", 1)
    made = (await gateway.admin("POST", f"/admin/tenants/{tenant.id}/keys")).json()
    revoked = Tenant(tenant.id, made["apiKey"])
    deleted = await gateway.admin("DELETE", f"/admin/tenants/{tenant.id}/keys/{made['id']}")
    assert deleted.status == 204, str(deleted)
    wrong = [
        "nonsense",
        "bh_unknown_" + secret,
        f"bh_{key_id}_" + "A" * len(secret),
        tenant.key[:-1],
        tenant.key + "A",
        hashlib.sha256(tenant.key.encode()).hexdigest(),
        revoked.key,
    ]
    seen = set()
    for key in wrong:
        answer = await ask(gateway.addresses[0], "/x", headers={"X-API-Key": key})
        members = assert_problem(answer, 403, "api_key_invalid")
        seen.add((members["title"], members["detail"]))
    assert len(seen) == 1
    assert_problem(await gateway.ask(tenant, "/x"), 404, "route_not_found")


async def test_revoked_key_that_was_in_use_ends_in_time(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Cached or not, within five seconds; the tenant's other key goes on."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    made = (await gateway.admin("POST", f"/admin/tenants/{tenant.id}/keys")).json()
    second = Tenant(tenant.id, made["apiKey"])
    assert (await gateway.ask(second, "/x")).status == 200
    await gateway.admin("DELETE", f"/admin/tenants/{tenant.id}/keys/{made['id']}")

    async def is_refused() -> bool:
        return (await gateway.ask(second, "/x")).status == 403

    await wait_until_answered(is_refused, "key refused", timeout=SEEN_SECONDS)
    assert (await gateway.ask(tenant, "/x")).status == 200


async def test_inactive_tenant_is_refused(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Within five seconds, and let in again likewise."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    for is_active, status in ((False, 403), (True, 200)):
        await gateway.change(f"/admin/tenants/{tenant.id}", {"active": is_active})

        async def is_so(status: int = status) -> bool:
            return (await gateway.ask(tenant, "/x")).status == status

        await wait_until_answered(is_so, f"status {status}", timeout=SEEN_SECONDS)
        if not is_active:
            assert_problem(await gateway.ask(tenant, "/x"), 403, "tenant_inactive")


async def test_tenants_have_routes_of_their_own(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """One's path is nothing to another; nor is what the method does not match."""
    mine, other = await gateway.tenant(), await gateway.tenant()
    await gateway.route(mine, upstream.url, path="/mine", method=["GET", "POST"])
    assert (await gateway.ask(mine, "/mine/x")).status == 200
    assert_problem(await gateway.ask(other, "/mine/x"), 404, "route_not_found")
    assert_problem(await gateway.ask(mine, "/minex"), 404, "route_not_found")
    refused = await gateway.ask(mine, "/mine/x", method="DELETE")
    assert refused.status in (404, 405), str(refused)
    assert_problem(refused)
    assert upstream.seen().count == 1


async def test_own_paths_are_never_proxied(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Whatever a tenant's routes match."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, path="/")
    for path in ("/health", "/ready", "/api/data", "/metrics", "/admin/tenants"):
        await gateway.ask(tenant, path)
    assert upstream.seen().count == 0
    assert (await gateway.ask(tenant, "/healthy")).status == 200


async def test_tenants_limit_is_exact(gateway: Gateway) -> None:
    """So many requests in the window, and not one more, whether they lead anywhere or not."""
    tenant = await gateway.tenant(rateLimit={"limit": 20, "windowSeconds": 60})
    answers = await gateway.at_once(tenant, "/nowhere", 30)
    limited = [answer for answer in answers if answer.status == 429]
    assert [answer.status for answer in answers].count(404) == 20
    assert len(limited) == 10
    for answer in limited:
        assert_problem(answer, 429, "rate_limited")
        assert answer.header("x-ratelimit-limit") == "20"
        assert answer.header("x-ratelimit-remaining") == "0"


async def test_upstream_that_is_not_there(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """502, and nothing of where it would have been."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    upstream.play(Script(is_listening=False))
    answer = await gateway.ask(tenant, "/x")
    assert_problem(answer, 502, "upstream_error")
    assert str(upstream.port).encode() not in answer.body


async def test_upstream_that_is_slow(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> None:
    """504 once the route's time for the method is over, and the request to it is given up."""
    tenant = await gateway.tenant()
    timeout = {"default": 10_000, "byMethod": {"GET": 300}}
    await gateway.route(tenant, upstream.url, resilience={"timeout": timeout})
    upstream.play(always(End(how="hang")))
    began = trio.current_time()
    answer = await gateway.ask(tenant, "/x")
    assert_problem(answer, 504, "upstream_timeout")
    assert 0.25 < trio.current_time() - began < 2

    async def is_given_up() -> bool:
        return [request.outcome for request in upstream.seen().requests] == ["gone"]

    await wait_until_answered(is_given_up, "request given up")


async def test_deadline_of_the_caller_counts(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """The smaller one wins, and what is left of it is told to the upstream."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, resilience={"timeout": {"default": 10_000}})
    upstream.play(always(End(how="hang")))
    began = trio.current_time()
    answer = await gateway.ask(tenant, "/x", headers={"X-Request-Timeout": "0.4"})
    assert_problem(answer, 504, "deadline_exceeded")
    assert 0.35 < trio.current_time() - began < 2
    told = upstream.seen().requests[0].header("x-request-timeout")
    assert told is not None
    assert 0 < float(told) <= 0.4


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan", "inf"])
async def test_deadline_that_is_none_is_refused(gateway: Gateway, timeout: str) -> None:
    """400, before anything is asked."""
    tenant = await gateway.tenant()
    answer = await gateway.ask(tenant, "/x", headers={"X-Request-Timeout": timeout})
    assert_problem(answer, 400, "invalid_header")


async def test_full_bulkhead_of_an_upstream(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """One runs, one waits, the third is refused at once; then both are answered."""
    tenant = await gateway.tenant()
    bulkhead = {"enabled": True, "maxConcurrent": 1, "queueSize": 1}
    await gateway.route(tenant, upstream.url, resilience={"bulkhead": bulkhead})
    upstream.play(always(Answer(gate="go")))
    answers = []

    async def one() -> None:
        answers.append(await gateway.ask(tenant, "/x"))
        if len(answers) == 1:
            upstream.open_gate("go")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    assert [answer.status for answer in answers] == [503, 200, 200]
    assert_problem(answers[0], 503, "bulkhead_full")
    assert upstream.seen().most_in_flight == 1


async def test_upstreams_own_errors_are_passed_on(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """They are its answers, body and all; nothing is added but what every answer has."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    for status in (400, 401, 404, 418, 429, 500, 503, 599):
        upstream.play(always(Answer(status=status, body="its own words")))
        answer = await gateway.ask(tenant, "/x")
        assert (answer.status, answer.body) == (status, b"its own words")
        assert answer.header("x-request-id")


# --- the admin API --------------------------------------------------------------------------------


async def test_admin_wants_its_key(gateway: Gateway) -> None:
    """401 without, 403 with another."""
    address = gateway.addresses[0]
    assert_problem(await ask(address, "/admin/tenants"), 401, "admin_key_missing")
    wrong = await ask(address, "/admin/tenants", headers={"X-Admin-Key": "wrong"})
    assert_problem(wrong, 403, "admin_key_invalid")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"path": "[", "pathType": "regex"}, "$.path"),
        ({"path": "(a)\\1", "pathType": "regex"}, "$.path"),
        ({"upstreams": []}, "$.upstreams"),
        ({"upstreams": [{"url": "ftp://127.0.0.1"}]}, "$.upstreams[0].url"),
        ({"upstreams": [{"url": "http://169.254.169.254/"}]}, "$.upstreams[0].url"),
        ({"upstreams": [{"url": "http://10.0.0.1/"}]}, "$.upstreams[0].url"),
        ({"loadBalancing": "magic"}, "$.loadBalancing"),
        (
            {"transform": {"request": {"headers": {"set": {"Connection": "close"}}}}},
            "$.transform.request.headers.set",
        ),
        (
            {"transform": {"request": {"path": {"pattern": "(", "replacement": ""}}}},
            "$.transform.request.path.pattern",
        ),
        ({"resilience": {"circuitBreaker": {"enabled": True, "failureThreshold": 0}}},
         "$.resilience.circuitBreaker.failureThreshold"),
    ],
)  # fmt: skip
async def test_bad_routes_are_refused_when_saved(
    gateway: Gateway, changes: dict[str, object], path: str
) -> None:
    """With the place of the mistake."""
    tenant = await gateway.tenant()
    document = {**GOOD_ROUTE, "tenantId": tenant.id, **changes}
    answer = await gateway.admin("POST", "/admin/routes", document)
    members = assert_problem(answer, 400, "invalid_body")
    assert any(error["path"].startswith(path) for error in members["errors"]), members
    assert all(error["message"] for error in members["errors"])
    assert_no_leak(answer)


async def test_all_mistakes_of_a_route_are_told_at_once(gateway: Gateway) -> None:
    """So that they can be put right at once."""
    tenant = await gateway.tenant()
    document = {
        **GOOD_ROUTE,
        "tenantId": tenant.id,
        "loadBalancing": "magic",
        "upstreams": [{"url": "nowhere"}],
    }
    members = assert_problem(
        await gateway.admin("POST", "/admin/routes", document), 400, "invalid_body"
    )
    paths = {error["path"] for error in members["errors"]}
    assert {"$.loadBalancing", "$.upstreams[0].url"} <= paths


async def test_route_of_nobody_and_route_that_is_gone(gateway: Gateway) -> None:
    """A route belongs to a tenant; what was deleted is not found."""
    nobody = "00000000-0000-4000-8000-000000000000"
    answer = await gateway.admin("POST", "/admin/routes", {**GOOD_ROUTE, "tenantId": nobody})
    assert answer.status in (400, 404), str(answer)
    assert_problem(answer)
    tenant = await gateway.tenant()
    route = await gateway.route(tenant, "http://127.0.0.1:9", path="/gone", until_seen=False)
    assert (await gateway.admin("DELETE", f"/admin/routes/{route}")).status == 204
    assert_problem(await gateway.admin("GET", f"/admin/routes/{route}"), 404, "not_found")
