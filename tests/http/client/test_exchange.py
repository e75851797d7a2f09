"""An exchange over pairs of sockets: what the kernel takes in part, and ends at odd moments."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio.errors import UpstreamError
from bulkhead_trio.http.client._request_rules import request_head
from bulkhead_trio.http.client._url_rules import Origin
from bulkhead_trio.http.client.exchange import Exchange
from bulkhead_trio.http.client.limits import ClientLimits
from bulkhead_trio.http.client.pool import OriginPool, Shelf
from bulkhead_trio.http.client.wire import Wire
from bulkhead_trio.http.engine.readiness import Readiness

from ._upstream import Behaviour, Talk, answering, ok, pieces_of_bytes

ORIGIN = Origin("http", "example.com", 80)


@attrs.define
class World:
    """A pool whose connections lead here, and the two sides of each."""

    pool: OriginPool
    ours: list[socket.socket] = attrs.Factory(list)
    raw: list[socket.socket] = attrs.Factory(list)
    theirs: list[trio.SocketStream] = attrs.Factory(list)

    def ask(self, method: str, content: object = None) -> Exchange:
        length = len(content) if isinstance(content, bytes) else None if content is not None else 0
        head = request_head(method, b"/", "example.com", (), length=length)
        return Exchange(
            ORIGIN,
            lambda _: self.pool,
            ClientLimits(),
            method,
            head,
            content,  # type: ignore[arg-type]
            timeout=None,
        )


@asynccontextmanager
async def open_world(behaviour: Behaviour | None = None) -> AsyncIterator[World]:
    readiness, shelf = Readiness(), Shelf()

    async def dial(origin: Origin) -> tuple[Wire, None]:
        await trio.lowlevel.checkpoint()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # The least that the kernel gives, so that it takes everything in parts.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        wire = Wire(ours, readiness)
        wire.watch()
        world.ours.append(ours)
        world.raw.append(theirs)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        world.theirs.append(stream)
        if behaviour is not None:
            nursery.start_soon(behaviour, Talk(stream, len(world.theirs)))
        return wire, None

    world = World(OriginPool(ORIGIN, ClientLimits(), shelf, dial))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(readiness.run)
        yield world
        nursery.cancel_scope.cancel()
    for connection in shelf.connections:
        connection.close()
    for stream in world.theirs:
        await stream.aclose()
    readiness.close()


async def asked(world: World, exchange: Exchange, answers: list[bytes]) -> None:
    async with exchange as response:
        answers.append(await response.aread())


@pytest.mark.parametrize("kind", ["bytes", "large bytes", "pieces"])
async def test_request_goes_out_in_parts(autojump_clock: MockClock, kind: str) -> None:
    """Whole and in order, however little the kernel takes at once."""
    body = bytes(range(256)) * (600 if kind == "large bytes" else 200)
    answers: list[bytes] = []
    async with open_world() as world:
        for number in range(2):
            content = pieces_of_bytes(body) if kind == "pieces" else body
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asked, world, world.ask("POST", content), answers)
                await wait_all_tasks_blocked()
                talk = Talk(world.theirs[0], number)
                request = await talk.request()
                assert request is not None
                assert request.body == body
                await talk.send(ok())
        assert answers == [b"hello", b"hello"]
        assert len(world.ours) == 1


async def test_post_of_which_nothing_was_sent_is_sent_again(autojump_clock: MockClock) -> None:
    """The kernel refused it: whatever the method, nobody has seen it."""
    answers: list[bytes] = []
    async with open_world() as world:
        for number in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asked, world, world.ask("POST", b"body"), answers)
                await wait_all_tasks_blocked()
                talk = Talk(world.theirs[number], number)
                assert await talk.request() is not None
                await talk.send(ok())
            if number == 0:
                world.ours[0].shutdown(socket.SHUT_WR)
        assert answers == [b"hello", b"hello"]
        assert world.pool.statistics().retried == 1


@pytest.mark.parametrize("what", [ok(b"stolen"), b""])
async def test_bytes_that_came_a_moment_ago_are_no_answer(
    autojump_clock: MockClock, what: bytes
) -> None:
    """Nor is the end overlooked, though nobody has had a turn since to tell of it."""
    answers: list[bytes] = []
    async with open_world(answering(ok())) as world:
        await asked(world, world.ask("POST", b"body"), answers)
        if what:
            world.raw[0].send(what)
        else:
            world.raw[0].shutdown(socket.SHUT_WR)
        await asked(world, world.ask("POST", b"body"), answers)
        assert answers == [b"hello", b"hello"]
        assert (len(world.ours), world.pool.statistics().reused) == (2, 0)


async def test_connection_that_was_kept_too_long_is_not_used(autojump_clock: MockClock) -> None:
    """Though nobody has looked since."""
    answers: list[bytes] = []
    async with open_world(answering(ok())) as world:
        for seconds, connections in ((14.9, 1), (15.0, 2)):
            await asked(world, world.ask("GET"), answers)
            autojump_clock.jump(seconds)
            await asked(world, world.ask("GET"), answers)
            assert len(world.ours) == connections


async def test_new_connection_that_takes_nothing_is_an_error(autojump_clock: MockClock) -> None:
    """There is nothing stale about it."""
    async with open_world() as world:
        connection = await world.pool.acquire(trio.current_time() + 1)
        world.ours[0].shutdown(socket.SHUT_WR)
        connection.uses = 0
        world.pool.release(connection, None)
        connection.uses = 0
        with pytest.raises(UpstreamError):
            async with world.ask("POST", b"body"):
                pass
        assert world.pool.statistics().retried == 0
        assert world.pool.is_at_rest


async def test_every_answer_however_it_is_cut_means_the_same(autojump_clock: MockClock) -> None:
    """Byte by byte, with others having their turn in between."""
    wire = ok(b"hello", b"X-A: b")
    answers: list[bytes] = []
    async with open_world() as world:
        for place in range(1, len(wire)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asked, world, world.ask("GET"), answers)
                await wait_all_tasks_blocked()
                talk = Talk(world.theirs[0], place)
                assert await talk.request() is not None
                await talk.send(wire[:place])
                await wait_all_tasks_blocked()
                await talk.send(wire[place:])
        assert answers == [b"hello"] * (len(wire) - 1)
        assert len(world.ours) == 1
