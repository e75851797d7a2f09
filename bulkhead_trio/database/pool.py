"""A connection pool: a hard limit, the most recently used connection first, exact on every way out.

A task holds one of ``max_size`` tokens while it has a connection or makes one, so that no more than
``max_size`` connections ever exist. Waiting for a token is first come first served, ends with the
caller's deadline, and leaves nothing behind when it is cancelled.

A connection comes back in one of three ways. Clean: it waits for the next user. Broken: it is
closed. Interrupted, because its user was cancelled in the middle of a query: the pool's own task
asks PostgreSQL to cancel the query and reads the rest of the answer, within `RECOVERY_SECONDS`,
and the token stays taken until that is done. The user does not wait for it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Protocol, TypeVar

import attrs
import psycopg
import trio

from bulkhead_trio.database._rules import Reconnection
from bulkhead_trio.errors import DatabaseUnavailable

_log = logging.getLogger("bulkhead_trio.database")

RECOVERY_SECONDS = 5.0
"""The longest that an interrupted connection may take to become clean before it is closed."""

EXPLAIN_SECONDS = 5.0
"""Between two log lines of one pool about what is wrong with its database."""

CONNECTING_AT_ONCE = 4
"""How many connections one pool makes at the same time: a fork and an authentication each in the
server, so enough to warm up quickly and too few to be a stampede."""


class PooledConnection(Protocol):
    """What the pool needs of a connection."""

    @property
    def is_reusable(self) -> bool:
        """Whether the next user would find it as a fresh one."""

    @property
    def is_interrupted(self) -> bool:
        """Whether a cancelled query's answer is still under way."""

    def has_gone(self) -> bool:
        """Whether the server has closed it while it was idle; never waits."""

    def abandon(self) -> None:
        """Close it at once, without a word to the server."""

    async def recover(self, *, timeout: float) -> bool:
        """Make it reusable within ``timeout`` seconds, or close it; says which."""


C = TypeVar("C", bound=PooledConnection)

_LOST = (psycopg.OperationalError, psycopg.InterfaceError)


@attrs.frozen
class PoolStatistics:
    """What a pool holds at one moment, and has counted since it was made.

    Attributes:
        active: connections in use, being made, or recovering.
        idle: connections that wait for a user.
        pending: tasks that wait for a connection.
        max: the hard limit of active and idle together.
        opened: connections made so far.
        broken: connections closed because they were not fit for the next user.
    """

    active: int
    idle: int
    pending: int
    max: int
    opened: int
    broken: int


class Lease(Generic[C]):
    """One use of a pool; what `Pool.acquire` gives. It is the token that the use holds."""

    __slots__ = ("_connection", "_pool")

    _connection: C

    def __init__(self, pool: Pool[C]) -> None:
        self._pool = pool

    async def __aenter__(self) -> C:
        self._connection = connection = await self._pool._lend(self)
        return connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool._give_back(self._connection, self)
        if exc is not None:
            self._pool._raise_if_lost(exc)


