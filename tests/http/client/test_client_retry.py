"""Sending again what met a connection that had ended: when that is safe, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import UpstreamError, UpstreamUnreachable
from bulkhead_trio.http.client import HTTPClient

from ._upstream import Behaviour, Talk, ok, upstream


def ending(requests: list[str], *, after: bytes = b"", resets: bool = False) -> Behaviour:
    """Ends its first connection when the second request comes; the others go on."""

    async def behave(talk: Talk) -> None:
        number = 0
        while (request := await talk.request()) is not None:
            requests.append(request.method)
            number += 1
            if talk.number == 1 and number == 2:
                if after:
                    await talk.send(after)
                if resets:
                    talk.reset()
                return
            await talk.send(ok(b""))

    return behave


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_idempotent_request_is_sent_again(
    client: HTTPClient, autojump_clock: MockClock, method: str, resets: bool
) -> None:
    """Once, on a new connection; nobody notices."""
    requests: list[str] = []
    content = b"body" if method == "PUT" else None
    async with upstream(ending(requests, resets=resets)) as there:
        await client.get(there.url)
        assert (await client.fetch(method, there.url, content=content)).status == 200
        assert requests == ["GET", method, method]
        assert there.connections == 2
        (origin,) = client.statistics().origins.values()
        assert (origin.opened, origin.reused, origin.retried, origin.idle) == (2, 1, 1, 1)


@pytest.mark.parametrize("resets", [True, False])
async def test_post_is_not_sent_again(
    client: HTTPClient, autojump_clock: MockClock, resets: bool
) -> None:
    """It may have been done already."""
    requests: list[str] = []
    async with upstream(ending(requests, resets=resets)) as there:
        await client.get(there.url)
        with pytest.raises(UpstreamError):
            await client.post(there.url, content=b"x")
        assert requests == ["GET", "POST"]


@pytest.mark.parametrize("resets", [True, False])
async def test_caller_knows_better_than_the_method(
    client: HTTPClient, autojump_clock: MockClock, resets: bool
) -> None:
    """A POST that does no more when it is sent twice is sent again; a GET that would, is not."""
    requests: list[str] = []
    async with upstream(ending(requests, resets=resets)) as there:
        await client.get(there.url)
        asked = client.request("POST", there.url, content=b"x", is_idempotent=True)
        async with asked as response:
            assert response.status == 200
        assert requests == ["GET", "POST", "POST"]
    requests.clear()
    async with upstream(ending(requests, resets=resets)) as there:
        await client.get(there.url)
        with pytest.raises(UpstreamError):
            async with client.request("GET", there.url, is_idempotent=False):
                pass
        assert requests == ["GET", "GET"]


async def test_body_that_cannot_be_had_twice_is_not_sent_again(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Its pieces are gone."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"hello"

    requests: list[str] = []
    async with upstream(ending(requests)) as there:
        await client.get(there.url)
        with pytest.raises(UpstreamError):
            await client.fetch("PUT", there.url, content=pieces())
        assert requests == ["GET", "PUT"]


@pytest.mark.parametrize("start", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_request_whose_answer_has_begun_is_not_sent_again(
    client: HTTPClient, autojump_clock: MockClock, start: bytes
) -> None:
    """One byte of it says that the request was seen."""
    requests: list[str] = []
    async with upstream(ending(requests, after=start)) as there:
        await client.get(there.url)
        with pytest.raises(UpstreamError):
            await client.get(there.url)
        assert requests == ["GET", "GET"]


async def test_request_is_sent_again_only_once(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """What a new connection does is no matter of staleness."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        if talk.number == 1:
            await talk.send(ok())
            await talk.request()

    async with upstream(behave) as there:
        await client.get(there.url)
        with pytest.raises(UpstreamError):
            await client.get(there.url)
        assert there.connections == 2


async def test_large_body_is_sent_again_whole(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Also what was being sent beside the reading when the connection ended."""
    bodies: list[bytes] = []
    content = bytes(range(256)) * 20_000

    async def behave(talk: Talk) -> None:
        while (head := await talk.head()) is not None:
            if talk.number == 1 and head.method == "PUT":
                return
            bodies.append(await talk.body())
            await talk.send(ok())

    async with upstream(behave) as there:
        await client.get(there.url)
        assert (await client.fetch("PUT", there.url, content=content)).status == 200
        assert bodies == [b"", content]
        assert there.connections == 2


async def test_connection_that_was_closed_before_is_not_tried(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """What is known to have ended is no risk: even a POST goes on a new one."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(ok())

    async with upstream(behave) as there:
        await client.get(there.url)
        # Not even a turn of the loop for the news of its end.
        assert (await client.post(there.url, content=b"x")).status == 200
        assert there.connections == 2


async def test_upstream_that_has_gone_is_unreachable(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """The second try finds nobody; the place it had is free again."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(ok(b""))
        await talk.request()
        gone.set()

    gone = trio.Event()
    async with trio.open_nursery() as nursery:

        async def live(task_status: trio.TaskStatus[str]) -> None:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            async with listener:
                port = listener.socket.getsockname()[1]
                task_status.started(f"http://localhost:{port}")
                stream = await listener.accept()
            async with stream:
                await behave(Talk(stream, 1))

        url = await nursery.start(live)
        await client.get(url)
        with pytest.raises(UpstreamUnreachable):
            await client.get(url)
        assert gone.is_set()
    assert client.statistics().connections == 0
