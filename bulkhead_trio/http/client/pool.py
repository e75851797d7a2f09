"""The connections to one origin: so many at most, kept for a while, handed on in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from bulkhead_trio.errors import BulkheadFull, QueueTimeout, Rejected, UpstreamTimeout
from bulkhead_trio.http.client._response_rules import ResponseReader
from bulkhead_trio.http.client._url_rules import Origin
from bulkhead_trio.http.client.connection import Connection
from bulkhead_trio.http.client.dialling import TLSStream
from bulkhead_trio.http.client.limits import ClientLimits
from bulkhead_trio.http.client.wire import NEVER, Wire
from bulkhead_trio.policies.queue._rules import DrainRate

Dial = Callable[[Origin], Awaitable[tuple[Wire, TLSStream | None]]]


@attrs.frozen
class OriginStatistics:
    """What the connections to one origin do at one moment, and have done since the first.

    Attributes:
        active: connections that exchanges have, those included that are being made.
        idle: connections that are kept for the next exchange.
        waiting: requests that wait for a connection.
        opened: connections made.
        reused: requests that were sent on a kept connection.
        retried: of them, those sent again on a new one, since the kept one had ended.
        refused: requests that got no connection.
    """

    active: int
    idle: int
    waiting: int
    opened: int
    reused: int
    retried: int
    refused: int


class Shelf:
    """All connections of a client, whatever their origin.

    Attributes:
        connections: those that are open.
        dialling: the scopes in which others are being made.
        idle: how many of them nobody uses.
        is_open: whether there may be more.
    """

    __slots__ = ("connections", "dialling", "idle", "is_open")

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.dialling: set[trio.CancelScope] = set()
        self.idle = 0
        self.is_open = True


class OriginPool:
    """The connections to one origin.

    A connection, or the right to make one, is handed to whoever has waited longest before anybody
    else can ask, so that nobody is overtaken.

    Args:
        origin: whose they are.
        limits: on them.
        shelf: where they are kept together with others.
        dial: makes a connection.
    """

    def __init__(self, origin: Origin, limits: ClientLimits, shelf: Shelf, dial: Dial) -> None:
        self.origin = origin
        self._limits = limits
        self._shelf = shelf
        self._dial = dial
        self._idle: list[Connection] = []
        self._open = 0  # of connections: idle, in use, or being made
        self._line = trio.lowlevel.ParkingLot()
        self._handed: dict[trio.lowlevel.Task, Connection | None] = {}
        self._drain_rate = DrainRate()
        self._saturated_since = 0.0
        self._opened = self._reused = self._retried = self._refused = 0

    @property
    def is_at_rest(self) -> bool:
        """Whether it holds nothing, and nobody wants anything of it."""
        return not self._open

    def statistics(self) -> OriginStatistics:
        """What they do now."""
        return OriginStatistics(
            active=self._open - len(self._idle),
            idle=len(self._idle),
            waiting=len(self._line),
            opened=self._opened,
            reused=self._reused,
            retried=self._retried,
            refused=self._refused,
        )

    # --- taking ----------------------------------------------------------------------------------

    async def acquire(self, by: float, *, may_repeat: bool = False) -> Connection:
        """A connection for one exchange: one that was kept, or a new one.

        Args:
            by: when to give up, on Trio's clock.
            may_repeat: whether the request may be sent again where the connection turns out to have
                ended. Then what the kernel has told of it is enough; otherwise it is asked.

        Raises:
            BulkheadFull: all are in use, and nobody more may wait.
            QueueTimeout: none came free in time.
            UpstreamUnreachable: none can be made.
            UpstreamTimeout: it takes too long to make one.
        """
        connection: Connection | None = None
        while self._idle:
            connection = self._take_idle()
            if await self._is_usable(connection, may_repeat=may_repeat):
                return connection
            self.discard(connection)
        if self._open < self._limits.connections:
            self._open += 1
            return await self._new(by)
        connection = await self._wait(by)
        if connection is not None:
            if await self._is_usable(connection, may_repeat=may_repeat):
                return connection
            self._close(connection)
        return await self._new(by)

    def _take_idle(self) -> Connection:
        self._shelf.idle -= 1
        connection = self._idle.pop()
        connection.wire.on_news = None
        return connection

    async def _is_usable(self, connection: Connection, *, may_repeat: bool) -> bool:
        now = trio.current_time()
        try:
            if not await connection.is_usable(now, may_repeat=may_repeat):
                return False
        except BaseException:
            self.discard(connection)
            raise
        connection.taken = now
        connection.idle_by = NEVER
        self._reused += 1
        return True

    async def replace(self, connection: Connection, by: float) -> Connection:
        """A new connection in place of one that turned out to have ended; raises as `acquire`."""
        self._retried += 1
        self._close(connection)
        return await self._new(by)

    async def _new(self, by: float) -> Connection:
        """Make a connection; its place has been taken already, and is given back on failure."""
        limits, shelf = self._limits, self._shelf
        connection: Connection | None = None
        scope = trio.CancelScope(deadline=min(by, trio.current_time() + limits.connect))
        shelf.dialling.add(scope)
        try:
            with scope:
                wire, tls = await self._dial(self.origin)
                reader = ResponseReader(
                    head_bytes=limits.head_bytes, header_count=limits.header_count
                )
                connection = Connection(wire, tls, self, reader)
            if connection is None:
                if not shelf.is_open:
                    raise trio.ClosedResourceError("the client was closed")
                raise UpstreamTimeout(
                    f"{self.origin} took too long to connect to",
                    origin=str(self.origin),
                    phase="connect",
                )
        finally:
            shelf.dialling.discard(scope)
            if connection is None:
                self._free_place()
        shelf.connections.add(connection)
        self._opened += 1
        return connection

    async def _wait(self, by: float) -> Connection | None:
        """Wait for a connection, or for the right to make one."""
        now = trio.current_time()
        if not self._line:
            self._saturated_since = now
        if self._limits.wait == 0 or len(self._line) >= self._limits.waiting:
            raise self._refusal(BulkheadFull, "are in use", now)
        with trio.CancelScope(deadline=min(by, now + self._limits.wait)):
            await self._line.park()
            handed = self._handed.pop(trio.lowlevel.current_task())
            if not self._shelf.is_open:
                raise trio.ClosedResourceError
            return handed
        raise self._refusal(QueueTimeout, "stayed in use too long", trio.current_time())

    def _refusal(self, kind: type[Rejected], what: str, now: float) -> Rejected:
        self._refused += 1
        predicted = self._drain_rate.wait_for(
            len(self._line) + 1,
            workers=self._limits.connections,
            saturated_since=self._saturated_since,
            now=now,
        )
        return kind(
            f"all {self._limits.connections} connections to {self.origin} {what}",
            retry_after=predicted,
        )

    # --- giving back -----------------------------------------------------------------------------

    def release(self, connection: Connection, kept_for: int | None) -> None:
        """Take back a connection on which another request may be sent.

        Args:
            connection: it.
            kept_for: seconds that the peer says it keeps it.
        """
        now = trio.current_time()
        limits, shelf = self._limits, self._shelf
        if self._open >= limits.connections:
            self._drain_rate = self._drain_rate.departed(now - connection.taken, now)
        idle = limits.idle if kept_for is None else min(limits.idle, kept_for - 1.0)
        connection.uses += 1
        if (
            now - connection.born >= limits.lifetime
            or idle <= 0
            or shelf.idle >= limits.idle_connections
            or not shelf.is_open
            or connection.has_ended()
        ):
            self.discard(connection)
            return
        connection.idle_by = now + idle
        if self._line:
            self._hand(connection)
            return
        connection.wire.on_news = connection
        self._idle.append(connection)
        shelf.idle += 1

    def discard(self, connection: Connection) -> None:
        """Close a connection that was taken; whoever waits may make another one."""
        self._close(connection)
        self._free_place()

    def drop_idle(self, connection: Connection) -> None:
        """Close a connection that is kept."""
        self._idle.remove(connection)
        self._shelf.idle -= 1
        self.discard(connection)

    def _close(self, connection: Connection) -> None:
        connection.close()
        self._shelf.connections.discard(connection)

    def _free_place(self) -> None:
        if self._line:
            self._hand(None)
        else:
            self._open -= 1

    def _hand(self, what: Connection | None) -> None:
        (task,) = self._line.unpark()
        self._handed[task] = what

    def close(self) -> None:
        """Close those that are kept, and send away who waits; the shelf is not open any more."""
        while self._idle:
            self.discard(self._take_idle())
        for task in self._line.unpark_all():
            self._handed[task] = None
