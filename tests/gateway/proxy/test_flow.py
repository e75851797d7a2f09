"""The way of a request: what stops it, in which order, and what its client is told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.database.tenants import RateLimitRecord
from bulkhead_trio.testing.upstream import Answer, End, Events, Raw, Script, WebSocket, always

from ._front import KINDS, UPGRADE, Kind, Visit
from ._world import Customer, open_world

both = pytest.mark.parametrize("kind", KINDS)
CIRCLE = {"via": ", ".join(["1.1 bulkhead-trio"] * 9)}


# --- order ---------------------------------------------------------------------------------------


@both
async def test_checks_come_in_their_order(autojump_clock: MockClock, kind: Kind) -> None:
    """A request with every fault at once is told of the first; without that, of the next."""
    async with open_world(workers=1, queue=0, max_body_bytes=100) as world:
        others, customer = world.customer(), world.customer(active=False, tier="gold")
        upstream = await world.upstream(always(Answer(gate="go")))
        await world.route(others, upstream)
        key = {"x-api-key": customer.key}
        headers = {"x-request-timeout": "soon", **CIRCLE}

        async def code(**more: str) -> str | None:
            sent = {**more, **headers}
            visit = await world.ask(None, "POST", body=b"x" * 200, headers=sent, kind=kind)
            return visit.code

        def change(**changes: Any) -> None:
            world.tenants.change(customer.id, **changes)
            world.directory.forget_tenant(customer.id)

        assert await code() == "api_key_missing"
        assert await code(**{"x-api-key": "bh_nobody"}) == "api_key_invalid"
        assert await code(**key) == "tenant_inactive"
        change(active=True)
        assert await code(**key) == "tenant_tier_invalid"
        change(tier="free", rate_limit=RateLimitRecord(1, 60.0))
        assert await code(**key) == "invalid_header"  # which is in its quota, the next one is not
        assert await code(**key) == "rate_limited"
        change(rate_limit=None)
        assert await code(**key) == "invalid_header"
        headers["x-request-timeout"] = "10"
        assert await code(**key) == "route_not_found"
        bad = await world.upstream(always(Answer(status=500)))
        resilience = {"circuitBreaker": {"failureThreshold": 1}}
        await world.route(customer, bad, resilience=resilience)
        assert (await world.ask(customer, kind=kind)).status == 500  # opens the breaker
        holder = world.begin(others)
        await trio.sleep(1)
        assert await code(**key) == "upstream_error"
        del headers["via"]
        assert await code(**key) == "body_too_large"
        visit = await world.ask(customer, kind=kind)
        assert (visit.status, visit.code) == (503, "bulkhead_full")
        upstream.open_gate("go")
        await holder.over.wait()
        visit = await world.ask(customer, kind=kind)
        assert (visit.status, visit.code) == (503, "circuit_open")
        assert bad.seen().count == 1
        await world.assert_at_rest()


# --- keys ----------------------------------------------------------------------------------------


@both
async def test_keys(autojump_clock: MockClock, kind: Kind) -> None:
    """A malformed, an unknown, a wrong and a revoked one are told apart by nobody."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream)
        revoked = world.tenants.add_key(customer.id)
        world.tenants.revoke(revoked.split("_")[1])
        other_end = "A" if customer.key[-1] != "A" else "B"
        for key in ("", "x", customer.key[:-1] + other_end, customer.key + "x", revoked):
            visit = await world.ask(None, headers={"x-api-key": key}, kind=kind)
            assert (visit.status, visit.code) == (403, "api_key_invalid"), key
            assert visit.json()["detail"] == "This API key is not known."
        visit = await world.ask(None, kind=kind)
        assert (visit.status, visit.code) == (401, "api_key_missing")
        assert upstream.seen().count == 0
        assert (await world.ask(None, headers={"x-api-key": f" {customer.key} "})).status == 200


async def test_two_keys_are_none(autojump_clock: MockClock) -> None:
    """Even where both are good."""
    async with open_world() as world:
        customer = world.customer()
        await world.route(customer, await world.upstream())
        visit = world.visit(customer)
        visit.scope["headers"].append((b"x-api-key", customer.key.encode()))
        await visit.run(world.edge)
        assert (visit.status, visit.code) == (403, "api_key_invalid")


@both
async def test_database_away_before_a_key_is_known(autojump_clock: MockClock, kind: Kind) -> None:
    """Whoever is known goes on; whoever is not is told that the database is away."""
    async with open_world() as world:
        known, unknown = world.customer(), world.customer()
        upstream = await world.upstream()
        for customer in (known, unknown):
            await world.route(customer, upstream)
        await world.ask(known)
        world.tenants.is_away = True
        visit = await world.ask(unknown, kind=kind)
        assert (visit.status, visit.code) == (503, "database_unavailable")
        assert (await world.ask(known, kind=kind)).status == 200


# --- quotas --------------------------------------------------------------------------------------


