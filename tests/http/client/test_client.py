"""The client and a real socket: answers of every kind, and when a connection is used again."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import (
    InvalidRequest,
    UpstreamBodyTooLarge,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from bulkhead_trio.http.client import HTTPClient

from ._upstream import Request, Talk, answering, assert_at_rest, ok, settled, to_loopback, upstream


async def test_get_gives_the_whole_answer(client: HTTPClient, autojump_clock: MockClock) -> None:
    """Status, headers and body; and the request is what was asked for."""
    asked: list[Request | None] = []

    async def behave(talk: Talk) -> None:
        asked.append(await talk.request())
        await talk.send(ok(b"hello", b"X-A: b"))

    async with upstream(behave) as there:
        answer = await client.get(f"{there.url}/a?b=c", headers=[("X-C", "d"), (b"X-E", b"f")])
    assert (answer.status, answer.content, answer.header("x-a")) == (200, b"hello", "b")
    assert answer.header("nothing") is None
    assert asked == [
        Request("GET", "/a?b=c", {"host": f"localhost:{there.port}", "x-c": "d", "x-e": "f"}, b"")
    ]


async def test_connection_is_used_again(client: HTTPClient, autojump_clock: MockClock) -> None:
    """One for all requests that come one after the other, as soon as each answer has come."""
    async with upstream(answering(ok())) as there:
        for _ in range(5):
            async with client.request("GET", there.url) as response:
                # All of it came with the head: others may have the connection already.
                assert response.is_complete
                assert client.statistics().idle == 1
                assert await response.aread() == b"hello"
        assert there.connections == 1
        (origin,) = client.statistics().origins.values()
        assert (origin.opened, origin.reused, origin.retried) == (1, 4, 0)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"hello", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ok() + b"x",
        b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello",
        ok(b"hello", b"Keep-Alive: timeout=1"),
    ],
)
async def test_connection_is_not_used_again(
    client: HTTPClient, autojump_clock: MockClock, answer: bytes
) -> None:
    """The peer closes it, or is about to; or what comes next would be no answer to what is next."""
    async with upstream(answering(answer)) as there:
        for _ in range(3):
            assert (await client.get(there.url)).content in (b"hello", b"")
            assert client.statistics().connections == 0
        assert there.connections == 3


async def test_connection_that_the_request_ends_is_not_used_again(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Whatever the answer says; the peer has been told."""
    async with upstream(answering(ok())) as there:
        for _ in range(2):
            await client.get(there.url, headers=[("Connection", "close")])
            assert client.statistics().connections == 0
        assert there.connections == 2


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """They come before the next request is sent: they are no answer to it."""
    gate = trio.Event()

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(ok())
        await gate.wait()
        await talk.send(ok(b"stolen"))
        await trio.sleep_forever()

    async with upstream(behave) as there:
        await client.get(there.url)
        assert client.statistics().idle == 1
        gate.set()
        await settled()
        assert client.statistics().connections == 0
        assert (await client.get(there.url)).content == b"hello"
        assert there.connections == 2


async def test_end_of_an_idle_connection_is_noticed_at_once(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """No descriptor stays with a peer that has gone."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(ok())

    async with upstream(behave) as there:
        await client.get(there.url)
        await settled()
        assert client.statistics().connections == 0


async def test_large_body_comes_piece_by_piece(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """All of it, in order, and the connection is used again."""
    body = bytes(range(256)) * 4096
    async with upstream(answering(ok(body))) as there:
        async with client.request("GET", there.url) as response:
            assert not response.is_complete
            pieces = [piece async for piece in response.aiter_bytes()]
            assert response.is_complete
            assert await response.read_piece() == b""
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) <= 65_536
        assert client.statistics().idle == 1
        assert (await client.get(there.url)).content == body
        assert there.connections == 1


async def test_body_that_nobody_reads_makes_the_upstream_wait(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Nothing is read ahead, beyond what came with the head."""
    sent = 0

    async def behave(talk: Talk) -> None:
        nonlocal sent
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await talk.send(b"x" * 65_536)
            sent += 65_536

    async with upstream(behave) as there:
        async with client.request("GET", there.url) as response:
            await settled()
            held = sent
            await settled()
            assert sent == held, "the upstream waits"
            taken = 0
            while taken < held + 1_000_000:
                taken += len(await response.read_piece())
            assert sent > held
        assert client.statistics().connections == 0


async def test_chunks_are_taken_apart(client: HTTPClient, autojump_clock: MockClock) -> None:
    """However they are cut; trailers are dropped."""
    wire = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Trailer: z\r\n\r\n"
    )

    async def behave(talk: Talk) -> None:
        while await talk.request() is not None:
            for byte in wire:
                await talk.send(bytes([byte]))
                await trio.sleep(0.01)

    async with upstream(behave) as there:
        for _ in range(2):
            answer = await client.get(there.url)
            assert answer.content == b"hello world"
            assert answer.header("x-trailer") is None
        assert there.connections == 1


