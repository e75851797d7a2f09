"""When a request is sent again, and when it must not be."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from bulkhead_trio.testing.upstream import (
    Answer,
    End,
    Rule,
    Script,
    ScriptedUpstreamProcess,
    always,
    generated_blocks,
)

from .._problems import assert_problem
from ._gateway import Gateway, Tenant
from ._streaming import stream


def retry(**members: Any) -> dict[str, Any]:
    return {
        "retry": {
            "enabled": True,
            "maxRetries": 3,
            "baseDelayMs": 10,
            "maxDelayMs": 50,
            "retryableStatusCodes": [500, 502, 503, 504],
            **members,
        }
    }


async def tenant_with(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, resilience: dict[str, Any]
) -> Tenant:
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, resilience=resilience)
    upstream.forget()  # it may have been asked until the route was seen
    return tenant


def statuses(pattern: str) -> Script:
    return Script(rules=(Rule(steps=pattern, then="last"),))


@pytest.mark.parametrize(
    ("pattern", "status", "asked"),
    [
        ("200", 200, 1),
        ("500,200", 200, 2),
        ("500,503,502,200", 200, 4),
        ("500,500,500,500,200", 500, 4),
        ("404", 404, 1),
        ("501", 501, 1),
        ("503,404", 404, 2),
    ],
)
async def test_get_is_sent_again(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, pattern: str, status: int, asked: int
) -> None:
    """After the statuses that the route names, three times at most; the last answer counts."""
    tenant = await tenant_with(gateway, upstream, retry())
    upstream.play(statuses(pattern))
    assert (await gateway.ask(tenant, "/x")).status == status
    assert upstream.seen().count == asked


@pytest.mark.parametrize(
    ("method", "is_sent_again"),
    [("GET", True), ("HEAD", True), ("PUT", True), ("DELETE", True), ("OPTIONS", True),
     ("POST", False), ("PATCH", False)],
)  # fmt: skip
async def test_only_idempotent_methods_are_sent_again(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, method: str, is_sent_again: bool
) -> None:
    """What may be done twice, unless the route says that others may too."""
    tenant = await tenant_with(gateway, upstream, retry())
    upstream.play(statuses("500,200"))
    body = b"hello" if method in ("PUT", "POST", "PATCH") else None
    answer = await gateway.ask(tenant, "/x", method=method, body=body)
    assert answer.status == (200 if is_sent_again else 500)
    seen = upstream.seen().requests
    assert len(seen) == (2 if is_sent_again else 1)
    if body is not None:
        assert {request.length for request in seen} == {5}
        assert len({request.digest for request in seen}) == 1


async def test_body_that_is_too_long_to_keep_is_sent_once(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """It is streamed, and what was streamed is gone."""
    tenant = await tenant_with(gateway, upstream, retry())
    upstream.play(statuses("500,200"))
    size = 20_000_000
    answer = await stream(
        gateway.addresses[0], "/x", generated_blocks(size), size=size, headers=tenant.headers
    )
    assert answer.status == 500
    assert upstream.seen().count == 1


async def test_broken_connections_are_tried_again(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Reset, closed without an answer, refused."""
    tenant = await tenant_with(gateway, upstream, retry())
    upstream.play(always(End(how="reset"), End(how="close"), Answer(body="there")))
    answer = await gateway.ask(tenant, "/x")
    assert (answer.status, answer.body) == (200, b"there")


async def test_all_tries_are_within_one_deadline(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """However many there could be."""
    resilience = {**retry(baseDelayMs=400, maxDelayMs=400, maxRetries=10)}
    tenant = await tenant_with(gateway, upstream, resilience)
    upstream.play(statuses("500"))
    began = trio.current_time()
    answer = await gateway.ask(tenant, "/x", headers={"X-Request-Timeout": "1"})
    assert trio.current_time() - began < 1.5
    assert answer.status in (500, 504), str(answer)
    assert upstream.seen().count < 11


async def test_retries_have_a_budget(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> None:
    """An upstream that fails always is not asked four times as often."""
    tenant = await tenant_with(gateway, upstream, retry(baseDelayMs=1, maxDelayMs=2))
    upstream.play(statuses("500"))
    assert await gateway.statuses(tenant, "/x", 60) == [500] * 60
    assert upstream.seen().count < 180


async def test_retry_goes_to_another_upstream(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """Where there is one: the one that just failed is not asked first again."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, other_upstream.url, resilience=retry(maxRetries=1))
    upstream.play(statuses("500"))
    assert await gateway.statuses(tenant, "/x", 10) == [200] * 10
    assert other_upstream.seen().count == 10


async def test_without_retry_nothing_is_sent_twice(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """It is off when absent."""
    tenant = await tenant_with(gateway, upstream, {})
    upstream.play(always(End(how="reset")))
    assert_problem(await gateway.ask(tenant, "/x", method="POST", body=b"a"), 502, "upstream_error")
    assert upstream.seen().count == 1
