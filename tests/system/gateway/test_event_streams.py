"""Server-sent events pass as they come, for as long as either side wants."""

from __future__ import annotations

import trio

from bulkhead_trio.testing.upstream import Events, ScriptedUpstreamProcess, always

from .._server import wait_until_answered
from ._gateway import Gateway
from ._streaming import open_exchange


def event(number: int) -> bytes:
    return b'id: %d\ndata: {"number":%d}\n\n' % (number, number)


async def test_events_come_one_by_one(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> None:
    """None waits for the next; the end is the end."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    upstream.play(always(Events(count=5, seconds=0.2)))
    fields = {**tenant.headers, "Accept": "text/event-stream"}
    with trio.fail_after(10):
        async with open_exchange(gateway.addresses[0], "/x", headers=fields) as exchange:
            head = await exchange.head()
            assert head.all("content-type") == ["text/event-stream"]
            began = trio.current_time()
            for number in range(1, 6):
                assert await exchange.exactly(len(event(number))) == event(number)
                assert trio.current_time() - began < 0.2 * (number - 1) + 0.5
            assert await exchange.piece() == b""


async def test_stream_outlives_the_time_for_an_answer(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """A route's time is for the answer to begin; what streams afterwards goes on."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, resilience={"timeout": {"default": 500}})
    upstream.play(always(Events(seconds=0.2)))
    fields = {**tenant.headers, "Accept": "text/event-stream"}
    with trio.fail_after(10):
        async with open_exchange(gateway.addresses[0], "/x", headers=fields) as exchange:
            await exchange.head()
            for number in range(1, 7):
                assert await exchange.exactly(len(event(number))) == event(number)


async def test_listener_that_goes_takes_the_stream_with_it(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """The upstream is not left talking to nobody."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    upstream.play(always(Events(seconds=0.1)))
    async with open_exchange(gateway.addresses[0], "/x", headers=tenant.headers) as exchange:
        await exchange.head()
        await exchange.piece()

    async def is_over() -> bool:
        return [request.outcome for request in upstream.seen().requests] == ["gone"]

    await wait_until_answered(is_over, "stream given up")