async def test_body_may_end_with_its_connection(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Where nothing says how long it is."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await trio.sleep(1)
        await talk.send(b" world")

    async with upstream(behave) as there:
        assert (await client.get(there.url)).content == b"hello world"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
async def test_answer_without_a_body_is_complete(
    client: HTTPClient, autojump_clock: MockClock, method: str, answer: bytes
) -> None:
    """Whatever its length says; the connection is used again."""
    async with upstream(answering(answer)) as there:
        for _ in range(2):
            async with client.request(method, there.url) as response:
                assert response.is_complete
                assert await response.aread() == b""
        assert there.connections == 1


async def test_interim_answers_are_passed_over(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Together with the answer, or long before it."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n")
        await trio.sleep(1)
        await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n" + ok())

    async with upstream(behave) as there:
        answer = await client.get(there.url)
        assert (answer.status, answer.content) == (200, b"hello")
        assert answer.header("link") is None


async def test_interim_answers_without_an_end_are_given_up(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """They are no reason to wait for ever."""
    async with upstream(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)) as there:
        with pytest.raises(UpstreamProtocolError, match="interim"):
            await client.get(there.url)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"hello",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000,
    ],
)
async def test_answer_that_is_none_is_an_error(
    client: HTTPClient, autojump_clock: MockClock, answer: bytes
) -> None:
    """It is named, and its connection is closed."""
    async with upstream(answering(answer)) as there:
        with pytest.raises(UpstreamProtocolError) as failed:
            await client.get(there.url)
        assert failed.value.origin == there.url
        assert failed.value.code == "upstream_error"
        assert client.statistics().connections == 0


