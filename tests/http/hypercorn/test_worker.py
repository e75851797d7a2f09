"""Hypercorn's own Trio server, mended: a connection closes after its writes, and fails alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.logging import Logger
from hypercorn.trio import run as hypercorn_run
from hypercorn.trio import serve
from hypercorn.trio.tcp_server import TCPServer

from bulkhead_trio.http.hypercorn.worker import WRITE_SECONDS, MendedTCPServer, mend


def worker() -> Any:
    """The module whose one name is replaced."""
    return hypercorn_run


@pytest.fixture(autouse=True)
def hypercorn_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker(), "TCPServer", TCPServer)


class FaultyLogger(Logger):
    """Fails when a request ends without an answer, which Hypercorn does not expect of a log."""

    async def access(self, *args: Any) -> None:
        if args[1] is None:
            raise ValueError("the log is broken")


async def leave_unanswered(scope: Any, receive: Any, send: Any) -> None:
    """An application without lifespan that answers ``/ok`` alone."""
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/ok":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def served(config: Config) -> AsyncIterator[tuple[str, int]]:
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve, leave_unanswered, config)
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("installed", ["0.18", "0.18.0", "0.18.3"])
def test_known_release_is_mended(installed: str) -> None:
    """The one name is replaced, and doing it again changes nothing."""
    assert mend(installed)
    assert mend(installed)
    assert worker().TCPServer is MendedTCPServer


@pytest.mark.parametrize("installed", ["0.17.3", "0.19.0", "0.180", "1.0.18"])
def test_unknown_release_is_left_alone(installed: str) -> None:
    """What may mean something else by the same names is not touched, and that is said."""
    with pytest.warns(RuntimeWarning, match="is not mended"):
        assert not mend(installed)
    assert worker().TCPServer is TCPServer


def test_installed_release_is_known() -> None:
    """A new Hypercorn must be looked at before it is allowed in."""
    assert mend()


async def test_unexpected_error_costs_its_connection_alone() -> None:
    """Hypercorn would end the server with it; mended, it is logged, and the next one is served."""
    mend()
    config = Config()
    config.logger_class = FaultyLogger
    config.accesslog = "-"
    with structlog.testing.capture_logs() as lines:
        async with served(config) as address:
            for _ in range(3):
                await leave(address)
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
                with trio.fail_after(5):
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 204 ")
    assert len(lines) >= 3
    assert {line["event"] for line in lines} == {"connection_failed"}


async def leave(address: tuple[str, int]) -> None:
    """Ask, go, and wait until the server has ended it."""
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.send_eof()
        with trio.fail_after(5):
            assert await stream.receive_some() == b""


async def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


class Deaf:
    """A protocol that takes no interest in what becomes of its connection."""

    async def handle(self, event: Any) -> None:
        """Nothing."""


def make_server(stream: trio.SocketStream) -> MendedTCPServer:
    nothing: Any = None
    server = MendedTCPServer(nothing, Config(), nothing, nothing, stream)  # type: ignore[arg-type]
    server.protocol = Deaf()  # type: ignore[assignment]
    return server


async def test_closing_waits_for_what_is_being_written(autojump_clock: trio.abc.Clock) -> None:
    """An answer that another task is writing gets out whole, and the end comes after it."""
    ours, theirs = await socket_pair()
    server = make_server(ours)
    answer = bytes(4 * 1024 * 1024)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.protocol_send, RawData(answer))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.protocol_send, Closed())
        await trio.testing.wait_all_tasks_blocked()
        assert len(b"".join([piece async for piece in theirs])) == len(answer)
    await trio.aclose_forcefully(theirs)


async def test_closing_does_not_wait_for_a_peer_that_does_not_read(
    autojump_clock: trio.abc.Clock,
) -> None:
    """After a second the write is broken off: a peer cannot keep its connection by not reading."""
    ours, theirs = await socket_pair()
    server = make_server(ours)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.protocol_send, RawData(bytes(4 * 1024 * 1024)))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.protocol_send, Closed())
    assert trio.current_time() - began == pytest.approx(WRITE_SECONDS)
    await trio.aclose_forcefully(theirs)


@pytest.mark.parametrize("closes_first", [True, False])
async def test_two_tasks_at_once_do_not_fail(closes_first: bool) -> None:
    """One closes while the other writes: what comes second is dropped, and nothing is raised."""
    events = [Closed(), RawData(b"HTTP/1.1 400 \r\n\r\n")]
    for _ in range(20):
        ours, theirs = await socket_pair()
        server = make_server(ours)
        async with trio.open_nursery() as nursery:
            for event in events if closes_first else reversed(events):
                nursery.start_soon(server.protocol_send, event)
        await trio.aclose_forcefully(theirs)