async def test_quota_is_told_with_every_answer(autojump_clock: MockClock) -> None:
    """The upstream's, our own errors, and refusals; what the upstream says of one is not."""
    async with open_world() as world:
        customer = world.customer(rate_limit=RateLimitRecord(3, 60.0))
        theirs = (("X-RateLimit-Remaining", "999"), ("RateLimit", "theirs"))
        upstream = await world.upstream(always(Answer(headers=theirs)))
        await world.route(customer, upstream, path="/there")
        visits = [
            await world.ask(customer, target=path) for path in ("/there", "/a", "/there", "/there")
        ]
        assert [visit.status for visit in visits] == [200, 404, 200, 429]
        assert [visit.header("x-ratelimit-remaining") for visit in visits] == ["2", "1", "0", "0"]
        assert "theirs" not in str(visits[0].header("ratelimit"))
        assert visits[3].header("retry-after") == "60"
        await trio.sleep(60.1)
        assert (await world.ask(customer, target="/there")).status == 200


async def test_refusal_by_a_part_of_the_quota_names_both(autojump_clock: MockClock) -> None:
    """The headers have the part that this process may use; who reads on learns of the whole."""
    async with open_world(processes=2) as world:
        customer = world.customer(rate_limit=RateLimitRecord(4, 60.0))
        await world.route(customer, await world.upstream())
        visits = [await world.ask(customer) for _ in range(3)]
        assert [visit.status for visit in visits] == [200, 200, 429]
        assert {visit.header("x-ratelimit-limit") for visit in visits} == {"2"}
        assert visits[2].json()["detail"] == (
            "Your tenant may send 4 requests per 60 s; it has a part of that, 2, with the process"
            " that answers."
        )


async def test_window_slides(autojump_clock: MockClock) -> None:
    """Never more than the limit in any stretch of that length."""
    async with open_world() as world:
        customer = world.customer(rate_limit=RateLimitRecord(2, 10.0))
        await world.route(customer, await world.upstream())
        passed = []
        for _ in range(100):
            if (await world.ask(customer)).status == 200:
                passed.append(trio.current_time())
            await trio.sleep(0.5)
        gaps = [after - before for before, after in zip(passed, passed[2:], strict=False)]
        assert min(gaps) >= 10.0 - 1e-6
        assert len(passed) == 10


async def test_tenants_have_quotas_of_their_own(autojump_clock: MockClock) -> None:
    """What one of them has used up is nothing to another."""
    async with open_world() as world:
        upstream = await world.upstream()
        customers = [world.customer(rate_limit=RateLimitRecord(1, 60.0)) for _ in range(2)]
        for customer in customers:
            await world.route(customer, upstream)
        statuses = [(await world.ask(customer)).status for customer in customers * 2]
        assert statuses == [200, 200, 429, 429]


# --- upstreams -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (Script(is_listening=False), 502, "upstream_error"),
        (always(End(how="close")), 502, "upstream_error"),
        (always(End(how="reset")), 502, "upstream_error"),
        (always(Raw(data="no HTTP\r\n\r\n")), 502, "upstream_error"),
        (always(Raw(data="HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")), 502, "upstream_error"),
        (always(Raw(data="HTTP/1.1 101 No\r\nUpgrade: x\r\n\r\n")), 502, "upstream_error"),
        (always(Raw(data="HTTP/1.1 200 OK\r\nX: " + "y" * 70_000)), 502, "upstream_error"),
        (always(End(how="hang")), 504, "upstream_timeout"),
        (always(Answer(status=500)), 500, None),
        (always(Answer(status=404)), 404, None),
        (always(Answer(status=204)), 204, None),
    ],
)
async def test_what_upstreams_do(
    autojump_clock: MockClock, kind: Kind, script: Script, status: int, code: str | None
) -> None:
    """What is an answer is passed on, and what is none is one of ours, without names of theirs."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(script)
        await world.route(customer, upstream)
        visit = await world.ask(customer, kind=kind)
        assert (visit.status, visit.code) == (status, code)
        assert str(upstream.port).encode() not in visit.body
        assert b"127.0.0.1" not in visit.body
        await world.assert_at_rest()


async def test_request_that_goes_in_a_circle(autojump_clock: MockClock) -> None:
    """Eight gateways such as this one are enough; other proxies do not count."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream)
        eight = {"via": ", ".join(["1.1 bulkhead-trio", "1.1 other"] * 8)}
        assert (await world.ask(customer, headers=eight)).status == 200
        visit = await world.ask(customer, headers=CIRCLE)
        assert (visit.status, visit.code) == (502, "upstream_error")
        assert upstream.seen().count == 1


# --- bodies that are too large -------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("body", "asked"),
    [(b"x" * 101, 0), (b"x" * 1_000_000, 0), ([b"x" * 60, b"x" * 60], 1), ([b"x" * 101], 1)],
)
async def test_body_that_is_too_large(
    autojump_clock: MockClock, kind: Kind, body: Any, asked: int
) -> None:
    """Refused at once where it says so; otherwise as soon as there is too much of it."""
    async with open_world(max_body_bytes=100) as world:
        customer, upstream = world.customer(), await world.upstream()
        route_id = await world.route(customer, upstream, resilience={"circuitBreaker": {}})
        visit = await world.ask(customer, "POST", body=body, kind=kind)
        assert (visit.status, visit.code) == (413, "body_too_large")
        await world.assert_at_rest()
        assert upstream.seen().count == asked
        assert not any(each.is_complete for each in upstream.seen().requests)
        assert world.one(route_id).statistics().ignored == asked
        exact = b"x" * 100
        assert (await world.ask(customer, "POST", body=exact, kind=kind)).status == 200


