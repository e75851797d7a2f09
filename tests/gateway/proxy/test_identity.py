"""Routes whose requests go out as an identity of the server's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio
from trio.testing import MockClock

from bulkhead_trio.gateway.identity import Authorizer
from bulkhead_trio.http.client._audience_rules import Audience
from bulkhead_trio.http.client.identity import Identities
from bulkhead_trio.http.client.oauth2 import ClientCredentials, TokenSource
from bulkhead_trio.testing.upstream import Answer, Rule, Script, ScriptedUpstream, always

from ._world import World, open_world, retry


def grant(token: str, seconds: int = 3600) -> Answer:
    """A token endpoint's answer."""
    body = {"access_token": token, "token_type": "Bearer", "expires_in": seconds}
    return Answer(body=msgspec.json.encode(body).decode())


@asynccontextmanager
async def identified(*grants: Answer) -> AsyncIterator[tuple[World, ScriptedUpstream]]:
    """A world with the identity ``billing``, for everybody on loopback, and its endpoint."""
    identities: dict[str, Authorizer] = {}
    async with open_world(identities=identities) as world:
        script = Script(rules=(Rule(path="/token", steps=grants, then="last"),))
        endpoint = await world.upstream(script)
        credentials = ClientCredentials(f"{endpoint.url}/token", "bt", "hush")
        source = TokenSource("billing", credentials, world.client, random=lambda: 0.5)
        audience = Audience.of([endpoint.url])
        made = Identities([(source, audience)])
        await world.nursery.start(made.run)
        identities.update(made)
        yield world, endpoint


def asked_as(endpoint: ScriptedUpstream, path: str = "/x") -> list[str | None]:
    """Who requests to the upstream, which is the endpoint's neighbour, said they were of."""
    return [
        each.header("authorization") for each in endpoint.seen().requests if each.target == path
    ]


async def test_token_stands_in_the_callers_place(autojump_clock: MockClock) -> None:
    """The upstream is told who the server is, and not whom its caller would like to be."""
    async with identified(grant("one")) as (world, upstream):
        customer = world.customer()
        await world.route(customer, upstream, identity="billing")
        for _ in range(3):
            visit = await world.ask(customer, headers={"authorization": "Bearer stolen"})
            assert visit.status == 200
        assert asked_as(upstream) == ["Bearer one"] * 3
        assert len(asked_as(upstream, "/token")) == 1
        await world.assert_at_rest()


async def test_token_that_is_refused_is_replaced(autojump_clock: MockClock) -> None:
    """The client sees the 401; the next request goes with another token."""
    async with identified(grant("one"), grant("two")) as (world, upstream):
        customer = world.customer()
        await world.route(customer, upstream, identity="billing")
        assert (await world.ask(customer)).status == 200
        rules = (
            Rule(path="/token", steps=(grant("two"),), then="last"),
            Rule(path="/x", steps=(Answer(status=401), Answer()), then="last"),
        )
        upstream.play(Script(rules=rules))
        await trio.sleep(60)
        assert (await world.ask(customer)).status == 401
        await trio.sleep(60)
        assert (await world.ask(customer)).status == 200
        assert asked_as(upstream) == ["Bearer one", "Bearer one", "Bearer two"]


async def test_no_token_no_request(autojump_clock: MockClock) -> None:
    """Nothing goes out as nobody, and that there is no token is no failure of the upstream."""
    async with identified(Answer(status=400, body='{"error":"invalid_client"}')) as (world, other):
        customer, upstream = world.customer(), await world.upstream(always(Answer()))
        route = await world.route(
            customer, upstream, identity="billing",
            resilience={"circuitBreaker": {"failureThreshold": 1}, **retry(maxRetries=3)},
        )  # fmt: skip
        visit = await world.ask(customer)
        assert (visit.status, visit.code) == (502, "upstream_error")
        assert upstream.seen().count == 0
        assert world.one(route).breaker is not None
        assert world.one(route).statistics().failed == 0
        assert len(asked_as(other, "/token")) == 1
        await world.assert_at_rest()


async def test_waiting_for_a_token_has_the_requests_deadline(autojump_clock: MockClock) -> None:
    """A token endpoint that hangs keeps nobody longer than he wants to wait."""
    async with identified(Answer(head_seconds=100.0)) as (world, upstream):
        customer = world.customer()
        await world.route(customer, upstream, identity="billing")
        visit = await world.ask(customer, headers={"x-request-timeout": "2"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert asked_as(upstream) == []


async def test_identity_that_is_gone_refuses(autojump_clock: MockClock) -> None:
    """Taken out of the configuration, it is not as if the route had none."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream, identity="billing")
        visit = await world.ask(customer)
        assert visit.status == 502
        assert upstream.seen().count == 0