async def test_body_that_is_none_is_an_error_when_it_is_read(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """The head was good, and is given."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await trio.sleep(1)
        await talk.send(b"ZZ\r\n")
        await trio.sleep_forever()

    async with upstream(behave) as there:
        async with client.request("GET", there.url) as response:
            assert await response.read_piece() == b"hello"
            with pytest.raises(UpstreamProtocolError):
                await response.read_piece()
        assert client.statistics().connections == 0


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
@pytest.mark.parametrize("is_reset", [True, False])
async def test_answer_that_breaks_off_is_an_error(
    client: HTTPClient, autojump_clock: MockClock, start: bytes, is_reset: bool
) -> None:
    """Wherever it does; it is never taken for the whole. A new connection is no stale one."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        if start:
            await talk.send(start)
        if is_reset:
            talk.reset()

    async with upstream(behave) as there:
        with pytest.raises(UpstreamError) as failed:
            await client.get(there.url)
        assert type(failed.value) is UpstreamError
        assert there.connections == 1
        assert client.statistics().connections == 0


async def test_body_larger_than_its_reader_takes_is_an_error(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Just as large is not; and the rest is not waited for."""
    async with upstream(answering(ok(b"x" * 100_000))) as there:
        assert len((await client.get(there.url, max_bytes=100_000)).content) == 100_000
        for most in (99_999, 1, 0):
            with pytest.raises(UpstreamBodyTooLarge) as failed:
                await client.get(there.url, max_bytes=most)
            assert failed.value.max_bytes == most
    async with upstream(answering(ok())) as there:
        with pytest.raises(UpstreamBodyTooLarge):
            await client.get(there.url, max_bytes=4)


async def test_block_that_is_left_early_closes_the_connection(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """What is still to come would otherwise be the next one's answer."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await trio.sleep_forever()

    async with upstream(behave) as there:
        with pytest.raises(KeyError):
            async with client.request("GET", there.url) as response:
                assert await response.read_piece() == b"hello"
                raise KeyError
        assert client.statistics().connections == 0
        with pytest.raises(trio.ClosedResourceError):
            await response.read_piece()


async def test_raw_target_is_sent_as_it_is(client: HTTPClient, autojump_clock: MockClock) -> None:
    """For a gateway, which must not change what it was asked for."""
    asked: list[Request | None] = []

    async def behave(talk: Talk) -> None:
        asked.append(await talk.request())
        await talk.send(ok())

    async with upstream(behave) as there:
        async with client.request("GET", f"{there.url}/x", target=b"/%2f/../a?b#c") as response:
            assert response.status == 200
    assert asked[0] is not None
    assert asked[0].target == "/%2f/../a?b#c"


async def test_request_that_cannot_be_sent_is_refused_before_anything_is() -> None:
    """Without a connection, and without a mistake of the upstream's."""
    async with HTTPClient(resolve=to_loopback) as client:
        with pytest.raises(InvalidRequest):
            client.request("GET", "http://localhost:1/", headers=[("a", "b\r\nc: d")])
        with pytest.raises(InvalidRequest):
            await client.get("localhost")
        for content in ("text", 5, [b"x"], bytearray(b"x")):
            with pytest.raises(InvalidRequest, match="content"):
                await client.post("http://localhost:1/", content=content)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="timeout"):
            client.request("GET", "http://localhost:1/", timeout=0)
        assert client.statistics().origins == {}


async def test_upstream_that_is_not_there_is_unreachable(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Refused at once, by name."""
    async with upstream(answering(ok())) as there:
        pass
    with pytest.raises(UpstreamUnreachable) as failed:
        await client.get(there.url)
    assert failed.value.origin == there.url
    assert "refused" in str(failed.value)
    await trio.sleep(1)
    assert client.statistics().connections == 0


async def test_client_that_is_not_open_says_so() -> None:
    """Before, between and after; it may be opened again."""
    client = HTTPClient(resolve=to_loopback)
    async with upstream(answering(ok())) as there:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="not open"):
                await client.get(there.url)
            async with client:
                assert (await client.get(there.url)).status == 200
                with pytest.raises(RuntimeError, match="open already"):
                    await client.run()
        with pytest.raises(RuntimeError, match="not open"):
            await client.__aexit__(None, None, None)


async def test_client_lives_in_a_nursery() -> None:
    """`run` instead of ``async with``; when it is cancelled, nothing stays open."""
    client = HTTPClient(resolve=to_loopback)
    async with upstream(answering(ok())) as there, trio.open_nursery() as nursery:
        await nursery.start(client.run)
        assert (await client.get(there.url)).status == 200
        assert client.statistics().idle == 1
        nursery.cancel_scope.cancel()
    assert client.statistics().connections == 0


async def test_client_leaves_no_descriptor_open(autojump_clock: MockClock) -> None:
    """Neither of its connections, nor of what it waits with."""

    async def behave(talk: Talk) -> None:
        while (request := await talk.request()) is not None:
            if request.target == "/silence":
                await talk.stream.receive_some()
            await talk.send(ok() if request.target == "/good" else b"nonsense")

    async with upstream(behave) as there:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            async with HTTPClient(resolve=to_loopback) as client:
                with pytest.raises(UpstreamProtocolError):
                    await client.get(f"{there.url}/bad")
                with pytest.raises(UpstreamTimeout):
                    await client.get(f"{there.url}/silence", timeout=0.5)
                await client.get(f"{there.url}/good")
                assert client.statistics().idle == 1
            await settled()
            assert len(os.listdir("/proc/self/fd")) == before


async def test_closing_ends_what_is_under_way(autojump_clock: MockClock) -> None:
    """Whoever is in the middle of a request learns it, wherever that is."""

    async def behave(talk: Talk) -> None:
        request = await talk.request()
        assert request is not None
        if request.target == "/body":
            await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await trio.sleep_forever()

    ended: list[str] = []

    async def ask(client: HTTPClient, url: str) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.get(url)
        ended.append(url.rpartition("/")[2])

    async with upstream(behave) as there, trio.open_nursery() as nursery:
        async with HTTPClient(resolve=to_loopback) as client:
            nursery.start_soon(ask, client, f"{there.url}/head")
            nursery.start_soon(ask, client, f"{there.url}/body")
            await settled()
            assert client.statistics().connections == 2
        await settled()
        assert sorted(ended) == ["body", "head"]
        assert client.statistics().connections == 0


async def test_error_in_the_block_comes_out_as_it_is() -> None:
    """In no exception group, although the client has a nursery."""
    with pytest.raises(KeyError):
        async with HTTPClient(resolve=to_loopback):
            raise KeyError


async def test_answer_can_be_read_after_other_requests(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Two blocks at once are two connections."""
    async with upstream(answering(ok(b"x" * 200_000))) as there:
        async with client.request("GET", there.url) as first:
            async with client.request("GET", there.url) as second:
                assert len(await second.aread()) == 200_000
            assert len(await first.aread()) == 200_000
        assert there.connections == 2
        assert client.statistics().idle == 2
    assert_at_rest(client)
