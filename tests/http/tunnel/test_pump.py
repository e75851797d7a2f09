"""Both directions of a tunnel: every byte, in order, until both ends have finished."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.http.tunnel import HALF_CLOSED_SECONDS, IDLE_SECONDS, Pumped, pump
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._ends import SocketEnd, read_all, read_what_comes, reset, socket_ends


class Pumping:
    """A pump between two people."""

    def __init__(self, nursery: trio.Nursery, **limits: float) -> None:
        self.first, self.left = socket_ends()
        self.second, self.right = socket_ends()
        self.result: Pumped | None = None
        self.ended = trio.Event()
        nursery.start_soon(self._run, limits)

    async def _run(self, limits: dict[str, float]) -> None:
        try:
            self.result = await pump(self.first, self.second, **limits)
        finally:
            assert self.first.is_closed
            assert self.second.is_closed
            self.ended.set()

    async def close(self) -> None:
        await self.left.aclose()
        await self.right.aclose()


async def send_in_pieces(stream: trio.SocketStream, data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    while data:
        size = chance.choice([1, 10, 1000, 70_000])
        await stream.send_all(data[:size])
        data = data[size:]
    await stream.send_eof()


@pytest.mark.parametrize("seed", range(3))
async def test_bytes_go_both_ways_at_once(seed: int, autojump_clock: MockClock) -> None:
    """None lost, none doubled, none out of order; and how many they were is known."""
    chance = random.Random(seed)
    forth, back = chance.randbytes(300_000), chance.randbytes(200_000)
    said: dict[str, bytes] = {}

    async def read(name: str, stream: trio.SocketStream) -> None:
        said[name] = await read_all(stream)

    async with trio.open_nursery() as nursery:
        pumping = Pumping(nursery)
        nursery.start_soon(send_in_pieces, pumping.left, forth, seed)
        nursery.start_soon(send_in_pieces, pumping.right, back, seed + 100)
        nursery.start_soon(read, "forth", pumping.right)
        nursery.start_soon(read, "back", pumping.left)
    assert (said["forth"], said["back"]) == (forth, back)
    assert pumping.result == Pumped(300_000, 200_000, was_idle=False)
    await pumping.close()


async def test_end_that_finishes_is_told_and_still_answered(autojump_clock: MockClock) -> None:
    """Half of a connection may be closed, and the other half go on for long."""
    async with trio.open_nursery() as nursery:
        pumping = Pumping(nursery)
        await pumping.left.send_all(b"question")
        await pumping.left.send_eof()
        assert await read_all(pumping.right) == b"question"
        for _ in range(20):
            await trio.sleep(HALF_CLOSED_SECONDS - 1)
            await pumping.right.send_all(b"x")
        await pumping.right.send_eof()
        assert await read_all(pumping.left) == b"x" * 20
        await pumping.ended.wait()
    assert pumping.result == Pumped(8, 20, was_idle=False)
    await pumping.close()


async def test_half_that_says_nothing_more_is_closed(autojump_clock: MockClock) -> None:
    """An end that has gone looks like one that has finished: the other is not kept for ever."""
    async with trio.open_nursery() as nursery:
        pumping = Pumping(nursery)
        began = trio.current_time()
        await pumping.left.send_eof()
        assert await read_all(pumping.right) == b""
        assert await read_all(pumping.left) == b""
        assert trio.current_time() - began == pytest.approx(HALF_CLOSED_SECONDS)
    assert pumping.result is not None
    assert pumping.result.was_idle
    await pumping.close()


async def test_quiet_tunnel_lasts_as_long_as_it_may(autojump_clock: MockClock) -> None:
    """A byte in either direction is enough."""
    async with trio.open_nursery() as nursery:
        pumping = Pumping(nursery)
        for talker in (pumping.left, pumping.right, pumping.left, pumping.right):
            await trio.sleep(IDLE_SECONDS - 1)
            await talker.send_all(b"x")
        began = trio.current_time()
        await pumping.ended.wait()
        assert trio.current_time() - began == pytest.approx(IDLE_SECONDS)
    assert pumping.result == Pumped(2, 2, was_idle=True)
    await pumping.close()


async def test_end_that_breaks_ends_both(autojump_clock: MockClock) -> None:
    """The other end is told, and has a moment for what it still has to say."""
    async with trio.open_nursery() as nursery:
        pumping = Pumping(nursery, idle=1000.0, half_closed=2.0)
        await pumping.left.send_all(b"last words")
        began = trio.current_time()
        pumping.left.socket.close()
        assert await read_all(pumping.right) == b"last words"
        with pytest.raises(trio.BrokenResourceError):
            while True:  # however much it has to say
                await trio.sleep(0.5)
                await pumping.right.send_all(b"nobody is there")
        assert trio.current_time() - began <= 3.0
        await pumping.ended.wait()
    await pumping.close()


async def test_reader_that_does_not_read_stops_the_writer(autojump_clock: MockClock) -> None:
    """What is under way is what sockets hold, and one piece; no more is taken."""
    sent = 0
    async with trio.open_nursery() as nursery:
        pumping = Pumping(nursery, idle=1000.0)
        with trio.move_on_after(100):
            while True:
                await pumping.left.send_all(b"x" * 4096)
                sent += 4096
        assert sent < 200_000
        # And whoever does not read can still be heard.
        await pumping.right.send_all(b"heard")
        assert bytes(await pumping.left.receive_some(10)) == b"heard"
        nursery.cancel_scope.cancel()
    await pumping.close()


async def test_end_that_will_not_close_is_not_waited_for(autojump_clock: MockClock) -> None:
    """Saying goodbye has a second."""

    class Stuck(SocketEnd):
        async def aclose(self) -> None:
            self.is_closed = True
            try:
                await trio.sleep_forever()
            finally:
                self.stream.socket.close()

    first, left = socket_ends()
    second, right = socket_ends()
    stuck = Stuck(second.stream)
    left.socket.close()
    right.socket.close()
    began = trio.current_time()
    await pump(first, stuck)
    assert trio.current_time() - began <= 1.0
    assert first.is_closed
    assert stuck.is_closed


async def test_cancelled_pump_closes_both(autojump_clock: MockClock) -> None:
    """At each step that it takes, from the first to the last."""

    async def scenario(point: CancellationPoint) -> None:
        first, left = socket_ends()
        second, right = socket_ends()
        await left.send_all(b"a" * 100)
        await right.send_all(b"b" * 100)
        await left.send_eof()
        await right.send_eof()
        with point:
            assert await pump(first, second) == Pumped(100, 100, was_idle=False)
        assert first.is_closed
        assert second.is_closed
        assert await read_what_comes(left) in (b"", b"b" * 100)
        assert await read_what_comes(right) in (b"", b"a" * 100)
        await left.aclose()
        await right.aclose()

    await sweep_cancellations(scenario)


async def test_reset_is_no_error_of_the_pump(autojump_clock: MockClock) -> None:
    """It returns, as whatever the ends do."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    served = await listener.accept()
    second, right = socket_ends()
    reset(client)
    with trio.fail_after(HALF_CLOSED_SECONDS + 1):
        assert await pump(SocketEnd(served), second) == Pumped(0, 0, was_idle=False)
    await right.aclose()
    await listener.aclose()
