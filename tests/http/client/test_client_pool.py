"""Connections to one origin: so many, in turn, and none is lost on any way out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio.errors import BulkheadFull, QueueTimeout, UpstreamUnreachable
from bulkhead_trio.http.client import ClientLimits, HTTPClient
from bulkhead_trio.http.client.exchange import Exchange
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._upstream import Talk, answering, assert_at_rest, ok, settled, to_loopback, upstream


def slow(seconds: float) -> object:
    async def behave(talk: Talk) -> None:
        while await talk.request() is not None:
            await trio.sleep(seconds)
            await talk.send(ok())

    return behave


async def test_no_more_connections_than_allowed(autojump_clock: MockClock) -> None:
    """Who finds none free waits in turn, and has one that came free."""
    order: list[int] = []

    async def ask(number: int) -> None:
        await client.get(there.url)
        order.append(number)

    limits = ClientLimits(connections=2, wait=60)
    async with HTTPClient(limits, resolve=to_loopback) as client, upstream(slow(1)) as there:  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(ask, number)
                await wait_all_tasks_blocked()
            (origin,) = client.statistics().origins.values()
            assert (origin.active, origin.idle, origin.waiting) == (2, 0, 4)
        # Two at a time; which of them is first is Trio's to say.
        assert [set(order[:2]), set(order[2:4]), set(order[4:])] == [{0, 1}, {2, 3}, {4, 5}]
        assert there.connections == 2
        assert 3 <= trio.current_time() <= 3.5
        assert_at_rest(client)


async def test_connection_goes_to_who_waits_and_to_nobody_else(autojump_clock: MockClock) -> None:
    """Whoever comes when one is given back comes later."""
    order: list[str] = []

    async def ask(name: str) -> None:
        await client.get(there.url)
        order.append(name)

    limits = ClientLimits(connections=1, wait=60)
    async with HTTPClient(limits, resolve=to_loopback) as client, upstream(slow(1)) as there:  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            async with client.request("GET", there.url) as response:
                nursery.start_soon(ask, "first")
                await wait_all_tasks_blocked()
                await response.aread()
            # Given back a moment ago, and not yet taken by the one who waits.
            nursery.start_soon(ask, "second")
        assert order == ["first", "second"]
        assert there.connections == 1


@pytest.mark.parametrize("wait", [0.0, 3.0])
async def test_waiting_has_an_end(autojump_clock: MockClock, wait: float) -> None:
    """Refused at once, or when the time is up; with a time to come back."""
    limits = ClientLimits(connections=1, wait=wait, waiting=1)
    async with HTTPClient(limits, resolve=to_loopback) as client, upstream(slow(20)) as there:  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, there.url)
            await wait_all_tasks_blocked()
            began = trio.current_time()
            kind = QueueTimeout if wait else BulkheadFull
            with pytest.raises(kind) as refused:
                await client.get(there.url)
            assert trio.current_time() - began == pytest.approx(wait)
            assert refused.value.retry_after is not None
            (origin,) = client.statistics().origins.values()
            assert (origin.active, origin.waiting, origin.refused) == (1, 0, 1)


async def test_so_many_may_wait(autojump_clock: MockClock) -> None:
    """One more is refused at once."""
    limits = ClientLimits(connections=1, wait=60, waiting=1)
    async with HTTPClient(limits, resolve=to_loopback) as client, upstream(slow(1)) as there:  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(client.get, there.url)
                await wait_all_tasks_blocked()
            with pytest.raises(BulkheadFull):
                await client.get(there.url)


async def test_place_that_comes_free_is_handed_on(autojump_clock: MockClock) -> None:
    """Also where its connection has ended, or never came to be."""
    limits = ClientLimits(connections=1, wait=60)

    async def resolve(host: str, port: int) -> list[str]:
        await trio.sleep(1)
        if host == "nowhere":
            raise OSError("nowhere")
        return ["127.0.0.1"]

    async with HTTPClient(limits, resolve=resolve) as client:
        async with upstream(answering(ok(b"", b"Connection: close"))) as there:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(client.get, there.url)
            assert there.connections == 3
        failed: list[Exception] = []

        async def fail() -> None:
            with pytest.raises(UpstreamUnreachable) as raised:
                await client.get("http://nowhere/")
            failed.append(raised.value)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(fail)
        assert len(failed) == 3
        assert trio.current_time() - began == pytest.approx(3)
        assert_at_rest(client)


async def test_who_waits_is_sent_away_when_the_client_closes(autojump_clock: MockClock) -> None:
    """Rather than that it waits for ever."""
    limits = ClientLimits(connections=1, wait=60)
    ended: list[int] = []

    async def ask(client: HTTPClient, url: str, number: int) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.get(url)
        ended.append(number)

    async with upstream(slow(1000)) as there, trio.open_nursery() as nursery:  # type: ignore[arg-type]
        async with HTTPClient(limits, resolve=to_loopback) as client:
            for number in range(3):
                nursery.start_soon(ask, client, there.url, number)
                await wait_all_tasks_blocked()
        await settled()
        assert sorted(ended) == [0, 1, 2]


async def test_exchange_that_is_made_long_before_counts_too(autojump_clock: MockClock) -> None:
    """Of whatever age: no more connections to an origin than allowed, and nobody is forgotten."""
    limits = ClientLimits(connections=2, wait=60, idle=1)
    ended: list[str] = []

    async def ask(exchange: Exchange) -> None:
        try:
            async with exchange as response:
                await response.aread()
            ended.append("answered")
        except trio.ClosedResourceError:
            ended.append("closed")

    async with upstream(slow(5)) as there, trio.open_nursery() as nursery:  # type: ignore[arg-type]
        async with HTTPClient(limits, resolve=to_loopback) as client:
            await client.get(there.url)
            early = [client.request("GET", there.url) for _ in range(4)]
            await trio.sleep(10)  # long enough for an origin without connections to be forgotten
            assert client.statistics().origins == {}
            for number in range(4):
                nursery.start_soon(ask, early[number])
                nursery.start_soon(ask, client.request("GET", there.url))
            await trio.sleep(1)
            assert client.statistics().connections == 2
            (origin,) = client.statistics().origins.values()
            assert (origin.active, origin.waiting) == (2, 6)
        await settled()
        assert ended == ["closed"] * 8


async def test_exchange_of_a_closed_client_is_told_so() -> None:
    """What was made before, and is entered after."""
    async with HTTPClient() as client:
        exchange = client.request("GET", "http://localhost:1/")
    with pytest.raises(trio.ClosedResourceError):
        await exchange.__aenter__()
    with pytest.raises(RuntimeError):
        client.request("GET", "http://localhost:1/")


async def test_closing_ends_connecting_too(autojump_clock: MockClock) -> None:
    """Whoever waits for a name or an address learns it; nothing is opened any more."""
    ended: list[str] = []

    async def never(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        return []

    async def ask(client: HTTPClient) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.get("http://a/")
        ended.append("a")

    async with trio.open_nursery() as nursery:
        async with HTTPClient(resolve=never) as client:
            nursery.start_soon(ask, client)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert ended == ["a"]
        assert trio.current_time() == 0


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        await trio.sleep(0.1)
        yield b"hello"


@pytest.mark.parametrize("content", [None, b"x" * 3_000_000, "pieces"])
async def test_cancelling_at_any_moment_leaves_nothing_behind(
    autojump_clock: MockClock, content: bytes | str | None
) -> None:
    """Connecting, sending, waiting, reading: the next request finds its place free."""

    async def behave(talk: Talk) -> None:
        while await talk.request() is not None:
            await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await trio.sleep(0.1)
            await talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await trio.sleep(0.1)
            await talk.send(b"0\r\n\r\n")

    async def resolve(host: str, port: int) -> list[str]:
        await trio.sleep(0.1)
        return ["127.0.0.2", "127.0.0.1"]

    limits = ClientLimits(connections=1, wait=0)
    async with upstream(behave) as there:

        async def scenario(point: CancellationPoint) -> None:
            async with HTTPClient(limits, resolve=resolve) as client:
                body = pieces() if content == "pieces" else content
                with point:
                    async with client.request("PUT", there.url, content=body) as response:  # type: ignore[arg-type]
                        assert await response.aread() == b"hello"
                assert_at_rest(client)
                assert (await client.get(there.url)).content == b"hello"
                assert_at_rest(client)

        assert await sweep_cancellations(scenario) >= 6


async def test_cancelling_who_waits_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """At whatever moment: before its turn, as it comes, and after."""
    limits = ClientLimits(connections=1, wait=60)
    async with upstream(slow(0.5)) as there:  # type: ignore[arg-type]

        async def scenario(point: CancellationPoint) -> None:
            async with HTTPClient(limits, resolve=to_loopback) as client:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.get, there.url)
                    await wait_all_tasks_blocked()
                    with point:
                        await client.get(there.url)
                assert_at_rest(client)
                assert (await client.get(there.url)).content == b"hello"

        assert await sweep_cancellations(scenario) >= 2


async def test_cancelling_as_the_connection_is_handed_over_loses_none(
    autojump_clock: MockClock,
) -> None:
    """In the same moment, it is the next one's."""
    limits = ClientLimits(connections=1, wait=60)
    async with HTTPClient(limits, resolve=to_loopback) as client, upstream(slow(1)) as there:  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def ask() -> None:
                with scope:
                    await client.get(there.url)

            async with client.request("GET", there.url) as response:
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                await response.aread()
            scope.cancel()
        assert_at_rest(client)
        assert (await client.get(there.url)).content == b"hello"
