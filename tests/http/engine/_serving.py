"""A server in this run, on a real socket, with an application that keeps account of itself."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import attrs
import structlog.testing
import trio

from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.extensions import ACCOUNT, REFUSED
from bulkhead_trio.http.limits import ConnectionLimits

IN_SERVER: ContextVar[bool] = ContextVar("in_server", default=False)
"""Set in every task of the server, and in no other."""

LIMITS = ConnectionLimits(
    connections=20,
    head=5.0,
    body_gap=3.0,
    body=8.0,
    idle=7.0,
    write=6.0,
    linger=1.0,
    half_closed=0.1,
    refusals_per_second=1.0,
)
SMALL_BUFFER = 8 * 1024
LARGE = 40
SMALL_ANSWER = 3000
PIECES = 300
PIECE = b"x" * 8192
REST_SECONDS = 60.0
THINKING_SECONDS = 0.05


def render_error(
    status: int, headers: list[tuple[bytes, bytes]]
) -> tuple[list[tuple[bytes, bytes]], bytes, int]:
    """A refusal that says nothing but its status."""
    return [(b"content-type", b"text/plain")], b"refused", status


@attrs.define
class Application:
    """Answers by path, and counts what became of each call.

    Attributes:
        running: calls that have begun and not ended.
        ended: how the others ended.
    """

    running: int = 0
    ended: Counter[str] = attrs.field(factory=Counter)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        try:
            await getattr(self, scope["path"][1:])(scope, receive, send)
        except BaseException as error:
            self.ended["cancelled" if is_cancellation(error) else f"failed: {error!r}"] += 1
            raise
        else:
            self.ended["done"] += 1
        finally:
            self.running -= 1

    async def body(self, _: Any, receive: Any, send: Any) -> None:
        """Reads everything, thinks, says how much it was."""
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await trio.sleep(THINKING_SECONDS)
        await answer(send, b"%d" % size)

    async def early(self, _: Any, __: Any, send: Any) -> None:
        """Answers without reading."""
        await trio.lowlevel.checkpoint()
        await answer(send, b"early")

    async def small(self, scope: Any, _: Any, send: Any) -> None:
        """Answers, with one write, a few KiB that say which request it was."""
        await answer(send, scope["query_string"].rjust(SMALL_ANSWER, b"."))

    async def large(self, _: Any, __: Any, send: Any) -> None:
        """Answers with more than a socket holds."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(LARGE):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def wait(self, _: Any, receive: Any, send: Any) -> None:
        """Waits for the client to go, in two tasks as frameworks do."""
        await receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 4 * REST_SECONDS)
            assert (await receive())["type"] == "http.disconnect"
            nursery.cancel_scope.cancel()
        await answer(send, b"nobody is there")

    async def pieces(self, _: Any, __: Any, send: Any) -> None:
        """Answers in many small pieces, all of which the socket takes at once."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _number in range(PIECES):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def sleep(self, _: Any, __: Any, send: Any) -> None:
        """Is busy for very long, and hears nothing."""
        await trio.sleep(4 * REST_SECONDS)
        await answer(send, b"slept")

    async def framework(self, _: Any, receive: Any, send: Any) -> None:
        """Answers while another task listens, until it hears that it is over."""

        async def listen() -> None:
            while (await receive())["type"] == "http.request":
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await answer(send, b"early")
            await trio.sleep(THINKING_SECONDS)
            nursery.cancel_scope.cancel()

    async def refuse(self, scope: Any, _: Any, send: Any) -> None:
        """Refuses, so that the connection has to wait to be read again."""
        scope[ACCOUNT] = "free"
        scope[REFUSED] = True
        await answer(send, b"refused", status=429)


def is_cancellation(error: BaseException) -> bool:
    """Whether it is `trio.Cancelled`, of one task or of several."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_cancellation, error.exceptions))
    return isinstance(error, trio.Cancelled)


async def answer(send: Any, body: bytes, *, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@attrs.define
class Served:
    """A server that runs."""

    server: HTTPServer
    application: Application
    scope: trio.CancelScope
    nursery: trio.Nursery
    address: tuple[str, int]

    def connect(self) -> socket.socket:
        """A client's socket, with a small buffer."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.connect(self.address)
        # Else the kernel would hold small pieces back for real time, which the mock clock skips.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def assert_at_rest(self) -> None:
        """No connection, no registration, no call of the application."""
        assert self.server.connections == 0
        assert self.application.running == 0
        assert len(self.server.readiness._watchers) <= 1  # that of who accepts
        assert self.scope.cancel_called or not self.server.readiness.turns.are_wanted

    async def wait_at_rest(self) -> None:
        with trio.fail_after(REST_SECONDS):
            while self.server.connections:
                await trio.sleep(0.1)
        self.assert_at_rest()


@asynccontextmanager
async def serving(
    limits: ConnectionLimits = LIMITS, application: Application | None = None
) -> AsyncIterator[Served]:
    """A server, which has to leave nothing behind, and to log no accident."""
    application = application or Application()
    files = open_files()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            server = HTTPServer(application, limits=limits, render_error=render_error)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            sock = listeners[0].socket
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)  # is inherited
            served = Served(
                server, application, trio.CancelScope(), nursery, sock.getsockname()[:2]
            )

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                IN_SERVER.set(True)
                with served.scope:
                    await server.serve(listeners, task_status=task_status)
                # Whatever ended it: when it has returned, nothing of it is left.
                assert server.connections == 0
                assert application.running == 0
                assert not server.readiness._watchers

            await nursery.start(serve)
            yield served
            served.scope.cancel()
    assert open_files() == files
    accidents = [log for log in logs if log["log_level"] in ("error", "critical")]
    assert not accidents, accidents
    assert application.ended.keys() <= {"done", "cancelled"}, application.ended


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
