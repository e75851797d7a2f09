"""Requests with bodies: bytes and pieces, answers that come before all has been sent, upgrades."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import InvalidRequest, UpstreamProtocolError
from bulkhead_trio.http.client import HTTPClient

from ._upstream import Request, Talk, ok, settled, upstream


async def pieces_of(*pieces: bytes, gap: float = 0.0) -> AsyncIterator[bytes]:
    for piece in pieces:
        await trio.sleep(gap)
        yield piece


class Echo:
    """Keeps what it was asked, and answers with the body."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def __call__(self, talk: Talk) -> None:
        while (request := await talk.request()) is not None:
            self.asked.append(request)
            await talk.send(ok(request.body))


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 5_000_000])
async def test_bytes_are_sent_with_their_length(
    client: HTTPClient, autojump_clock: MockClock, size: int
) -> None:
    """Whole, whatever their size; the connection is used again."""
    echo, body = Echo(), b"x" * size
    async with upstream(echo) as there:
        for _ in range(2):
            assert (await client.post(there.url, content=body)).content == body
        assert there.connections == 1
    assert echo.asked[0].headers["content-length"] == str(size)
    assert "transfer-encoding" not in echo.asked[0].headers


async def test_pieces_are_sent_in_chunks(client: HTTPClient, autojump_clock: MockClock) -> None:
    """Empty ones do not end the body; the connection is used again."""
    echo = Echo()
    async with upstream(echo) as there:
        for _ in range(2):
            content = pieces_of(b"hello", b"", b" ", b"world", gap=1)
            assert (await client.post(there.url, content=content)).content == b"hello world"
        assert there.connections == 1
    assert echo.asked[0].headers["transfer-encoding"] == "chunked"


