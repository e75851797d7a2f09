"""What is answered instead when an upstream fails."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead_trio.testing.upstream import Answer, End, Script, ScriptedUpstreamProcess, always

from .._problems import assert_problem
from ._gateway import Gateway

BODY = '{"error":"Service temporarily unavailable"}'


def fallback(**members: Any) -> dict[str, Any]:
    return {"enabled": True, "statusCode": 503, "contentType": "application/json", **members}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", BODY), ("text/html", "<p>Später</p>"), ("text/plain", "later")],
)
async def test_fallback_answers_for_an_upstream_that_is_away(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, content_type: str, body: str
) -> None:
    """As it was written, byte for byte, with its own status."""
    tenant = await gateway.tenant()
    instead = fallback(contentType=content_type, body=body, statusCode=203)
    await gateway.route(tenant, upstream.url, resilience={"fallback": instead})
    assert (await gateway.ask(tenant, "/x")).status == 200
    upstream.play(Script(is_listening=False))
    upstream.drop_connections()
    answer = await gateway.ask(tenant, "/x")
    assert (answer.status, answer.body.decode()) == (203, body)
    assert (answer.header("content-type") or "").split(";")[0] == content_type
    assert answer.header("x-request-id")


@pytest.mark.parametrize("how", ["hang", "reset"])
async def test_fallback_answers_when_time_is_over_or_the_connection_breaks(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, how: str
) -> None:
    """Whatever kept the upstream from answering."""
    tenant = await gateway.tenant()
    resilience = {"fallback": fallback(body=BODY), "timeout": {"default": 300}}
    await gateway.route(tenant, upstream.url, resilience=resilience)
    upstream.play(always(End(how=how)))
    answer = await gateway.ask(tenant, "/x")
    assert (answer.status, answer.body.decode()) == (503, BODY)


async def test_fallback_answers_while_the_breaker_is_open(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """The upstream is not asked any more."""
    tenant = await gateway.tenant()
    breaker = {"enabled": True, "failureThreshold": 2, "successThreshold": 1, "timeout": 60_000}
    resilience = {"fallback": fallback(body=BODY, statusCode=200), "circuitBreaker": breaker}
    await gateway.route(tenant, upstream.url, resilience=resilience)
    upstream.play(always(Answer(status=500)))
    await gateway.statuses(tenant, "/x", 2)
    asked = upstream.seen().count
    for _ in range(3):
        answer = await gateway.ask(tenant, "/x")
        assert (answer.status, answer.body.decode()) == (200, BODY)
    assert upstream.seen().count == asked


async def test_fallback_to_another_upstream(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """The same request, asked elsewhere."""
    tenant = await gateway.tenant()
    instead = {"enabled": True, "upstream": other_upstream.url}
    await gateway.route(tenant, upstream.url, resilience={"fallback": instead})
    upstream.play(Script(is_listening=False))
    upstream.drop_connections()
    other_upstream.play(always(Answer(body="second choice")))
    answer = await gateway.ask(tenant, "/x?y=z")
    assert (answer.status, answer.body) == (200, b"second choice")
    assert [request.target for request in other_upstream.seen().requests] == ["/x?y=z"]


async def test_fallback_is_not_for_callers_mistakes(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """What the upstream says of a request is its answer; refusals of ours stay ours."""
    tenant = await gateway.tenant(rateLimit={"limit": 50, "windowSeconds": 60})
    await gateway.route(tenant, upstream.url, resilience={"fallback": fallback(body=BODY)})
    upstream.play(always(Answer(status=404, body="no such thing")))
    answer = await gateway.ask(tenant, "/x")
    assert (answer.status, answer.body) == (404, b"no such thing")
    upstream.play(always(Answer()))
    statuses = await gateway.statuses(tenant, "/x", 60)
    assert statuses[-1] == 429
    assert_problem(await gateway.ask(tenant, "/x"), 429, "rate_limited")


async def test_without_fallback_the_error_is_told(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """It is off unless enabled."""
    tenant = await gateway.tenant()
    off = fallback(body=BODY, enabled=False)
    await gateway.route(tenant, upstream.url, resilience={"fallback": off})
    upstream.play(Script(is_listening=False))
    upstream.drop_connections()
    assert_problem(await gateway.ask(tenant, "/x"), 502, "upstream_error")