@both
async def test_body_that_is_too_large_once_the_answer_has_begun(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """The answer is cut off: no second one can begin."""
    async with open_world(max_body_bytes=1000) as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(content="mirror", framing="chunked")))
        await world.route(customer, upstream)
        body: list[Any] = [b"x" * 900, 1.0, b"y" * 900, 1.0, b"z"]
        visit = await world.ask(customer, "POST", body=body, kind=kind)
        assert (visit.status, visit.was_cut_off, visit.is_complete) == (200, True, False)
        assert visit.body == b"x" * 900
        await world.assert_at_rest()


# --- shutting down -------------------------------------------------------------------------------


@both
async def test_draining(autojump_clock: MockClock, kind: Kind) -> None:
    """What is under way is finished, and nothing new begun."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(gate="go")))
        await world.route(customer, upstream)
        running = world.begin(customer, kind=kind)
        await trio.sleep(1)
        world.gate.close()
        visit = await world.ask(customer, kind=kind)
        assert (visit.status, visit.code) == (503, "draining")
        upstream.open_gate("go")
        await running.over.wait()
        assert (running.status, running.header("connection")) == (200, "close")
        with trio.fail_after(1):
            await world.gate.wait_idle()
        await world.assert_at_rest()


@pytest.mark.parametrize("begun", [False, True])
async def test_cut_off_when_the_server_stops(autojump_clock: MockClock, begun: bool) -> None:
    """Behind a front that does not cancel: what has not begun is answered, the rest cut off."""
    async with open_world() as world:
        customer = world.customer()
        answer = Answer(gate="" if begun else "go", size=100_000, piece_bytes=1000, piece_seconds=1)
        upstream = await world.upstream(always(answer))
        await world.route(customer, upstream)
        visit = world.begin(customer, kind="tells")
        await trio.sleep(3)
        world.gate.close()
        world.gate.cut_off()
        with trio.fail_after(1):
            await visit.over.wait()
        if begun:
            assert (visit.status, visit.is_complete) == (200, False)
        else:
            assert (visit.status, visit.code) == (503, "draining")
        await world.assert_at_rest()


# --- tunnels -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("step", [WebSocket(), Events()])
async def test_what_lasts_is_bounded_by_tier_and_by_tenant(
    autojump_clock: MockClock, kind: Kind, step: Any
) -> None:
    """Ten for each worker, half of them for one tenant: WebSockets and event streams. They keep
    no place in the compartment, and one that ends makes room for another."""
    headers = UPGRADE if isinstance(step, WebSocket) else {}
    status = 101 if isinstance(step, WebSocket) else 200
    async with open_world(workers=1, queue=2) as world:
        upstream = await world.upstream(always(step))
        first, second, third = (world.customer() for _ in range(3))
        other = world.customer(tier="pro")
        for each in (first, second, third, other):
            await world.route(each, upstream, resilience={"circuitBreaker": {}})

        async def begun(who: Customer) -> Visit:
            visit = world.begin(who, headers=headers, kind=kind)
            await visit.begun.wait()
            await trio.sleep(0.01)
            return visit

        async def refused(who: Customer) -> bool:
            visit = await world.ask(who, headers=headers, kind=kind)
            return (visit.status, visit.code) == (503, "bulkhead_full")

        visits = [await begun(first) for _ in range(5)]
        assert await refused(first)
        visits += [await begun(second) for _ in range(5)]
        assert await refused(second)
        assert await refused(third)
        visits.append(await begun(other))
        assert {visit.status for visit in visits} == {status}
        assert dict(world.proxy.tunnels) == {"free": 10, "pro": 1}
        assert world.tiers["free"].statistics().compartment.active == 0
        await end(visits[0])
        visits.append(await begun(third))
        assert await refused(first)
        for visit in visits:
            await end(visit)
        last = await begun(first)
        assert last.status == status
        await end(last)
        await world.assert_at_rest()


async def end(visit: Visit) -> None:
    """By its client."""
    if visit.tunnel is not None:
        await visit.tunnel.aclose()
    else:
        visit.leave()
    with trio.fail_after(10):
        await visit.over.wait()


@both
async def test_handshake_that_the_upstream_refuses_is_an_answer_like_any(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """And no tunnel is counted for it any more."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(status=403, body="no sockets here")))
        await world.route(customer, upstream)
        visit = world.web_socket(customer, kind=kind)
        await visit.run(world.edge)
        assert (visit.status, visit.body) == (403, b"no sockets here")
        await world.assert_at_rest()