async def test_pieces_are_sent_with_their_length(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Where the caller knows it."""
    echo = Echo()
    async with upstream(echo) as there:
        headers = [("Content-Length", "11")]
        content = pieces_of(b"hello", b" world")
        assert (await client.post(there.url, content=content, headers=headers)).status == 200
    assert echo.asked[0].body == b"hello world"
    assert "transfer-encoding" not in echo.asked[0].headers


@pytest.mark.parametrize("length", [10, 12])
async def test_pieces_of_another_length_are_refused(
    client: HTTPClient, autojump_clock: MockClock, length: int
) -> None:
    """The connection ends: the upstream waits for more, or has the beginning of what is not."""
    async with upstream(Echo()) as there:
        headers = [("Content-Length", str(length))]
        with pytest.raises(InvalidRequest, match=r"longer|shorter"):
            await client.post(there.url, content=pieces_of(b"hello", b" world"), headers=headers)
        assert client.statistics().connections == 0


@pytest.mark.parametrize("headers", [[], [("Content-Length", "5")]])
@pytest.mark.parametrize("piece", ["hello", None, 5])
async def test_piece_that_is_not_bytes_is_refused(
    client: HTTPClient, autojump_clock: MockClock, piece: object, headers: list[tuple[str, str]]
) -> None:
    """Nothing of it is sent."""
    content = pieces_of(piece, b"")  # type: ignore[arg-type]
    async with upstream(Echo()) as there:
        with pytest.raises(InvalidRequest):
            await client.post(there.url, content=content, headers=headers)


@pytest.mark.parametrize("is_open", [True, False])
async def test_error_of_the_source_comes_out_as_it_is(
    client: HTTPClient, autojump_clock: MockClock, is_open: bool
) -> None:
    """In no group, whether the answer is waited for or being read; the generator is closed."""
    closed: list[bool] = []

    async def broken() -> AsyncIterator[bytes]:
        try:
            yield b"hello"
            await trio.sleep(1)
            raise KeyError("source")
        finally:
            closed.append(True)

    async def behave(talk: Talk) -> None:
        await talk.head()
        if is_open:
            await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        await trio.sleep_forever()

    async with upstream(behave) as there:
        with pytest.raises(KeyError, match="source"):
            async with client.request("POST", there.url, content=broken()) as response:
                assert is_open
                await response.aread()
        assert closed == [True]
        assert client.statistics().connections == 0


async def test_error_in_the_block_comes_out_as_it_is(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """While the body is still being sent; what gives it is closed."""
    closed: list[bool] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()
            closed.append(True)

    async def behave(talk: Talk) -> None:
        await talk.head()
        await talk.send(ok())
        await trio.sleep_forever()

    async with upstream(behave) as there:
        with pytest.raises(ZeroDivisionError):
            async with client.request("POST", there.url, content=endless()) as response:
                assert await response.aread() == b"hello"
                raise ZeroDivisionError
        assert closed == [True]
        assert client.statistics().connections == 0


async def test_answer_may_come_before_all_has_been_sent(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """A refusal; the rest is not sent, and the connection is not used again."""

    async def behave(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await trio.sleep_forever()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    async with upstream(behave) as there:
        assert (await client.post(there.url, content=endless())).status == 413
        assert (await client.post(there.url, content=b"x" * 50_000_000)).status == 413
        assert there.connections == 2
        assert client.statistics().connections == 0


async def test_answer_is_read_though_sending_has_failed(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """An upstream that closes its reading side may still say why."""

    async def behave(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\n")
        await trio.sleep(1)
        await talk.send(b"why")
        await trio.sleep(1)

    async with upstream(behave) as there:
        content = pieces_of(*[b"x" * 65_536] * 100, gap=0.1)
        answer = await client.post(there.url, content=content)
        assert (answer.status, answer.content) == (403, b"why")


async def test_sending_and_reading_go_on_side_by_side(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """An upstream that answers piece by piece, as it is asked, stalls neither."""
    send, receive = trio.open_memory_channel[bytes](0)

    async def behave(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            await talk.stream.receive_some()
            await talk.send(b"2\r\nok\r\n")
        await talk.send(b"0\r\n\r\n")
        await talk.stream.receive_some()

    async with upstream(behave) as there:
        async with client.request("POST", there.url, content=receive) as response:
            for _ in range(3):
                await send.send(b"hello")
                assert await response.read_piece() == b"ok"
            await send.aclose()
            assert await response.read_piece() == b""


async def test_body_waits_to_be_asked_for(client: HTTPClient, autojump_clock: MockClock) -> None:
    """With ``Expect: 100-continue``; both kinds of body."""
    bodies: list[bytes] = []

    async def behave(talk: Talk) -> None:
        while await talk.head() is not None:
            await trio.sleep(0.5)
            await talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            began = trio.current_time()
            bodies.append(await talk.body())
            assert trio.current_time() == began
            await talk.send(ok())

    headers = [("Expect", "100-continue")]
    async with upstream(behave) as there:
        for content in (b"hello", pieces_of(b"hel", b"lo")):
            answer = await client.post(there.url, content=content, headers=headers)
            assert answer.status == 200
        assert there.connections == 1
    assert bodies == [b"hello", b"hello"]


async def test_body_that_nobody_asks_for_is_sent_after_a_second(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Many servers do not know that they should ask."""
    echo = Echo()
    async with upstream(echo) as there:
        began = trio.current_time()
        headers = [("Expect", "100-continue")]
        assert (await client.post(there.url, content=b"hello", headers=headers)).status == 200
        assert trio.current_time() - began == pytest.approx(1)
        assert echo.asked[0].body == b"hello"


async def test_body_is_not_sent_when_the_answer_is_no(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """That is what waiting is for; the connection ends, since nobody knows who waits for what."""
    rest: list[bytes] = []

    async def behave(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        rest.append(bytes(await talk.stream.receive_some()))

    async with upstream(behave) as there:
        headers = [("Expect", "100-continue")]
        assert (await client.post(there.url, content=b"hello", headers=headers)).status == 417
        await settled()
        assert rest == [b""]
        assert client.statistics().connections == 0


async def test_upgrade_gives_the_stream(client: HTTPClient, autojump_clock: MockClock) -> None:
    """Beginning with what came right after the head; it is closed with the block."""
    headers = [("Connection", "Upgrade"), ("Upgrade", "echo")]
    ended: list[bytes] = []

    async def behave(talk: Talk) -> None:
        head = await talk.head()
        assert head is not None
        assert head.headers["upgrade"] == "echo"
        await talk.send(b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\n\r\nwelcome")
        for _ in range(2):
            await talk.send(await talk.stream.receive_some())  # type: ignore[arg-type]
        ended.append(bytes(await talk.stream.receive_some()))

    async with upstream(behave) as there:
        async with client.request("GET", there.url, headers=headers) as response:
            assert response.status == 101
            assert response.header("upgrade") == "echo"
            stream = response.stream
            assert await stream.receive_some(3) == b"wel"
            assert await stream.receive_some() == b"come"
            for word in (b"hello", b"world"):
                await stream.wait_send_all_might_not_block()
                await stream.send_all(word)
                assert await stream.receive_some() == word
            with pytest.raises(ValueError, match="max_bytes"):
                await stream.receive_some(0)
        await settled()
        assert ended == [b""]
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            assert response.stream
    assert client.statistics().connections == 0


async def test_upgraded_stream_that_breaks_says_so(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """As Trio's streams do."""

    async def behave(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.1 101 Switching\r\n\r\n")
        talk.reset()

    async with upstream(behave) as there:
        headers = [("Connection", "Upgrade"), ("Upgrade", "echo")]
        async with client.request("GET", there.url, headers=headers) as response:
            with pytest.raises(trio.BrokenResourceError):
                await response.stream.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await response.stream.send_all(b"x")
            await response.stream.aclose()


async def test_answer_that_does_not_upgrade_is_an_answer(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """A stream is not to be had of it."""
    async with upstream(Echo()) as there:
        headers = [("Connection", "Upgrade"), ("Upgrade", "echo")]
        async with client.request("GET", there.url, headers=headers) as response:
            assert response.status == 200
            with pytest.raises(RuntimeError, match="200"):
                assert response.stream


async def test_upgrade_that_nobody_asked_for_is_an_error(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """The rest of the connection would be in no protocol that the caller knows."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 101 Switching\r\n\r\n" + ok())

    async with upstream(behave) as there:
        with pytest.raises(UpstreamProtocolError, match="upgrade"):
            await client.get(there.url)