class Pool(Generic[C]):
    """Up to ``max_size`` connections, opened when first needed.

    `run` must be running for as long as the pool is used.

    Args:
        name: for statistics and messages.
        connect: makes a connection; what it raises of `psycopg.Error` and `OSError` becomes
            `DatabaseUnavailable`.
        max_size: the hard limit; at least 1.
        uniform: a source of numbers in [0, 1) that spreads reconnections.

    Raises:
        ValueError: ``max_size`` is below 1.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[C]],
        *,
        max_size: int,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        if max_size < 1:
            raise ValueError(f"max_size must be 1 or more, not {max_size}")
        self.name = name
        self._connect = connect
        self._uniform = uniform
        self._limiter = trio.CapacityLimiter(max_size)
        self._connecting = trio.CapacityLimiter(min(max_size, CONNECTING_AT_ONCE))
        self._idle: list[C] = []
        self._nursery: trio.Nursery | None = None
        self._reconnection = Reconnection()
        self._returns = trio.lowlevel.ParkingLot()
        self._lent = 0
        self._explained_at = float("-inf")
        self._opening = 0
        self._opened = 0
        self._broken = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the pool's connections until cancelled; then close them all."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    # Recoveries that have begun may end; no other begins.
                    self._nursery = None
        finally:
            while self._idle:
                self._idle.pop().abandon()

    def acquire(self) -> Lease[C]:
        """Borrow a connection for the length of an ``async with`` block.

        A caller that is cancelled already gets none. Otherwise other tasks run meanwhile only if
        this one has to wait: who finds a connection goes on at once, and waits for its query.

        Raises:
            DatabaseUnavailable: there is no connection and none can be made, or the one in use
                broke or was cut off by the server, `statement_timeout` included.
        """
        return Lease(self)

    def statistics(self) -> PoolStatistics:
        """What the pool holds now."""
        waiting = self._limiter.statistics()
        return PoolStatistics(
            active=waiting.borrowed_tokens,
            idle=len(self._idle),
            pending=waiting.tasks_waiting,
            max=int(waiting.total_tokens),
            opened=self._opened,
            broken=self._broken,
        )

    # --- taking ----------------------------------------------------------------------------------

    async def _lend(self, token: Lease[C]) -> C:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._limiter.acquire_on_behalf_of_nowait(token)
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(token)
        try:
            connection = await self._take_or_open()
        except BaseException:
            self._limiter.release_on_behalf_of(token)
            raise
        self._lent += 1
        return connection

    async def _take_or_open(self) -> C:
        while True:
            if (connection := self._take_idle()) is not None:
                return connection
            if self._nursery is None:
                raise DatabaseUnavailable(f"the pool {self.name} is closed")
            try:
                return await self._try_to_open()
            except DatabaseUnavailable:
                # A server that allows no more connections still serves those that there are.
                if not (self._lent or self._idle):
                    raise
            if not self._idle:
                await self._returns.park()

    async def _try_to_open(self) -> C:
        self._check_reconnection()
        async with self._connecting:
            # Somebody may have given one back, or failed, while this waited for its turn.
            if (connection := self._take_idle()) is not None:
                return connection
            self._check_reconnection()
            return await self._open()

    def _take_idle(self) -> C | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_gone():
                return connection
            self._broken += 1
            connection.abandon()
        return None

    def _check_reconnection(self) -> None:
        """While connecting fails, one task at a time tries, and only when its time has come."""
        if not self._reconnection.is_failing:
            return
        wait = self._reconnection.seconds_left(trio.current_time())
        if wait > 0 or self._opening:
            raise DatabaseUnavailable("the database is away", retry_after=wait)

    async def _open(self) -> C:
        self._opening += 1
        try:
            connection = await self._connect()
        except (psycopg.Error, OSError) as error:
            now = trio.current_time()
            self._reconnection = self._reconnection.failed(now, self._uniform())
            self._explain("cannot connect", error)
            raise DatabaseUnavailable(
                "cannot connect to the database", retry_after=self._reconnection.seconds_left(now)
            ) from error
        finally:
            self._opening -= 1
        self._reconnection = self._reconnection.succeeded()
        self._opened += 1
        return connection

    def _explain(self, what: str, error: Exception) -> None:
        """Tell operators, though not too often, what callers are only told the outcome of."""
        now = trio.current_time()
        if now - self._explained_at >= EXPLAIN_SECONDS:
            self._explained_at = now
            _log.warning("pool %s %s: %s", self.name, what, " ".join(str(error).split()))

    # --- giving back -----------------------------------------------------------------------------

    def _raise_if_lost(self, error: BaseException) -> None:
        """What ended a use is the database's failure, if it is one of its connection's."""
        if isinstance(error, _LOST):
            self._explain("lost a connection", error)
            raise DatabaseUnavailable(_describe(error)) from error
        # From a nursery inside the block. A group with a cancellation in it is none of these.
        if isinstance(error, ExceptionGroup) and (lost := error.subgroup(_LOST)) is not None:
            raise DatabaseUnavailable("the connection to the database broke") from lost

    def _give_back(self, connection: C, token: Lease[C]) -> None:
        """Synchronous, so that no cancellation can come between a connection and its fate."""
        self._lent -= 1
        if self._returns:
            self._returns.unpark_all()
        if self._nursery is not None and connection.is_reusable:
            self._idle.append(connection)
        elif self._nursery is not None and self._is_recoverable(connection):
            self._nursery.start_soon(self._recover, connection, token)
            return
        else:
            self._broken += 1
            connection.abandon()
        self._limiter.release_on_behalf_of(token)

    def _is_recoverable(self, connection: C) -> bool:
        # What an interrupted one has to read is not to be touched before `recover` does.
        return connection.is_interrupted or not connection.has_gone()

    async def _recover(self, connection: C, token: Lease[C]) -> None:
        is_clean = False
        try:
            with trio.CancelScope(shield=True):
                is_clean = await connection.recover(timeout=RECOVERY_SECONDS)
        except Exception:  # noqa: BLE001  a mistake in one recovery must not end the pool's others
            _log.exception("recovering a connection of %s failed", self.name)
        finally:
            if is_clean and self._nursery is not None:
                self._idle.append(connection)
                self._returns.unpark_all()
            else:
                self._broken += 1
                connection.abandon()
            self._limiter.release_on_behalf_of(token)


def _describe(error: psycopg.Error) -> str:
    """What may be said outside: never the server's own words, which can name hosts and SQL."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "the database took too long"
    return "the connection to the database broke"
