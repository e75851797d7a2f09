"""Two lines that end Hypercorn's own Trio server, a thousand times, on every front that we offer.

A chunk's size that is none, sent to a path that is 404: the application answers without reading,
while the reader finds that what comes is no body.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from ._client import ask, open_wire
from ._fronts import FRONTS, FrontProcess, running_front
from ._server import Server
from .conftest import StartServer

KILLER = b"POST /404 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
TIMES = 1000
CLIENTS = 20
GROWTH_BYTES = 1024 * 1024
"""A thousand connections that each left 1 KiB behind would be as much."""


async def kill(address: tuple[str, int], times: int) -> None:
    """So many times, over a few clients at once; each gets one answer and its end."""

    async def client() -> None:
        for _ in range(times // CLIENTS):
            async with open_wire(address) as wire:
                await wire.send(KILLER)
                answer = await wire.answer(timeout=5)
                assert answer.status in {400, 404}, str(answer)
                assert await wire.drain_until_closed(5) == b""

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client)


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> Iterator[FrontProcess]:
    with running_front(request.param) as process:
        yield process


@pytest.fixture(params=FRONTS)
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    return start_server({"HTTP": request.param, "LOG_LEVEL": "warning"})


async def test_front_lives_and_keeps_nothing(front: FrontProcess) -> None:
    """A thousand times more cost no memory, and the next request is answered."""
    await kill(front.address, TIMES)
    before = front.memory
    await kill(front.address, TIMES)
    grown = front.memory - before
    assert (await ask(front.address, "/")).status == 200
    front.assert_well()
    assert grown < GROWTH_BYTES, f"{grown:,} bytes more after {TIMES}"


async def test_service_lives(server: Server) -> None:
    """The real command with the real application answers each time, and afterwards."""
    await kill(server.address, TIMES)
    assert server.process.poll() is None, server.tail()
    assert (await ask(server.address, "/health")).status == 200
    assert "Traceback" not in server.output, server.tail()
    assert "failed" not in server.output, server.tail()
