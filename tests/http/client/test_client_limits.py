"""Limits: everything that is waited for has one, and says which has passed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import UpstreamTimeout, UpstreamUnreachable
from bulkhead_trio.http.client import ClientLimits, HTTPClient

from ._upstream import Talk, answering, assert_at_rest, ok, settled, to_loopback, upstream

EXACTNESS = 0.11


async def silence(talk: Talk) -> None:
    """Takes the request, and says nothing."""
    await talk.request()
    await trio.sleep_forever()


async def begun(talk: Talk) -> None:
    """Begins an answer."""
    await talk.request()
    await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await trio.sleep_forever()


async def deaf(talk: Talk) -> None:
    """Takes nothing."""
    await trio.sleep_forever()


async def never(host: str, port: int) -> list[str]:
    """A resolver that does not answer."""
    await trio.sleep_forever()
    return []


@pytest.mark.parametrize(
    ("behaviour", "phase", "seconds"), [(silence, "head", 7.0), (begun, "body", 3.0)]
)
async def test_limit_passes(
    autojump_clock: MockClock, behaviour: object, phase: str, seconds: float
) -> None:
    """On time, to a tenth of a second; the connection is closed."""
    limits = ClientLimits(head=7.0, read_gap=3.0)
    async with HTTPClient(limits, resolve=to_loopback) as client, upstream(behaviour) as there:  # type: ignore[arg-type]
        began = trio.current_time()
        with pytest.raises(UpstreamTimeout) as failed:
            await client.get(there.url)
        assert seconds <= trio.current_time() - began <= seconds + EXACTNESS
        assert (failed.value.phase, failed.value.code) == (phase, "upstream_timeout")
        assert failed.value.origin == there.url
        assert client.statistics().connections == 0


async def test_each_piece_has_its_own_gap(client: HTTPClient, autojump_clock: MockClock) -> None:
    """A body may take long as a whole."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(10):
            await trio.sleep(29)
            await talk.send(b"x")

    async with upstream(behave) as there:
        assert (await client.get(there.url)).content == b"x" * 10


@pytest.mark.parametrize("timeout", [0.05, 0.5, 1.0, 5.0])
@pytest.mark.parametrize(("behaviour", "phase"), [(silence, "head"), (begun, "body")])
async def test_timeout_of_a_request_is_for_all_of_it(
    client: HTTPClient, autojump_clock: MockClock, behaviour: object, phase: str, timeout: float
) -> None:
    """Short ones to the point."""
    async with upstream(behaviour) as there:  # type: ignore[arg-type]
        began = trio.current_time()
        with pytest.raises(UpstreamTimeout) as failed:
            await client.get(there.url, timeout=timeout)
        took = trio.current_time() - began
        assert timeout <= took <= timeout + (EXACTNESS if timeout >= 1 else 0.001)
        assert failed.value.phase == phase


