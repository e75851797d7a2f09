"""The benchmark's floods of garbage and of short-lived connections, over real sockets."""

from __future__ import annotations

import functools
import time

import trio

from bench.http.floods import BadFlood, BadFloodSpec, garbage

PROBLEM = b'{"code":"rate_limited"}'
ANSWER = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: %d\r\n\r\n%b" % (
    len(PROBLEM),
    PROBLEM,
)


def spec(port: int, *, is_garbage: bool) -> BadFloodSpec:
    return BadFloodSpec(
        host="127.0.0.1",
        port=port,
        tier="free",
        path="/api/data",
        connections=3,
        after=0.0,
        seconds=0.2,
        timeout=5.0,
        is_garbage=is_garbage,
        seed="1",
    )


class Door:
    """Answers each connection once, closes it, and keeps what it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.received: list[bytes] = []
        self._answer = answer

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            if request := await stream.receive_some(65_536):
                self.received.append(request)
            await stream.send_all(self._answer)


async def flood(door: Door, *, is_garbage: bool) -> BadFlood:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            functools.partial(trio.serve_tcp, door.serve, 0, host="127.0.0.1")
        )
        port = listeners[0].socket.getsockname()[1]
        made = BadFlood(spec(port, is_garbage=is_garbage))
        await made.run(time.monotonic())
        nursery.cancel_scope.cancel()
    return made


async def test_each_request_has_a_connection_of_its_own() -> None:
    """As many connections as answers, give or take those under way at the end."""
    door = Door(ANSWER)
    samples = (await flood(door, is_garbage=False)).recording.samples
    assert len(samples) > 3
    assert {(sample.status, sample.code) for sample in samples} == {(429, "rate_limited")}
    assert len(samples) <= len(door.received) <= len(samples) + 3
    assert all(b"X-Tenant-Tier: free" in request for request in door.received)


async def test_garbage_is_sent_until_the_server_has_had_enough() -> None:
    """Each connection sends one lot and takes what is answered."""
    door = Door(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    samples = (await flood(door, is_garbage=True)).recording.samples
    assert {sample.status for sample in samples} == {400}
    lots = garbage("1")
    assert all(any(lot.startswith(data) for lot in lots) for data in door.received)
    assert len(set(door.received)) > 3


async def test_server_that_is_not_there_is_counted_as_none() -> None:
    """A connection that fails is status 0, and is not tried again at once."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    made = BadFlood(spec(port, is_garbage=True))
    await made.run(time.monotonic())
    samples = made.recording.samples
    assert {(sample.status, sample.code) for sample in samples} == {(0, "connection_lost")}
    assert len(samples) <= 3 * 5
