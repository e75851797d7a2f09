"""The upstream itself: where it listens, who is connected, and which step comes next."""

from __future__ import annotations

import errno
import socket
import ssl
from collections import Counter
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import trio
import trio.testing

from bulkhead_trio.testing.upstream._answering import Answering, CutShort
from bulkhead_trio.testing.upstream._log import Log
from bulkhead_trio.testing.upstream._request import IncomingRequest, Malformed
from bulkhead_trio.testing.upstream._wire import Gone, Wire
from bulkhead_trio.testing.upstream.script import Answer, Ending, Raw, Script, Step
from bulkhead_trio.testing.upstream.seen import Seen

BACKLOG = 1024
OUT_OF_SOCKETS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
ACCEPT_AGAIN_SECONDS = 0.1
ECHO = Answer(content="echo")
MALFORMED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def resolve_to_loopback(host: str, port: int) -> list[str]:  # noqa: ARG001
    """Every host is here: for clients under a mock clock, which must not wait for a thread."""
    return ["127.0.0.1"]


class ScriptedUpstream:
    """An HTTP/1.1 server that misbehaves as it is told. It works within its ``async with`` block.

    It lives in the event loop that opens it, so that with a mock clock its pauses take no time. It
    listens on a real socket of this machine; `connect` gives a connection in memory instead.

    Args:
        script: what it does; without one it answers with the request as JSON.
        host: the address to listen on.
        port: there; 0 for any free one.
        tls: makes it speak HTTPS.
    """

    def __init__(
        self,
        script: Script = Script(),  # noqa: B008  frozen
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._script = script
        self._host = host
        self._port = port
        self._tls = tls
        self._log = Log()
        self._turns: Counter[int] = Counter()
        self._connections = 0
        self._gates: dict[str, trio.Event] = {}
        self._wires: set[Wire] = set()
        self._guard: socket.socket | None = None
        self._listener: trio.SocketListener | None = None
        self._opened = AsyncExitStack()
        self._nursery: trio.Nursery | None = None
        self._began = 0.0

    # --- its life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Begin to listen, if the script says so.

        Raises:
            OSError: the address cannot be had.
        """
        async with AsyncExitStack() as stack:
            self._guard = stack.enter_context(self._bound_socket(self._port))
            self._port = int(self._guard.getsockname()[1])
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(self._nursery.cancel_scope.cancel)
            self._began = trio.current_time()
            self._listen_as_told()
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._nursery = None
        await self._opened.__aexit__(None, None, None)

    @property
    def _inside(self) -> trio.Nursery:
        if self._nursery is None:
            raise RuntimeError("this upstream is not open")
        return self._nursery

    @property
    def port(self) -> int:
        """Where it listens; it stays the same while connections are refused."""
        return self._port

    @property
    def url(self) -> str:
        """Its origin, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self._port}"

    # --- what it is told -------------------------------------------------------------------------

    def play(self, script: Script) -> None:
        """Do this from the next request on; the turns of its rules begin anew."""
        self._script = script
        self._turns.clear()
        self._listen_as_told()

    def open_gate(self, name: str) -> None:
        """Let every answer pass that waits at this gate, now and later."""
        self._gate(name).set()

    def drop_connections(self, *, is_reset: bool = False) -> None:
        """End every connection that is open, whatever is under way on it."""
        for wire in self._wires:
            if is_reset:
                wire.will_reset()
            wire.scope.cancel()

    def forget(self) -> None:
        """Begin the log anew, and close all gates."""
        self._log.forget()
        self._gates.clear()

    def seen(self) -> Seen:
        """What it has seen."""
        return self._log.seen()

    async def pass_gate(self, name: str) -> None:
        """Return when the gate of that name is open."""
        await self._gate(name).wait()

    def _gate(self, name: str) -> trio.Event:
        return self._gates.setdefault(name, trio.Event())

    # --- listening -------------------------------------------------------------------------------

    def _bound_socket(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Two sockets at one address: one listens or not, the other keeps the port ours.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((self._host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _listen_as_told(self) -> None:
        if self._listener is not None and not self._script.is_listening:
            self._listener.socket.close()
            self._listener = None
        elif self._listener is None and self._script.is_listening:
            sock = self._bound_socket(self._port)
            sock.listen(BACKLOG)
            sock.setblocking(False)
            self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            self._inside.start_soon(self._accept, self._listener, self._inside)

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        with listener.socket:
            while True:
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                except OSError as error:
                    if error.errno not in OUT_OF_SOCKETS:
                        raise
                    await trio.sleep(ACCEPT_AGAIN_SECONDS)
                else:
                    nursery.start_soon(self._serve_socket, stream)

    async def connect(self) -> trio.abc.Stream:
        """A connection in memory, whether it listens or not: the client's end."""
        nursery = self._inside
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(self.serve, ours)
        return theirs

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        if self._tls is None:
            await self.serve(stream)
        else:
            await self.serve(trio.SSLStream(stream, self._tls, server_side=True))

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end, and close it."""
        self._connections += 1
        self._log.connection_opened()
        wire = Wire(stream)
        self._wires.add(wire)
        try:
            with wire.scope:
                await self._converse(wire, self._connections)
        except Gone:
            return
        finally:
            self._wires.discard(wire)
            self._log.connection_closed()
            with trio.CancelScope(shield=True):
                await wire.close()

    # --- one connection --------------------------------------------------------------------------

    async def _converse(self, wire: Wire, number: int) -> None:
        words = self._script.connections
        word = words[(number - 1) % len(words)]
        ending: Ending = "keep" if word == "serve" else word
        while ending == "keep" and (head := await wire.head()) is not None:
            ending = await self._exchange(wire, head, number)
        if ending == "hang":
            await wire.unless_gone(trio.sleep_forever)
        elif ending == "reset":
            wire.will_reset()
        elif ending == "close":
            await wire.finish()

    async def _exchange(self, wire: Wire, head: bytes, number: int) -> Ending:
        logged = self._log.begin(number, round(trio.current_time() - self._began, 6))
        try:
            request = IncomingRequest(wire, head, logged)
            return await self._perform(wire, request)
        except CutShort as cut:
            self._log.end(logged, "ended")
            return cut.how
        except Malformed:
            self._log.end(logged, "malformed")
            await wire.send(MALFORMED)
            return "close"
        except BaseException:
            self._log.end(logged, "gone")
            raise

    async def _perform(self, wire: Wire, request: IncomingRequest) -> Ending:
        step = self._next_step(request.method, request.target)
        ending = await Answering(wire, request, self).perform(step)
        self._log.end(request.logged, "ended" if isinstance(step, Raw) else "answered")
        return ending

    def _next_step(self, method: str, target: str) -> Step:
        found = self._script.find(method, target)
        if found is None:
            return ECHO
        turn = self._turns[found]
        self._turns[found] += 1
        return self._script.rules[found].step(turn)