async def test_timeout_goes_on_from_piece_to_piece(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Bytes that trickle do not move it."""

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await trio.sleep(0.3)
            await talk.send(b"x")

    async with upstream(behave) as there:
        began = trio.current_time()
        with pytest.raises(UpstreamTimeout):
            await client.get(there.url, timeout=2)
        assert 2 <= trio.current_time() - began <= 2 + EXACTNESS


async def test_deadline_round_the_request_cuts_it_off(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """As Trio does it everywhere; the connection is closed."""
    async with upstream(silence) as there:
        with trio.move_on_after(3) as scope:
            await client.get(there.url)
        assert scope.cancelled_caught
        assert client.statistics().connections == 0


async def test_peer_that_takes_nothing_is_too_slow(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Whether the body is bytes or pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    async with upstream(deaf) as there:
        for content in (b"x" * 20_000_000, pieces()):
            began = trio.current_time()
            with pytest.raises(UpstreamTimeout) as failed:
                await client.post(there.url, content=content)
            assert failed.value.phase in {"write", "head"}
            assert 30 <= trio.current_time() - began <= 30 + EXACTNESS
        assert client.statistics().connections == 0


async def test_connecting_has_a_limit(autojump_clock: MockClock) -> None:
    """Looking up the name is part of it; what was asked for may be shorter."""
    async with HTTPClient(resolve=never) as client:
        for timeout, seconds in ((None, 5.0), (2.0, 2.0)):
            began = trio.current_time()
            with pytest.raises(UpstreamTimeout) as failed:
                await client.get("http://example.com", timeout=timeout)
            assert failed.value.phase == "connect"
            assert trio.current_time() - began == pytest.approx(seconds)
            (origin,) = client.statistics().origins.values()
            assert origin.active == 0


async def test_idle_connection_is_closed_in_time(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """Though nobody asks for anything; and its origin is forgotten."""
    async with upstream(answering(ok())) as there:
        await client.get(there.url)
        await trio.sleep(14.9)
        assert client.statistics().idle == 1
        await trio.sleep(0.3)
        assert client.statistics().connections == 0
        assert client.statistics().origins == {}
        await client.get(there.url)
        assert there.connections == 2


async def test_peer_says_how_long_it_keeps_a_connection(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """A second before that it is closed: what is sent later may cross with its end."""
    async with upstream(answering(ok(b"hello", b"Keep-Alive: timeout=5"))) as there:
        await client.get(there.url)
        await trio.sleep(3.9)
        assert client.statistics().idle == 1
        await trio.sleep(0.3)
        assert client.statistics().connections == 0


async def test_old_connection_is_not_kept(autojump_clock: MockClock) -> None:
    """However busy it is, names are looked up again."""
    limits = ClientLimits(lifetime=10)
    async with HTTPClient(limits, resolve=to_loopback) as client:
        async with upstream(answering(ok())) as there:
            for _ in range(6):
                await client.get(there.url)
                await trio.sleep(4)
            assert there.connections == 2


async def test_so_many_idle_connections_are_kept(autojump_clock: MockClock) -> None:
    """To all origins together."""
    limits = ClientLimits(idle_connections=2)
    async with HTTPClient(limits, resolve=to_loopback) as client:
        async with upstream(answering(ok())) as there:
            for name in ("a", "b", "c", "d"):
                await client.get(f"http://{name}:{there.port}/")
            assert client.statistics().idle == 2
            assert_at_rest(client)


async def test_resolver_has_the_last_word(autojump_clock: MockClock) -> None:
    """A connection goes where it says; nowhere, if it says nothing or raises."""
    asked: list[tuple[str, int]] = []

    async def pinned(host: str, port: int) -> list[str]:
        asked.append((host, port))
        if host == "inside":
            raise PermissionError("private address")
        return ["127.0.0.1"] if host == "outside" else []

    async with HTTPClient(resolve=pinned) as client, upstream(answering(ok())) as there:
        assert (await client.get(f"http://outside:{there.port}/")).status == 200
        for host in ("inside", "nowhere"):
            with pytest.raises(UpstreamUnreachable):
                await client.get(f"http://{host}:{there.port}/")
        assert asked == [(host, there.port) for host in ("outside", "inside", "nowhere")]
        assert_at_rest(client)


async def test_next_address_is_tried_when_one_fails(autojump_clock: MockClock) -> None:
    """At once when it refuses."""

    async def several(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.3", "127.0.0.1"]

    async with HTTPClient(resolve=several) as client, upstream(answering(ok())) as there:
        began = trio.current_time()
        assert (await client.get(there.url)).status == 200
        assert trio.current_time() == began
        assert there.connections == 1


async def test_next_address_is_tried_beside_one_that_hangs(
    autojump_clock: MockClock,
) -> None:
    """After a quarter of a second; the one that hangs is let go."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        # A listener whose backlog is full: whoever connects waits.
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        with socket.create_server(("127.0.0.1", port)) as quick:
            quick.setblocking(False)

            async def both(host: str, port: int) -> list[str]:
                return ["127.0.0.2", "127.0.0.1"]

            async def answer() -> None:
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(quick))
                async with await listener.accept() as stream:
                    await stream.receive_some()
                    await stream.send_all(ok())

            async with HTTPClient(resolve=both) as client, trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                began = trio.current_time()
                assert (await client.get(f"http://localhost:{port}/")).status == 200
                assert 0.25 <= trio.current_time() - began <= 0.3
                await settled()
                assert client.statistics().connections <= 1


async def test_no_address_takes_a_connection(autojump_clock: MockClock) -> None:
    """Each one's reason is said."""

    async def several(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "::1"]

    async with upstream(answering(ok())) as there:
        pass
    async with HTTPClient(resolve=several) as client:
        with pytest.raises(UpstreamUnreachable, match=r"127\.0\.0\.1.*::1|::1.*127\.0\.0\.1"):
            await client.get(there.url)
        assert_at_rest(client)


@pytest.mark.parametrize(
    "wrong",
    [{"connections": 0}, {"waiting": -1}, {"wait": -1}, {"idle": 0}, {"head": float("nan")},
     {"connect": float("inf")}, {"write": 0}, {"head_bytes": 0}, {"idle_connections": -1}],
)  # fmt: skip
def test_limit_that_makes_no_sense_is_refused_by_name(wrong: dict[str, float]) -> None:
    """Before anything is built on it."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClientLimits(**wrong)  # type: ignore[arg-type]
